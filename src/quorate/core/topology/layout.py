# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes hold each partition: a numbered table that is data, not something to recompute.

Invariants: every partition lists `min(replication, nodes)` distinct nodes; shares differ by at most
one copy where that can be; two equal tables have equal hashes. Liveness never enters here.
Left out for now: zones, weights, and epochs after the first (docs/design.md#placement).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from quorate.core.values.settings import NODE_ID_MAX
from quorate.core.values.slots import PARTITION_COUNT

FIRST_EPOCH: Final = 1
LAYOUT_BYTES_MAX: Final = 240 << 10
"""Encoded: what fits into a greeting, so that who adopts it can still greet. Three replicas on ten
nodes take 5 kB, 64 on 1,000 nodes 210 kB."""
_ID_BYTES: Final = 6


def unmet_id(url: str) -> int:
    """What a node is called of which no more than its URL is known: a number made of that, greater
    than all that nodes draw."""
    digest = hashlib.blake2b(url.encode(), digest_size=_ID_BYTES).digest()
    return (NODE_ID_MAX + 1) | int.from_bytes(digest, "big")


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A node that a layout names."""

    id: int
    """`unmet_id` of its URL, as long as layouts are made of what `-nodes` lists."""
    url: str
    """Where it was when the layout was made."""


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """A placement of all partitions. Immutable; exchanged and stored as msgpack."""

    epoch: int
    replication: int
    members: tuple[Member, ...]
    """Sorted by URL; the table refers to them by index."""
    table: tuple[tuple[int, ...], ...]
    """For each partition, the indices of its replicas, in order of preference."""

    def replicas(self, partition: int) -> list[int]:
        """The ids of the partition's replicas, in order of preference."""
        return [self.members[index].id for index in self.table[partition]]

    def copies(self) -> dict[int, int]:
        """How many partitions each member holds, by its id."""
        counts = Counter(index for row in self.table for index in row)
        return {member.id: counts[index] for index, member in enumerate(self.members)}

    def urls(self) -> list[str]:
        """Where the members were when it was made."""
        return [member.url for member in self.members]

    def encode(self) -> bytes:
        """The layout as bytes, the same on every node."""
        return msgspec.msgpack.encode(self)

    def hash(self) -> bytes:
        """16 bytes that are equal if and only if the layouts are."""
        return hashlib.blake2b(self.encode(), digest_size=16).digest()


def decode_layout(data: bytes) -> Layout:
    """The layout of `encode`d bytes. msgspec.DecodeError or ValueError if they are not one."""
    if len(data) > LAYOUT_BYTES_MAX:
        raise ValueError("a layout that fits into no greeting")
    layout = msgspec.msgpack.decode(data, type=Layout)
    members, table = layout.members, layout.table
    count = min(layout.replication, len(members))
    if layout.epoch < FIRST_EPOCH or len(table) != PARTITION_COUNT or count < 1:
        raise ValueError("a layout needs an epoch, every partition and at least one node")
    if not all([_order(one) < _order(other) for one, other in pairwise(members)]):
        raise ValueError("the members of a layout are distinct and sorted")
    if any([member.id != unmet_id(member.url) for member in members]):
        raise ValueError("this release makes layouts of nodes that are known by their URLs")
    indices = set(range(len(members)))
    for row in set(table):
        if not (len(row) == len(set(row)) == count and indices.issuperset(row)):
            raise ValueError("a partition must list distinct nodes of the layout")
    return layout


def first_layout(urls: Sequence[str], *, replication: int) -> Layout:
    """The layout that every node started with the same list computes, whatever its order."""
    founders = [Member(unmet_id(url), url) for url in set(urls)]
    return plan_layout(None, founders, replication=replication)


def plan_layout(old: Layout | None, nodes: Sequence[Member], *, replication: int) -> Layout:
    """The next layout for `nodes`, moving as few copies off their places in `old` as possible.

    Each node keeps its copies up to its new quota, fewest first where it must give some up; each
    gap goes to the neediest node that does not hold the partition yet. Cost: partitions x nodes.
    """
    members = tuple(sorted(nodes, key=_order))
    copies = min(replication, len(members))
    lists = _kept(old, members, copies)
    quotas = _quotas(copies, held=_counts(lists, len(members)))
    _shed(lists, quotas)
    _fill(lists, quotas, copies)
    _level(lists, quotas)
    epoch = FIRST_EPOCH if old is None else old.epoch + 1
    return Layout(epoch, replication, members, tuple(tuple(row) for row in lists))


def _order(member: Member) -> tuple[str, int]:
    return member.url, member.id


def _kept(old: Layout | None, members: tuple[Member, ...], copies: int) -> list[list[int]]:
    """The old placement in terms of the new members, without nodes that left."""
    if old is None:
        return [[] for _ in range(PARTITION_COUNT)]
    index_of = {member.id: index for index, member in enumerate(members)}
    renamed = [index_of.get(member.id, -1) for member in old.members]
    return [[renamed[i] for i in row if renamed[i] >= 0][:copies] for row in old.table]


def _counts(lists: list[list[int]], nodes: int) -> list[int]:
    counts = [0] * nodes
    for row in lists:
        for index in row:
            counts[index] += 1
    return counts


def _quotas(copies: int, *, held: list[int]) -> list[int]:
    """Copies that each node should hold. The odd ones stay with those who hold most already."""
    share, odd = divmod(PARTITION_COUNT * copies, len(held))
    by_held = sorted(range(len(held)), key=lambda index: (-held[index], index))
    quotas = [share] * len(held)
    for index in by_held[:odd]:
        quotas[index] += 1
    return quotas


def _shed(lists: list[list[int]], quotas: list[int]) -> None:
    """Take copies from nodes over their quota, spread over the partitions."""
    surplus = [
        held - quota for held, quota in zip(_counts(lists, len(quotas)), quotas, strict=True)
    ]
    step = 0
    while max(surplus) > 0:
        # A stride prime to the count visits all partitions and spreads what is given up.
        row = lists[step * 389 % PARTITION_COUNT]
        step += 1
        giver = max(row, key=lambda index: surplus[index], default=None)
        if giver is not None and surplus[giver] > 0:
            row.remove(giver)
            surplus[giver] -= 1


def _fill(lists: list[list[int]], quotas: list[int], copies: int) -> None:
    """Complete every partition from the nodes with the most room; rotate the first choice."""
    counts = _counts(lists, len(quotas))
    room = [quota - held for quota, held in zip(quotas, counts, strict=True)]
    for partition, row in enumerate(lists):
        fresh = not row
        while len(row) < copies:
            choice = max(
                (index for index in range(len(quotas)) if index not in row),
                key=lambda index: (room[index], -((index - partition) % len(quotas))),
            )
            row.append(choice)
            room[choice] -= 1
        if fresh:
            # The first of a list is asked first by clients: spread that role too.
            turn = partition % copies
            row[:] = sorted(row)[turn:] + sorted(row)[:turn]


def _level(lists: list[list[int]], quotas: list[int]) -> None:
    """Even out what could not be filled evenly, because the nodes with room held those partitions.

    While one node is over its quota and another under, some partition has only the first of them,
    so every round makes progress.
    """
    surplus = [
        held - quota for held, quota in zip(_counts(lists, len(quotas)), quotas, strict=True)
    ]
    step = 0
    while max(surplus) > 0:
        row = lists[step * 389 % PARTITION_COUNT]
        step += 1
        giver = max(row, key=lambda index: surplus[index])
        taker = min(
            (index for index in range(len(quotas)) if index not in row),
            key=lambda index: surplus[index],
            default=giver,
        )
        if surplus[giver] > 0 > surplus[taker]:
            row[row.index(giver)] = taker
            surplus[giver] -= 1
            surplus[taker] += 1
