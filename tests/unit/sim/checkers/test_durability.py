# SPDX-License-Identifier: GPL-3.0-or-later
"""An ack that no disk stands for is found (I7)."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.values.events import PutResult
from quorate.core.values.record import Record
from quorate.sim.checkers.durability import Durability
from quorate.sim.checkers.watch import Machines
from tests.unit.sim.checkers.steps import ROW, Stage, given, record

WRITTEN = record(1)


def _judged(stage: Stage, acks: int, *, version: bytes = WRITTEN.version) -> list[str]:
    """What is found when node 0 has sent a write to all, and answers it."""
    judge = Durability(Machines(stage.machines))
    judge.look(stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN), given(2, WRITTEN)]))
    return _answered(judge, stage, acks, version)


def _answered(judge: Durability, stage: Stage, acks: int, version: bytes) -> list[str]:
    judge.look(stage.step(0, acked=[PutResult(version, acks, 3)]))
    return [each.invariant for each in judge.found]


def test_an_ack_of_two_needs_two_disks(stage: Stage) -> None:
    stage.keep(0, WRITTEN)
    assert _judged(stage, 1) == []
    assert _judged(stage, 2) == ["I7"]
    stage.keep(2, WRITTEN)
    assert _judged(stage, 2) == []
    assert _judged(stage, 3) == ["I7"]


@pytest.mark.parametrize(
    ("held", "is_enough"), [(record(2), True), (record(1, node=1), True), (record(0), False)]
)
def test_a_higher_record_stands_for_the_write_and_a_lower_one_does_not(
    stage: Stage, held: Record, is_enough: bool
) -> None:
    stage.keep(0, WRITTEN)
    stage.keep(1, held)
    assert _judged(stage, 2) == ([] if is_enough else ["I7"])


def test_what_is_not_synced_does_not_count(stage: Stage) -> None:
    stage.keep(0, WRITTEN)
    stage.keep(1, WRITTEN, is_durable=False)
    assert _judged(stage, 2) == ["I7"]


def test_a_machine_that_is_no_replica_does_not_count() -> None:
    stage = Stage(5)
    replicas = stage.cluster.replicas(b"k")
    for index in range(5):
        if index not in replicas[1:]:
            stage.keep(index, WRITTEN)
    assert _judged(stage, 2) == ["I7"]


def test_a_write_that_nobody_was_given_is_found(stage: Stage) -> None:
    judge = Durability(Machines(stage.machines))
    assert _answered(judge, stage, 1, WRITTEN.version) == ["I7"]


def test_a_write_that_its_own_replica_supersedes_may_be_given_to_others_by_hints_only(
    stage: Stage,
) -> None:
    judge = Durability(Machines(stage.machines))
    result = PutResult(WRITTEN.version, 1, 3, superseded=True)
    judge.look(stage.step(0, acked=[result]))
    judge.look(stage.step(0, hinted=[(b"name", given(1, WRITTEN))]))
    judge.look(stage.step(0, acked=[result]))
    assert [each.invariant for each in judge.found] == ["I7"]
    stage.keep(0, record(9))
    judge.look(stage.step(0, acked=[result]))
    assert len(judge.found) == 1


def test_a_disk_that_was_lost_or_damaged_since_may_have_held_it(stage: Stage) -> None:
    judge = Durability(Machines(stage.machines))
    judge.look(stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN), given(2, WRITTEN)]))
    stage.keep(0, WRITTEN)
    stage.keep(1, WRITTEN)
    stage.machines[1].disk.rot(ROW, Random(0))
    image = stage.machines[2].image()
    stage.keep(2, WRITTEN)
    stage.cluster.kill(2)
    stage.cluster.restart(2, image=image)
    assert _answered(judge, stage, 3, WRITTEN.version) == []
    stage.cluster.kill(2)
    stage.cluster.restart(2, is_empty=True)
    assert _answered(judge, stage, 3, WRITTEN.version) == []
    # What is written now is not excused by what was lost before.
    later = record(5)
    judge.look(stage.step(0, stored=[later]))
    assert _answered(judge, stage, 3, later.version) == ["I7"]


def test_a_disk_that_was_lost_without_it_is_no_excuse(stage: Stage) -> None:
    judge = Durability(Machines(stage.machines))
    judge.look(stage.step(0, stored=[WRITTEN], sent=[given(1, WRITTEN), given(2, WRITTEN)]))
    stage.keep(0, WRITTEN)
    image = stage.machines[2].image()
    stage.cluster.kill(2)
    stage.cluster.restart(2, image=image)
    assert _answered(judge, stage, 2, WRITTEN.version) == ["I7"]
