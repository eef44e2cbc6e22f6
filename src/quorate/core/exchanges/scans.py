# SPDX-License-Identifier: GPL-3.0-or-later
"""What replicas hold, without its values: a page of keys, or one key at each of its replicas.

For a page each partition is asked of R replicas and their rows are merged, newest wins.

A scan goes through the partitions in order, a chunk at a time in parallel, and ends at its limit.
It gets one chunk further in a step, so that a long one, over tombstones say, holds up nobody.
Rows written while it runs may or may not be listed; a row that was there throughout is, if
R + W > N and no partition was short of answers (`complete`).

An explanation lists one row at every replica of a key, for people.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent
from quorate.core.replica import Replica
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import Groups, Topology, lacking
from quorate.core.turn import Alarm, Begun, Parts
from quorate.core.values.events import (
    SCAN_ROWS_MAX,
    Explain,
    ExplainResult,
    LocalScan,
    ReplicaView,
    Result,
    Scan,
    ScanResult,
)
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.slots import PARTITION_COUNT, partition_of, row_of, slot_of
from quorate.core.values.versions import ABSENT
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
_KEYSPACE: Final = b"\0\0"
_NOTHING: Final = ScannedRow(b"", ABSENT, live=False, expires_ms=0)


def local_rows(
    replica: Replica, partition: int, *, after: bytes, prefix: bytes, limit: int
) -> ScannedRows:
    """Up to `limit` rows of this node's copy of a partition, `failed` if the first is damaged."""
    first = partition.to_bytes(2, "big") + _KEYSPACE + prefix
    start = max(first, after + b"\0") if after else first
    rows: list[ScannedRow] = []
    try:
        for row, record in replica.scan(start, _past(first)):
            if len(rows) == limit:
                return ScannedRows(0, rows, more=True)
            live = record.value is not None
            rows.append(ScannedRow(row, record.version, live, record.expires_ms))
    except StorageError:
        # What is before the damage can be told. Whoever asks for what follows it is told.
        return ScannedRows(0, rows, more=bool(rows), failed=not rows)
    return ScannedRows(0, rows, more=False)


def _past(prefix: bytes) -> bytes:
    """The first byte string after all that begin with `prefix`, which is not all 0xff."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])


class Listing(Begun):
    """A scan under way: the rows so far, and the answers to the chunk that was asked."""

    __slots__ = (
        "answers",
        "complete",
        "event",
        "examined",
        "limit",
        "pending",
        "position",
        "rows",
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
    )

    def __init__(self, parts: Parts, membership: Membership, outboxes: list[Outbox]) -> None:
        self._membership = membership
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
        # Held at one until all are asked, so that local answers do not end the chunk too early.
        listing.pending = 1
        for partition in range(first, last):
            self._ask(listing, partition, after=listing.position if partition == first else b"")
        self._told(listing)

    def _ask(self, listing: Listing, partition: int, *, after: bytes) -> None:
        prefix = listing.event.prefix
        limit = min(CHUNK_ROWS // listing.span, SCAN_ROWS_MAX)
        replicas = listing.topology.partitions[partition]
        groups = listing.groups(partition)
        counts = self._membership.marks.counts or not replicas.overlaps(groups)
        if replicas.is_mine and counts:
            told = local_rows(self._replica, partition, after=after, prefix=prefix, limit=limit)
            listing.take(partition, OWN_BIT, told)
        for peer in replicas.fastest(listing.told[partition], groups):
            outbox = self._outboxes[peer.index]
            sent = Sent(outbox, self, ScannedRows, [(listing, partition)], ITEM_BYTES)
            outbox.send(sent, ScanRows(sent.batch, partition, after, prefix, limit))
            listing.pending += 1

    # --- hearing ---------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[tuple[Listing, int]], answer: ScannedRows) -> None:
        """A replica listed its rows of one partition."""
        for listing, partition in ops:
            listing.take(partition, peer.bit, answer)
            self._told(listing)

    def lost(self, peer: Peer, ops: list[tuple[Listing, int]]) -> None:
        """A replica did not answer: that partition is short of one."""
        del peer
        for listing, _ in ops:
            self._told(listing)

    def _told(self, listing: Listing) -> None:
        listing.pending -= 1
        if not listing.pending:
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


# --- where a key is, and what each replica has of it --------------------------------------------


class Question(Begun):
    """An explanation under way; at its deadline it is answered with what came."""

    __slots__ = ("damaged", "held", "hints", "key", "pending", "row", "topology")

    def __init__(self, event: Explain, topology: Topology, hints: Hints) -> None:
        super().__init__(event.waiter, 0)
        self.key = event.key
        self.row = row_of(event.key)
        self.topology = topology
        self.held: dict[Peer | None, ScannedRow] = {}
        """What replicas told; None is this node."""
        self.damaged: set[Peer | None] = set()
        """Those that told that their copy cannot be read."""
        self.pending = 0
        self.hints = hints

    def expired(self) -> ExplainResult:
        slot, partition = slot_of(self.key), partition_of(self.row)
        replicas = self.topology.partitions[partition]
        views = []
        for peer, url in zip(replicas.members, replicas.urls, strict=True):
            held = self.held.get(peer)
            views.append(
                ReplicaView(
                    url,
                    "self" if peer is None else peer.state,
                    None if held is None else held.version,
                    held is not None and held.live,
                    0 if held is None else held.expires_ms,
                    0 if peer is None else self.hints.count(peer),
                    peer in self.damaged,
                )
            )
        return ExplainResult(slot, partition, self.topology.epoch, views)

    def told(self, peer: Peer | None, answer: ScannedRows) -> None:
        """Note what a replica holds."""
        if answer.failed:
            self.damaged.add(peer)
            return
        # The key itself sorts before all others that begin with it.
        found = answer.rows[0] if answer.rows else None
        has_it = found is not None and found.row == self.row
        self.held[peer] = found if found is not None and has_it else _NOTHING


class Explains:
    """The exchange that asks every replica of a key for its version."""

    __slots__ = ("_hints", "_membership", "_outboxes", "_parts")

    def __init__(
        self, parts: Parts, membership: Membership, hints: Hints, outboxes: list[Outbox]
    ) -> None:
        self._parts = parts
        self._membership = membership
        self._hints = hints
        self._outboxes = outboxes

    def begin(self, event: Explain) -> None:
        """Ask every reachable replica."""
        topology = self._membership.current()
        question = Question(event, topology, self._hints)
        partition = partition_of(question.row)
        replicas = topology.partitions[partition]
        timeout_ms = event.timeout_ms or self._parts.settings.timeout_ms
        self._parts.requests.watch(question, timeout_ms)
        question.pending = 1
        if replicas.is_mine:
            question.told(
                None,
                local_rows(self._parts.replica, partition, after=b"", prefix=event.key, limit=1),
            )
        for peer in replicas.others:
            if peer.is_reachable:
                outbox = self._outboxes[peer.index]
                sent = Sent(outbox, self, ScannedRows, [question], ITEM_BYTES)
                outbox.send(sent, ScanRows(sent.batch, partition, b"", event.key, 1))
                question.pending += 1
        self._told(question)

    def answered(self, peer: Peer, ops: list[Question], answer: ScannedRows) -> None:
        """A replica told what it holds."""
        for question in ops:
            question.told(peer, answer)
            self._told(question)

    def lost(self, peer: Peer, ops: list[Question]) -> None:
        """A replica did not answer; what it holds stays unknown."""
        del peer
        for question in ops:
            self._told(question)

    def _told(self, question: Question) -> None:
        question.pending -= 1
        if not question.pending:
            self._parts.requests.end(question, question.expired())
