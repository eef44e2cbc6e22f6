# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from bench.rounds import Bound, Contender, alone, beside, cost, latency
from bench.systems import Workbench
from tests.bench.fakes import PACE, FakeLoad, FakeSystem, measured


def test_sides_take_turns_at_going_first_and_each_round_is_a_ratio(tmp_path: Path) -> None:
    events: list[str] = []
    ours = FakeLoad(label="ours", events=events, found=[1, 100, 300, 200])
    theirs = FakeLoad(label="theirs", events=events, found=[1, 50, 100, 400])
    we = Contender("what we promise", FakeSystem("us", events), ours)
    they = Contender("what they do", FakeSystem("them", events), theirs)
    row = beside("row", we, they, Bound(at_least=2))
    assert (row.what, row.against) == ("what we promise", "what they do")
    found = row.measure(Workbench(tmp_path, "python"), PACE)
    assert found.values == [2.0, 3.0, 0.5]
    assert found.is_by_rate
    assert [len(side.measured) for side in found.sides] == [3, 3]
    assert [side.name for side in found.sides] == ["us, resp", "them, resp"]
    assert events == [
        *("start us in us", "start them in them", "ours 3s", "theirs 3s"),
        *("ours 9s", "theirs 9s", "theirs 9s", "ours 9s", "ours 9s", "theirs 9s"),
        *("stop them", "stop us"),
    ]


def test_a_store_that_is_both_sides_runs_once(tmp_path: Path) -> None:
    events: list[str] = []
    once, again = (
        Contender("", FakeSystem("us", events), FakeLoad(label=label, events=events))
        for label in "ab"
    )
    beside("row", once, again).measure(Workbench(tmp_path, "python"), PACE)
    assert [event for event in events if event.startswith("start")] == ["start us in us"]


def test_warming_up_is_as_quick_as_it_can_be_also_where_a_rate_is_measured(tmp_path: Path) -> None:
    events: list[str] = []
    load = FakeLoad(label="load", events=events, rate=0.5)
    found = alone(FakeSystem("us", []), load)(Workbench(tmp_path, "python"), PACE)
    assert events == ["load 3s", *["load 9s at 0.5"] * 3]
    assert found.values == [100_000] * 3


def test_figures_are_ours_over_theirs() -> None:
    cheap, dear = measured(100, store_us=20.0, p50_ms=3.0), measured(100, store_us=50.0, p50_ms=1.5)
    assert cost(cheap, dear) == 0.4
    assert latency(cheap, dear) == 2.0


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
