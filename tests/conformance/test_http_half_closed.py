# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that send no more and wait for their answers, as `nc -N` does: both lanes answer what
came whole, and let go of them then."""

from __future__ import annotations

import socket

import pytest

from quorate.doors.http.full import FullConnection
from tests.conformance.test_http_door import FAST, SLOW, build
from tests.http_served import Client, Served
from tests.uncollected import uncollected

LANES = pytest.mark.parametrize("lane", [FAST, SLOW], ids=["fast", "slow"])


def half_close(http: Served, client: Client) -> None:
    """Send no more, and return once the door knows: what comes after on another connection is seen
    after it."""
    client.socket.shutdown(socket.SHUT_WR)
    with http.client() as other:
        assert other.ask(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 200


@LANES
def test_a_client_that_half_closes_still_gets_its_answers(
    http: Served, http_client: Client, lane: bytes
) -> None:
    http.store.fill(b"k", b"v")
    http.call(http.store.hold)
    http_client.send(build("GET", b"k", lane=lane) * 3)
    # The full service takes one at a time.
    http.until(lambda: len(http.store.events) == (3 if lane == FAST else 1))
    half_close(http, http_client)
    http.call(http.store.release)
    assert [http_client.receive().body for _ in range(3)] == [b"v"] * 3
    assert http_client.rest() == b""


def test_a_chunked_body_that_ends_before_its_client_does_is_stored_and_answered(
    http: Served, http_client: Client
) -> None:
    http.call(http.store.hold)
    http_client.send(build("PUT", b"k", headers=b"Transfer-Encoding: chunked\r\n"))
    http_client.send(b"1\r\nv\r\n0\r\n\r\n")
    http.until(lambda: len(http.store.events) == 1)
    half_close(http, http_client)
    http.call(http.store.release)
    assert http_client.receive().status == 200
    assert http_client.rest() == b""
    assert http.store.records[b"k"].value == b"v"


@LANES
@pytest.mark.parametrize(
    "rest",
    [
        *(build("GET", b"k")[:9], build("GET", b"k", lane=SLOW)[:-1]),
        *(build("PUT", b"k", value=b"new", lane=lane)[:-1] for lane in (FAST, SLOW)),
        build("PUT", b"k", headers=b"Transfer-Encoding: chunked\r\n") + b"3\r\nne",
    ],
)
def test_half_a_request_before_the_end_has_no_answer_and_those_before_it_have(
    http: Served, http_client: Client, lane: bytes, rest: bytes
) -> None:
    http.store.fill(b"k", b"v")
    http.call(http.store.hold)
    http_client.send(build("GET", b"k", lane=lane) + rest)
    http.until(lambda: len(http.store.events) == 1)
    half_close(http, http_client)
    http.call(http.store.release)
    assert http_client.receive().body == b"v"
    assert http_client.rest() == b""
    assert http.store.records[b"k"].value == b"v"


def test_of_several_before_half_a_body_all_have_answers(http: Served, http_client: Client) -> None:
    http.store.fill(b"k", b"v")
    http.call(http.store.hold)
    whole = build("GET", b"k", lane=SLOW)
    http_client.send(whole * 3 + build("PUT", b"k", value=b"new", lane=SLOW)[:-1])
    http.until(lambda: len(http.store.events) == 1)
    half_close(http, http_client)
    http.call(http.store.release)
    assert [http_client.receive().body for _ in range(3)] == [b"v"] * 3
    assert http_client.rest() == b""


@LANES
@pytest.mark.parametrize("has_asked_before", [False, True])
@pytest.mark.parametrize(
    "rest",
    [
        b"",
        build("GET", b"k")[:9],
        build("PUT", b"k", value=b"new", lane=SLOW)[:-1],
        build("PUT", b"k", headers=b"Transfer-Encoding: chunked\r\n") + b"3\r\nne",
    ],
)
def test_who_sends_no_more_from_the_moment_it_asked_has_its_answer(
    http: Served, lane: bytes, rest: bytes, has_asked_before: bool
) -> None:
    """The end may come in any turn: as a request begins, or while its answer is written."""
    http.store.fill(b"k", b"v")
    for _ in range(20):
        with http.client() as client:
            if has_asked_before:
                assert client.ask(build("GET", b"k", lane=lane)).body == b"v"
            client.send(build("GET", b"k", lane=lane) + rest)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.receive().body == b"v"
            assert client.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        build("PUT", b"k", value=b"value", lane=SLOW)[:-1],
        build("PUT", b"k", headers=b"Transfer-Encoding: chunked\r\n") + b"5\r\nva",
        build("PUT", b"k", headers=b"Transfer-Encoding: chunked\r\n") + b"5\r\nvalue\r\n",
    ],
)
def test_a_client_that_half_closes_amid_a_body_is_let_go_at_once(
    http: Served, http_client: Client, sent: bytes
) -> None:
    http_client.send(sent)
    half_close(http, http_client)
    assert http_client.rest() == b""
    http.until(lambda: http.listener.connections == 0)
    assert http.store.events == []


def test_who_half_closes_before_the_full_service_takes_over_is_let_go_after_its_answers(
    http: Served, http_client: Client
) -> None:
    http.store.fill(b"k", b"v")
    http.call(http.store.hold)
    http_client.send(build("GET", b"k") + build("GET", b"k", lane=SLOW))
    http.until(lambda: len(http.store.events) == 1)
    half_close(http, http_client)
    http.call(http.store.release)
    assert [http_client.receive().body for _ in range(2)] == [b"v"] * 2
    assert http_client.rest() == b""


def test_an_idle_client_of_the_full_service_that_half_closes_is_let_go(
    http: Served, http_client: Client
) -> None:
    assert http_client.ask(build("GET", b"k", lane=SLOW)).status == 404
    half_close(http, http_client)
    assert http_client.rest() == b""


def test_a_connection_that_is_over_is_freed_without_the_collector(
    http: Served, http_client: Client
) -> None:
    """With it what its last body was read from, which it knows to tell whether that ends."""
    with uncollected(FullConnection) as connections:
        http_client.send(build("PUT", b"k", headers=b"Transfer-Encoding: chunked\r\n"))
        assert http_client.ask(b"1\r\nv\r\n0\r\n\r\n").status == 200
        assert connections() == 1
        http_client.close()
        http.until(lambda: connections() == 0)
