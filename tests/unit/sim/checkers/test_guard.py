# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps and clocks that are believed though they are too far ahead are found (I8)."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.node import Node
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of
from quorate.core.values.versions import stamp_at, successor
from quorate.sim.checkers.guard import Guard
from quorate.sim.checkers.watch import Machines
from tests.unit.sim.checkers.steps import ROW, Stage, record, stamp_of_ms

GUARD_MS = 1_000


def _guard(stage: Stage) -> Guard:
    return Guard(Machines(stage.machines))


def _taken(stage: Stage, ms: int, *, maker: int = 1) -> list[str]:
    """What is said of the record of a node with a stamp so far ahead, which node 0 stores."""
    judge = _guard(stage)
    judge.look(stage.step(0, stored=[record(int(stage.cluster.world.now) + ms, node=maker)]))
    return [each.told for each in judge.found]


def test_a_stamp_within_the_guard_may_be_stored(stage: Stage) -> None:
    assert _taken(stage, GUARD_MS) == []


def test_a_stamp_past_the_guard_that_is_stored_is_found(stage: Stage) -> None:
    (told,) = _taken(stage, GUARD_MS + 1)
    assert "took a stamp 1 ms past its guard" in told


def test_what_a_read_modify_write_made_past_the_guard_is_found_too(stage: Stage) -> None:
    judge = _guard(stage)
    for ahead_ms in (GUARD_MS, GUARD_MS + 1):
        link = stamp_of_ms(int(stage.cluster.world.now) + ahead_ms)
        judge.look(stage.step(0, stored=[Record(successor(record(0).version, link), b"v")]))
    (violation,) = judge.found
    assert "took a stamp 1 ms past its guard" in violation.told


def test_its_own_write_may_be_stored_late_after_the_clock_was_set_back(stage: Stage) -> None:
    assert _taken(stage, GUARD_MS + 1, maker=0) == []


@pytest.mark.parametrize(
    ("gainer", "holders", "pulled", "is_found"),
    [(0, 2, 1, False), (0, 1, 1, True), (1, 2, 1, True), (0, 2, 0, True)],
    ids=["a majority", "one of three", "somebody else", "not by pulling"],
)
@pytest.mark.parametrize("higher_ms", [0, 1])
def test_who_gains_a_copy_may_store_what_a_majority_holds(
    gainer: int, holders: int, pulled: int, higher_ms: int, *, is_found: bool
) -> None:
    """Nothing can beat it any more; by now they may have something higher."""
    stage = Stage(4)
    ahead_ms = int(stage.cluster.world.now) + GUARD_MS + 1
    partition, node = partition_of(ROW), stage.machines[gainer].node
    layout = node.membership.layout
    assert layout is not None
    row = (1, 2, 3) if gainer == 0 else (0, 2, 3)
    table = (*layout.table[:partition], row, *layout.table[partition + 1 :])
    moves = ((partition, (gainer, *row[1:])),)
    layout = msgspec.structs.replace(layout, table=table, moves=moves)
    for machine in stage.machines:
        machine.node.membership.layout = layout
    for index in row[:holders]:
        stage.keep(index, record(ahead_ms + higher_ms, node=1))
    judge = _guard(stage)
    stage.machines[0].node.parts.turn.counters["pulled_records"] += pulled
    for is_later in (False, True):
        judge.look(stage.step(0, stored=[record(ahead_ms, node=1)]))
        assert bool(judge.found) is (is_found or is_later)


def _lead(node: Node, ms: int) -> None:
    """Have the clock of a node go that far ahead of the wall clock of its last step."""
    node.parts.clock._last = stamp_at(node.parts.turn.wall_ms + ms)


def test_a_clock_that_follows_within_the_guard_is_fine(stage: Stage) -> None:
    clocks, node = _guard(stage), stage.cluster.machines[0].node
    for ms in (0, 1, GUARD_MS):
        _lead(node, ms)
        clocks.measure(node)
    assert not clocks.found


def test_a_clock_that_goes_past_the_guard_is_found_once(stage: Stage) -> None:
    clocks, node = _guard(stage), stage.cluster.machines[0].node
    clocks.measure(node)
    _lead(node, GUARD_MS + 1)
    clocks.measure(node)
    clocks.measure(node)
    (violation,) = clocks.found
    assert "went 1 ms past its guard" in violation.told


def test_a_clock_that_is_ahead_because_the_wall_clock_stepped_back_is_fine(stage: Stage) -> None:
    clocks, node = _guard(stage), stage.cluster.machines[0].node
    _lead(node, GUARD_MS)
    clocks.measure(node)
    node.parts.turn.wall_ms -= 5_000
    clocks.measure(node)
    assert not clocks.found
