# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables in force, as one node sees them: who holds a partition, and what a quorum of it is.

Immutable: when the tables change there is a new one, and an operation keeps the one that it began
with. Liveness never enters it; whether a replica can be asked is asked of the `Peer`.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from quorate.core.topology.layout import Layout
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.quorum import (
    Consistency,
    Group,
    Groups,
    consistency,
    lacking,
    majority,
    needed_of,
)
from quorate.errors import InvalidRequest, QuorumUnreachable

_speed: Final = attrgetter("speed")


class Replicas:
    """Who holds a partition. Partitions with the same replicas share one."""

    __slots__ = (
        "_asked",
        "is_mine",
        "majorities",
        "mask",
        "n",
        "others",
        "readers",
        "urls",
        "writers",
    )

    def __init__(self, rows: list[list[Peer | None]], *, own_url: str, r: int, w: int) -> None:
        """`rows`: for each table in force the replicas, in order of preference; None is this node.
        `r` and `w` of 0 are a majority of each row."""
        members = list(dict.fromkeys([each for row in rows for each in row]))
        self.is_mine = None in members
        """Whether this node is one of them."""
        self.others: tuple[Peer, ...] = tuple([each for each in members if each is not None])
        """Those that are not this node, in order of preference."""
        self.urls = tuple([own_url if each is None else each.url for each in members])
        """Of all of them, in order of preference."""
        self.n = len(members)
        masks = [_mask_of(row) for row in rows]
        self.mask = _mask_of(members)
        """All of them."""
        self.majorities: Groups = tuple([Group(mask, majority(mask.bit_count())) for mask in masks])
        self.writers: Groups = _groups(masks, w) if w else self.majorities
        """Who must acknowledge a write that asks for no number."""
        self.readers: Groups = _groups(masks, r) if r else self.majorities
        """Who must answer a read that asks for no number."""
        self._asked: dict[int, Groups] = {}

    def asked(self, count: int, *, name: str) -> Groups:
        """Who must answer a request that asks for `count` of each table's replicas. InvalidRequest
        if there are not as many."""
        groups = self._asked.get(count)
        if groups is None:
            n = min([group.mask.bit_count() for group in self.majorities])
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
        return QuorumUnreachable(
            "too few replicas can be reached",
            needed=needed_of(groups),
            live=self.reachable().bit_count(),
        )

    def fastest(self, have: int, groups: Groups) -> list[Peer]:
        """The fastest reachable replicas that together with those in `have` meet the groups; all
        that would help if they cannot be met."""
        chosen: list[Peer] = []
        for peer in sorted([each for each in self.others if each.is_reachable], key=_speed):
            wanted = lacking(have, groups)
            if not wanted:
                break
            if wanted & peer.bit:
                chosen.append(peer)
                have |= peer.bit
        return chosen

    def overlaps(self, readers: Groups) -> bool:
        """Whether such a read meets every finished write that asked for no number: R + W > N."""
        return all(
            read.needed + write.needed > read.mask.bit_count()
            for read, write in zip(readers, self.writers, strict=True)
        )


class Topology:
    """The tables that are in force: one, or two while copies move from the one to the other."""

    __slots__ = ("distinct", "epoch", "layout", "n", "own_url", "partitions", "r", "w")

    def __init__(
        self,
        tables: tuple[Layout, ...],
        *,
        own_url: str,
        peers: dict[str, Peer],
        r: int = 0,
        w: int = 0,
    ) -> None:
        """`r` and `w`: what requests need that ask for no number; 0 is a majority."""
        self.layout = tables[-1]
        """The newest table."""
        self.epoch = self.layout.epoch
        self.own_url = own_url
        self.n = len(self.layout.table[0])
        """Copies of each key."""
        self.r = r or majority(self.n)
        self.w = w or majority(self.n)
        members = [
            [None if url == own_url else peers[url] for url in table.nodes] for table in tables
        ]
        known: dict[tuple[tuple[int, ...], ...], Replicas] = {}
        self.partitions: list[Replicas] = []
        """Who holds each partition."""
        for rows in zip(*[table.table for table in tables], strict=True):
            replicas = known.get(rows)
            if replicas is None:
                given = [[those[i] for i in row] for those, row in zip(members, rows, strict=True)]
                replicas = known[rows] = Replicas(given, own_url=own_url, r=r, w=w)
            self.partitions.append(replicas)
        self.distinct = list(known.values())
        """The same without repetition."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The URLs of all that hold copies, sorted."""
        return self.layout.nodes

    def copies(self) -> dict[str, int]:
        """How many partitions each node holds."""
        return self.layout.copies()

    def consistency(self, *, r: int = 0, w: int = 0) -> Consistency:
        """What requests of this `r` and `w` promise, when all are made with them; 0 stands for what
        is configured."""
        return consistency(n=self.n, r=r or self.r, w=w or self.w)


def _mask_of(members: list[Peer | None]) -> int:
    mask = 0
    for each in members:
        mask |= OWN_BIT if each is None else each.bit
    return mask


def _groups(masks: list[int], needed: int) -> Groups:
    return tuple([Group(mask, needed) for mask in masks])
