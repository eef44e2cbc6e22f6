# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a function that does `BATCH` operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.samples import BATCH

Measure = Callable[[Callable[[], object]], None]


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Measure:
    """Calls the function over and over, and notes how many operations one call is."""
    benchmark.extra_info["operations"] = BATCH

    def measured(function: Callable[[], object]) -> None:
        benchmark(function)

    return measured
