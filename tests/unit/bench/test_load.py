# SPDX-License-Identifier: GPL-3.0-or-later
"""The load keeps every connection busy, ends in time, and counts whatever goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from quorate.bench import load as module
from quorate.bench.load import Batch, Connection, Load, Source
from quorate.bench.protocols import RespCodec
from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.client.scripted import dead_port


def connections(redis: FakeRedis, count: int) -> list[Connection]:
    return [Connection(redis.target, RespCodec(value=b"x", wait=0)) for _ in range(count)]


def endless(connection: Connection) -> Batch:
    return Batch(connection.codec.write(1), 1, 1, is_read=False)


def finite(count: int, *, size: int = 1) -> Source:
    """`count` batches of `size` reads."""
    left = [count]

    def source(connection: Connection) -> Batch | None:
        if not left[0]:
            return None
        left[0] -= 1
        return Batch(connection.codec.read(1) * size, size, size, is_read=True)

    return source


def run(redis: FakeRedis, source: Source, *, count: int = 4, seconds: float = 10.0) -> Load:
    load = Load(connections(redis, count), source)
    try:
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
        begun = time.perf_counter()
        load = run(redis, endless, seconds=0.3)
        assert time.perf_counter() - begun < 0.3 + module.DRAIN_SECONDS
        assert redis.connections == 4
        assert len(redis.commands) == pytest.approx(sum(load.write_counts.values()), abs=4)
    assert load.seconds == pytest.approx(0.3, abs=0.1)
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
        connection = Connection(redis.target, RespCodec(value=value, wait=0))
        batches: list[Callable[[], Batch]] = [
            lambda: Batch(connection.codec.read(1), 1, 1, is_read=True),
            lambda: Batch(connection.codec.write(1), 1, 1, is_read=False),
        ]
        load = Load([connection], lambda _: batches.pop()() if batches else None)
        try:
            load.run(seconds=10)
        finally:
            load.close()
        assert list(redis.values.values()) == [value]
    assert (sum(load.read_counts.values()), sum(load.write_counts.values())) == (1, 1)
    assert load.tally.errors == {}


def test_a_target_that_refuses_is_an_error_at_once() -> None:
    with dead_port() as url:
        target = ("127.0.0.1", int(url.rpartition(":")[2]))
        load = Load([Connection(target, RespCodec(value=b"x", wait=0))], endless)
        with pytest.raises(OSError, match="refused"):
            load.run(seconds=10)
        load.close()
