# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from bench.rounds import Bound, Compared, Side, compare
from bench.systems import Place
from tests.bench.fakes import PACE, FakeLoad, FakeSystem, measured, row


def test_sides_take_turns_at_going_first_and_the_median_of_the_ratios_counts(
    tmp_path: Path,
) -> None:
    events: list[str] = []
    ours = Side(
        FakeSystem("us", events), FakeLoad("ours", events, [1, 100, 300, 200]), "what we promise"
    )
    theirs = Side(
        FakeSystem("them", events), FakeLoad("theirs", events, [1, 50, 100, 400]), "what they do"
    )
    found = compare(row(ours, theirs, Bound()), Place(tmp_path, "python"), PACE)
    assert found.ratios == [2.0, 3.0, 0.5]
    assert found.ratio == 2.0
    assert events == [
        *("start us in us", "start them in them", "ours 3s", "theirs 3s"),
        *("ours 9s", "theirs 9s", "theirs 9s", "ours 9s", "ours 9s", "theirs 9s"),
        *("stop them", "stop us"),
    ]


def test_a_store_that_is_both_sides_runs_once(tmp_path: Path) -> None:
    events: list[str] = []
    load = FakeLoad("load", events, [1.0] * 8)
    once, again = (Side(FakeSystem("us", events), load, "") for _ in range(2))
    compare(row(once, again, Bound()), Place(tmp_path, "python"), PACE)
    assert [event for event in events if event.startswith("start")] == ["start us in us"]


def test_the_ratio_by_cpu_is_of_what_a_second_of_the_stores_time_brings() -> None:
    side = Side(FakeSystem("us", []), FakeLoad("load", [], []), "")
    cheap, dear = measured(100)._replace(store_us=20.0), measured(100)._replace(store_us=50.0)
    found = Compared(row(side, side, Bound()), ours=[cheap], theirs=[dear])
    assert found.ratio == 1.0
    assert found.ratio_by_cpu == 2.5


@pytest.mark.parametrize(
    ("bound", "value", "is_met"),
    [
        (Bound(at_least=1.0), 1.0, True),
        (Bound(at_least=1.0), 0.99, False),
        (Bound(at_most=1.15), 1.15, True),
        (Bound(at_most=1.15), 1.16, False),
    ],
)
def test_a_bound_holds_on_its_edge(bound: Bound, value: float, is_met: bool) -> None:
    assert bound.is_met(value) is is_met
