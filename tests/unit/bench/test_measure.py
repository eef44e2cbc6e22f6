# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenario: keys written before they are read, the mix that was asked for, both protocols."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.bench import measure as module
from quorate.bench.measure import Plan, measure
from quorate.bench.protocols import KEY_PREFIX, ProtocolFault
from quorate.bench.report import report
from quorate.cli.processes import busy_ports
from tests.fake_store import FakeStore
from tests.http_served import Served
from tests.unit.bench.fake_redis import FakeRedis

PLAN = Plan(
    targets=[],
    protocol="resp",
    connections=4,
    pipeline=1,
    keys=200,
    value_bytes=8,
    reads=0.5,
    wait=0,
    seconds=0.3,
)


def test_all_keys_are_written_before_any_is_read() -> None:
    with FakeRedis() as redis:
        load = measure(PLAN._replace(targets=[redis.target], reads=1.0))
        assert len(redis.values) == 200
        assert all(key.startswith(KEY_PREFIX.encode()) for key in redis.values)
        assert redis.commands[:200] == [b"SET"] * 200
        assert set(redis.commands[200:]) == {b"GET"}
    assert load.tally.misses == 0
    assert load.write_counts == {}
    assert sum(load.read_counts.values()) > 0


def test_without_reads_nothing_is_written_before() -> None:
    with FakeRedis() as redis:
        load = measure(PLAN._replace(targets=[redis.target], reads=0.0))
        assert len(redis.commands) == pytest.approx(sum(load.write_counts.values()), abs=4)
    assert load.read_counts == {}


def test_half_reads_means_about_half() -> None:
    with FakeRedis() as redis:
        load = measure(PLAN._replace(targets=[redis.target], pipeline=4))
    reads, writes = sum(load.read_counts.values()), sum(load.write_counts.values())
    assert 0.3 < reads / (reads + writes) < 0.7
    assert reads % 4 == writes % 4 == 0


def test_wait_follows_each_write_of_the_measurement_and_none_before() -> None:
    with FakeRedis() as redis:
        load = measure(PLAN._replace(targets=[redis.target], wait=2))
        assert redis.commands[:200] == [b"SET"] * 200
        assert redis.commands.count(b"WAIT") == redis.commands.count(b"SET") - 200
    assert load.tally.errors == {}
    with FakeRedis() as redis:
        short = measure(PLAN._replace(targets=[redis.target], wait=3, reads=0.0))
    # Answers that come after the end are no figures any more, but their errors are counted.
    errors = short.tally.errors["WAIT reached too few replicas"]
    assert errors == pytest.approx(sum(short.write_counts.values()), abs=PLAN.connections)


def test_connections_are_spread_evenly_over_the_targets() -> None:
    with FakeRedis() as one, FakeRedis() as two:
        measure(PLAN._replace(targets=[one.target, two.target], reads=0.0))
        assert (one.connections, two.connections) == (2, 2)


def test_http_is_measured_alike() -> None:
    with Served(FakeStore()) as served:
        load = measure(PLAN._replace(targets=[("127.0.0.1", served.port)], protocol="http"))
        assert len(served.store.records) == 200
        assert all(key.startswith(KEY_PREFIX.encode()) for key in served.store.records)
        assert {len(record.value or b"") for record in served.store.records.values()} == {8}
    assert (load.tally.errors, load.tally.misses) == ({}, 0)
    assert load.read_counts
    assert load.write_counts


def test_keys_that_cannot_be_written_are_the_end() -> None:
    with (
        FakeRedis(lambda _: b"-NOREPLICAS no\r\n") as redis,
        pytest.raises(ProtocolFault, match="NOREPLICAS"),
    ):
        measure(PLAN._replace(targets=[redis.target]))


def test_writing_the_keys_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRELOAD_SECONDS", 0.1)
    with FakeRedis() as redis, pytest.raises(ProtocolFault, match="took over"):
        measure(PLAN._replace(targets=[redis.target], keys=10**9))


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """A real Redis server."""
    port = next(port for port in range(21336, 21340) if not busy_ports([port]))
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert any("Ready to accept" in line for line in server.stdout)
        yield port
        server.terminate()


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server installed")
def test_redis_itself_is_measured(redis_port: int) -> None:
    plan = PLAN._replace(targets=[("127.0.0.1", redis_port)], pipeline=8)
    result = report(plan, measure(plan))
    assert result["errors"] == {}
    assert result["misses"] == 0
