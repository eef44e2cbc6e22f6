# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes hold each partition: a numbered table that is data, not something to recompute.

The layouts of a cluster are a log: its first is what every founder computes of the list in
`-nodes`, which knows URLs only; each later one is decided once, by the voters that the one before
names (`changes`). The second says which disks the founders are (*binding*): from then on a replica
is an id, wherever it is, and a disk that no layout names is none. Each layout is complete, so who
has the newest needs no other.

For example: `-nodes` lists A, B and C. The first layout says "partition 5 is on what is at A, B and
C". A and B meet, and decide the second: "partition 5 is on disk 17, on disk 23, and on what is at
C". When C comes, the third one says which disk that is.

Invariants: every partition lists `min(replication, nodes)` distinct nodes; shares differ by at most
one copy where that can be; two equal tables have equal hashes. Liveness never enters here.
Left out for now: zones, weights, and other tables than the first (docs/design.md#placement).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from quorate.core.values.settings import NODE_ID_MAX
from quorate.core.values.slots import PARTITION_COUNT

FIRST_EPOCH: Final = 1
EPOCH_MAX: Final = 1 << 32
LAYOUT_BYTES_MAX: Final = 240 << 10
"""Encoded: what fits into a greeting, so that who adopts it can still greet. Three replicas on ten
nodes take 5 kB, 64 on 1,000 nodes 210 kB."""
VOTERS_MAX: Final = 7
"""Of a layout; with more members than that, seven of them vote. Of the first layout all founders
do: it names no disks, and disks may change places."""
CLUSTER_BYTES: Final = 16
HASH_BYTES: Final = 16
_ID_BYTES: Final = 6


def unmet_id(url: str) -> int:
    """What a node is called of which no more than its URL is known: a number made of that, greater
    than all that nodes draw."""
    digest = hashlib.blake2b(url.encode(), digest_size=_ID_BYTES).digest()
    return (NODE_ID_MAX + 1) | int.from_bytes(digest, "big")


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A node that a layout names."""

    id: int
    """Of its disk; `unmet_id` of its URL until it is bound."""
    url: str
    """Where it was when the layout was made."""

    @property
    def is_bound(self) -> bool:
        """Whether it is known which disk it is."""
        return self.id <= NODE_ID_MAX


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """A placement of all partitions. Immutable; exchanged and stored as msgpack."""

    epoch: int
    replication: int
    members: tuple[Member, ...]
    """Sorted by URL; the table refers to them by index."""
    table: tuple[tuple[int, ...], ...]
    """For each partition, the indices of its replicas, in order of preference."""
    voters: tuple[int, ...]
    """The ids of the members that decide the next layout."""
    cluster: bytes = b""
    """Its id, in all layouts but the first: 8 bytes of the hash of that one, and 8 drawn by who
    made the second."""

    @property
    def lineage(self) -> bytes:
        """The id of the cluster, or the first half of it if this is the cluster's first layout."""
        return self.cluster or self.hash()[: CLUSTER_BYTES // 2]

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
        return hashlib.blake2b(self.encode(), digest_size=HASH_BYTES).digest()


def decode_layout(data: bytes) -> Layout:
    """The layout of `encode`d bytes. msgspec.DecodeError or ValueError if they are not one."""
    if len(data) > LAYOUT_BYTES_MAX:
        raise ValueError("a layout that fits into no greeting")
    layout = msgspec.msgpack.decode(data, type=Layout)
    members, table = layout.members, layout.table
    count = min(layout.replication, len(members))
    if not FIRST_EPOCH <= layout.epoch <= EPOCH_MAX or len(table) != PARTITION_COUNT or count < 1:
        raise ValueError("a layout needs an epoch, every partition and at least one node")
    if not all([_order(one) < _order(other) for one, other in pairwise(members)]):
        raise ValueError("the members of a layout are distinct and sorted")
    _check_ids(layout)
    indices = set(range(len(members)))
    for row in set(table):
        if not (len(row) == len(set(row)) == count and indices.issuperset(row)):
            raise ValueError("a partition must list distinct nodes of the layout")
    return layout


def _check_ids(layout: Layout) -> None:
    """ValueError unless each member is named as it may be at this epoch, and known ones vote."""
    is_first = layout.epoch == FIRST_EPOCH
    if len(layout.cluster) != (0 if is_first else CLUSTER_BYTES):
        raise ValueError("every layout but the first names its cluster")
    for member in layout.members:
        may_be_bound = not is_first and 0 < member.id <= NODE_ID_MAX
        if not may_be_bound and member.id != unmet_id(member.url):
            raise ValueError("a member that is named neither by its disk nor by its URL")
    ids = {member.id for member in layout.members}
    voters = set(layout.voters)
    if len(ids) < len(layout.members) or len(voters) < len(layout.voters):
        raise ValueError("two members of one id")
    may_vote = ids if is_first else {each.id for each in layout.members if each.is_bound}
    if not voters or not voters <= may_vote:
        raise ValueError("the voters of a layout are members of it that were met")


def first_layout(urls: Sequence[str], *, replication: int) -> Layout:
    """The layout that every node started with the same list computes, whatever its order."""
    founders = [Member(unmet_id(url), url) for url in set(urls)]
    return plan_layout(None, founders, replication=replication)


def bound_layout(old: Layout, ids: Mapping[str, int], *, drawn: bytes) -> Layout:
    """The next layout, in which the members at these URLs are the disks of these ids.

    `drawn`: 8 random bytes, which become part of the cluster's id if this is its second layout.
    """
    members = tuple(
        [
            each if each.is_bound else Member(ids.get(each.url, each.id), each.url)
            for each in old.members
        ]
    )
    return msgspec.structs.replace(
        old,
        epoch=old.epoch + 1,
        members=members,
        voters=_voters(members),
        cluster=old.cluster or old.lineage + drawn,
    )


def is_one_cluster(mine: bytes, theirs: bytes) -> bool:
    """Whether two lineages may be of one cluster: one of the two may have no more than the first
    half yet."""
    count = min(len(mine), len(theirs))
    return mine[:count] == theirs[:count]


def descends(old: Layout, new: Layout) -> bool:
    """Whether `new` may be a later layout of the same cluster: all that changes is who is bound."""
    kept = [before.id for before in old.members if before.is_bound]
    placed = [
        after.id for before, after in zip(old.members, new.members, strict=False) if before.is_bound
    ]
    same = (old.replication, old.urls(), old.table) == (new.replication, new.urls(), new.table)
    return same and kept == placed and is_one_cluster(old.lineage, new.lineage)


def follows(old: Layout, new: Layout) -> bool:
    """Whether `new` may be decided after `old`."""
    ids = {each.url: each.id for each in new.members if each.is_bound}
    return new == bound_layout(
        old, ids, drawn=new.cluster[CLUSTER_BYTES // 2 :]
    ) and new.members != (old.members)


def _voters(members: Sequence[Member]) -> tuple[int, ...]:
    return tuple([each.id for each in members if each.is_bound][:VOTERS_MAX])


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
    table = tuple(tuple(row) for row in lists)
    if old is not None:
        return msgspec.structs.replace(
            old,
            epoch=old.epoch + 1,
            replication=replication,
            members=members,
            table=table,
            voters=_voters(members),
        )
    voters = tuple([each.id for each in members])
    return Layout(FIRST_EPOCH, replication, members, table, voters)


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
