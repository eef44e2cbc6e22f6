# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for fewer copies that are granted, or refused, though a W or R says otherwise are found."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.layout import Layout
from quorate.core.values.events import Change
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest
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


@pytest.mark.parametrize("is_moving", [False, True], ids=["table", "moves"])
@pytest.mark.parametrize(
    ("w", "wish", "found"),
    [
        (3, Wish(leave=("n2",)), ["I25"]),
        (2, Wish(leave=("n2",)), []),
        (3, Wish(leave=("n2",), is_forced=True), []),
        (3, Wish(recover=("n2",)), []),
    ],
)
def test_rows_that_become_shorter_than_a_quorum_are_found_unless_that_was_forced(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    w: int,
    wish: Wish,
    found: list[str],
    *,
    is_moving: bool,
) -> None:
    """The number of copies that is asked for stays three."""
    machine, judge = stage.machines[0], Granting()
    machine.settings = msgspec.structs.replace(machine.settings, w=w)
    machine.events = [Change(Nobody(), wish)]
    judge.look(stage.step(0))
    machine.events = []
    membership = machine.node.membership
    monkeypatch.setattr(membership, "layout", _shorter(membership.layout, is_moving=is_moving))
    for _ in range(2):
        judge.look(stage.step(0))
    assert [each.invariant for each in judge.found] == found


def test_rows_that_were_short_all_along_are_nobodys_fault(stage: Stage) -> None:
    """Of a cluster of three that were started with -W=4, and -replication=4."""
    machine, judge = stage.machines[0], Granting()
    layout = machine.node.membership.layout
    assert layout is not None
    machine.settings = msgspec.structs.replace(machine.settings, w=4)
    machine.node.membership.layout = msgspec.structs.replace(layout, replication=4)
    judge.look(stage.step(0))
    assert judge.found == []


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
