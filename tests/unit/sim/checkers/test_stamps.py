# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps that go back, run ahead, or mean two things are found (I8)."""

from __future__ import annotations

from quorate.core.values.versions import ms_of, successor
from quorate.sim.checkers.stamps import Stamps
from quorate.sim.checkers.watch import Step
from quorate.sim.clock import EPOCH_MS
from tests.records import altered
from tests.simulation import asking
from tests.unit.sim.checkers.steps import Stage, given, record, stamp_of_ms

LINKED = successor(record(1).version, stamp_of_ms(2))


def _judged(*steps: Step) -> list[str]:
    judge = Stamps()
    for step in steps:
        judge.look(step)
    return [each.told for each in judge.found]


def test_rising_stamps_are_fine_however_often_they_are_said(stage: Stage) -> None:
    first, second = record(1), record(2)
    assert (
        _judged(
            stage.step(0, stored=[first], sent=[given(1, first)]),
            stage.step(1, stored=[first]),
            stage.step(0, stored=[second]),
            stage.step(0, sent=[given(2, first)]),
        )
        == []
    )


def test_a_stamp_that_goes_back_is_found(stage: Stage) -> None:
    (told,) = _judged(stage.step(0, stored=[record(2)]), stage.step(0, sent=[given(1, record(1))]))
    assert "gave out" in told


def test_a_process_stamps_above_the_ceiling_that_it_found(stage: Stage) -> None:
    asking.must_put(stage.cluster, 0, b"raises", b"the ceiling")
    stage.cluster.run(50)
    stage.cluster.kill(0)
    stage.cluster.restart(0)
    machine = stage.machines[0]
    own, ceiling_ms = machine.process - 1, ms_of(machine.ceiling) - EPOCH_MS
    assert ceiling_ms > 0
    assert _judged(stage.step(0, stored=[record(ceiling_ms + 1, node=own)])) == []
    (told,) = _judged(stage.step(0, stored=[record(ceiling_ms - 1, node=own)]))
    assert f"after stamp {machine.ceiling:016x}" in told


def test_a_node_with_an_old_disk_may_go_below_what_it_gave_out_since(stage: Stage) -> None:
    machine = stage.machines[0]
    image = machine.image()
    judge = Stamps()
    judge.look(stage.step(0, stored=[record(9)]))
    stage.cluster.kill(0)
    stage.cluster.restart(0, image=image)
    judge.look(stage.step(0, stored=[record(5, node=machine.process - 1)]))
    assert judge.found == []
    # But no version comes twice.
    judge.look(stage.step(0, stored=[record(9, b"other")]))
    (twice,) = judge.found
    assert ", and at " in twice.told


def test_what_is_stored_above_the_ceiling_that_is_stored_with_it_is_found(stage: Stage) -> None:
    """A crash would leave the record and forget its stamp."""
    first, second = record(1), record(2)
    low = stage.step(0, stored=[first], ceiling=stamp_of_ms(1))
    assert _judged(low) == []
    (told,) = _judged(low, stage.step(0, stored=[second], ceiling=0))
    assert f"with ceiling {stamp_of_ms(1):016x}" in told
    assert _judged(low, stage.step(0, stored=[second], ceiling=stamp_of_ms(2))) == []


def test_a_ceiling_counts_from_the_step_that_stored_it_on(stage: Stage) -> None:
    alone = stage.step(0, ceiling=stamp_of_ms(2))
    assert _judged(alone, stage.step(0, stored=[record(2)], ceiling=0)) == []


def test_a_ceiling_that_falls_is_found(stage: Stage) -> None:
    """A crash would leave the lower one."""
    first = stage.step(0, stored=[record(1)], ceiling=stamp_of_ms(3))
    (told,) = _judged(first, stage.step(0, ceiling=stamp_of_ms(2)))
    assert f"stored ceiling {stamp_of_ms(2):016x}" in told
    assert _judged(first, stage.step(0, ceiling=stamp_of_ms(4))) == []


def test_stamps_of_hints_count(stage: Stage) -> None:
    hinted = [(b"name", given(2, record(2)))]
    (told,) = _judged(stage.step(0, hinted=hinted), stage.step(0, stored=[record(1)]))
    assert "gave out" in told


def test_nodes_do_not_follow_each_other(stage: Stage) -> None:
    steps = stage.step(0, stored=[record(5)]), stage.step(1, stored=[record(1, node=1)])
    assert _judged(*steps) == []


def test_a_version_of_two_records_is_found(stage: Stage) -> None:
    (told,) = _judged(
        stage.step(0, stored=[record(1, b"a")]), stage.step(0, stored=[record(1, b"b")])
    )
    assert ", and at " in told


def test_a_stamp_past_the_guard_is_found(stage: Stage) -> None:
    now_ms = int(stage.cluster.world.now)
    within, beyond = record(now_ms + 1_000), record(now_ms + 1_001)
    assert _judged(stage.step(0, stored=[within])) == []
    (told,) = _judged(stage.step(0, stored=[beyond]))
    assert "1 ms past its guard" in told
    # What another node stamped is its own affair.
    assert _judged(stage.step(1, stored=[beyond])) == []


def test_a_read_modify_write_is_not_stamped_and_unique_in_its_row(stage: Stage) -> None:
    one, other = (altered(record(2, value), version=LINKED) for value in (b"a", b"b"))
    assert _judged(stage.step(0, stored=[record(3)]), stage.step(0, stored=[one])) == []
    assert _judged(stage.step(0, stored=[one]), stage.step(0, sent=[given(1, other, b"r")])) == []
    (told,) = _judged(stage.step(0, stored=[one]), stage.step(0, stored=[other]))
    assert ", and at " in told


def test_a_write_that_is_moved_is_stamped_before_it_is_proposed(stage: Stage) -> None:
    moved = stage.step(0)._replace(proposed=[given(1, record(2))])
    late = stage.step(0, stored=[record(2)])
    assert _judged(moved, stage.step(0, stored=[record(3)]), late) == []
    assert _judged(stage.step(0, stored=[record(3)]), moved, late) == []
    (told,) = _judged(moved, stage.step(0, stored=[record(1)]))
    assert "gave out" in told
