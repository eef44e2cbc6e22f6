# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes hold each partition: a numbered table that is data, not something to recompute.

The layouts of a cluster are a log: its first is what every founder computes of the list in
`-nodes`, which knows URLs only; each later one is decided once, by the voters that the one before
names (`exchanges.changes`); what may come next says `steps`. The second says which disks the
founders are (*binding*): from then on a replica is an id, wherever it is, and a disk that no layout
names is none. Each layout is complete, so who has the newest needs no other.

For example: `-nodes` lists A, B and C. The first layout says "partition 5 is on what is at A, B and
C". A and B meet, and decide the second: "partition 5 is on disk 17, on disk 23, and on what is at
C". When C comes, the third one says which disk that is.

A layout is *stable*, or *joint*: then some partitions have two rows, who holds them and who shall,
and need the quorums of both. For example: partition 5 is on 17, 23 and 42, and moves to 17, 23 and
99. Then a write needs two of the first three and two of the second three.

Invariants: a row lists distinct nodes, and its next one differs in one node at most; two equal
layouts have equal hashes, whatever the releases that made them. Liveness never enters here.
"""

from __future__ import annotations

import enum
import hashlib
from collections import Counter
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from quorate.core.topology.admission import Spent, check_spent
from quorate.core.topology.planner import Site, plan
from quorate.core.values.settings import NODE_ID_MAX
from quorate.core.values.slots import PARTITION_COUNT
from quorate.errors import FormatUnsupported

FIRST_EPOCH: Final = 1
EPOCH_MAX: Final = 1 << 32
RECOVERY_EPOCHS: Final = 1 << 20
"""A layout that was not voted on (`steps.recovered`) has the next multiple of this as its epoch, so
that it is above all that those who were given up may still decide."""
LAYOUT_BYTES_MAX: Final = 240 << 10
"""Encoded: what fits into a greeting, so that who adopts it can still greet. Three replicas on ten
nodes take 5 kB, 64 on 1,000 nodes 210 kB."""
MOVES_MAX: Final = 64
"""Partitions that move in one joint layout."""
VOTERS_MAX: Final = 7
"""Of a layout; with more members than that, seven of them vote. Of the first layout all founders
do: it names no disks, and disks may change places."""
WEIGHT_MAX: Final = 1000
ZONE_CHARS_MAX: Final = 64
CLUSTER_BYTES: Final = 16
HASH_BYTES: Final = 16
FIRST_LEVEL: Final = 1
_ID_BYTES: Final = 6

Row = tuple[int, ...]
"""Who holds a partition: indices of members, in order of preference."""


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
    zone: str = ""
    """Copies of a key lie in different zones where that can be."""
    weight: int = 1
    """Its share of the copies, beside those of the others; 0 if it is to hold none."""

    @property
    def is_bound(self) -> bool:
        """Whether it is known which disk it is."""
        return self.id <= NODE_ID_MAX


class Course(enum.IntEnum):
    """Whether copies are brought to where they belong by the members' weights and zones."""

    REST = 0
    """They stay where they are."""
    SOON = 1
    """A node joined: they will be, unless others join first."""
    MOVE = 2
    """They are, some partitions at a time."""


class Layout(msgspec.Struct, frozen=True, array_like=True):
    """A placement of all partitions. Immutable; exchanged and stored as msgpack."""

    epoch: int
    replication: int
    members: tuple[Member, ...]
    """Sorted by URL, then by id; the table refers to them by index."""
    table: tuple[Row, ...]
    """Who holds each partition."""
    voters: tuple[int, ...]
    """The ids of the members that decide the next layout."""
    cluster: bytes = b""
    """Its id, in all layouts but the first: 8 bytes of the hash of that one, and 8 drawn by who
    made the second."""
    moves: tuple[tuple[int, Row], ...] = ()
    """The partitions that move, ascending, each with who shall hold it. Empty: it is stable."""
    lost: tuple[int, ...] = ()
    """The ids of members whose disk is lost: nobody waits for what they have."""
    course: int = Course.REST
    level: int = FIRST_LEVEL
    """The feature level in force: what newer releases do that older ones do not know, all do from
    its level on, and none before. It only rises (`steps.raised`)."""
    spent: Spent = ()
    """The join tokens that were used and are not over yet."""

    @property
    def recovery(self) -> int:
        """How often the cluster went on without a majority of its voters."""
        return self.epoch // RECOVERY_EPOCHS

    @property
    def lineage(self) -> bytes:
        """The id of the cluster, or the first half of it if this is the cluster's first layout."""
        return self.cluster or self.hash()[: CLUSTER_BYTES // 2]

    def replicas(self, partition: int) -> list[int]:
        """The ids of those that hold the partition, in order of preference."""
        return [self.members[index].id for index in self.table[partition]]

    def ids(self, row: Row) -> list[int]:
        """The ids of a row."""
        return [self.members[index].id for index in row]

    def copies(self) -> dict[int, int]:
        """How many partitions each member holds, by its id."""
        counts = Counter(index for row in self.table for index in row)
        return {member.id: counts[index] for index, member in enumerate(self.members)}

    def gaining(self, node_id: int) -> list[int]:
        """The partitions that this member has yet to get from others, ascending: those it does not
        hold, and if a row becomes shorter all that are left in it, as what the longer one has was
        acknowledged by fewer of them."""
        found = []
        for partition, row in self.moves:
            held = self.table[partition]
            if node_id in self.ids(row) and (node_id not in self.ids(held) or len(row) < len(held)):
                found.append(partition)
        return found

    def gainers(self) -> set[int]:
        """The ids of those that have yet to get copies. A founder that was never met is none: it
        keeps its place in a row that becomes shorter, and nobody asks it for anything."""
        found: set[int] = set()
        for partition, row in self.moves:
            held = self.table[partition]
            found.update(row if len(row) < len(held) else set(row) - set(held))
        return {each.id for each in map(self.members.__getitem__, found) if each.is_bound}

    def member(self, node_id: int) -> Member | None:
        """The member of this id."""
        for each in self.members:
            if each.id == node_id:
                return each
        return None

    def is_news_after(self, before: Layout) -> bool:
        """Whether an operator wants to know: of a course, not of each of its steps."""
        return (self.members, self.course, self.replication, self.lost) != (
            before.members,
            before.course,
            before.replication,
            before.lost,
        )

    def urls(self) -> list[str]:
        """Where the members were when it was made."""
        return [member.url for member in self.members]

    def name_of(self, node_id: int, url: str) -> str:
        """What an operator calls the member that is at a URL: that, but its id where a lost disk
        was at the URL, which means the lost one then."""
        is_lost = node_id in self.lost
        if is_lost or not any([each.url == url and each.id in self.lost for each in self.members]):
            return url
        return f"{node_id:012x}"

    def encode(self) -> bytes:
        """The layout as bytes, the same on every node. A field that came after `course` is left
        out while it and all behind it are as they are by default: thus a release that does not
        know it, and cannot, as it is used from its level on, writes the same bytes."""
        fields = msgspec.structs.astuple(self)
        defaults = self.__struct_defaults__
        while len(fields) > _FIELDS_AT_FIRST and fields[-1] == defaults[len(fields) - 1 - _NEEDED]:
            fields = fields[:-1]
        return msgspec.msgpack.encode(fields)

    def hash(self) -> bytes:
        """16 bytes that are equal if and only if the layouts are."""
        return hashlib.blake2b(self.encode(), digest_size=HASH_BYTES).digest()


_FIELDS_AT_FIRST: Final = Layout.__struct_fields__.index("course") + 1
_NEEDED: Final = len(Layout.__struct_fields__) - len(Layout.__struct_defaults__)
"""Fields without a default."""


def check_known(layout: Layout, data: bytes, *, level: int) -> None:
    """Whether all that a layout says was understood, which `data` is the bytes of. `level` is the
    highest feature level that this node knows: FormatUnsupported if the layout's is higher.
    ValueError for fields that no such level has: who adopted the rest could not pass them on."""
    if layout.level > level:
        raise FormatUnsupported(
            "the cluster's feature level is one that this release does not know: start a newer "
            "one, which finds all that is here",
            found=layout.level,
            supported=level,
        )
    if len(data) > len(layout.encode()):
        raise ValueError("a layout with fields that its feature level does not have")


def decode_layout(data: bytes) -> Layout:
    """The layout of `encode`d bytes. msgspec.DecodeError or ValueError if they are not one."""
    if len(data) > LAYOUT_BYTES_MAX:
        raise ValueError("a layout that fits into no greeting")
    layout = msgspec.msgpack.decode(data, type=Layout)
    members, table = layout.members, layout.table
    if not FIRST_EPOCH <= layout.epoch <= EPOCH_MAX or len(table) != PARTITION_COUNT:
        raise ValueError("a layout needs an epoch and every partition")
    is_placed = members and layout.replication >= 1 and layout.course in list(Course)
    if not is_placed or layout.level < FIRST_LEVEL:
        raise ValueError("a layout needs at least one node, and copies")
    if not all([order(one) < order(other) for one, other in pairwise(members)]):
        raise ValueError("the members of a layout are distinct and sorted")
    _check_members(layout)
    indices = set(range(len(members)))
    for row in set(table):
        if not (row and len(row) == len(set(row)) and indices.issuperset(row)):
            raise ValueError("a partition must list distinct nodes of the layout")
    _check_moves(layout)
    check_spent(layout.spent)
    return layout


def _check_members(layout: Layout) -> None:
    """ValueError unless each member is named as it may be at this epoch, and known ones vote."""
    is_first = layout.epoch == FIRST_EPOCH
    if len(layout.cluster) != (0 if is_first else CLUSTER_BYTES):
        raise ValueError("every layout but the first names its cluster")
    for member in layout.members:
        may_be_bound = not is_first and 0 < member.id <= NODE_ID_MAX
        if not may_be_bound and member.id != unmet_id(member.url):
            raise ValueError("a member that is named neither by its disk nor by its URL")
        if not 0 <= member.weight <= WEIGHT_MAX or len(member.zone) > ZONE_CHARS_MAX:
            raise ValueError("a member of no such weight, or of no such zone")
    ids = {member.id for member in layout.members}
    voters = set(layout.voters)
    if len(ids) < len(layout.members) or len(voters) < len(layout.voters):
        raise ValueError("two members of one id")
    may_vote = ids if is_first else {each.id for each in layout.members if each.is_bound}
    if not voters or not voters <= may_vote:
        raise ValueError("the voters of a layout are members of it that were met")
    leaving = {each.id for each in layout.members if not each.weight}
    if not set(layout.lost) <= leaving or leaving == ids:
        raise ValueError("who is lost is to hold nothing, and somebody is to hold something")


def _check_moves(layout: Layout) -> None:
    """ValueError unless each row moves by one node at most, to one that is to hold something."""
    members, partitions = layout.members, [partition for partition, _ in layout.moves]
    is_sorted = all([one < other for one, other in pairwise(partitions)])
    if not is_sorted or len(partitions) > MOVES_MAX or not set(partitions) <= _PARTITIONS:
        raise ValueError("too many partitions that move, or one that is none")
    indices = set(range(len(members)))
    for partition, row in layout.moves:
        before, after = set(layout.table[partition]), set(row)
        if not (after and len(after) == len(row) and indices.issuperset(after)):
            raise ValueError("a partition must move to distinct nodes of the layout")
        gained, given = after - before, before - after
        if not gained | given or len(gained) > 1 or len(given) > 1:
            raise ValueError("a partition moves from one node to one other")
        if not all([members[index].weight for index in gained]):
            raise ValueError("a partition moves to who is to hold something")


_PARTITIONS: Final = frozenset(range(PARTITION_COUNT))


def is_one_cluster(mine: bytes, theirs: bytes) -> bool:
    """Whether two lineages may be of one cluster: one of the two may have no more than the first
    half yet."""
    count = min(len(mine), len(theirs))
    return mine[:count] == theirs[:count]


def order(member: Member) -> tuple[str, int]:
    """By which the members of a layout are sorted."""
    return member.url, member.id


def voters_of(members: Sequence[Member], lost: Container[int]) -> tuple[int, ...]:
    """Who decides what follows a layout of these members: those that are met and stay, and where
    these are two, one that leaves and whose disk is not lost, as two can do without none. Example:
    of three, one leaves and the disk of another is lost; the third alone could decide nothing. Who
    stays alone decides alone: it would wait for one that leaves and is switched off."""
    able = [each for each in members if each.is_bound and each.id not in lost]
    staying = [each.id for each in able if each.weight]
    leaving = [each.id for each in able if not each.weight]
    if len(staying) == 2:
        staying += leaving[:1]
    return tuple((staying or leaving)[:VOTERS_MAX])


def first_layout(urls: Sequence[str], *, replication: int) -> Layout:
    """The layout that every node started with the same list computes, whatever its order."""
    members = tuple([Member(unmet_id(url), url) for url in sorted(set(urls))])
    sites = [Site(each.zone, each.weight) for each in members]
    table = plan([()] * PARTITION_COUNT, sites, replication=replication)
    voters = tuple([each.id for each in members])
    return Layout(FIRST_EPOCH, replication, members, tuple(table), voters)


def is_founded_by(layout: Layout, urls: Sequence[str], *, replication: int) -> bool:
    """Whether what nodes with this list compute is the first layout of this one's cluster."""
    first = first_layout(urls, replication=replication)
    return layout.lineage.startswith(first.lineage)
