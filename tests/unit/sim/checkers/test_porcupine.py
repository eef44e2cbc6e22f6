# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for an order, on what Jepsen recorded of etcd: Porcupine has that among its test data,
and says of each history whether it has an order. Their files are not in this tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from quorate.sim.checkers.search import has_order
from tests.unit.sim.checkers.histories import operations

DIRECTORY: Final = os.environ.get("PORCUPINE_JEPSEN", "")
ORDERED: Final = frozenset(
    [2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102]
)
"""The numbers of those that have an order, as `porcupine_test.go` says. There is no 95."""


@pytest.mark.skipif(
    not DIRECTORY, reason="PORCUPINE_JEPSEN does not say where Porcupine's test_data/jepsen is"
)
def test_the_search_says_what_porcupine_says() -> None:
    numbers = [each for each in range(103) if each != 95]
    assert {each for each in numbers if has_order(operations(_told(each)))} == ORDERED


def _told(number: int) -> list[str]:
    # A compare-and-set that failed does not tell there what it found, and is left out.
    lines = Path(DIRECTORY, f"etcd_{number:03}.log").read_text().splitlines()
    return [line.partition(" - ")[2] for line in lines]
