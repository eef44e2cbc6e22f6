# SPDX-License-Identifier: GPL-3.0-or-later
"""The load keeps every connection busy, ends in time, and counts whatever goes wrong."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

import pytest

from quorate.bench import load as module
from quorate.bench.load import Load, Pace, RequestBatch, Source, TargetConnection
from quorate.bench.protocols import RespCodec, Tally
from quorate.bench.result import Slice
from tests.unit.bench.fake_redis import FakeRedis, Mood
from tests.unit.client.scripted import dead_port, wait_until


def connections(redis: FakeRedis, count: int) -> list[TargetConnection]:
    return [TargetConnection(redis.target, RespCodec(value=b"x", wait=0)) for _ in range(count)]


def endless(connection: TargetConnection) -> RequestBatch:
    return RequestBatch(connection.codec.write(1), 1, 1, is_read=False)


def finite(count: int, *, size: int = 1) -> Source:
    """`count` batches of `size` reads."""
    left = [count]

    def source(connection: TargetConnection) -> RequestBatch | None:
        if not left[0]:
            return None
        left[0] -= 1
        return RequestBatch(connection.codec.read(1) * size, size, size, is_read=True)

    return source


def run(
    redis: FakeRedis,
    source: Source,
    *,
    count: int = 4,
    seconds: float = 10.0,
    pace: Pace | None = None,
    tell: Callable[[Slice], None] = lambda _: None,
    slice_seconds: float = 0.1,
) -> Load:
    load = Load(
        connections(redis, count), source, pace=pace, slice_seconds=slice_seconds, tell=tell
    )
    try:
        load.open()
        load.run(seconds=seconds)
    finally:
        load.close()
    return load


def test_all_batches_are_sent_and_each_request_is_counted_once() -> None:
    with FakeRedis() as redis:
        load = run(redis, finite(50, size=3))
        assert len(redis.commands) == 150
    assert sum(load.read_counts.values()) == 150
    assert (load.write_counts, load.tally.errors, load.tally.misses) == ({}, {}, 150)
    assert load.seconds < 10


def test_the_load_ends_itself_in_time_and_uses_all_connections() -> None:
    with FakeRedis() as redis:
        load = run(redis, endless, seconds=0.3)
        assert redis.connections == 4
        assert len(redis.commands) == sum(load.write_counts.values())
    assert load.writes_in_time == pytest.approx(len(redis.commands), abs=4)
    assert load.seconds == pytest.approx(0.3)
    assert load.tally.errors == {}


def test_requests_that_nobody_answers_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.1)
    with FakeRedis(lambda _: b"+half of a reply") as redis:
        load = run(redis, finite(4, size=5), seconds=0.2)
    assert load.tally.errors == {"no answer": 20}
    assert load.read_counts == {}


def test_a_lost_connection_is_counted_with_its_requests_and_opened_again() -> None:
    def mood(_command: list[bytes]) -> bytes | None:
        return b"" if len(redis.commands) == 3 else None

    with FakeRedis(mood) as redis:
        load = run(redis, finite(10), count=1)
        assert redis.connections == 2
    assert sum(load.tally.errors.values()) == 1
    assert sum(load.read_counts.values()) == 9


def test_a_reply_that_is_none_loses_the_connection_and_names_the_bytes() -> None:
    def mood(_command: list[bytes]) -> bytes | None:
        return b"nonsense\r\n" if len(redis.commands) == 1 else None

    with FakeRedis(mood) as redis:
        load = run(redis, finite(3), count=1)
    assert load.tally.errors == {"no RESP reply: b'nonsense\\r\\n'": 1}


def test_a_server_that_goes_away_is_an_error_and_no_hang() -> None:
    def mood(_command: list[bytes]) -> bytes | None:
        redis._listener.close()
        return b""

    with FakeRedis(mood) as redis:
        load = run(redis, endless, count=1, seconds=0.5)
    assert sum(load.tally.errors.values()) >= 1
    assert load.write_counts == {}


def test_a_request_larger_than_the_sockets_buffers_is_sent_in_full() -> None:
    value = b"x" * (8 << 20)
    with FakeRedis() as redis:
        connection = TargetConnection(redis.target, RespCodec(value=value, wait=0))
        batches: list[Callable[[], RequestBatch]] = [
            lambda: RequestBatch(connection.codec.read(1), 1, 1, is_read=True),
            lambda: RequestBatch(connection.codec.write(1), 1, 1, is_read=False),
        ]
        load = Load([connection], lambda _: batches.pop()() if batches else None)
        try:
            load.open()
            load.run(seconds=10)
        finally:
            load.close()
        assert list(redis.values.values()) == [value]
    assert (sum(load.read_counts.values()), sum(load.write_counts.values())) == (1, 1)
    assert load.tally.errors == {}


def test_a_target_that_refuses_is_an_error_at_once() -> None:
    with dead_port() as url:
        target = ("127.0.0.1", int(url.rpartition(":")[2]))
        load = Load([TargetConnection(target, RespCodec(value=b"x", wait=0))], endless)
        with pytest.raises(OSError, match="refused"):
            load.open()
        load.close()


def test_a_reply_to_nothing_loses_the_connection() -> None:
    def mood(_command: list[bytes]) -> bytes | None:
        return b"+OK\r\n+OK\r\n" if len(redis.commands) == 1 else None

    with FakeRedis(mood) as redis:
        load = run(redis, finite(3), count=1)
    assert load.tally.errors == {"a reply to nothing": 1}


def test_what_follows_a_batch_is_sent_by_the_same_connection_before_anything_else() -> None:
    left = [3]

    def source(connection: TargetConnection) -> RequestBatch | None:
        left[0] -= 1
        if left[0] < 0:
            return None
        write = RequestBatch(connection.codec.write(left[0]), 1, 1, False)
        return RequestBatch(connection.codec.read(left[0]), 1, 1, True, write)

    with FakeRedis() as redis:
        load = run(redis, source, count=1)
        assert redis.commands == [b"GET", b"SET"] * 3
    assert (sum(load.read_counts.values()), sum(load.write_counts.values())) == (3, 3)


def test_stopping_ends_a_run_at_once_even_before_it_begins() -> None:
    with FakeRedis() as redis:
        load = Load(connections(redis, 1), endless)
        load.open()
        load.stop()
        load.run(seconds=60)
        load.close()
        assert redis.commands == []
    assert (load.seconds, load.tally.errors) == (0.0, {})


# --- the open loop -----------------------------------------------------------------------------


def test_the_open_loop_sends_as_many_as_are_due() -> None:
    with FakeRedis() as redis:
        load = run(redis, endless, seconds=0.3, pace=Pace(0.002, 0.0))
        assert len(redis.commands) == pytest.approx(150, abs=1)
        assert sum(load.write_counts.values()) == len(redis.commands)


def paused(milliseconds: int) -> Mood:
    """A server that stands still for a while when it gets the first command."""
    first = [True]

    def mood(_command: list[bytes]) -> bytes | None:
        if first.pop() if first else False:
            threading.Event().wait(milliseconds / 1000)
        return None

    return mood


def late(load: Load) -> int:
    """Requests that took 100 ms or more."""
    return sum(count for us, count in load.write_counts.items() if us >= 100_000)


def test_a_pause_shows_in_every_request_that_was_due_meanwhile() -> None:
    """200 of them are due in the first 200 ms of a pause of 300 ms."""
    with FakeRedis(paused(300)) as redis:
        load = run(redis, endless, count=1, seconds=0.4, pace=Pace(0.001, 0.0))
    assert late(load) >= 200
    with FakeRedis(paused(300)) as redis:
        closed = run(redis, endless, count=1, seconds=0.4)
    assert late(closed) < 200


def test_what_was_due_and_not_sent_at_the_end_is_the_backlog_and_sent_after_it() -> None:
    with FakeRedis(paused(300)) as redis:
        load = run(redis, endless, count=1, seconds=0.2, pace=Pace(0.001, 0.0005))
        assert len(redis.commands) == 200
    # All but the first, which is under way.
    assert load.overdue == 199
    assert (load.writes_in_time, sum(load.write_counts.values())) == (0, 200)


def test_what_is_sent_after_the_end_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CATCH_UP_SECONDS", 0.0)
    with FakeRedis(paused(300)) as redis:
        load = run(redis, endless, count=1, seconds=0.2, pace=Pace(0.001, 0.0005))
        assert len(redis.commands) == 1
    assert load.overdue == 199
    assert load.tally.errors == {}


def test_the_writes_of_a_read_modify_write_take_places_of_the_schedule() -> None:
    def source(connection: TargetConnection) -> RequestBatch:
        write = RequestBatch(connection.codec.write(1), 1, 1, False)
        return RequestBatch(connection.codec.read(1), 1, 1, True, write)

    with FakeRedis() as redis:
        run(redis, source, seconds=0.3, pace=Pace(0.002, 0.0))
        assert len(redis.commands) == pytest.approx(150, abs=4)


def test_a_read_modify_write_that_the_end_cuts_short_leaves_its_connection_to_the_backlog() -> None:
    def source(connection: TargetConnection) -> RequestBatch:
        write = RequestBatch(connection.codec.write(1), 1, 1, False)
        return RequestBatch(connection.codec.read(1), 1, 1, True, write)

    with FakeRedis(paused(300)) as redis:
        load = run(redis, source, count=1, seconds=0.2, pace=Pace(0.001, 0.0005))
        assert redis.commands == [b"GET"] * 200
    assert sum(load.read_counts.values()) == 200


def test_a_connection_lost_while_it_waits_for_work_is_no_error_and_opened_again() -> None:
    def mood(_command: list[bytes]) -> bytes | None:
        if len(redis.commands) == 1:
            wait_until(lambda: len(redis._sockets) == 3, what="all connections")
            for each in redis._sockets[1:]:
                each.shutdown(socket.SHUT_RDWR)
        if redis.connections == 5:
            load.stop()
        return None

    with FakeRedis(mood) as redis:
        load = Load(connections(redis, 3), endless, pace=Pace(0.05, 0.0))
        load.open()
        load.run(seconds=60)
        load.close()
        assert redis.connections == 5
    assert load.tally.errors == {}


# --- slices ------------------------------------------------------------------------------------


def test_slices_tell_of_all_that_ended_and_are_as_many_as_the_run_is_long() -> None:
    told: list[Slice] = []
    with FakeRedis() as redis:
        load = run(redis, endless, seconds=0.45, tell=told.append)
    assert len(told) == 5
    assert sum(each.succeeded for each in told) == load.writes_in_time
    worst = max(us for us in load.write_counts) / 1000
    assert 0 < max(each.worst_ms for each in told) <= worst


def test_slices_tell_failures_from_successes() -> None:
    told: list[Slice] = []
    with FakeRedis(lambda _: b"-BUSY no\r\n") as redis:
        load = run(redis, endless, seconds=0.2, tell=told.append)
    assert sum(each.succeeded for each in told) == 0
    assert sum(each.errors for each in told) == load.writes_in_time > 0


def test_a_server_that_stands_still_leaves_empty_slices() -> None:
    told: list[Slice] = []
    with FakeRedis(paused(350)) as redis:
        run(redis, endless, count=1, seconds=0.5, tell=told.append)
    assert told[:3] == [Slice(), Slice(), Slice()]
    assert max(each.worst_ms for each in told) >= 350


@pytest.mark.parametrize("turned_at_s", [0.0, 0.1, 0.15, 0.25, 0.3])
def test_a_generator_that_stands_still_up_to_the_end_leaves_as_many_slices(
    turned_at_s: float,
) -> None:
    """Whatever the clock said at the beginning: sums of tenths are not exact."""
    for begun in (1000 + 0.0137 * number for number in range(100)):
        told: list[Slice] = []
        slices = module._Slices(Tally(), 0.1, told.append)
        slices.begin(begun)
        if turned_at_s >= 0.1:
            slices.finish(begun + turned_at_s)
        slices.close(begun + 0.3)
        assert len(told) == 3


def test_an_answer_is_told_of_in_the_slice_of_its_arrival() -> None:
    told: list[Slice] = []
    with FakeRedis(paused(230)) as redis:
        run(redis, endless, count=1, seconds=0.4, tell=told.append, slice_seconds=0.01)
    assert told[:23] == [Slice()] * 23
    assert len(told) == 40


def test_a_load_that_is_done_early_has_no_slices_of_the_time_it_did_not_need() -> None:
    told: list[Slice] = []
    with FakeRedis() as redis:
        load = run(redis, finite(50), tell=told.append, slice_seconds=0.01)
    assert sum(each.succeeded for each in told) == 50
    assert len(told) == pytest.approx(load.seconds / 0.01, abs=1)


def writable(connection: TargetConnection) -> None:
    """Wait until connecting is over, one way or the other."""
    _, ready, _ = select.select([], [connection.socket], [], 10)
    assert ready


def test_what_was_half_read_is_forgotten_when_it_is_opened_again() -> None:
    with FakeRedis() as redis:
        connection = TargetConnection(redis.target, RespCodec(value=b"x", wait=0))
        connection.open()
        assert connection.take(b"$1000\r\nhalf", Tally()) == 0
        connection.close()
        assert not connection.is_open
        connection.reopen()
        writable(connection)
        assert not connection.has_failed()
        assert connection.take(b"+OK\r\n", Tally()) == 1
        connection.close()


def test_a_target_that_went_away_is_noticed_without_waiting_for_it() -> None:
    with FakeRedis() as redis:
        connection = TargetConnection(redis.target, RespCodec(value=b"x", wait=0))
        connection.open()
        connection.close()
    connection.reopen()
    writable(connection)
    assert connection.has_failed()
    connection.close()


def test_a_target_that_refuses_from_the_beginning_is_an_error() -> None:
    with dead_port() as url:
        connection = TargetConnection(
            ("127.0.0.1", int(url.rpartition(":")[2])), RespCodec(value=b"x", wait=0)
        )
        with pytest.raises(OSError, match="refused"):
            connection.open()
        connection.close()
