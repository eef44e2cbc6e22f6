# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that tell readers what may be lost, or nothing of what is damaged, are found."""

from __future__ import annotations

from quorate.core.values.events import Batch, PeerFrame
from quorate.core.values.messages import Frame, Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ABSENT
from quorate.sim.checkers.telling import Telling
from quorate.sim.cluster import id_of
from tests.unit.sim.checkers.steps import KEY, ROW, Stage, record

OLD, NEW = record(1), record(2)
OTHER = row_of(b"other")


def _found(
    stage: Stage,
    *answers: ReadAnswer,
    full: list[bytes] | None = None,
    brief: list[bytes] | None = None,
) -> list[str]:
    """What is found wrong when node 0 answers node 1."""
    machine = stage.machines[0]
    read = Read(7, full or [], brief or [])
    machine.events = [PeerFrame(id_of(1), Frame(1, 0, [read]))]
    judge = Telling()
    judge.look(stage.step(0, told=[(id_of(1), answer) for answer in answers]))
    return [each.invariant for each in judge.found]


def _record(stage: Stage, what: Record | None, failed: list[bytes]) -> list[str]:
    return _found(stage, ReadAnswer(7, [what], [], failed), full=[ROW])


def _version(stage: Stage, version: bytes) -> list[str]:
    return _found(stage, ReadAnswer(7, [], [version]), brief=[ROW])


def test_what_is_durable_may_be_told(stage: Stage) -> None:
    assert _version(stage, ABSENT) == []
    stage.keep(0, OLD)
    assert _version(stage, OLD.version) == []
    assert _record(stage, OLD, []) == []


def test_what_was_durable_before_something_newer_came_may_be_told(stage: Stage) -> None:
    stage.keep(0, OLD)
    stage.keep(0, NEW, is_durable=False)
    assert _version(stage, OLD.version) == []


def test_what_is_not_durable_yet_must_not_be_told(stage: Stage) -> None:
    stage.keep(0, OLD)
    stage.keep(0, NEW, is_durable=False)
    assert _version(stage, NEW.version) == ["I7"]
    assert _record(stage, NEW, []) == ["I7"]


def test_what_is_dropped_as_garbage_in_the_step_that_tells_it_may_be_told(stage: Stage) -> None:
    stage.keep(0, OLD)
    stage.machines[0].disk.format(Batch([(ROW, None)], [], []))
    assert _version(stage, OLD.version) == []
    assert _version(stage, NEW.version) == ["I7"]


def test_a_damaged_copy_is_no_answer(stage: Stage) -> None:
    stage.keep(0, OLD)
    stage.cluster.rot(0, KEY)
    assert _record(stage, None, [ROW]) == []
    assert _record(stage, None, []) == ["I23"]
    assert _version(stage, ABSENT) == ["I23"]


def test_where_a_damaged_copy_is_being_replaced_there_is_nothing_yet(stage: Stage) -> None:
    stage.keep(0, OLD)
    stage.cluster.rot(0, KEY)
    stage.cluster.machines[0].node.parts.replica.apply(ROW, NEW)
    assert _version(stage, ABSENT) == []


def test_a_long_answer_is_judged_piece_by_piece(stage: Stage) -> None:
    stage.keep(0, OLD)
    pieces = ReadAnswer(7, [None], []), ReadAnswer(7, [OLD], [ABSENT])
    assert _found(stage, *pieces, full=[OTHER, ROW], brief=[OTHER]) == []
    assert _found(stage, *pieces, full=[ROW, OTHER], brief=[OTHER]) == ["I7"]
