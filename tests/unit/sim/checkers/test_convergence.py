# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that could talk are equal (I2), and none is damaged still (I23)."""

from __future__ import annotations

from quorate.core.values.record import Record
from quorate.sim.checkers import convergence
from quorate.sim.history import Evidence
from tests.unit.sim.checkers.told import KEY, evidence, history, left, record, version

SAME = record(b"v")


def _check(facts: Evidence) -> list[str]:
    return [each.invariant for each in convergence.check(history(), facts)]


def test_equal_replicas_are_fine() -> None:
    assert _check(left(SAME, SAME, SAME)) == []
    assert _check(left(None, None, None)) == []


def test_any_difference_is_found() -> None:
    assert _check(left(SAME, SAME, record(b"v", 2))) == ["I2"]
    assert _check(left(SAME, SAME, None)) == ["I2"]
    assert _check(left(SAME, SAME, record(None))) == ["I2"]
    assert _check(left(SAME, SAME, record(b"v", expires_ms=1))) == ["I2"]
    assert _check(left(SAME, SAME, Record(version(1), b"v", prior=version(1)))) == ["I2"]


def test_a_replica_of_which_nothing_is_known_is_found() -> None:
    assert _check(left(SAME, SAME)) == ["I2"]


def test_a_copy_that_stays_damaged_is_found_once() -> None:
    damaged = left(SAME, SAME, unreadable={KEY: [2]})
    assert _check(damaged) == ["I23"]
    damaged.in_budget = False
    assert _check(damaged) == []


def test_a_copy_beyond_repair_may_stay_damaged_and_the_others_may_not_differ() -> None:
    assert _check(left(SAME, SAME, unreadable={KEY: [2]}, beyond_repair=frozenset({KEY}))) == []
    differing = left(SAME, None, unreadable={KEY: [2]}, beyond_repair=frozenset({KEY}))
    assert _check(differing) == ["I2"]


def test_while_anything_is_left_to_do_replicas_may_differ() -> None:
    assert _check(left(SAME, None, is_quiet=False)) == []
    assert _check(evidence()) == []


def test_a_hint_that_waits_for_nothing_is_found() -> None:
    (found,) = list(convergence.check(history(), evidence(hints_left={0: 0, 1: 3})))
    assert found.invariant == "I13"
    assert "hints still wait on n1: 3" in found.told


def test_hints_may_wait_for_what_is_away() -> None:
    assert list(convergence.check(history(), evidence(hints_left={0: 0}))) == []
    assert list(convergence.check(history(), evidence(hints_left={1: 3}, is_quiet=False))) == []
