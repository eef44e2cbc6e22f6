# SPDX-License-Identifier: GPL-3.0-or-later
"""What many worlds add up to."""

from __future__ import annotations

import json
from collections import Counter

from quorate.sim.checkers import Violation
from quorate.sim.report import SwarmSummary, Times, availability, by_age
from quorate.sim.run import RunResult
from quorate.sim.sometimes import BRANCHES


def summary_of(*outcomes: RunResult) -> SwarmSummary:
    """All of them, added up."""
    summary = SwarmSummary()
    for outcome in outcomes:
        summary.add(outcome)
    return summary


GOOD = RunResult(
    1,
    operations=10,
    results=Counter({"ok": 9, "no answer": 1}),
    faults=Counter(kill=2),
    reached=Counter({BRANCHES[0]: 3}),
    availability=[(4, 5), (5, 5)],
    convergence_ms=20.4,
    virtual_ms=1_800_000.0,
    node_steps=100,
)
BAD = RunResult(
    2,
    operations=5,
    results=Counter(ok=5),
    faults=Counter(kill=1, split=1),
    violations=[Violation("I6", b"k", "old"), Violation("I6", b"k", "older")],
    availability=[(5, 5)],
    weak_reads=4,
    stale_ages_ms=[0.5, 7.0, 2_000.0],
    in_budget=False,
    virtual_ms=1_800_000.0,
    node_steps=50,
)


def test_worlds_add_up() -> None:
    summary = summary_of(GOOD, BAD)
    assert (summary.seeds, summary.operations, summary.node_steps) == (2, 15, 150)
    assert summary.results == {"ok": 14, "no answer": 1}
    assert summary.faults == {"kill": 3, "split": 1}
    assert summary.seconds == [(9, 10), (5, 5)]
    assert summary.in_budget == 1
    assert (summary.unsettled, summary.converged) == (1, {20: 1})
    assert summary.unsettled_beyond == 1


def test_a_world_with_violations_is_named_once_and_its_violations_are_counted() -> None:
    summary = summary_of(GOOD, BAD)
    assert summary.failed == [2]
    assert summary.violations == {"I6": 2}


def test_the_order_of_worlds_does_not_show_in_the_json() -> None:
    """Processes finish when they finish."""
    also_bad = RunResult(0, violations=[Violation("P1", b"", "gone")])
    one, other = summary_of(GOOD, BAD, also_bad), summary_of(also_bad, BAD, GOOD)
    assert json.loads(json.dumps(one.as_json())) == other.as_json()
    assert one.as_json()["failed"] == [0, 2]


def test_a_branch_that_no_world_reached_is_named() -> None:
    assert summary_of(GOOD, BAD).never_reached() == list(BRANCHES[1:])
    assert summary_of(BAD).never_reached() == list(BRANCHES)
    assert summary_of(RunResult(3, reached=Counter(BRANCHES))).never_reached() == []


def test_json_names_every_fault_and_branch_even_if_there_was_none() -> None:
    """A zero is a finding: that fault was never tried."""
    table = summary_of(GOOD).as_json()
    assert table["faults"] == {**dict.fromkeys(table["faults"], 0), "kill": 2}  # type: ignore[call-overload]
    assert "split" in table["faults"]
    assert list(table["reached"]) == list(BRANCHES)  # type: ignore[call-overload]
    assert table["virtual_hours"] == 0.5


def test_stale_reads_are_counted_by_age() -> None:
    ages = by_age(summary_of(BAD).stale_ages)
    assert sum(ages.values()) == 3
    assert (ages["0-1 ms"], ages["5-10 ms"], ages["1000 ms and more"]) == (1, 1, 1)


def test_an_age_on_a_limit_is_counted_once_in_the_class_that_begins_there() -> None:
    ages = by_age(Times({1: 1, 1_000: 1}))
    assert {name: count for name, count in ages.items() if count} == {
        "1-5 ms": 1,
        "1000 ms and more": 1,
    }


def test_percentiles_are_durations_that_occurred() -> None:
    times = Times(range(1, 101))
    assert (times.at(0.5), times.at(0.99), times.at(1.0)) == (50, 99, 100)
    assert (Times({7: 1}).at(0.5), Times({7: 1}).at(0.99)) == (7, 7)
    assert Times().as_json() == {"count": 0, "p50_ms": 0, "p99_ms": 0, "max_ms": 0}


def test_availability_has_no_more_rows_than_wanted_and_loses_no_operation() -> None:
    summary = summary_of(RunResult(1, availability=[(second, 60) for second in range(60)]))
    rows = availability(summary, rows_max=12)
    assert len(rows) == 12
    assert rows[0] == ("0-5 s", 0 + 1 + 2 + 3 + 4, 300)
    assert sum(asked for _, _, asked in rows) == 3_600
    assert sum(answered for _, answered, _ in rows) == sum(range(60))


def test_seconds_in_which_nothing_was_asked_are_no_row() -> None:
    summary = summary_of(RunResult(1, availability=[(1, 2), (0, 0), (3, 3)]))
    assert availability(summary) == [("0-1 s", 1, 2), ("2-3 s", 3, 3)]
    assert availability(SwarmSummary()) == []
