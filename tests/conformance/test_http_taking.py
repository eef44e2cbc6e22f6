# SPDX-License-Identifier: GPL-3.0-or-later
"""Long listings of the replica's door and clients that do not take them: what waits is charged to
the budget of replies and watched, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from quorate.core.values.events import LocalScan
from quorate.doors.flow import FREE_REPLY_BYTES
from quorate.doors.http import door
from tests.fake_store import FakeStore
from tests.http_served import Served

HOST = b"Host: localhost\r\n"
KEYS = 12_000
PATHS = pytest.mark.parametrize("path", [b"/internal/keys", b"/local/keys"])


@pytest.fixture(scope="module")
def store() -> FakeStore:
    """36 MB of lines, far more than the system takes of a client that reads nothing: each key is a
    kilobyte, and three in a line."""
    store = FakeStore()
    for index in range(KEYS):
        store.fill(b"%08d" % index + b"\xff" * 1016, b"v")
    return store


@pytest.fixture
def served(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(door, "REQUEST_SECONDS", 0.2)
    store.events.clear()
    with Served(store, loop="uvloop") as served:
        yield served


def ask_for(path: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n"


@PATHS
def test_a_page_that_its_client_does_not_take_is_charged_and_its_client_dropped(
    served: Served, path: bytes
) -> None:
    replies = served.http._replies
    with served.client() as client:
        client.send(ask_for(path))
        served.until(lambda: replies.used > FREE_REPLY_BYTES)
        served.until(lambda: replies.used == 0 and served.listener.connections == 0)
    assert len(served.store.events) < KEYS // 1000, "it had it all"


@PATHS
def test_a_page_that_finds_no_room_is_503_and_the_connection_goes_on(
    served: Served, path: bytes
) -> None:
    replies = served.http._replies
    whole = served.store.config.reply_bytes_max
    served.call(lambda: replies.take(whole))
    with served.client() as client:
        answer = client.ask(ask_for(path))
        assert (answer.status, json.loads(answer.body)["code"]) == (503, "overloaded")
        served.call(lambda: replies.give_back(whole))
        assert client.ask(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").status == 200
    assert replies.used == 0


def test_a_later_page_that_finds_no_room_ends_the_answer_visibly_too_early(served: Served) -> None:
    replies, store = served.http._replies, served.store
    submit = store.submit

    def fill_at_the_second_page(event: LocalScan) -> None:
        if store.events:
            replies.add(store.config.reply_bytes_max)
        submit(event)

    store.submit = fill_at_the_second_page  # type: ignore[method-assign,assignment]
    try:
        with served.client() as client:
            client.send(ask_for(b"/local/keys"))
            raw = client.rest()
    finally:
        del store.submit
    assert b"200 OK" in raw or raw == b"", "a reset may take what was not read yet with it"
    assert not raw.endswith(b"0\r\n\r\n")
    assert replies.used == store.config.reply_bytes_max, "the first page was given back"


def test_a_small_page_goes_out_though_there_is_no_room(served: Served) -> None:
    replies = served.http._replies
    whole = served.store.config.reply_bytes_max
    served.call(lambda: replies.take(whole))
    with served.client() as client:
        answer = client.ask(ask_for(b"/local/keys?prefix=0000000"))
    assert (answer.status, answer.body.count(b"\n")) == (200, 10)
    assert replies.used == whole


def test_who_takes_the_whole_listing_gets_it_and_nothing_stays_charged(served: Served) -> None:
    with served.client() as client:
        answer = client.ask(ask_for(b"/local/keys"))
        assert answer.body.count(b"\n") == KEYS
        assert client.ask(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").status == 200
    assert served.http._replies.used == 0
