# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker: keys written before they are read, the mix that was asked for, both protocols."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from quorate.bench import worker as module
from quorate.bench.protocols import KEY_PREFIX, ProtocolFault
from quorate.bench.result import WorkerResult
from quorate.bench.worker import Filled, Passed, Task, Worker, WorkerMessage
from tests.fake_store import FakeStore
from tests.http_served import Served
from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.bench.plans import plan

TOTAL = 200
"""Keys of the plan."""


def work(
    redis: FakeRedis, *, number: int = 0, said: list[WorkerMessage] | None = None, **changes: Any
) -> WorkerResult:
    """A worker's whole life against `redis`."""
    speak = said.append if said is not None else lambda _: None
    worker = Worker(Task(plan(targets=(redis.target,), **changes), number), speak)
    worker.prepare()
    return worker.run()


def test_all_keys_are_written_before_any_is_read() -> None:
    with FakeRedis() as redis:
        outcome = work(redis, reads=1.0)
        assert len(redis.values) == TOTAL
        assert all(key.startswith(KEY_PREFIX.encode()) for key in redis.values)
        assert redis.commands[:TOTAL] == [b"SET"] * TOTAL
        assert set(redis.commands[TOTAL:]) == {b"GET"}
    assert (outcome.misses, outcome.writes.in_time) == (0, 0)
    assert outcome.reads.in_time > 0


@pytest.mark.parametrize("changes", [{"reads": 0.0}, {"reads": 1.0, "preload": False}])
def test_nothing_is_written_before_if_nothing_is_read_or_it_was_written_already(
    changes: dict[str, Any],
) -> None:
    with FakeRedis() as redis:
        outcome = work(redis, **changes)
        ended = outcome.reads.in_time + outcome.writes.in_time
        assert len(redis.commands) == pytest.approx(ended, abs=4)


def test_each_worker_writes_its_share_of_the_keys_and_says_how_many() -> None:
    said: list[WorkerMessage] = []
    with FakeRedis() as redis:
        for number in (0, 1, 2):
            work(redis, number=number, said=said, workers=3, reads=1.0, seconds=0.05)
        assert len(redis.values) == TOTAL
        assert redis.commands.count(b"SET") == TOTAL
        # The keys first, on connections that are closed, then the measurement: 4 by 3 workers.
        assert redis.connections == 8
    assert sum(each.keys for each in said if isinstance(each, Filled)) == TOTAL


def test_large_values_are_written_one_by_one() -> None:
    with FakeRedis() as redis:
        work(redis, reads=1.0, keys=5, value_bytes=300_000, seconds=0.05)
        assert {len(value) for value in redis.values.values()} == {300_000}


def test_half_reads_means_about_half() -> None:
    with FakeRedis() as redis:
        outcome = work(redis, pipeline=4)
    reads, writes = outcome.reads.in_time, outcome.writes.in_time
    assert 0.3 < reads / (reads + writes) < 0.7
    assert reads % 4 == writes % 4 == 0


def test_a_modification_reads_and_then_writes_the_same_key() -> None:
    keys: list[tuple[bytes, bytes]] = []

    def mood(command: list[bytes]) -> None:
        keys.append((command[0], command[1]))

    with FakeRedis(mood) as redis:
        work(redis, writes="modify", reads=0.0, connections=1, pipeline=2)
    measured = keys[TOTAL:]
    assert len(measured) >= 4
    for place in range(0, len(measured) - 3, 4):
        names, four = zip(*measured[place : place + 4], strict=True)
        assert names == (b"GET", b"GET", b"SET", b"SET")
        assert four[:2] == four[2:]


def test_inserts_are_new_keys() -> None:
    with FakeRedis() as redis:
        outcome = work(redis, writes="insert", distribution="latest", reads=0.5)
        assert len(redis.values) > TOTAL
    assert outcome.errors == {}


def test_wait_follows_each_write_of_the_measurement_and_none_before() -> None:
    with FakeRedis() as redis:
        outcome = work(redis, wait=2)
        assert redis.commands[:TOTAL] == [b"SET"] * TOTAL
        assert redis.commands.count(b"WAIT") == redis.commands.count(b"SET") - TOTAL
    assert outcome.errors == {}
    with FakeRedis() as redis:
        short = work(redis, wait=3, reads=0.0)
        assert short.errors == {"WAIT reached too few replicas": redis.commands.count(b"SET")}


def test_connections_are_spread_evenly_over_the_targets() -> None:
    with FakeRedis() as one, FakeRedis() as two:
        of = plan(targets=(one.target, two.target), reads=0.0)
        worker = Worker(Task(of, 0), lambda _: None)
        worker.prepare()
        worker.run()
        assert (one.connections, two.connections) == (2, 2)


def test_workers_together_have_all_connections() -> None:
    counts = [len(Worker(Task(plan(workers=3), each), lambda _: None).places) for each in range(3)]
    assert counts == [2, 1, 1]


def test_workers_together_keep_the_rate() -> None:
    with FakeRedis() as redis:
        for number in (0, 1):
            work(redis, number=number, workers=2, rate=1000.0, pipeline=2, reads=0.0)
        assert len(redis.commands) == pytest.approx(300, abs=4)


def test_slices_are_told_of_as_they_pass() -> None:
    said: list[WorkerMessage] = []
    with FakeRedis() as redis:
        outcome = work(redis, said=said, reads=0.0, timeline_ms=50)
    slices = [each.slice for each in said if isinstance(each, Passed)]
    assert len(slices) == 6
    assert sum(each.succeeded for each in slices) == outcome.writes.in_time


def test_http_is_measured_alike() -> None:
    with Served(FakeStore()) as served:
        of = plan(targets=(("127.0.0.1", served.port),), protocol="http", w=2, r=1)
        worker = Worker(Task(of, 0), lambda _: None)
        worker.prepare()
        outcome = worker.run()
        assert len(served.store.records) == TOTAL
        assert all(key.startswith(KEY_PREFIX.encode()) for key in served.store.records)
        assert {len(record.value or b"") for record in served.store.records.values()} == {8}
    assert (outcome.errors, outcome.misses) == ({}, 0)
    assert outcome.reads.in_time > 0
    assert outcome.writes.in_time > 0


def test_keys_that_cannot_be_written_are_the_end() -> None:
    with (
        FakeRedis(lambda _: b"-NOREPLICAS no\r\n") as redis,
        pytest.raises(ProtocolFault, match="NOREPLICAS"),
    ):
        work(redis)


def test_writing_the_keys_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRELOAD_SECONDS", -1e6 + 0.1)
    with FakeRedis() as redis, pytest.raises(ProtocolFault, match="took over"):
        work(redis, keys=10**9)


def test_the_limit_of_open_files_is_raised_if_it_has_to_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
        module._allow_files(150)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 200
        module._allow_files(300)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
