# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from bench.loads import Usage, drive, measured, usage_of
from bench.processes import Failed, Process
from bench.systems import Place, Running
from tests.bench import fakes

REPORT: dict[str, Any] = {
    "all": {"requests": 9, "per_second": 500.0, "p50_ms": 1.0, "p99_ms": 2.0, "p999_ms": 3.0},
    "errors": {"BUSY": 2},
    "misses": 3,
    "backlog": 4,
}


def test_what_a_generator_does_before_and_after_measuring_is_left_out() -> None:
    """5 s of writing keys, 10 s of measuring, 2 s of adding up: 18 samples."""
    samples, own, store = [(0.0, 0.0, 0.0)], 0.0, 0.0
    for second in range(1, 18):
        own += 0.5 if 5 < second <= 15 else 1.0
        store += 1.5 if 5 < second <= 15 else 0.0
        samples.append((float(second), own, store))
    assert usage_of(samples, seconds=10) == Usage(0.5, 1.5)


@pytest.mark.parametrize(
    "samples",
    [
        [(0.0, 0.0, 0.0)],
        [(0.0, 0.0, 0.0), (5.0, 1.0, 0.0), (10.0, 2.0, 1.0)],
    ],
)
def test_a_store_that_was_not_seen_to_work_is_no_measurement(
    samples: list[tuple[float, float, float]],
) -> None:
    with pytest.raises(Failed, match="too short"):
        usage_of(samples, seconds=10)


def test_a_report_becomes_a_measurement_with_all_that_went_wrong_in_its_errors() -> None:
    found = measured(REPORT, Usage(0.5, 0.25), generators=2)
    assert (found.per_second, found.p999_ms, found.errors) == (500.0, 3.0, 9)
    assert found.store_us == 500.0


def test_nothing_answered_in_time_is_no_measurement() -> None:
    report = {**REPORT, "all": {**REPORT["all"], "per_second": 0.0}}
    with pytest.raises(Failed, match="BUSY"):
        measured(report, Usage(0.5, 0.25), generators=2)


@pytest.mark.parametrize(
    ("per_second", "cores", "generators", "is_bound"),
    [
        (1000, 0.95, 1, True),
        (1000, 0.95, 2, False),
        (1000, 1.85, 2, True),
        (50_000, 1.4, 2, True),  # 0.5 cores for the store: the machine is full of generators.
        (50_000, 1.2, 2, False),  # Some of the machine is idle.
        (110_000, 0.85, 2, False),  # Full, most of it of the store.
    ],
)
def test_a_generator_binds_at_its_own_limit_or_with_most_of_a_full_machine(
    per_second: float, cores: float, generators: int, is_bound: bool
) -> None:
    found = fakes.measured(per_second, generator_cores=cores, generators=generators)
    assert found.is_generator_bound is is_bound


def test_a_store_of_which_a_process_died_is_not_measured(tmp_path: Path) -> None:
    with Running([]) as running:
        running.processes.append(
            Process([sys.executable, "-c", "exit('no room left')"], log=tmp_path / "log")
        )
        running.processes[0].wait(10, accept=(1,))
        with pytest.raises(Failed, match="no room left"):
            drive(
                [sys.executable, "-c", "pass"],
                running,
                Place(tmp_path, "python"),
                seconds=0.5,
            )
