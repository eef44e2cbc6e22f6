# SPDX-License-Identifier: GPL-3.0-or-later
"""Layouts of a cluster whose copies move, and one real node (0) of it; its peers are the test."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import count as numbers
from typing import Any

import msgspec

from quorate.core.exchanges.outbox import MESSAGE_BYTES_MAX
from quorate.core.exchanges.pulls import PAGE_ROWS_MAX
from quorate.core.moved_votes import ToldVote
from quorate.core.topology.layout import Course, Layout, Member
from quorate.core.topology.steps import changed, stepped
from quorate.core.values.messages import (
    OtherEpoch,
    Pull,
    PulledVotes,
    Read,
    ReadAnswer,
    ScannedRow,
    ScannedRows,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_bounds, partition_of, row_of
from quorate.sim.cluster import founded, id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.founders import disk_of

replace = msgspec.structs.replace


def stable(count: int = 4, *, replication: int = 3, course: Course = Course.MOVE) -> Layout:
    """A layout of nodes 0 to `count`, all of them bound; a member's index is its node's."""
    members = tuple([(url_of(index), id_of(index)) for index in range(count)])
    return replace(founded(members, replication), course=course)


def without(layout: Layout, *indices: int) -> list[int]:
    """The partitions that none of these members holds."""
    return [each for each, row in enumerate(layout.table) if not set(indices) & set(row)]


def held_by(layout: Layout, *indices: int) -> list[int]:
    """The partitions that all of these members hold."""
    return [each for each, row in enumerate(layout.table) if set(indices) <= set(row)]


def swapped(layout: Layout, partition: int, old: int, new: int) -> tuple[int, ...]:
    """A partition's row with one member in the place of another."""
    return tuple([new if index == old else index for index in layout.table[partition]])


def later(layout: Layout, epochs: int = 1, **fields: Any) -> Layout:
    """The layout some epochs on."""
    return replace(layout, epoch=layout.epoch + epochs, **fields)


def recopied(count: int, old: int, new: int) -> Layout:
    """The layout, some steps on, of a cluster that had `old` copies of each key, and has `new`."""
    table = stable(count, replication=new).table
    return later(stable(count, replication=old), 9, replication=new, table=table)


def shared(old: Layout, *indices: int, lost: tuple[int, ...] = ()) -> Layout:
    """What follows when these members are to hold nothing, some as their disks are lost."""
    members = [replace(m, weight=0) if i in indices else m for i, m in enumerate(old.members)]
    ids = [id_of(index) for index in lost]
    return changed(old, members, replication=old.replication, lost=ids, course=Course.MOVE)


def with_member(old: Layout, member: Member) -> Layout:
    """What follows when there is one member more."""
    return changed(
        old, [*old.members, member], replication=old.replication, lost=old.lost, course=Course.SOON
    )


def gaining(layout: Layout, *partitions: int, leaver: int = 3) -> Layout:
    """What follows when node 0 takes these partitions of another."""
    return stepped(layout, {each: swapped(layout, each, leaver, 0) for each in partitions})


# --- one node ----------------------------------------------------------------------------------


def node(
    layout: Layout | None = None,
    *,
    count: int = 4,
    layout_of: Layout | None = None,
    disk: Disk | None = None,
    **settings: Any,
) -> Alone:
    """Node 0 of `count`, linked to all others, that had the layout `layout_of` when it started, or
    this disk; then it hears of `layout`, if any is given."""
    disk = disk or disk_of(layout_of or stable(count))
    # No heartbeat comes between.
    alone = Alone(count, disk=disk, heartbeat_ms=3_600_000, **settings)
    alone.link(*range(1, count))
    if layout is not None:
        hear(alone, layout)
    return alone


def hear(alone: Alone, layout: Layout) -> None:
    """Hear of a layout by peer 1; nobody else proposes or answers anything."""
    alone.hear(1, OtherEpoch(layout.epoch, [], layout.encode()), epoch=layout.epoch)
    assert alone.node.membership.layout == layout


def settle(alone: Alone) -> None:
    """Take the steps that are due now."""
    while alone.wake_ms is not None and alone.wake_ms <= alone.mono_ms:
        alone.step()


@functools.cache
def keys_in(partition: int, count: int) -> tuple[bytes, ...]:
    """So many keys of a partition, in the order of their rows."""
    tag = next(tag for n in numbers() if partition_of(row_of(tag := b"{%d}" % n)) == partition)
    return tuple([tag + b"%06d" % n for n in range(count)])


def rows_in(partition: int, count: int) -> tuple[bytes, ...]:
    """So many rows of a partition, in order."""
    return tuple([row_of(key) for key in keys_in(partition, count)])


class Source:
    """A peer that holds rows and tells of them, as the node would; what is damaged it cannot."""

    def __init__(
        self,
        alone: Alone,
        index: int,
        held: Mapping[bytes, Record],
        *,
        page: int = PAGE_ROWS_MAX,
        room: int = MESSAGE_BYTES_MAX,
        fence: tuple[int, int] = (0, 0),
    ) -> None:
        self.alone = alone
        self.index = index
        self.held = dict(held)
        self.page = page
        """How many rows it tells at once."""
        self.room = room
        """So many bytes of their records, or a little more, if it is asked for these, too."""
        self.fence = fence
        """Its lock and horizon."""
        self.damaged: set[bytes] = set()
        self.votes: list[ToldVote] = []
        """In order."""
        self.votes_asked: list[Pull] = []
        self.is_silent_on_votes = False
        self.are_votes_damaged = False
        self.pulls: list[Pull] = []
        self.read: list[bytes] = []
        """The rows whose records it was asked for."""

    def answer(self) -> bool:
        """Answer all that was asked; whether anything was."""
        asked = self.alone.take(self.index, Pull)
        reads = self.alone.take(self.index, Read)
        for pull in asked:
            if pull.base is not None:
                self.votes_asked.append(pull)
                if not self.is_silent_on_votes:
                    self.alone.hear(self.index, self.told(pull, pull.base))
                continue
            self.pulls.append(pull)
            self.alone.hear(self.index, self.listed(pull))
        for read in reads:
            self.read += read.full
            for piece in self.sent(read):
                self.alone.hear(self.index, piece)
        return bool(asked or reads)

    def listed(self, pull: Pull) -> ScannedRows:
        """What it answers to a question for rows."""
        rows: list[ScannedRow] = []
        records: list[Record] = []
        room = self.room if pull.is_full else 0
        for row, record in sorted(self.held.items()):
            if partition_of(row) != pull.partition or row <= pull.after:
                continue
            if row in self.damaged:
                return ScannedRows(pull.batch, rows, bool(rows), not rows, *self.fence, records)
            if len(rows) == min(pull.limit, self.page):
                return ScannedRows(pull.batch, rows, True, False, *self.fence, records)
            is_live = record.value is not None
            rows.append(ScannedRow(row, record.version, is_live, record.expires_ms))
            if room > 0:
                records.append(record)
                room -= record.size
        return ScannedRows(pull.batch, rows, False, False, *self.fence, records)

    def told(self, pull: Pull, base: bytes) -> PulledVotes:
        """What it answers to a question for votes."""
        if self.are_votes_damaged:
            return PulledVotes(pull.batch, [], more=False, failed=True)
        place = pull.after, base
        wanted = [told for told in self.votes if partition_of(told[0]) == pull.partition]
        behind = [told for told in wanted if (told[0], told[3].base if told[3] else b"") > place]
        return PulledVotes(pull.batch, behind[: self.page], more=len(behind) > self.page)

    def sent(self, read: Read) -> list[ReadAnswer]:
        """What it answers to a question for records: each in a piece of its own."""
        pieces = []
        for row in read.full:
            failed = [row] if row in self.damaged else []
            pieces.append(ReadAnswer(read.batch, [self.held.get(row)], [], failed))
        return pieces


def work(alone: Alone, *sources: Source, ms: int = 60_000) -> None:
    """Let these peers answer all that they are asked, for so long or until nothing is wanting."""
    until_ms = alone.mono_ms + ms
    while alone.node.pulls.left or any(source.answer() for source in sources):
        if any([source.answer() for source in sources]):
            continue
        if alone.wake_ms is None or alone.wake_ms > until_ms:
            return
        alone.step(after_ms=max(alone.wake_ms - alone.mono_ms, 0))


def records_of(*rows: bytes, ms: int = 1, value: bytes | None = b"v") -> dict[bytes, Record]:
    return {row: record_at(ms, value) for row in rows}


def sources_of(
    alone: Alone, held: Mapping[bytes, Record], *indices: int, room: int = MESSAGE_BYTES_MAX
) -> list[Source]:
    """These hold the same."""
    return [Source(alone, index, held, room=room) for index in indices or (1, 2, 3)]


def copy_of(alone: Alone, partition: int) -> dict[bytes, Record]:
    return dict(alone.disk.scan(*partition_bounds(partition)))


def asked_to_list(alone: Alone, count: int = 4) -> dict[int, list[Pull]]:
    """Who was asked to list, and what."""
    asked = {index: alone.take(index, Pull) for index in range(1, count)}
    return {index: pulls for index, pulls in asked.items() if pulls}


def has_pulled(alone: Alone) -> bool:
    layout = alone.node.membership.layout
    assert layout is not None
    return alone.node.pulls.pulled == layout.epoch


OLD = stable()
P, Q = without(OLD, 0)[:2]
"""Partitions that this node does not hold: 1, 2 and 3 do."""
JOINT = gaining(OLD, P)
"""In which it gains the first, and 3 leaves that."""
ROWS = rows_in(P, 40)
