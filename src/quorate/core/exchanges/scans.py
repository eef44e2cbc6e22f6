# SPDX-License-Identifier: GPL-3.0-or-later
"""What replicas hold, without its values: a page of keys.

For a page each partition is asked of R replicas and their rows are merged, newest wins. In place of
one that is late, or lost, another is asked, and for the rest of the page others first.

A scan goes through the partitions in order, a chunk at a time in parallel, and ends at its limit.
It gets one chunk further in a step, so that a long one, over tombstones say, holds up nobody.
Rows written while it runs may or may not be listed; a row that was there throughout is, if
R + W > N and no partition was short of answers (`complete`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent
from quorate.core.replica import Replica
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import Groups, Topology, lacking
from quorate.core.turn import Alarm, Begun, Parts
from quorate.core.values.events import (
    SCAN_ROWS_MAX,
    LocalScan,
    Result,
    Scan,
    ScanResult,
)
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.record import Record
from quorate.core.values.slots import PARTITION_COUNT
from quorate.errors import DeadlineExceeded, InvalidRequest, StorageError

CHUNK: Final = 16
"""Partitions asked at once, if they have few rows."""
CHUNK_ROWS: Final = 100 * CHUNK
"""Shared by the partitions that are asked at once. Few, so that a scan holds up no other request
for long."""
EXAMINED_MAX: Final = 2 * SCAN_ROWS_MAX
"""Rows, dead ones too, after which a page ends with what it has. A page for ten keys would go
through all that was ever deleted before them."""
CHUNKS_PER_STEP: Final = 4
"""Of all scans together, pages of the node's own keys too. Other scans wait for the next step."""
LOCAL_PARTITIONS_MAX: Final = 64
"""Looked through for one page of this node's own keys, which is made in one step."""
LATE_MS: Final = 200
"""After so long another replica is asked: many times what an answer takes, which has rows in it."""
_KEYSPACE: Final = b"\0\0"


def local_rows(
    replica: Replica, partition: int, *, after: bytes, prefix: bytes, limit: int, room: int = 0
) -> ScannedRows:
    """Up to `limit` rows of this node's copy of a partition, `failed` if the first is damaged, with
    the records of the first until these have `room` bytes or more."""
    first = partition.to_bytes(2, "big") + _KEYSPACE + prefix
    start = max(first, after + b"\0") if after else first
    rows: list[ScannedRow] = []
    records: list[Record] = []
    try:
        for row, record in replica.scan(start, _past(first)):
            if len(rows) == limit:
                return ScannedRows(0, rows, more=True, records=records)
            live = not record.is_tombstone
            rows.append(ScannedRow(row, record.version, live, record.expires_ms))
            if room > 0:
                records.append(record)
                room -= record.size
    except StorageError:
        # What is before the damage can be told. Whoever asks for what follows it is told.
        return ScannedRows(0, rows, more=bool(rows), failed=not rows, records=records)
    return ScannedRows(0, rows, more=False, records=records)


def _past(prefix: bytes) -> bytes:
    """The first byte string after all that begin with `prefix`, which is not all 0xff."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])


class Listing(Begun):
    """A scan under way: the rows so far, and the answers to the chunk that was asked."""

    __slots__ = (
        "answers",
        "asked",
        "chunk",
        "complete",
        "event",
        "examined",
        "late",
        "limit",
        "pending",
        "position",
        "rows",
        "short",
        "span",
        "told",
        "topology",
    )

    def __init__(self, event: Scan, topology: Topology) -> None:
        super().__init__(event.waiter, 0)
        self.event = event
        self.topology = topology
        self.limit = min(event.limit, SCAN_ROWS_MAX)
        self.position = event.cursor
        """Rows up to and including it are done. Empty at the beginning, and at the end."""
        self.examined = 0
        """Rows that replicas listed, each partition's counted once."""
        self.rows: list[ScannedRow] = []
        self.complete = True
        self.answers: dict[int, list[ScannedRows]] = {}
        """To the chunk that was asked, by partition."""
        self.told: dict[int, int] = {}
        """The replicas that gave them."""
        self.asked: dict[int, int] = {}
        """The replicas that were asked."""
        self.short: set[int] = set()
        """Partitions for which too few have answered."""
        self.chunk = 0
        """Which chunk is asked; what comes of another is not waited for any more."""
        self.late = 0
        """The replicas that were late."""
        self.pending = 0
        self.span = CHUNK
        """Partitions to ask at once: one if a chunk ended inside a partition, then more and more.
        What the others of such a chunk listed was listed in vain."""

    def groups(self, partition: int) -> Groups:
        """Who must answer for a partition: all of its replicas, should there be fewer by now than
        it asked for."""
        replicas, r = self.topology.partitions[partition], self.event.r
        return replicas.asked(min(r, replicas.least), name="r") if r else replicas.readers

    def take(self, partition: int, bit: int, told: ScannedRows) -> None:
        """Note what a replica lists of a partition, unless that is nothing to go by."""
        if partition in self.answers and not told.failed and (told.rows or not told.more):
            self.answers[partition].append(told)
            self.told[partition] |= bit
            if not lacking(self.told[partition], self.groups(partition)):
                self.short.discard(partition)

    def expired(self) -> Result:
        if self.position == self.event.cursor:
            return DeadlineExceeded("the scan did not come forward in time")
        # Else a partition full of tombstones could never be passed.
        return ScanResult(self.rows, self.position, self.complete)


class Scans:
    """All scans that this node coordinates; the exchange that asks."""

    __slots__ = (
        "_going_on",
        "_membership",
        "_outboxes",
        "_ready",
        "_replica",
        "_requests",
        "_timeout_ms",
        "_turn",
        "_waiting",
        "_wakening",
    )

    def __init__(self, parts: Parts, membership: Membership, outboxes: list[Outbox]) -> None:
        self._membership = membership
        self._waiting: deque[tuple[int, Listing, int]] = deque()
        """Chunks that were asked of peers, oldest first, and when to ask others."""
        self._wakening = Alarm(parts.turn, self._look_for_late)
        self._going_on = Alarm(parts.turn, self._go_on)
        self._outboxes = outboxes
        self._ready: deque[Listing | LocalScan] = deque()
        """Those that can go on: whose chunk is complete, or that have just begun."""
        self._replica = parts.replica
        self._requests = parts.requests
        self._turn = parts.turn
        self._timeout_ms = parts.settings.timeout_ms

    def begin(self, event: Scan) -> None:
        """Begin an admitted scan. InvalidRequest for a bad limit, cursor or R."""
        listing = Listing(event, self._membership.current())
        _check(event.limit, event.cursor)
        if event.r:
            listing.topology.partitions[0].asked(event.r, name="r")
        self._requests.watch(listing, event.timeout_ms or self._timeout_ms)
        self._make_ready(listing)

    def begin_local(self, event: LocalScan) -> None:
        """Begin an admitted scan of this node's own keys. InvalidRequest for what cannot be."""
        _check(event.limit, event.cursor)
        self._make_ready(event)

    def _make_ready(self, scan: Listing | LocalScan) -> None:
        self._ready.append(scan)
        self._going_on.soon()

    def _go_on(self) -> None:
        """Take some scans that are ready one chunk further."""
        ready = self._ready
        for _ in range(min(len(ready), CHUNKS_PER_STEP)):
            scan = ready.popleft()
            if isinstance(scan, LocalScan):
                self._requests.answer(scan.waiter, self._local(scan), 0)
            elif scan.waiter is not None:
                self._take_chunk(scan)
        if ready:
            self._going_on.soon()

    def _local(self, event: LocalScan) -> ScanResult:
        """Keys of at most LOCAL_PARTITIONS_MAX partitions, and at most the limit, tombstones
        counted."""
        position = event.cursor
        limit = min(event.limit, SCAN_ROWS_MAX)
        rows: list[ScannedRow] = []
        complete = True
        first = _partition_at(position)
        last = min(first + LOCAL_PARTITIONS_MAX, PARTITION_COUNT)
        for partition in range(first, last):
            after = position if partition == first else b""
            told = local_rows(
                self._replica,
                partition,
                after=after,
                prefix=event.prefix,
                limit=limit - len(rows),
            )
            rows += told.rows
            complete = complete and not told.failed
            if told.more or len(rows) >= limit:
                return ScanResult(self._live(rows), rows[-1].row, complete)
        return ScanResult(self._live(rows), _end_of(last - 1), complete)

    # --- asking ----------------------------------------------------------------------------

    def _ask_chunk(self, listing: Listing) -> None:
        first = _partition_at(listing.position)
        last = min(first + listing.span, PARTITION_COUNT)
        listing.answers = {partition: [] for partition in range(first, last)}
        listing.told = dict.fromkeys(range(first, last), 0)
        listing.asked = dict.fromkeys(range(first, last), 0)
        listing.short = set(range(first, last))
        # Held at one until all are asked, so that local answers do not end the chunk too early.
        listing.pending = 1
        for partition in range(first, last):
            self._ask(listing, partition)
        if listing.pending > 1:
            self._wait(listing)
        self._told(listing)

    def _ask(self, listing: Listing, partition: int) -> None:
        after, limit = _after(listing, partition), _limit_of(listing)
        prefix = listing.event.prefix
        replicas = listing.topology.partitions[partition]
        groups = listing.groups(partition)
        counts = self._membership.marks.counts or not replicas.overlaps(groups)
        if replicas.is_mine and counts:
            told = local_rows(self._replica, partition, after=after, prefix=prefix, limit=limit)
            listing.take(partition, OWN_BIT, told)
        chosen = replicas.fastest(listing.told[partition], groups, are_brief=False)
        for peer in chosen:
            listing.asked[partition] |= peer.bit
        for peer in chosen:
            if not peer.bit & listing.late or not self._ask_others(listing, partition, peer.bit):
                self._send(listing, partition, peer)
            else:
                listing.asked[partition] &= ~peer.bit

    def _send(self, listing: Listing, partition: int, peer: Peer) -> None:
        outbox = self._outboxes[peer.index]
        op = (listing, partition, listing.chunk)
        sent = Sent(outbox, self, ScannedRows, [op], ITEM_BYTES)
        after, limit = _after(listing, partition), _limit_of(listing)
        outbox.send(sent, ScanRows(sent.batch, partition, after, listing.event.prefix, limit))
        listing.asked[partition] |= peer.bit
        listing.pending += 1

    def _ask_others(self, listing: Listing, partition: int, bit: int) -> bool:
        """In place of a replica that is late or lost ask another one in each group that it was in;
        whether all these have one."""
        replicas, told = listing.topology.partitions[partition], listing.told[partition]
        groups = listing.groups(partition)
        vacant = [each for each in groups if each.mask & bit and lacking(told, (each,))]
        last = sorted(replicas.others, key=lambda each: bool(each.bit & listing.late))
        for peer in last if vacant else ():
            is_new = not peer.bit & (listing.asked[partition] | bit)
            rest = [group for group in vacant if not group.mask & peer.bit]
            if is_new and peer.is_reachable and len(rest) < len(vacant):
                vacant = rest
                self._send(listing, partition, peer)
        return not vacant

    # --- waiting ---------------------------------------------------------------------------

    def _wait(self, listing: Listing) -> None:
        due_ms = self._turn.mono_ms + LATE_MS
        self._waiting.append((due_ms, listing, listing.chunk))
        self._wakening.at(self._waiting[0][0])

    def _look_for_late(self) -> None:
        """Ask others in place of peers that have not answered by now."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= self._turn.mono_ms:
            _, listing, chunk = waiting.popleft()
            if listing.waiter is not None and listing.chunk == chunk:
                self._hedge(listing)
        if waiting:
            self._wakening.at(waiting[0][0])

    def _hedge(self, listing: Listing) -> None:
        pending = listing.pending
        for partition in sorted(listing.short):
            late = listing.asked[partition] & ~listing.told[partition]
            for peer in listing.topology.partitions[partition].others:
                if peer.bit & late:
                    listing.late |= peer.bit
                    self._ask_others(listing, partition, peer.bit)
        if listing.pending > pending:
            self._turn.counters["reads_hedged"] += 1
            self._wait(listing)

    # --- hearing ---------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[_AskedChunk], answer: ScannedRows) -> None:
        """A replica listed its rows of one partition."""
        for listing, partition, chunk in ops:
            if listing.chunk == chunk:
                listing.take(partition, peer.bit, answer)
                if not listing.told[partition] & peer.bit and listing.waiter is not None:
                    self._ask_others(listing, partition, peer.bit)
                self._told(listing)

    def lost(self, peer: Peer, ops: list[_AskedChunk]) -> None:
        """A replica did not answer: ask another, or that partition is short of one."""
        for listing, partition, chunk in ops:
            if listing.chunk == chunk:
                if listing.waiter is not None:
                    self._ask_others(listing, partition, peer.bit)
                self._told(listing)

    def _told(self, listing: Listing) -> None:
        listing.pending -= 1
        if not listing.pending or not listing.short:
            listing.chunk += 1
            self._make_ready(listing)

    def _take_chunk(self, listing: Listing) -> None:
        topology = self._membership.current()
        if listing.topology is not topology:
            # What came is of another layout.
            listing.topology = topology
            self._ask_chunk(listing)
            return
        for answers in listing.answers.values():
            listing.examined += max([len(told.rows) for told in answers], default=0)
        listing.span = min(listing.span * 2, CHUNK)
        is_over = False
        for partition, answers in listing.answers.items():
            if lacking(listing.told[partition], listing.groups(partition)):
                listing.complete = False
            if self._merge(listing, partition, answers):
                listing.span = 1
                break
            is_over = listing.position == b""
        is_full = len(listing.rows) >= listing.limit or listing.examined >= EXAMINED_MAX
        if is_full or is_over:
            result = ScanResult(listing.rows, listing.position, listing.complete)
            self._requests.end(listing, result)
        else:
            self._ask_chunk(listing)

    def _merge(self, listing: Listing, partition: int, answers: list[ScannedRows]) -> bool:
        """Add the partition's rows and move the position. True if the chunk must end here."""
        merged: dict[bytes, ScannedRow] = {}
        for told in answers:
            for each in told.rows:
                known = merged.get(each.row)
                if known is None or each.version > known.version:
                    merged[each.row] = each
        # Past the last row of a cut answer, that replica has not spoken yet.
        bound = min((told.rows[-1].row for told in answers if told.more), default=None)
        rows = [merged[row] for row in sorted(merged) if bound is None or row <= bound]
        room = listing.limit - len(listing.rows)
        live = self._live(rows, expired=listing.event.expired)
        listing.rows += live[:room]
        if len(live) >= room:
            listing.position = listing.rows[-1].row
        elif bound is not None:
            listing.position = bound
        else:
            listing.position = _end_of(partition)
            return False
        return True

    def _live(self, rows: list[ScannedRow], *, expired: bool = False) -> list[ScannedRow]:
        if expired:
            return [each for each in rows if each.live]
        now = self._turn.wall_ms
        return [each for each in rows if each.is_live(wall_ms=now)]


_AskedChunk = tuple[Listing, int, int]
"""A partition, and in which chunk it was asked."""


def _after(listing: Listing, partition: int) -> bytes:
    """Behind what row it is to be listed; empty: from its first."""
    return listing.position if partition == _partition_at(listing.position) else b""


def _limit_of(listing: Listing) -> int:
    """How many rows of each partition of its chunk."""
    return min(CHUNK_ROWS // listing.span, SCAN_ROWS_MAX)


def _check(limit: int, cursor: bytes) -> None:
    if limit < 1:
        raise InvalidRequest("limit must be at least 1", given=limit)
    if cursor and (len(cursor) < 2 or _partition_at(cursor) >= PARTITION_COUNT):
        raise InvalidRequest("not a cursor of this store")


def _partition_at(position: bytes) -> int:
    return int.from_bytes(position[:2], "big")


def _end_of(partition: int) -> bytes:
    """A position past every row of the partition: the bare prefix of the next; empty at the end."""
    following = partition + 1
    return following.to_bytes(2, "big") if following < PARTITION_COUNT else b""
