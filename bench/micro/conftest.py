# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks work on, keys and values as `quorate bench` has them, and what measures a
function that does `BATCH` operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version

BATCH: Final = 64
"""Operations at once: as many as connections ask when a node is busy."""
VALUE: Final = b"v" * 64
KEYS: Final = [b"quorate-bench:%015d" % number for number in range(BATCH)]
ROWS: Final = [row_of(key) for key in KEYS]
RECORDS: Final = [Record(pack_version(1 << 40, number), VALUE) for number in range(BATCH)]
PAIRS: Final = list(zip(ROWS, RECORDS, strict=True))
Repeated = Callable[[Callable[[], object]], None]


@pytest.fixture
def measure(benchmark: BenchmarkFixture) -> Repeated:
    """Calls the function over and over, and notes how many operations one call is."""
    benchmark.extra_info["operations"] = BATCH

    def measured(function: Callable[[], object]) -> None:
        benchmark(function)

    return measured
