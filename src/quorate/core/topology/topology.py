# SPDX-License-Identifier: GPL-3.0-or-later
"""The layout in force, as one node sees it: who holds a partition, and what a quorum of it is.

Immutable: when the layout changes there is a new one, and an operation keeps the one that it began
with. Liveness never enters it; whether a replica can be asked is asked of the `Peer`.

A quorum is judged by one pure verdict over the replies so far (Dynamo, section 4.5). A set of
replicas is an int with a bit for each (`peer`), so a replica counts once however often it answers;
hints never count. A *group* is such a set of which a number is needed: W of them for a write, R for
a read. While a partition moves, those that hold it and those that shall are a group each, and both
must be met (a joint quorum, as in Raft, section 6).

    three = Group(0b0111, 2)
    verdict(0b0101, 0b0000, (three,))  # MET: two of the three
    verdict(0b0101, 0b0000, (three, Group(0b1110, 2)))  # PENDING: only one of the others
    verdict(0b0101, 0b1010, (three, Group(0b1110, 2)))  # LOST: two of them will not answer
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final

from quorate.core.topology.layout import Layout, Member, Row
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.values.settings import majority
from quorate.core.values.slots import partition_of
from quorate.errors import InvalidRequest, QuorumUnreachable


class Verdict(enum.Enum):
    """What the replies so far decide."""

    MET = enum.auto()
    PENDING = enum.auto()
    LOST = enum.auto()


class Consistency(enum.Enum):
    """What a read at these numbers promises (P2)."""

    LINEARIZABLE = "linearizable"
    """Never older than a finished write or an earlier read."""
    REGULAR = "regular"
    """Never older than a finished write; two reads during one write may go back in time."""
    EVENTUAL = "eventual"


MET: Final = Verdict.MET
PENDING: Final = Verdict.PENDING
LOST: Final = Verdict.LOST
"""By names of ours: a member of an enum is looked up at each use, for 300 instructions."""


class Group:
    """Replicas of which `needed` have to answer."""

    __slots__ = ("mask", "needed")

    def __init__(self, mask: int, needed: int) -> None:
        self.mask = mask
        self.needed = needed


Groups = tuple[Group, ...]


def verdict(done: int, failed: int, groups: Groups) -> Verdict:
    """Judge the replicas that answered well and those that will not answer any more; all others may
    still. MET if every group is; LOST if any cannot be."""
    found = MET
    for group in groups:
        mask, needed = group.mask, group.needed
        if count_of(mask & done) < needed:
            if count_of(mask & (done | ~failed)) < needed:
                return LOST
            found = PENDING
    return found


def count_of(replicas: int) -> int:
    """How many are in a set. Sets are small, and the compiled loop takes a tenth of what a call of
    `int.bit_count` does, which requests would make six times."""
    found = 0
    while replicas:
        replicas &= replicas - 1
        found += 1
    return found


def lacking(done: int, groups: Groups) -> int:
    """The members of all groups that are not met; 0 if all are."""
    found = 0
    for group in groups:
        if count_of(group.mask & done) < group.needed:
            found |= group.mask
    return found


def are_majorities(groups: Groups) -> bool:
    """Whether who meets these has met a majority of each."""
    return all([group.needed >= majority(group.mask.bit_count()) for group in groups])


def needed_of(groups: Groups) -> int:
    """How many answers the most demanding group needs, for people."""
    return max([group.needed for group in groups])


def do_meet(readers: Groups, writers: Groups) -> bool:
    """Whether any such read has a replica in common with any such write: R + W > N."""
    return all(
        read.needed + write.needed > read.mask.bit_count()
        for read, write in zip(readers, writers, strict=True)
    )


def consistency(*, n: int, r: int, w: int) -> Consistency:
    """What reads of `r` promise where writes need `w`.

    Linearizable needs a majority of answers too, not only an overlap with writes: at W = N, R = 1
    two reads may meet two replicas of which only one has an unfinished write yet.
    """
    if r + w <= n:
        return Consistency.EVENTUAL
    return Consistency.LINEARIZABLE if min(r, w) >= majority(n) else Consistency.REGULAR


class Replicas:
    """Who holds a partition. Partitions with the same replicas share one."""

    __slots__ = (
        "_asked",
        "_own_url",
        "is_mine",
        "least",
        "majorities",
        "mask",
        "members",
        "n",
        "others",
        "readers",
        "update_writers",
        "writers",
    )

    def __init__(self, rows: list[list[Peer | None]], *, own_url: str, r: int, w: int) -> None:
        """`rows`: the replicas in order of preference, and if the partition moves those that shall
        be; None is this node. `r` and `w` of 0 are a majority of each row."""
        members = list(dict.fromkeys([each for row in rows for each in row]))
        self.members: tuple[Peer | None, ...] = tuple(members)
        """In order of preference; None is this node."""
        self._own_url = own_url
        self.is_mine = None in members
        """Whether this node is one of them."""
        self.others: tuple[Peer, ...] = tuple([each for each in members if each is not None])
        """Those that are not this node, in order of preference."""
        self.n = len(members)
        masks = [_mask_of(row) for row in rows]
        self.least = min([len(row) for row in rows])
        """How many there are in the shorter row."""
        self.mask = _mask_of(members)
        """All of them."""
        self.majorities: Groups = tuple([Group(mask, majority(mask.bit_count())) for mask in masks])
        self.writers: Groups = _groups(masks, w) if w else self.majorities
        """Who must acknowledge a write that asks for no number."""
        self.update_writers: Groups = _at_least(self.majorities, w) if w else self.majorities
        """Who must have what a read-modify-write made: of a row that came while it was under way, W
        may be less than a majority."""
        self.readers: Groups = _groups(masks, r) if r else self.majorities
        """Who must answer a read that asks for no number."""
        self._asked: dict[int, Groups] = {}

    @property
    def urls(self) -> list[str]:
        """Where all of them are now, in order of preference."""
        return _urls(self.members, self._own_url)

    def asked(self, count: int, *, name: str) -> Groups:
        """Who must answer a request that asks for `count` of each row's replicas. InvalidRequest if
        there are not as many."""
        groups = self._asked.get(count)
        if groups is None:
            n = self.least
            if not 0 < count <= n:
                raise InvalidRequest(f"{name} must be from 1 to {n}", given=count, replicas=n)
            groups = _groups([group.mask for group in self.majorities], count)
            self._asked[count] = groups
        return groups

    def reachable(self) -> int:
        """Those that can be sent a request now, this node included."""
        found = OWN_BIT if self.is_mine else 0
        for peer in self.others:
            if peer.is_reachable:
                found |= peer.bit
        return found

    def unreachable(self, groups: Groups) -> QuorumUnreachable:
        """The error of a request that too few replicas can be asked for."""
        refusal = self.refusal(groups)
        return QuorumUnreachable(
            f"too few replicas can be reached: {refusal}"
            if refusal
            else "too few replicas can be reached",
            needed=needed_of(groups),
            live=self.reachable().bit_count(),
        )

    def refusal(self, groups: Groups) -> str:
        """Why they cannot meet these groups whoever lives: there are too few of them, or one will
        not talk to us, or we to it; empty if neither is so."""
        for group in groups:
            copies = count_of(group.mask)
            if group.needed > copies:
                return (
                    f"-W or -R of this node asks {group.needed} of {copies}: start it with less, "
                    "or have more copies of each key"
                )
        for peer in self.others:
            if peer.refusal and not peer.is_linked:
                return peer.refusal
        return ""

    def fastest(self, have: int, groups: Groups, *, are_brief: bool = True) -> list[Peer]:
        """The reachable replicas to ask, the first of all first (`Peer.precedes`), so that together
        with those in `have` they meet the groups; all that would help if they cannot be met.
        `are_brief`: what is asked of each costs less than a frame."""
        chosen: list[Peer] = []
        asked = 0
        while wanted := lacking(have | asked, groups) & ~(have | asked):
            first: Peer | None = None
            for peer in self.others:
                if not (wanted & peer.bit and peer.is_reachable):
                    continue
                if first is None or peer.precedes(first, is_brief=are_brief):
                    first = peer
            if first is None:
                break
            chosen.append(first)
            asked |= first.bit
        return chosen

    def overlaps(self, readers: Groups) -> bool:
        """Whether such a read meets every finished write that asked for no number: R + W > N."""
        return do_meet(readers, self.writers)


class Topology:
    """Who holds what, by the layout in force."""

    __slots__ = ("_members", "distinct", "epoch", "layout", "n", "own_url", "partitions", "r", "w")

    def __init__(
        self,
        layout: Layout,
        *,
        own_url: str,
        peer_of: Callable[[Member], Peer | None],
        r: int = 0,
        w: int = 0,
    ) -> None:
        """`peer_of` knows who a member is; None is this node. `r` and `w`: what requests need that
        ask for no number; 0 is a majority."""
        self.layout = layout
        self.epoch = layout.epoch
        self.own_url = own_url
        self.n = _most_copies(layout)
        """Copies of each key. What is promised of so many is kept where there are fewer."""
        self.w, self.r = self.quorums(w, r)
        self._members = [peer_of(each) for each in layout.members]
        known: dict[tuple[Row, ...], Replicas] = {}
        self.partitions: list[Replicas] = []
        """Who holds each partition."""
        moves = dict(layout.moves)
        for partition, row in enumerate(layout.table):
            rows = (row, moves[partition]) if partition in moves else (row,)
            replicas = known.get(rows)
            if replicas is None:
                given = [[self._members[index] for index in each] for each in rows]
                replicas = known[rows] = Replicas(given, own_url=own_url, r=r, w=w)
            self.partitions.append(replicas)
        self.distinct = list(known.values())
        """The same without repetition."""

    @property
    def urls(self) -> list[str]:
        """Where all are that hold copies, or shall, sorted."""
        return sorted(set(_urls(self._members, self.own_url)))

    def is_mine(self, row: bytes) -> bool:
        """Whether this node holds a row, or shall."""
        return self.partitions[partition_of(row)].is_mine

    def copies(self) -> dict[Peer | None, int]:
        """How many partitions each member holds; None is this node."""
        return dict(zip(self._members, self.layout.copies().values(), strict=True))

    def quorums(self, w: int, r: int) -> tuple[int, int]:
        """What requests that ask for no number need at a node that was started with these W and R;
        0 if with none, which is a majority."""
        return w or majority(self.n), r or majority(self.n)

    def consistency(self, *, r: int = 0, w: int = 0) -> Consistency:
        """What requests of this `r` and `w` promise, when all are made with them; 0 stands for what
        is configured."""
        return consistency(n=self.n, r=r or self.r, w=w or self.w)


def _urls(members: Sequence[Peer | None], own_url: str) -> list[str]:
    return [own_url if each is None else each.url for each in members]


def _mask_of(members: list[Peer | None]) -> int:
    mask = 0
    for each in members:
        mask |= OWN_BIT if each is None else each.bit
    return mask


def _most_copies(layout: Layout) -> int:
    """Of the key that has, or shall have, the most."""
    return max([len(row) for row in {*layout.table, *[shall for _, shall in layout.moves]}])


def _at_least(groups: Groups, needed: int) -> Groups:
    return tuple([Group(group.mask, max(group.needed, needed)) for group in groups])


def _groups(masks: list[int], needed: int) -> Groups:
    return tuple([Group(mask, needed) for mask in masks])
