# SPDX-License-Identifier: GPL-3.0-or-later
"""Real worker processes: all of what they say is in the result, and none is left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from quorate.bench import measure as module
from quorate.bench.measure import MeasureFailed, Progress, measure
from quorate.bench.result import BenchResult
from tests.ports import free_port
from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.bench.plans import plan
from tests.unit.client.scripted import dead_port


def test_the_result_is_what_all_workers_saw_and_the_same_in_json() -> None:
    with FakeRedis() as redis:
        of = plan(targets=(redis.target,), workers=2, timeline_ms=100)
        found = measure(of)
        assert redis.connections == 8
        assert len(redis.commands) == 200 + found.all.requests
    assert found.plan == of
    assert found.errors == {}
    assert found.all.requests == found.reads.requests + found.writes.requests > 0
    assert len(found.workers_busy) == 2
    assert found.generator_busy == max(found.workers_busy) > 0
    assert len(found.timeline) == 3
    assert found.availability is not None
    assert found.is_complete
    assert msgspec.json.decode(msgspec.json.encode(found), type=BenchResult) == found


def test_progress_tells_of_the_keys_then_of_the_seconds() -> None:
    told: list[Progress] = []
    with FakeRedis() as redis:
        measure(plan(targets=(redis.target,)), told.append)
    before = [each for each in told if not each.is_measuring]
    during = [each for each in told if each.is_measuring]
    assert told == before + during
    assert before[-1].done == 1.0
    assert during[0].done == 0.0
    assert during[-1].done == pytest.approx(1.0)
    assert [each.done for each in during] == sorted(each.done for each in during)
    assert during[-1].per_second > 0


def test_a_target_that_refuses_is_a_failure() -> None:
    with dead_port() as url:
        target = ("127.0.0.1", int(url.rpartition(":")[2]))
        with pytest.raises(MeasureFailed, match="refused"):
            measure(plan(targets=(target,)))


def test_a_worker_that_dies_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    spawned = module._spawned

    def stillborn() -> subprocess.Popen[bytes]:
        worker = spawned()
        worker.kill()
        worker.wait()
        return worker

    monkeypatch.setattr(module, "_spawned", stillborn)
    with pytest.raises(MeasureFailed, match="ended with code -9"):
        measure(plan())


def test_an_interrupted_run_has_the_figures_so_far() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.is_measuring and progress.done > 0 and not interrupted:
            interrupted.append(progress)
            raise KeyboardInterrupt

    interrupted: list[Progress] = []
    with FakeRedis() as redis:
        found = measure(plan(targets=(redis.target,), seconds=600.0, workers=2), interrupt)
    assert not found.is_complete
    assert found.seconds < 600
    assert found.all.requests > 0


def test_a_second_interrupt_ends_it() -> None:
    def interrupt(progress: Progress) -> None:
        if progress.is_measuring and progress.done:
            raise KeyboardInterrupt

    with FakeRedis() as redis, pytest.raises(KeyboardInterrupt):
        measure(plan(targets=(redis.target,), seconds=600.0), interrupt)


def test_an_interrupt_before_the_run_is_no_result() -> None:
    def interrupt(_progress: Progress) -> None:
        raise KeyboardInterrupt

    with FakeRedis() as redis, pytest.raises(KeyboardInterrupt):
        measure(plan(targets=(redis.target,), seconds=600.0), interrupt)


def test_a_worker_ends_if_nobody_lets_it_go() -> None:
    with FakeRedis() as redis:
        task = msgspec.json.encode({"plan": plan(targets=(redis.target,)), "worker": 0})
        command = [sys.executable, "-m", "quorate.bench.worker"]
        done = subprocess.run(command, input=task + b"\n", capture_output=True, check=True)
    assert done.stdout.splitlines()[-1] == b'{"type":"Ready"}'


def test_a_worker_listens_to_its_parent_alone() -> None:
    """Ctrl-C in a terminal goes to all processes of a group."""
    with FakeRedis() as redis:
        of = plan(targets=(redis.target,), seconds=0.5)
        script = (
            "import os, signal, sys, msgspec\n"
            "from quorate.bench.measure import measure\n"
            "from quorate.bench.plan import LoadPlan\n"
            "def tell(step):\n"
            "    if step.is_measuring and not step.done: os.killpg(0, signal.SIGUSR1)\n"
            "signal.signal(signal.SIGUSR1, lambda *_: None)\n"
            "print(measure(msgspec.json.decode(sys.argv[1], type=LoadPlan), tell).is_complete)"
        )
        command = [sys.executable, "-c", script, msgspec.json.encode(of).decode()]
        done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    """A real Redis server."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert any("Ready to accept" in line for line in server.stdout)
        yield port
        server.send_signal(signal.SIGTERM)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server installed")
def test_redis_itself_is_measured(redis_port: int) -> None:
    found = measure(plan(targets=(("127.0.0.1", redis_port),), pipeline=8, value_bytes=100_000))
    assert (found.errors, found.misses) == ({}, 0)
    assert found.all.requests > 0
