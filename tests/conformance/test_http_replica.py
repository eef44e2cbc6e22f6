# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of one replica, spoken to directly."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from quorate.core.values.events import LocalScan
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.errors import NotReady
from tests.http_served import Client, Served, get, post

HOST = b"Host: localhost\r\n"


def body_of(
    key: object, version: object, value: object, expires_ms: object = 0, prior: object = b""
) -> bytes:
    return msgspec.msgpack.encode([1, key, version, value, expires_ms, prior])


OLD, NEW = pack_version(1 << 20, 1), pack_version(2 << 20, 1)


def test_a_record_is_replicated_once_however_often_it_is_sent(
    http: Served, http_client: Client
) -> None:
    body = body_of(b"k", NEW, b"v", 5, OLD)
    first = post(http_client, "/internal/replicate", body)
    assert (first.status, first.headers["quorate-applied"]) == (200, "true")
    again = post(http_client, "/internal/replicate", body)
    assert (again.status, again.headers["quorate-applied"]) == (200, "true")
    assert http.store.records == {b"k": Record(NEW, b"v", 5, OLD)}


def test_an_older_record_never_replaces_a_newer(http: Served, http_client: Client) -> None:
    post(http_client, "/internal/replicate", body_of(b"k", NEW, b"new"))
    answer = post(http_client, "/internal/replicate", body_of(b"k", OLD, b"old"))
    assert answer.headers["quorate-applied"] == "false"
    assert answer.headers["quorate-version"] == NEW.hex()
    assert http.store.records[b"k"].value == b"new"


def test_what_one_replica_gives_another_takes_tombstones_included(
    http: Served, http_client: Client
) -> None:
    http.store.fill(b"dead", None)
    http.store.fill(b"live", bytes(range(256)), expires_ms=7)
    before = dict(http.store.records)
    bodies = [get(http_client, f"/internal/get?key={key}") for key in ("dead", "live")]
    assert [answer.status for answer in bodies] == [200, 200]
    http.call(http.store.records.clear)
    for answer in bodies:
        assert post(http_client, "/internal/replicate", answer.body).status == 200
    assert http.store.records == before


def test_a_replica_without_a_record_says_so(http_client: Client) -> None:
    assert get(http_client, "/internal/get?key=k").status == 404
    assert get(http_client, "/internal/get").status == 400


GOOD = body_of(b"k", NEW, b"v")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80\x04\x95pickle",
        b'["not msgpack"]',
        GOOD + b"\x00",
        *(GOOD[:cut] for cut in range(len(GOOD))),
        msgspec.msgpack.encode([2, b"k", NEW, b"v", 0, b""]),
        msgspec.msgpack.encode([1, b"k", NEW, b"v", 0]),
        msgspec.msgpack.encode([1, b"k", NEW, b"v", 0, b"", 1]),
        body_of("k", NEW, b"v"),
        body_of(b"", NEW, b"v"),
        body_of(b"k" * 1025, NEW, b"v"),
        body_of(b"k", b"", b"v"),
        body_of(b"k", NEW[:-1], b"v"),
        body_of(b"k", NEW + b"x", b"v"),
        body_of(b"k", bytes(14), b"v"),
        body_of(b"k", NEW, "v"),
        body_of(b"k", NEW, 1),
        body_of(b"k", NEW, b"v", -1),
        body_of(b"k", NEW, b"v", 2**64 - 1),
        body_of(b"k", NEW, b"v", 1.5),
        body_of(b"k", NEW, b"v", 0, b"short"),
        body_of(b"k", NEW, b"v", 0, NEW),
        b"\x91" * 100_000,
    ],
    ids=lambda body: body[:12].hex() + f"-{len(body)}",
)
def test_a_malformed_record_is_refused_and_nothing_is_stored(
    http: Served, http_client: Client, body: bytes
) -> None:
    assert post(http_client, "/internal/replicate", body).status in (400, 414)
    assert http.store.events == []


def test_a_ping_turns_unhealthy_when_the_node_cannot_work(
    http: Served, http_client: Client
) -> None:
    assert get(http_client, "/internal/ping").status == 200
    http.store.is_ready = False
    answer = get(http_client, "/internal/ping")
    assert answer.status == 503
    assert json.loads(answer.body)["detail"] == "the disk is stuck"


def test_a_ping_asks_nothing_of_the_storage(http: Served, http_client: Client) -> None:
    """Answers while storage is busy."""
    http.call(http.store.hold)
    assert get(http_client, "/internal/ping").status == 200
    assert http.store.events == []


@pytest.mark.parametrize("path", ["/internal/keys", "/local/keys"])
def test_local_keys_are_streamed_whole_a_line_each(
    http: Served, http_client: Client, path: str
) -> None:
    names = {b"key %d\n" % index for index in range(2500)}
    http.call(lambda: [http.store.fill(name, b"v") for name in names])
    http.store.fill(b"dead", None)
    answer = get(http_client, path)
    assert answer.headers["transfer-encoding"] == "chunked"
    lines = answer.body.decode().splitlines()
    assert len(lines) == 2500
    assert "key%207%0A" in lines
    scans = [event for event in http.store.events if isinstance(event, LocalScan)]
    assert len(scans) == 3, "a page at a time"


def test_local_keys_come_in_pages_where_a_limit_is_given(http: Served, http_client: Client) -> None:
    for index in range(25):
        http.store.fill(b"a%d" % index, b"v")
    http.store.fill(b"b", b"v")
    seen: list[str] = []
    cursor = ""
    for _ in range(3):
        answer = get(http_client, f"/local/keys?limit=10&prefix=a{cursor}")
        page = answer.body.decode().splitlines()
        assert len(page) <= 10
        seen += page
        cursor = f"&cursor={answer.headers.get('quorate-cursor', '')}"
    assert sorted(seen) == sorted(f"a{index}" for index in range(25))
    assert "quorate-cursor" not in answer.headers


def test_a_stream_to_a_client_of_http_1_0_ends_with_the_connection(
    http: Served, http_client: Client
) -> None:
    """It has no length and no chunks, so a client that asked to stay would wait for ever."""
    http.store.fill(b"k", b"v")
    http_client.send(b"GET /local/keys HTTP/1.0\r\nConnection: keep-alive\r\n" + HOST + b"\r\n")
    assert http_client.rest().endswith(b"\r\n\r\nk\n")


def test_a_stream_that_fails_ends_visibly_too_early(http: Served, http_client: Client) -> None:
    """The status was sent; a missing last chunk is all that can still tell."""
    for index in range(1500):
        http.store.fill(b"%d" % index, b"v")
    page_two = [event for event in http.store.events if isinstance(event, LocalScan)][1:]
    assert page_two == []
    http.call(lambda: fail_after(http, 1))
    http_client.send(b"GET /local/keys HTTP/1.1\r\n" + HOST + b"\r\n")
    raw = http_client.rest()
    assert b"200 OK" in raw
    assert not raw.endswith(b"0\r\n\r\n")


def fail_after(http: Served, count: int) -> None:
    """Let `count` events be submitted, then fail the next one."""
    submit = http.store.submit

    def submit_and_count(event: Any) -> None:
        if len(http.store.events) == count:
            http.store.failure = NotReady("stopping")
            del http.store.submit
        submit(event)

    http.store.submit = submit_and_count  # type: ignore[method-assign]
