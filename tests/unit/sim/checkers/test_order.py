# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica that goes back to an older record is found (I10)."""

from __future__ import annotations

from random import Random

from quorate.core.record import Record
from quorate.sim.checkers.order import Order
from quorate.sim.disk import Disk
from tests.unit.sim.checkers.steps import ROW, Stage, record

OLD, NEW = record(1), record(2)


def _store(judge: Order, stage: Stage, what: Record) -> list[str]:
    stage.keep(0, what, is_durable=False)
    judge.look(stage.step(0, stored=[what]))
    return [each.invariant for each in judge.found]


def test_rising_versions_are_fine(stage: Stage) -> None:
    judge = Order()
    assert _store(judge, stage, OLD) == []
    assert _store(judge, stage, NEW) == []


def test_an_older_record_in_place_of_a_newer_is_found(stage: Stage) -> None:
    judge = Order()
    _store(judge, stage, NEW)
    assert _store(judge, stage, OLD) == ["I10"]


def test_the_same_version_written_again_is_found(stage: Stage) -> None:
    judge = Order()
    _store(judge, stage, NEW)
    assert _store(judge, stage, NEW) == ["I10"]


def test_a_restart_does_not_allow_it(stage: Stage) -> None:
    judge = Order()
    _store(judge, stage, NEW)
    stage.machines[0].disk.sync()
    stage.cluster.kill(0)
    stage.cluster.restart(0)
    assert _store(judge, stage, OLD) == ["I10"]


def test_what_a_crash_lost_is_no_record(stage: Stage) -> None:
    judge = Order()
    machine = stage.machines[0]
    _store(judge, stage, NEW)
    machine.crash()
    # The drawn prefix may be all of it: here the disk kept nothing.
    machine.disk = Disk()
    machine.start()
    assert _store(judge, stage, OLD) == []


def test_what_was_damaged_is_no_record(stage: Stage) -> None:
    judge = Order()
    _store(judge, stage, NEW)
    stage.machines[0].disk.sync()
    stage.machines[0].disk.rot(ROW, Random(0))
    assert _store(judge, stage, OLD) == []


def test_replicas_are_judged_each_for_itself(stage: Stage) -> None:
    judge = Order()
    _store(judge, stage, NEW)
    judge.look(stage.step(1, stored=[OLD]))
    assert judge.found == []
