# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for fewer copies that are granted, or refused, though a W or R says otherwise are found."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.layout import RECOVERY_EPOCHS, Layout
from quorate.core.values.events import Change
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest, Outcome, QuorateError, QuorumUnreachable
from quorate.sim.checkers.granting import Granting
from tests.unit.sim.checkers.steps import Nobody, Stage

REFUSAL = "http://n1:8000 was started with -W=2: start it with less first"


@pytest.mark.parametrize(
    ("w", "copies", "reason", "found"),
    [
        (0, 2, REFUSAL, ["P3"]),
        (2, 2, REFUSAL, ["P3"]),
        (2, 1, REFUSAL, []),
        (0, 2, "copies of a key could not be kept in different zones", []),
    ],
)
def test_who_is_refused_for_a_quorum_that_nobody_was_given_is_found(
    stage: Stage, w: int, copies: int, reason: str, found: list[str]
) -> None:
    machine, waiter, judge = stage.machines[0], Nobody(), Granting()
    machine.settings = msgspec.structs.replace(machine.settings, w=w)
    machine.events = [Change(waiter, Wish(replication=copies))]
    judge.look(stage.step(0))
    machine.events = []
    judge.look(stage.step(0)._replace(refused=[(waiter, InvalidRequest(reason))]))
    assert [each.invariant for each in judge.found] == found


@pytest.mark.parametrize(("r", "found"), [(0, []), (2, []), (3, ["I25"])])
def test_a_layout_of_fewer_copies_than_a_quorum_needs_is_found_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, r: int, found: list[str]
) -> None:
    machine, judge = stage.machines[0], Granting()
    machine.settings = msgspec.structs.replace(machine.settings, r=r)
    judge.look(stage.step(0))
    assert judge.found == []
    membership = machine.node.membership
    monkeypatch.setattr(membership, "layout", _later(membership.layout))
    for _ in range(2):
        judge.look(stage.step(0))
    assert [each.invariant for each in judge.found] == found


FORCED = Wish(leave=("n2",), is_forced=True)
REFUSED = InvalidRequest("no member of the cluster is called that", outcome=Outcome.NOT_APPLIED)


@pytest.mark.parametrize("is_moving", [False, True], ids=["table", "moves"])
@pytest.mark.parametrize(
    ("w", "wish", "is_preview", "error", "found"),
    [
        (3, Wish(leave=("n2",)), False, None, ["I25"]),
        (2, Wish(leave=("n2",)), False, None, []),
        (3, FORCED, False, None, []),
        (3, FORCED, True, None, ["I25"]),
        (3, FORCED, False, REFUSED, ["I25"]),
        (3, FORCED, False, QuorumUnreachable("late", outcome=Outcome.UNKNOWN), []),
        (3, Wish(recover=("n2",)), False, None, ["I25"]),
    ],
)
def test_rows_that_become_shorter_than_a_quorum_are_found_unless_that_was_forced(
    stage: Stage,
    w: int,
    wish: Wish,
    error: QuorateError | None,
    found: list[str],
    *,
    is_moving: bool,
    is_preview: bool,
) -> None:
    """The number of copies that is asked for stays three."""
    machine, waiter, judge = stage.machines[0], Nobody(), Granting()
    machine.settings = msgspec.structs.replace(machine.settings, w=w)
    judge.look(stage.step(0))
    machine.events = [Change(waiter, wish, is_preview=is_preview)]
    judge.look(stage.step(0)._replace(refused=[(waiter, error)] if error else []))
    machine.events = []
    membership = machine.node.membership
    membership.layout = _left(membership.layout)
    judge.look(stage.step(0))
    membership.layout = _shorter(membership.layout, is_moving=is_moving)
    for _ in range(2):
        judge.look(stage.step(0))
    assert [each.invariant for each in judge.found] == found


def test_before_a_layout_comes_of_what_was_forced_no_row_may_become_shorter(stage: Stage) -> None:
    machine, judge = stage.machines[0], Granting()
    machine.settings = msgspec.structs.replace(machine.settings, w=3)
    judge.look(stage.step(0))
    machine.events = [Change(Nobody(), FORCED)]
    membership = machine.node.membership
    membership.layout = _shorter(membership.layout, is_moving=False)
    judge.look(stage.step(0))
    assert [each.invariant for each in judge.found] == ["I25"]


def test_after_a_recovery_rows_may_be_shorter(stage: Stage) -> None:
    machine, judge = stage.machines[0], Granting()
    machine.settings = msgspec.structs.replace(machine.settings, w=3)
    judge.look(stage.step(0))
    membership = machine.node.membership
    shorter = _shorter(membership.layout, is_moving=False)
    membership.layout = msgspec.structs.replace(shorter, epoch=RECOVERY_EPOCHS)
    judge.look(stage.step(0))
    assert judge.found == []


def test_rows_that_were_short_all_along_are_nobodys_fault(stage: Stage) -> None:
    """Of a cluster of three that were started with -W=4, and -replication=4."""
    machine, judge = stage.machines[0], Granting()
    layout = machine.node.membership.layout
    assert layout is not None
    machine.settings = msgspec.structs.replace(machine.settings, w=4)
    machine.node.membership.layout = msgspec.structs.replace(layout, replication=4)
    judge.look(stage.step(0))
    assert judge.found == []


def _left(layout: Layout | None) -> Layout:
    assert layout is not None
    *members, last = layout.members
    members.append(msgspec.structs.replace(last, weight=0))
    return msgspec.structs.replace(layout, epoch=layout.epoch + 1, members=tuple(members))


def _shorter(layout: Layout | None, *, is_moving: bool) -> Layout:
    assert layout is not None
    row = layout.table[7][:2]
    if is_moving:
        return msgspec.structs.replace(layout, epoch=layout.epoch + 1, moves=((7, row),))
    table = (*layout.table[:7], row, *layout.table[8:])
    return msgspec.structs.replace(layout, epoch=layout.epoch + 1, table=table)


def _later(layout: Layout | None) -> Layout:
    assert layout is not None
    return msgspec.structs.replace(layout, epoch=layout.epoch + 1, replication=2)
