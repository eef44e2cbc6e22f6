# SPDX-License-Identifier: GPL-3.0-or-later
"""Listing keys: each partition is asked of R replicas and their rows are merged, newest wins.

A scan goes through the partitions in order, a chunk at a time in parallel, and ends at its limit.
It gets one chunk further in a step, so that a long one, over tombstones say, holds up nobody.
Rows written while it runs may or may not be listed; a row that was there throughout is, if
R + W > N and no partition was short of answers (`complete`).
"""

from __future__ import annotations

from itertools import islice
from typing import Final, cast

from quorate.core.exchanges.outbox import ITEM_BYTES, Answer, Peer, Sent
from quorate.core.parts import Parts
from quorate.core.replica import Replica
from quorate.core.requests.admission import Operation
from quorate.core.topology.placement import Placement
from quorate.core.values.events import LocalScan, Result, Scan, ScanResult
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.slots import PARTITION_COUNT
from quorate.errors import DeadlineExceeded, InvalidRequest, NotReady, StorageError

LIMIT_MAX: Final = 1000
CHUNK: Final = 16
"""Partitions asked at once."""
ROWS_PER_ANSWER: Final = 100
"""Small, so that a scan holds up no other request for long."""
_KEYSPACE: Final = b"\0\0"


def local_rows(
    replica: Replica, partition: int, *, after: bytes, prefix: bytes, limit: int
) -> ScannedRows:
    """Up to `limit` rows of this node's copy of a partition; `failed` if it cannot be read."""
    first = partition.to_bytes(2, "big") + _KEYSPACE + prefix
    start = max(first, after + b"\0") if after else first
    try:
        found = list(islice(replica.scan(start, _past(first)), limit + 1))
    except StorageError:
        return ScannedRows(0, [], more=False, failed=True)
    rows = [
        ScannedRow(row, record.version, record.value is not None, record.expires_ms)
        for row, record in found[:limit]
    ]
    return ScannedRows(0, rows, more=len(found) > limit)


def _past(prefix: bytes) -> bytes:
    """The first byte string after all that begin with `prefix`, which is not all 0xff."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1])


class Listing(Operation):
    """A scan under way: the rows so far, and the answers to the chunk that was asked."""

    __slots__ = (
        "answers",
        "complete",
        "event",
        "is_cut",
        "limit",
        "pending",
        "position",
        "r",
        "rows",
    )

    def __init__(self, event: Scan, *, r: int) -> None:
        super().__init__(event.waiter, 0)
        self.event = event
        self.r = r
        self.limit = min(event.limit, LIMIT_MAX)
        self.position = event.cursor
        """Rows up to and including it are done."""
        self.rows: list[ScannedRow] = []
        self.complete = True
        self.answers: dict[int, list[ScannedRows]] = {}
        self.pending = 0
        self.is_cut = False
        """Whether the last chunk ended inside a partition: then that one is asked alone, for more
        rows at once."""

    def expired(self) -> Result:
        if self.position == self.event.cursor:
            return DeadlineExceeded("the scan did not come forward in time")
        # Else a partition full of tombstones could never be passed.
        return ScanResult(self.rows, self.position, self.complete)


class Scans:
    """All scans that this node coordinates; the exchange that asks."""

    __slots__ = ("_ready", "_replica", "_requests", "_timeout_ms", "_turn", "placement")

    def __init__(self, parts: Parts) -> None:
        self._ready: list[Listing] = []
        """Those whose chunk is complete."""
        self._replica = parts.replica
        self._requests = parts.requests
        self._turn = parts.turn
        self._timeout_ms = parts.settings.timeout_ms
        self.placement: Placement | None = None

    def begin(self, event: Scan) -> None:
        """Begin an admitted scan. InvalidRequest for a bad limit, cursor or R."""
        placement = self.placement
        if placement is None:
            raise NotReady("the cluster's layout is not known yet")
        _check(event.limit, event.cursor)
        r = placement.needed(event.r, placement.r, name="r")
        listing = Listing(event, r=r)
        self._requests.watch(listing, event.timeout_ms or self._timeout_ms)
        self._ask_chunk(listing)

    def go_on(self) -> None:
        """Take every scan whose chunk is complete one chunk further."""
        ready, self._ready = self._ready, []
        for listing in ready:
            if listing.waiter is not None:
                self._take_chunk(listing)
        if self._ready:
            self._turn.wake_at(self._turn.mono_ms)

    def local(self, event: LocalScan) -> ScanResult:
        """List this node's own keys, at most the limit, tombstones counted."""
        _check(event.limit, event.cursor)
        position = event.cursor
        limit = min(event.limit, LIMIT_MAX)
        rows: list[ScannedRow] = []
        complete = True
        first = _partition_at(position)
        for partition in range(first, PARTITION_COUNT):
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
        return ScanResult(self._live(rows), b"", complete)

    # --- asking ----------------------------------------------------------------------------

    def _ask_chunk(self, listing: Listing) -> None:
        first = _partition_at(listing.position)
        last = min(first + (1 if listing.is_cut else CHUNK), PARTITION_COUNT)
        listing.answers = {partition: [] for partition in range(first, last)}
        # Held at one until all are asked, so that local answers do not end the chunk too early.
        listing.pending = 1
        for partition in range(first, last):
            self._ask(listing, partition, after=listing.position if partition == first else b"")
        self._told(listing)

    def _ask(self, listing: Listing, partition: int, *, after: bytes) -> None:
        placement = self.placement
        assert placement is not None
        prefix = listing.event.prefix
        limit = LIMIT_MAX if listing.is_cut else ROWS_PER_ANSWER
        missing = listing.r
        if placement.is_mine[partition]:
            told = local_rows(self._replica, partition, after=after, prefix=prefix, limit=limit)
            if not told.failed:
                listing.answers[partition].append(told)
                missing -= 1
        reachable = [peer for peer in placement.others[partition] if peer.is_reachable]
        for peer in sorted(reachable, key=lambda peer: peer.speed)[:missing]:
            batch = peer.next_batch()
            sent = peer.expect(self, batch, ScannedRows, size=ITEM_BYTES)
            sent.ops, sent.more = [listing], [partition]
            peer.say(ScanRows(batch, partition, after, prefix, limit))
            listing.pending += 1

    # --- hearing ---------------------------------------------------------------------------

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """A replica listed its rows of one partition."""
        del peer
        listing = cast(Listing, sent.ops[0])
        told = cast(ScannedRows, answer)
        answers = listing.answers.get(cast(int, sent.more[0]))
        is_whole = not told.failed and (told.rows or not told.more)
        if answers is not None and is_whole:
            answers.append(told)
        self._told(listing)

    def lost(self, peer: Peer, sent: Sent) -> None:
        """A replica did not answer: that partition is short of one."""
        del peer
        self._told(cast(Listing, sent.ops[0]))

    def _told(self, listing: Listing) -> None:
        listing.pending -= 1
        if not listing.pending:
            self._ready.append(listing)

    def _take_chunk(self, listing: Listing) -> None:
        for partition, answers in listing.answers.items():
            listing.complete &= len(answers) >= listing.r
            listing.is_cut = self._merge(listing, partition, answers)
            if listing.is_cut:
                break
        if len(listing.rows) >= listing.limit or listing.position == b"":
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
        live = self._live(rows)
        listing.rows += live[:room]
        if len(live) >= room:
            listing.position = listing.rows[-1].row
        elif bound is not None:
            listing.position = bound
        else:
            listing.position = _end_of(partition)
            return False
        return True

    def _live(self, rows: list[ScannedRow]) -> list[ScannedRow]:
        now = self._turn.wall_ms
        return [each for each in rows if each.live and not 0 < each.expires_ms <= now]


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
