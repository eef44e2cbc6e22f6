# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast lane on a make-believe transport: order, hand-over, and every bound."""

from __future__ import annotations

import asyncio

import pytest

from quorate.core.values.events import Get, Put
from quorate.doors.http import lane
from quorate.doors.http.fast import FastConnection
from quorate.doors.http.lane import WINDOW_MAX
from quorate.doors.limits import FREE_BYTES, PROGRESS_BYTES, Deadlines, IdleLimit
from tests.unit.doors.http.lane_bench import (
    GET,
    VALUE_BYTES_MAX,
    Bench,
    CountingDeadlines,
    FakeTransport,
    head,
    run,
)

FOREIGN = head(b"GET /kv?key=k HTTP/1.0", b"Host: h")

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
        assert bench.transport.is_reading_paused
        bench.connection.data_received(FOREIGN)  # was on its way
        await bench.turn()
        assert bench.taken_over == []
        bench.connection.resume_writing()
        assert bench.taken_over[0].data == FOREIGN

    run(test)


PUT = head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1") + b"v"
PUT_IN_PART = PUT[:-1]
DELETE = head(b"DELETE /kv?key=k HTTP/1.1", b"Host: h")


@pytest.mark.parametrize("write", [PUT, DELETE])
def test_nothing_begins_while_a_write_is_unanswered(write: bytes) -> None:
    """RFC 9112, 9.3.2: `PUT k` and `GET k` in one packet must see each other."""

    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(write + GET * 2)
        assert [type(event) for event in bench.store.events] == [Put]
        bench.store.release()
        await bench.turn()
        assert [type(event) for event in bench.store.events] == [Put, Get, Get]
        await bench.turn()
        assert bench.out.count(b"HTTP/1.1 ") == 3

    run(test)


@pytest.mark.parametrize("write", [PUT, PUT_IN_PART, DELETE])
def test_a_write_begins_only_when_nothing_is_unanswered(write: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET * 2 + write)
        assert [type(event) for event in bench.store.events] == [Get, Get]
        with pytest.raises(AssertionError):
            bench.send(b"nobody reads")
        bench.store.release()
        await bench.turn()
        if write is PUT_IN_PART:
            bench.send(b"v")
        await bench.turn()
        assert [type(event) for event in bench.store.events] == [Get, Get, Put]
        assert bench.out.count(b"HTTP/1.1 ") == 3

    run(test)


def test_a_lone_write_does_not_stop_the_reading() -> None:
    """A system call for each write would be dear."""

    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(PUT)
        bench.send(GET)
        assert bench.transport.is_reading_paused
        bench.store.release()
        await bench.turn()
        await bench.turn()
        assert bench.out.count(b"HTTP/1.1 200") == 2

    run(test)


# --- bounds ---------------------------------------------------------------------------------------


def test_no_more_than_the_window_is_ever_unanswered() -> None:
    """10,000 pipelined requests, and a store that takes its time."""

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


def test_after_a_large_answer_requests_begin_one_by_one() -> None:
    async def test(bench: Bench) -> None:
        bench.store.fill(b"k", b"v" * VALUE_BYTES_MAX)
        bench.send(GET)
        await bench.turn()
        bench.store.hold()
        before = len(bench.store.events)
        bench.send(GET * 10)
        assert len(bench.store.events) - before == 1
        bench.store.release()
        async with asyncio.timeout(5):
            while bench.out.count(b"HTTP/1.1 200 ") < 11:
                await bench.turn()

    run(test)


def test_a_client_that_does_not_read_gets_nothing_more_done() -> None:
    """Slow read."""

    async def test(bench: Bench) -> None:
        bench.send(GET)
        bench.connection.pause_writing()
        assert bench.transport.is_reading_paused
        bench.connection.data_received(GET * 5)  # was on its way
        await bench.turn()
        assert len(bench.store.events) == 1
        assert bench.transport.is_reading_paused
        bench.connection.resume_writing()
        await bench.turn()
        assert len(bench.store.events) == 6
        assert not bench.transport.is_reading_paused

    run(test)


def test_a_client_that_takes_none_of_its_answers_is_dropped() -> None:
    async def test(bench: Bench) -> None:
        bench.lane.deadlines = Deadlines(asyncio.get_running_loop(), 0.01)
        bench.send(GET)
        await bench.turn()
        bench.connection.pause_writing()
        async with asyncio.timeout(5):
            while not bench.transport.aborted:
                await asyncio.sleep(0.001)

    run(test)


def test_the_time_for_a_head_stands_still_while_the_node_does_not_read() -> None:
    """Its rest may be waiting in the socket."""

    async def test(bench: Bench) -> None:
        bench.store.hold()
        deadlines = bench.lane.deadlines
        bench.send(PUT + GET[:9])
        assert bench.transport.is_reading_paused
        assert len(deadlines._due) == 0
        bench.store.release()
        await bench.turn()
        assert list(deadlines._due) == [bench.connection.flow]
        assert not bench.transport.is_reading_paused

    run(test)


def test_what_only_aiohttp_can_answer_is_handed_over_though_the_client_half_closed() -> None:
    async def test(bench: Bench) -> None:
        bench.store.hold()
        bench.send(GET + FOREIGN)
        assert bench.connection.eof_received()
        assert bench.taken_over == []
        bench.store.release()
        await bench.turn()
        assert not bench.transport.is_closing()
        assert bench.taken_over[0].data == FOREIGN
        assert not bench.transport.is_reading_paused

    run(test)


def test_a_slow_head_is_cut_off_and_an_idle_connection_is_not() -> None:
    """Slow headers."""

    async def test(bench: Bench) -> None:
        bench.lane.deadlines = Deadlines(asyncio.get_running_loop(), 0.02)
        idle = FastConnection(bench.lane)
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


def test_a_connection_that_says_nothing_more_is_closed() -> None:
    """As aiohttp does it, or idle clients would keep their places for ever."""

    async def test(bench: Bench) -> None:
        bench.connection.connection_lost(None)
        bench.lane.idle_limit = IdleLimit(asyncio.get_running_loop(), 0.01)
        idle, busy, slow = (FastConnection(bench.lane) for _ in range(3))
        transports = [FakeTransport() for _ in range(3)]
        for connection, transport in zip((idle, busy, slow), transports, strict=True):
            connection.connection_made(transport)
        idle.data_received(GET)
        await bench.turn()
        bench.store.hold()
        busy.data_received(GET)
        slow.data_received(GET[:9])
        async with asyncio.timeout(5):
            while not transports[0].closing:
                await asyncio.sleep(0.001)
            while busy.flow.silent_sweeps < 10:
                await asyncio.sleep(0.001)
        assert not transports[0].aborted
        assert not transports[1].closing
        assert not transports[2].closing, "that is for the deadline of a head"
        for connection in (busy, slow):
            connection.connection_lost(None)

    run(test)


def test_who_was_handed_over_is_no_longer_looked_at() -> None:
    async def test(bench: Bench) -> None:
        limit = bench.lane.idle_limit
        assert limit is not None
        assert len(limit._all) == 1
        bench.send(FOREIGN)
        assert len(bench.taken_over) == 1
        assert len(limit._all) == 0

    run(test)


def test_single_bytes_of_a_head_earn_no_time() -> None:
    async def test(bench: Bench) -> None:
        bench.lane.deadlines = Deadlines(asyncio.get_running_loop(), 0.05)
        async with asyncio.timeout(5):
            for byte in GET[:-1] * 1000:
                if bench.transport.aborted:
                    break
                bench.send(bytes([byte]))
                await asyncio.sleep(0.005)
        assert bench.transport.aborted

    run(test)


def test_a_body_earns_time_by_progress_only() -> None:
    """Slow body."""

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


PUT_HEAD = head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: %d" % (FREE_BYTES + 1000))
FREE = b"a" * FREE_BYTES


def test_a_body_may_come_in_pieces_with_the_next_request_behind_it() -> None:
    async def test(bench: Bench) -> None:
        bench.send(PUT_HEAD + FREE + b"a" * 400)
        bench.send(b"b" * 500)
        assert bench.lane.bodies.used == 900
        bench.send(b"c" * 100 + GET)
        assert bench.lane.bodies.used == 0
        await bench.turn()
        put, get = bench.store.events
        assert isinstance(put, Put)
        assert put.value == FREE + b"a" * 400 + b"b" * 500 + b"c" * 100
        assert isinstance(get, Get)

    run(test)


def test_a_body_over_the_budget_is_shed_after_the_answers_before_it() -> None:
    """P7."""

    async def test(bench: Bench) -> None:
        bench.send(GET + PUT_HEAD + FREE + b"a" * 400)
        await bench.turn()
        assert bench.lane.bodies.used == 400
        bench.send(b"b" * 200)
        assert bench.lane.bodies.used == 0
        await bench.turn()
        first, second = bench.out.split(b"HTTP/1.1 ")[1:]
        assert first.startswith(b"404")
        assert second.startswith(b"503")
        assert b"Connection: close" in second
        assert b'"outcome":"not_applied"' in second
        # Else whoever is still sending would see a reset, and not the answer.
        assert not bench.transport.closing
        bench.send(b"b" * 400 + GET)
        await bench.turn()
        bench.connection.eof_received()
        assert bench.transport.is_closing()
        assert len(bench.store.events) == 1

    run(test, budget_bytes=500)


def test_a_client_whose_body_was_shed_cannot_go_on_for_ever() -> None:
    async def test(bench: Bench) -> None:
        bench.lane.lingering = Deadlines(asyncio.get_running_loop(), 0.01)
        bench.send(PUT_HEAD + FREE + b"a" * 600)
        await bench.turn()
        async with asyncio.timeout(10):
            while not bench.transport.closing:
                await asyncio.sleep(0.001)

    run(test, budget_bytes=500)


def test_a_small_body_gets_through_whatever_others_have_used_up() -> None:
    async def test(bench: Bench) -> None:
        bench.send(head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: %d" % FREE_BYTES))
        bench.send(FREE[1:])
        bench.send(FREE[:1])
        await bench.turn()
        assert bench.out.startswith(b"HTTP/1.1 200")

    run(test, budget_bytes=0)


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_body_that_never_comes_is_given_back(is_reset: bool) -> None:
    async def test(bench: Bench) -> None:
        bench.send(PUT_HEAD + FREE + b"a" * 400)
        if not is_reset:
            bench.connection.eof_received()
            assert bench.transport.closing
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
        assert not bench.transport.is_closing()
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

        monkeypatch.setattr(lane, "formatdate", formatdate)
        bench.send(GET * 3)
        await bench.turn()
        bench.store.now_ms += 1000
        bench.send(GET)
        await bench.turn()
        assert made == [1_700_000_000, 1_700_000_001]
        assert bench.out.count(b"Date: second 1700000000\r\n") == 3

    run(test)
