# SPDX-License-Identifier: GPL-3.0-or-later
"""What the layout in force wants next, without anybody's asking: the conditions of each step.

A node looks with what it knows: who is there, and who says that it has pulled. It may be wrong
about who is there, which costs time; what must hold is what peers tell durably, and what voters see
to (`exchanges.changes`).

- Founders that were met are *bound*.
- A bound member that is not there, and at whose URL a node of an empty disk is, has lost its disk:
  starting that node was the operator's decision. It takes the member's place, unless that was
  leaving.
- A joint layout is *completed* when all who gain have pulled for this very layout.
- While the course is to move, the next partitions move; when none are left, the course is at rest.
- Some time after the last node joined, the course is to move.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from quorate.core.topology.layout import (
    CLUSTER_BYTES,
    FIRST_EPOCH,
    MOVES_MAX,
    Course,
    Layout,
    Member,
)
from quorate.core.topology.membership import Membership
from quorate.core.topology.planner import Site, next_rows, plan
from quorate.core.topology.steps import bound, changed, completed, settled, stepped
from quorate.core.turn import Turn
from quorate.core.values.settings import MEMBERS_MAX, majority

if TYPE_CHECKING:
    from random import Random

SETTLE_MS: Final = 2_000
"""How long the second layout waits for founders that were not met yet."""
REPLACE_MS: Final = 2_000
"""How long a member whose URL another node has may take to be heard from elsewhere."""
PUT_OFF_MS: Final = 600_000
"""How long a partition stays where it is of which too few replicas can read their copies: the next
write of a damaged key mends it."""
_replace = msgspec.structs.replace


class Want(NamedTuple):
    """One step that is wanting."""

    what: str
    wait_ms: int
    """Not before it was wanted for so long."""
    make: Callable[[], Layout | None]
    """The layout to propose; None if there is none after all."""
    is_mine: bool = False
    """Whether other nodes do not know of it: then it is this one's turn."""


class Wants:
    """The conditions, for one node."""

    __slots__ = ("_grow_after_ms", "_membership", "_own_pulled", "_put_off", "_random", "_turn")

    def __init__(
        self,
        membership: Membership,
        turn: Turn,
        random: Random,
        *,
        grow_after_ms: int,
        own_pulled: Callable[[], tuple[int, list[int]]],
    ) -> None:
        """`own_pulled`: the epoch for which this node has pulled, and what it cannot get."""
        self._membership = membership
        self._turn = turn
        self._put_off: dict[int, int] = {}
        """Partitions of which too few can read their copies, and until when none of them moves."""
        self._random = random
        self._grow_after_ms = grow_after_ms
        self._own_pulled = own_pulled

    def put_off(self) -> list[int]:
        """The partitions that do not move for now, as too few can read their copies."""
        now = self._turn.mono_ms
        return [partition for partition, until_ms in self._put_off.items() if now < until_ms]

    def next(self) -> Want | None:
        """What is wanting; None if nothing is, or it cannot be had now."""
        layout = self._membership.layout
        if layout is None:
            return None
        replaced = self.replaced(layout)
        # Who takes a place is none that joins: beside it, its forerunner would count as away.
        joined = [each for each in self._joined(layout) if each.id not in replaced.values()]
        if joined and layout.epoch > FIRST_EPOCH:
            return Want("join", 0, lambda: joined_by(layout, joined), is_mine=True)
        if replaced and layout.epoch > FIRST_EPOCH:
            return Want("replace", REPLACE_MS, lambda: self._with_new_disks(layout, replaced))
        if layout.moves:
            # A lost one has none in a row that becomes shorter either; all others there have them.
            gainers = layout.gainers().difference(layout.lost)
            told = [self._told(each) for each in gainers]
            if all([epoch == layout.epoch for epoch, _ in told]):
                stays = {partition for _, unreadable in told for partition in unreadable}
                until_ms = self._turn.mono_ms + PUT_OFF_MS
                self._put_off.update(dict.fromkeys(stays, until_ms))
                return Want("complete", 0, lambda: completed(layout, without=stays))
        met, unmet = self._membership.founders()
        if layout.epoch == FIRST_EPOCH and len(met) < majority(len(layout.members)):
            return None
        if met:
            wait_ms = SETTLE_MS if unmet and layout.epoch == FIRST_EPOCH else 0
            drawn = self._random.randbytes(CLUSTER_BYTES // 2)
            # Whoever is not there and knows less is refused when it comes.
            level = min([each for _, each, _ in self._membership.levels() if each])
            return Want("bind", wait_ms, lambda: bound(layout, met, drawn=drawn, level=level))
        if layout.moves:
            return None
        if layout.course == Course.MOVE:
            return Want("move", 0, lambda: self._moved_on(layout))
        if layout.course == Course.SOON:
            return Want("grow", self._grow_after_ms, lambda: with_course(layout, Course.MOVE))
        return None

    def _joined(self, layout: Layout) -> list[Member]:
        """Who is to become a member by the word of an operator here, and is there; no more than a
        node can know."""
        found: list[Member] = []
        for peer in self._membership.roster.peers:
            if peer.is_wanted and self._membership.is_member(peer) and not peer.is_lost:
                peer.is_wanted = False
            elif peer.is_wanted and peer.is_there and layout.member(peer.id) is None:
                found.append(Member(peer.id, peer.url, peer.told.zone, peer.told.weight))
        return found[: max(MEMBERS_MAX - len(layout.members), 0)]

    def _told(self, member_id: int) -> tuple[int, list[int]]:
        """The epoch for which a member has pulled all that it can, and what it cannot."""
        peer = self._membership.peer(member_id)
        if peer is None:
            return self._own_pulled()
        return peer.told.pulled, peer.told.unreadable

    def replaced(self, layout: Layout) -> dict[int, int]:
        """The members whose disk is lost, with the id of the empty one at their URL."""
        found: dict[int, int] = {}
        roster = self._membership.roster
        for member in layout.members:
            peer = self._membership.peer(member.id)
            if peer is None or peer.is_linked or peer.is_lost or not member.is_bound:
                continue
            there = roster.at(peer.url)
            if there is None or there is peer or self._membership.is_member(there):
                continue
            if there.id and there.is_there and there.id not in found.values():
                found[member.id] = there.id
        return found

    def _with_new_disks(self, layout: Layout, replaced: dict[int, int]) -> Layout:
        members: list[Member] = []
        for each in layout.members:
            if each.id in replaced and each.weight:
                members.append(_replace(each, id=replaced[each.id]))
            members.append(_replace(each, weight=0) if each.id in replaced else each)
        lost = sorted({*layout.lost, *replaced})
        return changed(
            layout,
            members,
            replication=layout.replication,
            lost=lost,
            course=Course.MOVE,
        )

    def _moved_on(self, layout: Layout) -> Layout | None:
        """The next partitions move, to who is there; or all is where it belongs."""
        goal = goal_of(layout)
        if all([set(row) == set(shall) for row, shall in zip(layout.table, goal, strict=True)]):
            return settled(layout)
        for partition in self.put_off():
            goal[partition] = layout.table[partition]
        first, takers, absent = self._by_presence(layout)
        moves = next_rows(
            layout.table, goal, limit=MOVES_MAX, first=first, may_gain=takers, absent=absent
        )
        return stepped(layout, moves) if moves else None

    def _by_presence(self, layout: Layout) -> tuple[set[int], set[int], set[int]]:
        """By index: who has nothing more to give, as its disk is lost or it was never met and goes;
        who can be given copies now; and who has to be awaited."""
        first: set[int] = set()
        takers: set[int] = set()
        absent: set[int] = set()
        for index, member in enumerate(layout.members):
            peer = self._membership.peer(member.id)
            if member.id in layout.lost or not (member.is_bound or member.weight):
                first.add(index)
            elif not member.is_bound or (peer is not None and not peer.is_there):
                absent.add(index)
            elif member.weight:
                takers.add(index)
        return first, takers, absent


def goal_of(layout: Layout) -> list[tuple[int, ...]]:
    """Where copies belong by the weights and zones of the members."""
    sites = [Site(each.zone, each.weight) for each in layout.members]
    return plan(layout.table, sites, replication=layout.replication)


def joined_by(layout: Layout, joined: Sequence[Member]) -> Layout:
    """The layout with more members, which hold nothing yet."""
    return changed(
        layout,
        [*layout.members, *joined],
        replication=layout.replication,
        lost=layout.lost,
        course=Course(max(layout.course, Course.SOON)),
    )


def with_course(layout: Layout, course: Course) -> Layout:
    """The same members, another course; what moved stays where it was."""
    return changed(
        layout, layout.members, replication=layout.replication, lost=layout.lost, course=course
    )
