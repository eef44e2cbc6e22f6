# SPDX-License-Identifier: GPL-3.0-or-later
"""Stamps that go back, run ahead, or mean two things are found (I8)."""

from __future__ import annotations

from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.sim.checkers.stamps import Stamps
from quorate.sim.checkers.watch import Step
from tests.unit.sim.checkers.steps import Stage, given, record


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


def test_a_stamp_that_goes_back_is_found_also_after_a_restart(stage: Stage) -> None:
    judge = Stamps()
    judge.look(stage.step(0, stored=[record(2)]))
    stage.cluster.kill(0)
    stage.cluster.restart(0)
    process = stage.machines[0].process
    assert process != 1
    judge.look(stage.step(0, sent=[given(1, record(1, node=process - 1))]))
    (found,) = judge.found
    assert "gave out" in found.told


def test_a_node_with_an_old_disk_may_go_below_what_it_gave_out_since(stage: Stage) -> None:
    machine = stage.machines[0]
    judge = Stamps()
    judge.look(stage.step(0, stored=[record(3)]))
    stage.cluster.run(1)
    image = machine.image()
    stage.cluster.run(1)
    judge.look(stage.step(0, stored=[record(9)]))
    stage.cluster.kill(0)
    stage.cluster.restart(0, image=image)
    own = machine.process - 1
    judge.look(stage.step(0, stored=[record(5, node=own)]))
    assert judge.found == []
    # But not below what it gave out before, nor twice the same.
    judge.look(stage.step(0, stored=[record(2, node=own)]))
    judge.look(stage.step(0, stored=[record(9, b"other")]))
    (back, twice) = [each.told for each in judge.found]
    assert "gave out" in back
    assert ", and at " in twice


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


def test_a_derived_write_is_not_stamped_by_the_clock(stage: Stage) -> None:
    derived = Record(pack_version(7, 123_456), b"v")
    assert _judged(stage.step(0, stored=[record(2)]), stage.step(0, stored=[derived])) == []
