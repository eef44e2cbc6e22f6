# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that move, or replicas that are left out, are found (P4)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import StorageState
from quorate.core.values.record import Record
from quorate.errors import StorageError
from quorate.sim.checkers.placement import Placing
from quorate.sim.checkers.watch import Machines, Step
from quorate.sim.cluster import founded, id_of, url_of
from tests.unit.sim.checkers.steps import KEY, ROW, Stage, given, record

WRITTEN = record(1)


def _judged(stage: Stage, *steps: Step) -> list[str]:
    judge = Placing(Machines(stage.machines))
    for step in steps:
        judge.look(step)
    return [each.told for each in judge.found]


def test_a_write_that_reaches_every_replica_is_fine(stage: Stage) -> None:
    everyone = stage.step(
        0,
        stored=[WRITTEN],
        sent=[given(1, WRITTEN)],
        hinted=[(b"name", given(2, WRITTEN))],
    )
    assert _judged(stage, everyone) == []


def test_a_replica_that_is_left_out_is_found(stage: Stage) -> None:
    (told,) = _judged(stage, stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN)]))
    assert f"neither sent nor hinted ['{url_of(2)}']" in told


def test_where_hints_are_dropped_a_replica_may_be(stage: Stage) -> None:
    step = stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN)])
    stage.cluster.machines[0].node.parts.turn.counters["hints_dropped"] += 1
    assert _judged(stage, step) == []
    # Only in the step that dropped one.
    assert len(_judged(stage, step, stage.step(0, stored=[record(2)]))) == 1


def test_a_node_whose_disk_takes_nothing_may_leave_itself_out(stage: Stage) -> None:
    """What it holds may be unreadable, so a second stamp is not put over it."""
    step = stage.step(0, sent=[given(1, WRITTEN), given(2, WRITTEN)])
    assert len(_judged(stage, step)) == 1
    replica = stage.cluster.machines[0].node.parts.replica
    replica.trouble = StorageState("disk_full", "no space left")
    assert _judged(stage, step) == []


def test_a_node_that_could_not_read_its_own_copy_may_leave_itself_out_and_no_other(
    stage: Stage,
) -> None:
    disk = stage.machines[0].disk
    disk.is_read_lost = lambda: True
    with pytest.raises(StorageError):
        disk.get(ROW)
    lost = stage.step(0, sent=[given(1, WRITTEN), given(2, WRITTEN)])
    assert _judged(stage, lost) == []
    # Only in the step that lost it.
    assert len(_judged(stage, lost, stage.step(0, sent=[given(1, record(2))]))) == 1
    (told,) = _judged(stage, stage.step(0, sent=[given(1, WRITTEN)]))
    assert f"neither sent nor hinted ['{url_of(2)}']" in told


def test_a_node_that_holds_something_newer_may_leave_itself_out(stage: Stage) -> None:
    step = stage.step(0, sent=[given(1, WRITTEN), given(2, WRITTEN)])
    stage.keep(0, record(2, node=1))
    assert _judged(stage, step) == []


def test_a_repair_or_a_late_hint_goes_to_whom_it_may(stage: Stage) -> None:
    everyone = stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN), given(2, WRITTEN)])
    theirs: Record = record(1, node=1)
    steps = stage.step(0, sent=[given(2, WRITTEN)]), stage.step(0, sent=[given(2, theirs)])
    assert _judged(stage, everyone, *steps) == []


@pytest.fixture
def large() -> Stage:
    return Stage(5)


def test_a_record_for_a_stranger_is_found(large: Stage) -> None:
    replicas = large.cluster.replicas(KEY)
    stranger = next(index for index in range(5) if index not in replicas)
    sent = [given(index, WRITTEN) for index in replicas]
    assert _judged(large, large.step(0, sent=sent)) == []
    (told,) = _judged(large, large.step(0, sent=[*sent, given(stranger, WRITTEN)]))
    assert "it is no replica" in told
    assert len(_judged(large, large.step(stranger, stored=[record(1, node=9)]))) == 1


def test_a_table_that_changes_is_found(stage: Stage) -> None:
    """A node that moves keys, as liveness never may."""
    before = stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN), given(2, WRITTEN)])
    judge = Placing(Machines(stage.machines))
    judge.look(before)
    membership = stage.cluster.machines[1].node.membership
    members = tuple([(url_of(index), id_of(index)) for index in (0, 1)])
    membership.layout = founded(members, replication=2)
    judge.look(stage.step(1))
    (found,) = judge.found
    assert "another table of epoch" in found.told


def test_a_node_without_a_table_is_not_judged(stage: Stage) -> None:
    stage.cluster.machines[0].node.membership.layout = None
    stage.machines[1].crash()
    assert _judged(stage, stage.step(0, stored=[WRITTEN]), stage.step(1, stored=[WRITTEN])) == []
