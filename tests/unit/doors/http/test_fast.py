# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast lane on a make-believe transport: what is canonical, order, and every bound."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from quorate.config import Config
from quorate.core.events import Get, Put
from quorate.doors.http import fast
from quorate.doors.http.fast import HEAD_BYTES_MAX, WINDOW_MAX, FastLane
from quorate.doors.http.limits import PROGRESS_BYTES, BodyBudget, Closable, Deadlines
from tests.fake_store import NODES, FakeStore

GET = b"GET /kv?key=k HTTP/1.1\r\nHost: h\r\n\r\n"
VALUE_BYTES_MAX = 1 << 20


class FakeTransport(asyncio.Transport):
    """Remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_reading_paused = False
        self.closing = False
        self.aborted = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing, "uvloop raises on a write after close"
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Aiohttp(asyncio.Protocol):
    """Stands for the full service."""

    def __init__(self) -> None:
        self.data = b""
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.data += data


class CountingDeadlines(Deadlines):
    """Counts how often a time was started."""

    def __init__(self) -> None:
        super().__init__(30.0)
        self.watched = 0

    def watch(self, what: Closable) -> None:
        self.watched += 1
        super().watch(what)


class Bench:
    """A connection of the fast lane with everything around it."""

    def __init__(self, *, budget_bytes: int = 64 << 20) -> None:
        self.store = FakeStore(
            Config(nodes=NODES, advertise=NODES[0], value_bytes_max=VALUE_BYTES_MAX)
        )
        self.taken_over: list[Aiohttp] = []
        self.lane = FastLane(
            self.store,
            full_service=self._full_service,
            is_welcome=lambda host: host == b"h",
            bodies=BodyBudget(budget_bytes),
        )
        self.transport = FakeTransport()
        self.connection = self.lane.connection()
        self.connection.connection_made(self.transport)

    def _full_service(self) -> Aiohttp:
        self.taken_over.append(Aiohttp())
        return self.taken_over[-1]

    def send(self, data: bytes) -> None:
        """Deliver bytes, as long as anyone reads."""
        assert not self.transport.is_reading_paused
        protocol = self.transport.protocol or self.connection
        assert isinstance(protocol, asyncio.Protocol)
        protocol.data_received(data)

    @property
    def out(self) -> bytes:
        return b"".join(self.transport.written)

    async def turn(self) -> None:
        """Let the store answer what it has."""
        for _ in range(3):
            await asyncio.sleep(0)


def run(test: Callable[[Bench], Awaitable[None]], **given: int) -> None:
    async def main() -> None:
        bench = Bench(**given)
        await test(bench)
        bench.lane.deadlines.close()

    asyncio.run(main())


# --- what is canonical ----------------------------------------------------------------------------


def head(line: bytes, *headers: bytes) -> bytes:
    return b"".join(each + b"\r\n" for each in (line, *headers)) + b"\r\n"


CANONICAL = [
    GET,
    head(b"HEAD /kv?key=%00%fF HTTP/1.1", b"host:h"),
    head(b"DELETE /kv?key=a.b_c~d-e&w=2 HTTP/1.1", b"User-Agent: x", b"Host: h", b"Accept: */*"),
    head(b"GET /kv?key=k&r=9 HTTP/1.1", b"HOST: h", b"Accept-Encoding: gzip"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"PUT /kv?key=k HTTP/1.1", b"content-length:\t00", b"Host: h", b"Content-Type: a/b"),
]

FOREIGN = [
    head(b"GET /kv?key=k HTTP/1.0", b"Host: h"),
    head(b"GET /kv HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key= HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a+b HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a%2 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&r=0 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&r=12 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&w=1 HTTP/1.1", b"Host: h"),
    head(b"DELETE /kv?key=a&r=1 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=" + b"k" * 1025 + b" HTTP/1.1", b"Host: h"),
    head(b"POST /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"get /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"GET /nodes HTTP/1.1", b"Host: h"),
    head(b"GET  /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=k HTTP/1.1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: stranger"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Host: h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"host: h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host : h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"X-Other: 1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b" folded: 1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept: \xff"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept: a\rb"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept: a", b"Accept: b"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1", b"Content-Length: 1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: +1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1, 1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: %d" % (VALUE_BYTES_MAX + 1)),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 99999999999"),
    *(
        head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0", extra)
        for extra in (
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
            b"Connection: close",
            b"Upgrade: h2c",
            b"If-Match: x",
            b"If-None-Match: *",
            b"Origin: http://h",
            b"Content-Encoding: gzip",
            b"Range: bytes=0-1",
        )
    ),
]


@pytest.mark.parametrize("request_bytes", CANONICAL)
def test_a_canonical_request_is_served_here(request_bytes: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.send(request_bytes)
        await bench.turn()
        assert len(bench.store.events) == 1
        assert bench.out.startswith((b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
        assert bench.taken_over == []

    run(test)


@pytest.mark.parametrize("request_bytes", FOREIGN)
def test_anything_else_is_aiohttps_byte_for_byte(request_bytes: bytes) -> None:
    """RELIABILITY 40 to 49: nothing that can be misread is read here."""

    async def test(bench: Bench) -> None:
        bench.send(request_bytes + b"and more")
        (aiohttp,) = bench.taken_over
        assert aiohttp.data == request_bytes + b"and more"
        assert bench.transport.protocol is aiohttp
        assert bench.store.events == []

    run(test)


@pytest.mark.parametrize("request_bytes", [*CANONICAL, *FOREIGN])
def test_the_decision_is_the_same_for_single_bytes(request_bytes: bytes) -> None:
    async def test(bench: Bench) -> None:
        for byte in request_bytes:
            bench.send(bytes([byte]))
        whole = request_bytes in FOREIGN
        assert len(bench.store.events) == (not whole)
        assert b"".join(each.data for each in bench.taken_over) == (request_bytes if whole else b"")

    run(test)


def test_a_head_without_end_is_aiohttps_to_refuse() -> None:
    """RELIABILITY 46, 47."""

    async def test(bench: Bench) -> None:
        endless = b"GET /kv?key=" + b"k" * HEAD_BYTES_MAX
        bench.send(endless[:HEAD_BYTES_MAX])
        assert bench.taken_over == []
        bench.send(endless[HEAD_BYTES_MAX:])
        assert bench.taken_over[0].data == endless

    run(test)


def test_an_expression_with_many_spaces_takes_no_time() -> None:
    """No header value can make the matching quadratic: this takes seconds where it is."""

    async def test(bench: Bench) -> None:
        started = asyncio.get_running_loop().time()
        bench.send(head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept:" + b" " * 15_000)[:-3])
        bench.send(b"x")
        assert asyncio.get_running_loop().time() - started < 0.5

    run(test)


# --- order and hand-over --------------------------------------------------------------------------


def test_one_turn_writes_once() -> None:
    async def test(bench: Bench) -> None:
        bench.send(GET * 10)
        await bench.turn()
        assert len(bench.transport.written) == 1
        assert bench.out.count(b"HTTP/1.1 404 ") == 10

    run(test)


def test_answers_wait_for_those_before_them() -> None:
    async def test(bench: Bench) -> None:
        bench.store.fill(b"a", b"first")
        bench.store.fill(b"b", b"second")
        bench.store.hold()
        bench.send(GET.replace(b"=k", b"=a") + GET.replace(b"=k", b"=b"))
        one, two = bench.store.events
        assert isinstance(one, Get)
        assert isinstance(two, Get)
        two.waiter.done(bench.store._answer(two))
        await bench.turn()
        assert bench.out == b""
        one.waiter.done(bench.store._answer(one))
        await bench.turn()
        assert bench.out.index(b"first") < bench.out.index(b"second")

    run(test)


def test_the_hand_over_waits_for_the_answers_before_it_and_reads_nothing_meanwhile() -> None:
    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET * 2 + b"GET /nodes HTTP/1.1\r\n\r\nrest")
        await bench.turn()
        assert bench.taken_over == []
        assert bench.transport.is_reading_paused
        bench.store.release()
        await bench.turn()
        assert bench.out.count(b"HTTP/1.1 404 ") == 2
        assert bench.taken_over[0].data == b"GET /nodes HTTP/1.1\r\n\r\nrest"
        assert not bench.transport.is_reading_paused

    run(test)


def test_the_hand_over_waits_until_the_client_reads() -> None:
    """aiohttp would take the transport's resume_writing for a mistake."""

    async def test(bench: Bench) -> None:
        bench.connection.pause_writing()
        bench.send(FOREIGN[0])
        await bench.turn()
        assert bench.taken_over == []
        bench.connection.resume_writing()
        assert bench.taken_over[0].data == FOREIGN[0]

    run(test)


# --- bounds ---------------------------------------------------------------------------------------


def test_no_more_than_the_window_is_ever_unanswered() -> None:
    """RELIABILITY 54: 10,000 pipelined requests, and a store that takes its time."""

    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET * 1000)
        assert len(bench.store.events) == WINDOW_MAX
        assert bench.transport.is_reading_paused
        bench.store.release()
        async with asyncio.timeout(5):
            while bench.out.count(b"HTTP/1.1 404 ") < 1000:
                await bench.turn()
        assert not bench.transport.is_reading_paused

    run(test)


def test_large_answers_make_the_window_small() -> None:
    async def test(bench: Bench) -> None:
        bench.store.fill(b"k", b"v" * VALUE_BYTES_MAX)
        bench.send(GET)
        await bench.turn()
        bench.store.hold()
        before = len(bench.store.events)
        bench.send(GET * 100)
        assert len(bench.store.events) - before == 3

    run(test)


def test_a_client_that_does_not_read_gets_nothing_more_done() -> None:
    """RELIABILITY 54: slow read."""

    async def test(bench: Bench) -> None:
        bench.send(GET)
        bench.connection.pause_writing()
        bench.send(GET * 5)
        await bench.turn()
        assert len(bench.store.events) == 1
        assert bench.transport.is_reading_paused
        bench.connection.resume_writing()
        await bench.turn()
        assert len(bench.store.events) == 6
        assert not bench.transport.is_reading_paused

    run(test)


def test_a_slow_head_is_cut_off_and_an_idle_connection_is_not() -> None:
    """RELIABILITY 54: slow headers."""

    async def test(bench: Bench) -> None:
        bench.lane.deadlines = Deadlines(0.02)
        idle = bench.lane.connection()
        idle_transport = FakeTransport()
        idle.connection_made(idle_transport)
        idle_done = GET
        idle.data_received(idle_done)
        bench.send(GET[:10])
        async with asyncio.timeout(5):
            while not bench.transport.aborted:
                await asyncio.sleep(0.001)
        assert not idle_transport.closing

    run(test)


def test_single_bytes_of_a_head_earn_no_time() -> None:
    async def test(bench: Bench) -> None:
        bench.lane.deadlines = Deadlines(0.05)
        async with asyncio.timeout(5):
            for byte in GET[:-1] * 1000:
                if bench.transport.aborted:
                    break
                bench.send(bytes([byte]))
                await asyncio.sleep(0.005)
        assert bench.transport.aborted

    run(test)


def test_a_body_earns_time_by_progress_only() -> None:
    """RELIABILITY 54: slow body."""

    async def test(bench: Bench) -> None:
        deadlines = bench.lane.deadlines = CountingDeadlines()
        bench.send(head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1000000"))
        assert deadlines.watched == 1
        for _ in range(100):
            bench.send(b"v")
        assert deadlines.watched == 1
        bench.send(b"v" * PROGRESS_BYTES)
        assert deadlines.watched == 2

    run(test)


def test_a_finished_request_is_no_longer_watched() -> None:
    async def test(bench: Bench) -> None:
        bench.send(GET[:10])
        assert len(bench.lane.deadlines._due) == 1
        bench.send(GET[10:])
        assert len(bench.lane.deadlines._due) == 0
        bench.send(GET + GET[:10])
        assert len(bench.lane.deadlines._due) == 1
        bench.connection.connection_lost(None)
        assert len(bench.lane.deadlines._due) == 0

    run(test)


PUT_HEAD = head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1000")


def test_a_body_may_come_in_pieces_with_the_next_request_behind_it() -> None:
    async def test(bench: Bench) -> None:
        bench.send(PUT_HEAD + b"a" * 400)
        bench.send(b"b" * 500)
        assert bench.lane.bodies.used == 900
        bench.send(b"c" * 100 + GET)
        assert bench.lane.bodies.used == 0
        put, get = bench.store.events
        assert isinstance(put, Put)
        assert put.value == b"a" * 400 + b"b" * 500 + b"c" * 100
        assert isinstance(get, Get)

    run(test)


def test_bodies_over_the_budget_are_shed_after_the_answers_before_them() -> None:
    """DESIGN, P7."""

    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET + PUT_HEAD + b"a" * 400)
        bench.send(b"b" * 200)
        assert bench.lane.bodies.used == 0
        assert bench.out == b""
        bench.store.release()
        await bench.turn()
        first, second = bench.out.split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"404")
        assert second.startswith(b"503")
        assert b"Connection: close" in second
        assert b'"outcome":"not_applied"' in second
        assert bench.transport.closing
        assert len(bench.store.events) == 1

    run(test, budget_bytes=500)


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_body_that_never_comes_is_given_back(is_reset: bool) -> None:
    async def test(bench: Bench) -> None:
        bench.send(PUT_HEAD + b"a" * 400)
        if not is_reset:
            assert not bench.connection.eof_received()
        bench.connection.connection_lost(ConnectionResetError() if is_reset else None)
        assert bench.lane.bodies.used == 0
        assert bench.store.events == []

    run(test)


def test_answers_for_a_client_that_left_go_nowhere() -> None:
    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET * 3)
        bench.connection.connection_lost(None)
        bench.store.release()
        await bench.turn()
        assert bench.out == b""

    run(test)


def test_answers_for_a_closing_transport_go_nowhere() -> None:
    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET)
        bench.transport.close()
        bench.store.release()
        await bench.turn()
        assert bench.out == b""

    run(test)


def test_half_closed_clients_are_answered_to_the_last_and_then_closed() -> None:
    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET * (WINDOW_MAX + 5))
        assert bench.connection.eof_received()
        bench.store.release()
        async with asyncio.timeout(5):
            while not bench.transport.closing:
                await bench.turn()
        assert bench.out.count(b"HTTP/1.1 404 ") == WINDOW_MAX + 5

    run(test)


def test_the_date_is_made_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        made: list[int] = []

        def formatdate(second: int, *, usegmt: bool) -> str:
            assert usegmt
            made.append(second)
            return f"second {second}"

        monkeypatch.setattr(fast, "formatdate", formatdate)
        bench.send(GET * 3)
        await bench.turn()
        bench.store.now_ms += 1000
        bench.send(GET)
        await bench.turn()
        assert made == [1_700_000_000, 1_700_000_001]
        assert bench.out.count(b"Date: second 1700000000\r\n") == 3

    run(test)
