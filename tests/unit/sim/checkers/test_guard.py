# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps and clocks that are believed though they are too far ahead are found (I8)."""

from __future__ import annotations

from quorate.core.node import Node
from quorate.core.values.record import Record
from quorate.core.values.versions import stamp_at, successor
from quorate.sim.checkers.guard import Guard
from tests.unit.sim.checkers.steps import Stage, record, stamp_of_ms

GUARD_MS = 1_000


def _taken(stage: Stage, ms: int, *, maker: int = 1) -> list[str]:
    """What is said of the record of a node with a stamp so far ahead, which node 0 stores."""
    judge = Guard()
    judge.look(stage.step(0, stored=[record(int(stage.cluster.world.now) + ms, node=maker)]))
    return [each.told for each in judge.found]


def test_a_stamp_within_the_guard_may_be_stored(stage: Stage) -> None:
    assert _taken(stage, GUARD_MS) == []


def test_a_stamp_past_the_guard_that_is_stored_is_found(stage: Stage) -> None:
    (told,) = _taken(stage, GUARD_MS + 1)
    assert "took a stamp 1 ms past its guard" in told


def test_what_a_read_modify_write_made_past_the_guard_is_found_too(stage: Stage) -> None:
    judge = Guard()
    for ahead_ms in (GUARD_MS, GUARD_MS + 1):
        link = stamp_of_ms(int(stage.cluster.world.now) + ahead_ms)
        judge.look(stage.step(0, stored=[Record(successor(record(0).version, link), b"v")]))
    (violation,) = judge.found
    assert "took a stamp 1 ms past its guard" in violation.told


def test_its_own_write_may_be_stored_late_after_the_clock_was_set_back(stage: Stage) -> None:
    assert _taken(stage, GUARD_MS + 1, maker=0) == []


def _lead(node: Node, ms: int) -> None:
    """Have the clock of a node go that far ahead of the wall clock of its last step."""
    node.parts.clock._last = stamp_at(node.parts.turn.wall_ms + ms)


def test_a_clock_that_follows_within_the_guard_is_fine(stage: Stage) -> None:
    clocks, node = Guard(), stage.cluster.machines[0].node
    for ms in (0, 1, GUARD_MS):
        _lead(node, ms)
        clocks.measure(node)
    assert not clocks.found


def test_a_clock_that_goes_past_the_guard_is_found_once(stage: Stage) -> None:
    clocks, node = Guard(), stage.cluster.machines[0].node
    clocks.measure(node)
    _lead(node, GUARD_MS + 1)
    clocks.measure(node)
    clocks.measure(node)
    (violation,) = clocks.found
    assert "went 1 ms past its guard" in violation.told


def test_a_clock_that_is_ahead_because_the_wall_clock_stepped_back_is_fine(stage: Stage) -> None:
    clocks, node = Guard(), stage.cluster.machines[0].node
    _lead(node, GUARD_MS)
    clocks.measure(node)
    node.parts.turn.wall_ms -= 5_000
    clocks.measure(node)
    assert not clocks.found
