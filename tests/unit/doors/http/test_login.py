# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorization in the fast lane: who logs in stays in it, who does not reaches nothing."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.events import Get, Put, Update
from quorate.doors.http.canonical import HEADERS, HEADERS_WITH_LOGIN
from quorate.doors.http.login import _FutureApplicant
from quorate.doors.limits import Timers
from quorate.doors.principals import REMEMBERED_MAX, Applicant, Principals
from quorate.security.tokens import Claims, issue
from tests.principals import CLUSTER, TOKEN_KEY, WALL_MS, AtOnce, user, users_of
from tests.unit.doors.http.lane_bench import GET, Bench, head, run
from tests.unit.doors.test_logins import ByHand

USERS = users_of(user("ann", "read", "write"), user("app", "read", "write", keys=("app:*",)))
TOKEN = issue(Claims("ann", WALL_MS + 1000, CLUSTER), key=TOKEN_KEY).encode()


def asking(thread: Any = None) -> Any:
    """Makes identities with users."""

    def make(timers: Timers) -> Principals:
        return Principals(
            timers,
            cluster=CLUSTER,
            wall_ms=lambda: WALL_MS,
            users=USERS,
            thread=thread or AtOnce(),
        )

    return make


def basic(name: str, password: str) -> bytes:
    return b"Authorization: Basic " + b64encode(f"{name}:{password}".encode())


ANN = basic("ann", "ann-pw")


def request(method: bytes = b"GET", key: bytes = b"k", *headers: bytes, body: bytes = b"") -> bytes:
    length = [b"Content-Length: %d" % len(body)] if method == b"PUT" else []
    return head(b"%b /kv?key=%b HTTP/1.1" % (method, key), b"Host: h", *headers, *length) + body


@pytest.mark.parametrize(
    "shown", [ANN, b"Authorization: Bearer " + TOKEN, ANN.lower()[:15] + ANN[15:]]
)
def test_who_logs_in_stays_in_the_fast_lane(shown: bytes) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(3):
            bench.send(request(b"GET", b"k", shown))
            await bench.turn()
        bench.send(request(b"PUT", b"k", shown, body=b"v") + request(b"GET", b"k", shown))
        await bench.turn()
        await bench.turn()
        assert bench.taken_over == []
        assert [type(event) for event in bench.store.events] == [Get, Get, Get, Put, Get]
        assert bench.out.endswith(b"\r\n\r\nv")

    run(test, make_principals=asking())


def test_who_logs_in_stays_there_with_requests_that_say_more_too() -> None:
    add = head(b"POST /incr?key=k&by=2 HTTP/1.1", b"Host: h", ANN, b"Idempotency-Key: a")

    async def test(bench: Bench) -> None:
        bench.send(request(b"PUT", b"k", ANN, b"If-None-Match: *", body=b"5") + add)
        for _ in range(4):
            await bench.turn()
        bench.send(request(b"GET", b"k", ANN, b"If-None-Match: *"))
        await bench.turn()
        assert bench.taken_over == []
        assert [type(event) for event in bench.store.events] == [Update, Update, Get]
        assert b"\r\n\r\n7HTTP/1.1 304 " in bench.out

    run(test, make_principals=asking())


@pytest.mark.parametrize("line", [b"POST /incr?key=k", b"DELETE /kv?key=k&timeout=1s"])
def test_a_request_that_says_more_reaches_nothing_without_a_login(line: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.send(head(line + b" HTTP/1.1", b"Host: h"))
        assert len(bench.taken_over) == 1
        assert bench.store.events == []

    run(test, make_principals=asking())
    shown = head(line + b" HTTP/1.1", b"Host: h", basic("ann", "x"))

    async def refused(bench: Bench) -> None:
        bench.send(shown + GET)
        for _ in range(3):
            await bench.turn()
        assert bench.out.startswith(b"HTTP/1.1 401 ")
        assert bench.out.count(b"HTTP/1.1 ") == 1
        assert (bench.store.events, bench.taken_over) == ([], [])

    run(refused, make_principals=asking())


def test_what_is_pipelined_behind_a_login_waits_for_it_and_is_answered_in_order() -> None:
    thread = ByHand()

    async def test(bench: Bench) -> None:
        bench.store.fill(b"a", b"1")
        bench.store.fill(b"b", b"2")
        bench.send(request(b"GET", b"a", ANN) + request(b"GET", b"b", ANN))
        await bench.turn()
        assert bench.store.events == []
        paused = [bench.transport.is_reading_paused]
        thread.make()
        await bench.turn()
        await bench.turn()
        assert bench.out.index(b"\r\n\r\n1") < bench.out.index(b"\r\n\r\n2")
        assert [*paused, bench.transport.is_reading_paused] == [True, False]
        assert thread.asked == []

    run(test, make_principals=asking(thread))


def test_one_login_in_many_spellings_has_nobody_else_forgotten() -> None:
    thread = AtOnce()

    async def test(bench: Bench) -> None:
        bench.send(request(b"GET", b"app:1", basic("app", "app-pw")))
        await bench.turn()
        for number in range(1, REMEMBERED_MAX + 2):
            spelled = ANN.replace(b"Basic ", b"bASIC" + b" " * number)
            bench.send(request(b"GET", b"k", spelled))
            await bench.turn()
        assert thread.checks == 2
        bench.send(request(b"GET", b"app:1", basic("app", "app-pw")))
        await bench.turn()
        assert thread.checks == 2
        assert bench.taken_over == []

    run(test, make_principals=asking(thread))


@pytest.mark.parametrize(
    "shown",
    [
        basic("ann", "x"),
        basic("nobody", "x"),
        b"Authorization: Bearer x",
        b"Authorization: Bearer " + TOKEN[:-1],
        b"Authorization: x",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE"])
def test_a_login_that_is_refused_ends_the_connection_and_reaches_nothing(
    method: bytes, shown: bytes
) -> None:
    async def test(bench: Bench) -> None:
        bench.send(request(method, b"k", shown, body=b"GET /kv?key=x HTTP/1.1\r\n\r\n") + GET)
        for _ in range(3):
            await bench.turn()
        bench.send(request(b"PUT", b"k", ANN, body=b"v"))
        await bench.turn()
        answer, _, body = bench.out.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert b"\r\nWWW-Authenticate: Basic realm=" in answer
        assert b"\r\nConnection: close" in answer
        if method == b"HEAD":
            assert body == b""
        else:
            assert json.loads(body)["code"] == "unauthenticated"
        assert bench.store.events == []
        assert bench.taken_over == []

    run(test, make_principals=asking())


def test_who_is_gone_before_the_check_is_made_is_told_nothing() -> None:
    thread = ByHand()

    async def test(bench: Bench) -> None:
        bench.send(request(b"GET", b"k", ANN))
        bench.connection.connection_lost(None)
        thread.make()
        await bench.turn()
        assert bench.out == b""
        assert bench.store.events == []

    run(test, make_principals=asking(thread))


def is_gone(applicant: Applicant) -> bool:
    return applicant.is_gone


def test_an_applicant_is_gone_with_its_connection() -> None:
    async def test(bench: Bench) -> None:
        assert not is_gone(bench.connection)
        bench.connection.connection_lost(None)
        assert is_gone(bench.connection)
        request = make_mocked_request("GET", "/kv/k")
        future = asyncio.get_running_loop().create_future()
        assert not is_gone(_FutureApplicant(request, future))
        request.protocol.transport = None
        assert is_gone(_FutureApplicant(request, future))

    run(test, make_principals=asking())


@pytest.mark.parametrize(
    "headers",
    [(), (ANN, ANN), (ANN, basic("ann", "x")), (b"Authorization:",), (b"Authorization: \xff",)],
)
def test_the_full_service_refuses_what_shows_nothing_or_two_things(
    headers: tuple[bytes, ...],
) -> None:
    async def test(bench: Bench) -> None:
        bench.send(request(b"GET", b"k", *headers))
        await bench.turn()
        assert len(bench.taken_over) == 1
        assert bench.store.events == []

    run(test, make_principals=asking())


@pytest.mark.parametrize(("key", "is_taken"), [(b"app:1", True), (b"app%3a1", True), (b"x", False)])
@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
def test_keys_of_a_pattern_are_served_and_others_left_to_be_refused(
    method: bytes, key: bytes, is_taken: bool
) -> None:
    async def test(bench: Bench) -> None:
        bench.send(request(method, key, basic("app", "app-pw")))
        await bench.turn()
        assert bool(bench.store.events) is is_taken
        assert bool(bench.taken_over) is not is_taken

    run(test, make_principals=asking())


def test_each_request_is_its_own_senders() -> None:
    """A proxy may send several users' requests on one connection."""

    async def test(bench: Bench) -> None:
        bench.send(request(b"GET", b"x", ANN))
        await bench.turn()
        bench.send(request(b"GET", b"x", basic("app", "app-pw")))
        await bench.turn()
        assert len(bench.store.events) == 1
        assert len(bench.taken_over) == 1

    run(test, make_principals=asking())


def test_without_users_what_is_shown_decides_nothing() -> None:
    async def test(bench: Bench) -> None:
        for headers in ((), (ANN,), (ANN, ANN), (b"Authorization: x",)):
            bench.send(request(b"GET", b"k", *headers))
            await bench.turn()
        assert len(bench.store.events) == 4
        assert bench.taken_over == []
        assert bench.lane.match_headers == HEADERS.fullmatch

    run(test)


_HEADERS = st.lists(
    st.sampled_from(
        [
            *(b"Host: h", b"Authorization: Basic eDp5", b"authorization: Bearer x", b"Accept: */*"),
            *(
                b"AUTHORIZATION:x",
                b"Authorization : x",
                b"Authorizationx: y",
                b"X-Authorization: y",
            ),
            *(b"Content-Length: 0", b"Connection: keep-alive", b"Author: z", b"Authorization:  "),
        ]
    ),
    max_size=6,
)


@given(_HEADERS)
def test_a_head_with_one_authorization_or_none_is_matched_as_without_users(
    headers: list[bytes],
) -> None:
    """And the group holds what stands there, so that none can be overlooked."""
    data = head(b"HTTP/1.1", *headers)
    shown = [each for each in headers if each.partition(b":")[0].lower() == b"authorization"]
    without, found = HEADERS.fullmatch(data), HEADERS_WITH_LOGIN.fullmatch(data)
    values = [each.partition(b":")[2].strip() for each in shown]
    if without is None or len(shown) > 1 or b"" in values:
        assert found is None
        return
    assert found is not None
    assert found.group(1, 2) == without.group(1, 2)
    assert found[3] == (values[0] if values else None)
