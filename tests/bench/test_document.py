# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from bench.document import Findings, document, verdict
from bench.rounds import NO_BOUND, BenchRow, Bound, RowFound, Side
from tests.bench.fakes import PACE, measured

BUSY = 50.0
"""Microseconds of a generator that fills its thread."""


def row(bound: Bound = NO_BOUND, name: str = "row", unit: str = "") -> BenchRow:
    return BenchRow(name, f"our {name}", "another", lambda *_: RowFound([]), bound, unit)


def compared(ratio: float, *, ours: float = 0.5, theirs: float = 0.5) -> RowFound:
    """By the microseconds that each side's generator used."""
    we = Side("we, load", [measured(20_000 * ratio, generator_us=ours)])
    they = Side("they, load", [measured(20_000, generator_us=theirs, store_us=20.0)])
    return RowFound([ratio], [we, they], is_by_rate=True)


@pytest.mark.parametrize(
    ("ratio", "ours", "theirs", "said"),
    [
        (1.2, 0.5, 0.5, "yes"),
        (0.8, 0.5, 0.5, "no"),
        (1.2, 0.5, BUSY, "not shown"),
        (0.8, 0.5, BUSY, "no"),
        (0.9, 1.2 * BUSY, 0.5, "not shown"),
        (1.2, BUSY, 0.5, "yes"),
    ],
)
def test_what_a_busy_generator_may_have_caused_is_not_shown(
    ratio: float, ours: float, theirs: float, said: str
) -> None:
    assert verdict(row(Bound(at_least=1)), compared(ratio, ours=ours, theirs=theirs)) == said


@pytest.mark.parametrize(("ours", "theirs"), [(1, 0), (0, 1)])
def test_what_errors_may_have_caused_is_not_shown(ours: int, theirs: int) -> None:
    sides = [Side("we", [measured(9, errors=ours)]), Side("they", [measured(9, errors=theirs)])]
    assert verdict(row(Bound(at_least=1)), RowFound([1.2], sides)) == "not shown"


def test_the_page_tells_everything_that_was_found_and_what_was_not() -> None:
    page = document(
        Findings(
            rows=[
                (row(Bound(at_least=2), "goal"), compared(2.5, theirs=2.5)),
                (row(Bound(at_most=400), "memory", "MB"), RowFound([500.0, 30.0, 30.0])),
                (row(name="other"), compared(3.5)),
                (row(name="start", unit="s"), RowFound([0.5, 0.7, 0.6])),
                (row(name="keys"), RowFound([], [Side("9: SET", [measured(500, errors=2)])])),
            ],
            failed={"missing": "etcd is not installed"},
            micro={"core put": 14.0},
            facts={"kernel": "Linux 6"},
            pace=PACE,
        )
    )
    lines = page.splitlines()
    for line in (
        "| our goal | another | at least 2 | **2.50** | 2.50 | 2.00 | 10.0 / 20.0"
        " | 0.50 (5%) / **2.50 (12%)** | yes |",
        "| our memory | another | at most 400 MB | **30.0** MB | 500, 30.0, 30.0 |  |  |  | yes |",
        "| our other | another | **3.50** | 3.50 | 2.00 | 10.0 / 20.0 | 0.50 (5%) / 0.50 (2%) |",
        "| our start | another | **0.60** s | 0.50, 0.70, 0.60 |  |  |  |",
        "| keys | 9: SET | 1 | 500 | 1.00 | 2.00 | 3.00 | 10.0 | 0.50 | 2 |",
        "- missing: etcd is not installed",
        "| core put | 14.0 |",
        "| kernel | Linux 6 |",
        "| goal | we, load | 1 | 50,000 | 1.00 | 2.00 | 3.00 | 10.0 | 0.50 | 0 |",
        "| goal | they, load | 1 | 20,000 | 1.00 | 2.00 | 3.00 | 20.0 | **2.50** | 0 |",
    ):
        assert line in lines


def test_a_page_has_no_heading_without_anything_below_it() -> None:
    page = document(Findings([], {}, {}, {}, PACE))
    assert not [line for line in page.splitlines() if line.startswith("##")]


@pytest.mark.parametrize("how", ["with", "without"])
def test_a_slow_build_of_the_interpreter_is_told_before_the_figures(how: str) -> None:
    python = f"CPython 3.11.7, built {how} --enable-optimizations"
    page = document(Findings([], {}, {}, {"Python": python}, PACE))
    assert ("**The interpreter was built without" in page) is (how == "without")
