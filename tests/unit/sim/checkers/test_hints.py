# SPDX-License-Identifier: GPL-3.0-or-later
"""Where all can be reached no hint is left (I13)."""

from __future__ import annotations

from quorate.sim.checkers import hints
from tests.unit.sim.checkers.told import evidence, history


def test_a_hint_that_waits_for_nothing_is_found() -> None:
    (found,) = hints.check(history(), evidence(hints_left={0: 0, 1: 3}))
    assert found.invariant == "I13"
    assert "3 hints still wait on n1" in found.told


def test_hints_may_wait_for_what_is_away() -> None:
    assert hints.check(history(), evidence(hints_left={0: 0})) == []
    assert hints.check(history(), evidence(hints_left={1: 3}, is_quiet=False)) == []
