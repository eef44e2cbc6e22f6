# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.generator import (
    STREAM,
    Report,
    StoreLoad,
    Usage,
    compile_generator,
    drive,
    measured,
    template,
)
from bench.processes import Process, ProcessFailed
from bench.systems import Running, Workbench
from tests.bench import fakes
from tests.unit.bench.fake_redis import FakeRedis

REPORT = Report(
    seconds=2.0,
    requests=1000,
    in_time=900,
    misses=3,
    backlog=4,
    errors={"BUSY": 2},
    histogram=[(1000, 990), (3000, 10)],
)


def test_an_example_becomes_the_parts_that_each_request_fills() -> None:
    example = b"SET " + b"0" * 15 + b"\r\n" + b"v" * 20 + STREAM + b"MDAw" * 5
    assert template(example, b"v" * 20) == "53455420 K 0d0a V20 S B"


def test_a_report_becomes_a_measurement_with_all_that_went_wrong_in_its_errors() -> None:
    found = measured(REPORT, Usage(generator=0.005, store=0.04))
    assert (found.seen.per_second, found.seen.requests, found.errors) == (450.0, 1000, 9)
    assert found.seen.p50_ms == pytest.approx(1.0, rel=0.01)
    assert found.seen.p999_ms == pytest.approx(3.0, rel=0.01)
    assert (found.generator_us, found.store_us) == pytest.approx((5.0, 40.0))


def test_nothing_answered_in_time_is_no_measurement() -> None:
    report = Report(1.0, 0, 0, 0, 0, {"BUSY": 2}, [])
    with pytest.raises(ProcessFailed, match="BUSY"):
        measured(report, Usage(0.5, 0.25))


@pytest.mark.parametrize(("us", "is_dear"), [(0.9, False), (1.1, True)])
def test_a_generator_is_dear_above_a_tenth_of_the_store(us: float, is_dear: bool) -> None:
    assert fakes.measured(1000, generator_us=us, store_us=10.0).is_generator_dear is is_dear


@pytest.mark.parametrize(
    ("per_second", "generator_us", "store_us", "is_bound"),
    [
        (100_000, 9.5, 1.0, True),
        (100_000, 8.5, 1.0, False),
        (100_000, 5.0, 14.0, False),  # The machine is full, most of it of the store.
        (50_000, 17.0, 19.5, False),
        (50_000, 19.0, 17.5, True),
    ],
)
def test_a_generator_binds_at_its_own_limit_or_with_most_of_a_full_machine(
    per_second: float, generator_us: float, store_us: float, is_bound: bool
) -> None:
    found = fakes.measured(per_second, generator_us=generator_us, store_us=store_us)
    assert found.is_generator_bound is is_bound


def test_keys_are_written_before_they_are_read_and_once(generator: str, tmp_path: Path) -> None:
    place = Workbench(tmp_path, sys.executable, generator)
    with FakeRedis() as redis, Running([redis.target[1]]) as running:
        load = StoreLoad(reads=1.0, keys=70, connections=2)
        assert load.measure(running, place, seconds=0.2).errors == 0
        assert redis.commands[:70] == [b"SET"] * 70
        load.measure(running, place, seconds=0.2)
        assert redis.commands.count(b"SET") == 70


def test_keys_that_cannot_be_written_are_no_measurement(generator: str, tmp_path: Path) -> None:
    place = Workbench(tmp_path, sys.executable, generator)
    with FakeRedis(lambda _: b"-READONLY no\r\n") as redis, Running([redis.target[1]]) as running:
        load = StoreLoad(reads=1.0, keys=7, connections=2)
        with pytest.raises(ProcessFailed, match="READONLY"):
            load.measure(running, place, seconds=0.2)


def test_what_the_generator_complains_of_is_told(generator: str, tmp_path: Path) -> None:
    place = Workbench(tmp_path, sys.executable, generator)
    with (
        FakeRedis(lambda _: b"") as redis,
        Running([redis.target[1]]) as running,
        pytest.raises(ProcessFailed, match="it closed"),
    ):
        StoreLoad(connections=1).measure(running, place, seconds=0.2)


def test_at_a_low_rate_it_is_measured_until_there_are_some(generator: str, tmp_path: Path) -> None:
    place = Workbench(tmp_path, sys.executable, generator)
    with FakeRedis() as redis, Running([redis.target[1]]) as running:
        StoreLoad(connections=1, rate=10).measure(running, place, seconds=0.01)
        assert len(redis.commands) == 4


def test_without_a_compiler_there_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProcessFailed, match="cc is not installed"):
        compile_generator(tmp_path)


def test_a_store_of_which_a_process_died_is_not_measured(tmp_path: Path) -> None:
    with Running([]) as running:
        running.processes.append(
            Process([sys.executable, "-c", "exit('no room left')"], log=tmp_path / "log")
        )
        with pytest.raises(ProcessFailed, match="no room left"):
            running.processes[0].wait(10)
        with pytest.raises(ProcessFailed, match="no room left"):
            drive(
                [sys.executable, "-c", "pass"], running, Workbench(tmp_path, "python"), patience=10
            )


def test_what_generator_and_store_use_is_told_apart(tmp_path: Path) -> None:
    burn = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass"
    with Running([]) as running:
        busy = [sys.executable, "-c", burn.format(60)]
        running.processes.append(Process(busy, log=tmp_path / "log"))
        _, used = drive(
            [sys.executable, "-c", burn.format(0.2)], running, Workbench(tmp_path, ""), patience=60
        )
    assert used.generator >= 0.2
    assert used.store > 0
