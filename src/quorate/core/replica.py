# SPDX-License-Identifier: GPL-3.0-or-later
"""This node's own copies: newest wins, and nothing is seen before it is durable.

Invariants: the record of a row never goes to a lower version; `shown` never returns a record whose
batch is not durable; every batch has a mark, marks rise by one, and whatever was promised at a mark
is released when that mark, and so all before it, is durable.

A row between `apply` and durable has an entry in `_undurable`: what merges must beat (`latest`) and
what reads may see (`shown`). All other rows are as the engine (and the cache in front of it) says,
but for those of a partition whose copy was dropped: until that is durable the engine may still have
them, as where the batch waits for a full disk, and they are not seen.

`fences` says what must not win here, and `collect` has a row no more: see `horizons`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, starmap
from typing import Final, Protocol

from quorate.core.digests import Digests
from quorate.core.horizons import Fences
from quorate.core.kept_votes import KeptVotes, VoteReader
from quorate.core.replaced import Replaced
from quorate.core.values.events import Batch, StorageState
from quorate.core.values.record import Record, wins
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.slots import (
    PAGE_BYTES,
    PARTITION_COUNT,
    ROW_END,
    partition_bounds,
    partition_of,
)
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt, StorageBusy, StorageError

KEYS_META: Final = b"keys"


class Reader(VoteReader, Protocol):
    """The reads of an engine that a step makes; `storage.engine.Engine` has them."""

    def get(self, row: bytes) -> Record | None:
        """The record of a row. Corrupt if damaged."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        """Rows of [start, end) in order. Corrupt on damage."""

    def get_meta(self, name: bytes) -> bytes | None:
        """A meta entry."""

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Hints of [start, end) in order."""

    def bytes_used(self) -> int:
        """Bytes on disk, about."""


_Undurable = tuple[Record | None, int, Record | None]
"""`latest`, what merges must beat, None of a row that was collected; the mark of its batch;
`shown`, what reads may see. A plain tuple: one is made for every write."""
NEVER_MS: Final = (1 << 63) - 1


class _Promised:
    """What to do when a mark is durable: rows to show, and calls to make."""

    __slots__ = ("calls", "mark", "records")

    def __init__(
        self, mark: int, records: list[tuple[bytes, Record | None]], calls: list[Callable[[], None]]
    ) -> None:
        self.mark = mark
        self.records = records
        self.calls = calls


class Replica:
    """The records of this node, and the batch that the current step is writing."""

    __slots__ = (
        "_calls",
        "_dropped",
        "_dropped_hints",
        "_dropped_rows",
        "_durable",
        "_engine",
        "_hints",
        "_mark",
        "_meta",
        "_on_damage",
        "_records",
        "_stored_keys",
        "_undurable",
        "_waiting",
        "digests",
        "expiries_ms",
        "fences",
        "keys",
        "replaced",
        "tombstones",
        "trouble",
        "votes",
        "withheld",
    )

    def __init__(
        self, engine: Reader, on_damage: Callable[[Corrupt], None], *, slice_ms: int = SLICE_MS
    ) -> None:
        """`on_damage` is told of each read that met damaged bytes."""
        self._engine = engine
        self._on_damage = on_damage
        self.digests: Final = Digests(slice_ms)
        """Of what is held, durable or not."""
        self.tombstones: Final = array("Q", bytes(8 * PARTITION_COUNT))
        """By partition, of the rows that `digests` covers."""
        self.expiries_ms: Final = array("q", [NEVER_MS]) * PARTITION_COUNT
        """By partition: nothing that was looked at since its last scan expires before."""
        self.votes: Final = KeptVotes(engine, on_damage)
        """On the successors of rows."""
        self.replaced: Final = Replaced()
        self._undurable: dict[bytes, _Undurable] = {}
        self._records: list[tuple[bytes, Record | None]] = []
        self._hints: list[tuple[bytes, bytes | None]] = []
        self._meta: list[tuple[bytes, bytes | None]] = []
        self.fences: Final = Fences(engine.get_meta, self.put_meta, slice_ms)
        self._dropped_rows: list[tuple[bytes, bytes]] = []
        self._dropped_hints: list[tuple[bytes, bytes]] = []
        self._dropped: dict[int, int] = {}
        """By partition: the mark of the batch that drops its rows, until that is durable."""
        self._calls: list[Callable[[], None]] = []
        self._mark = 0
        """Of the last batch that was handed out."""
        self._durable = 0
        self._waiting: deque[_Promised] = deque()
        self.keys = int.from_bytes(engine.get_meta(KEYS_META) or b"", "big")
        """Rows held that are not tombstones."""
        self._stored_keys = self.keys
        """As of the last batch."""
        self.trouble = StorageState()
        """Why this node takes no writes, when it does not."""
        self.withheld: set[int] = set()
        """Partitions of which rows may be left from an earlier layout (`surplus`): until these are
        gone nothing is read there, and nothing kept."""

    # --- reading ---------------------------------------------------------------------------

    def shown(self, row: bytes) -> Record | None:
        """The durable record of a row. Corrupt if its bytes are damaged."""
        if self.withheld:
            self._check_withheld(row)
        entry = self._undurable.get(row)
        if entry is not None:
            return entry[2]
        if self._dropped and partition_of(row) in self._dropped:
            return None
        try:
            return self._engine.get(row)
        except Corrupt as error:
            self._on_damage(error)
            raise

    def latest(self, row: bytes) -> Record | None:
        """The newest record, durable or not: what a write must beat. A damaged one counts as
        lost, so that a write or a repair can take its place."""
        if self.withheld:
            self._check_withheld(row)
        entry = self._undurable.get(row)
        if entry is not None:
            return entry[0]
        if self._dropped and partition_of(row) in self._dropped:
            return None
        try:
            return self._engine.get(row)
        except Corrupt as error:
            self._on_damage(error)
            # What takes its place cannot be counted against it, as its version is not known.
            self.digests.forget(partition_of(row))
            self.replaced.forget()
            return None

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        """Durable records of [start, end) in order. Rows whose first record is not durable yet
        are left out; Corrupt on damage."""
        if self.withheld:
            self._check_withheld(start)
        undurable = self._undurable
        parts = self._undropped(start, end)
        try:
            for row, record in chain.from_iterable(starmap(self._engine.scan, parts)):
                entry = undurable.get(row)
                if entry is None:
                    yield row, record
                elif entry[2] is not None:
                    yield row, entry[2]
        except Corrupt as error:
            self._on_damage(error)
            raise

    def newest(self, start: bytes, end: bytes, *, limit: int) -> tuple[dict[bytes, Record], bytes]:
        """The newest records, durable or not, of rows from `start` on: of `limit` rows that are on
        disk, fewer of large records, and of those between them that are not. Then the row past
        these; `end` if all below are there. StorageError if they cannot be read, or are of an
        earlier layout."""
        self._check_withheld(start)
        if partition_of(start) in self._dropped:
            raise StorageBusy("copies of an earlier layout are on their way out")
        found: dict[bytes, Record] = {}
        past, room = end, PAGE_BYTES
        try:
            for row, record in self._engine.scan(start, end):
                if len(found) == limit or room <= 0:
                    past = row
                    break
                found[row] = record
                room -= record.size
        except Corrupt as error:
            self._on_damage(error)
            raise
        for row, entry in self._undurable.items():
            if start <= row < past:
                latest = entry[0]
                if latest is None:
                    found.pop(row, None)
                else:
                    found[row] = latest
        return found, past

    def _check_withheld(self, row: bytes) -> None:
        """StorageBusy if what is there may be of an earlier layout."""
        if partition_of(row) in self.withheld:
            raise StorageBusy("copies of an earlier layout are given up first")

    def partitions(self) -> set[int]:
        """Those of which anything is on disk, votes too, for all that can be read. From each row
        found to the next partition: a seek for each partition would pass over ranges that were
        dropped again and again."""
        found: set[int] = set()
        start = b"\0\0"
        try:
            while start < ROW_END:
                first = next(iter(self._engine.scan(start, ROW_END)), None)
                if first is None:
                    break
                partition = partition_of(first[0])
                found.add(partition)
                _, start = partition_bounds(partition)
        except StorageError:
            found.update(range(partition_of(start), PARTITION_COUNT))
        try:
            return found | self.votes.partitions()
        except StorageError:
            return set(range(PARTITION_COUNT))

    def count(self, start: bytes, end: bytes, *, limit: int) -> tuple[int, bytes]:
        """How many of the first `limit` rows in [start, end) are live, withheld ones too, and after
        which row to go on; empty at the end, and before damage, behind which nothing is counted."""
        live, last = 0, b""
        try:
            for index, (row, record) in enumerate(self._engine.scan(start, end)):
                if index == limit:
                    return live, last
                live += not record.is_tombstone
                last = row
        except Corrupt as error:
            self._on_damage(error)
        return live, b""

    def _undropped(self, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        """The parts of [start, end) that the engine is asked for. None of a dropped partition: of
        what was written there since, nothing can be durable yet."""
        parts = []
        for partition in sorted(self._dropped):
            first, past = partition_bounds(partition)
            if start < first:
                parts.append((start, min(first, end)))
            start = max(start, past)
        parts.append((start, end))
        return [part for part in parts if part[0] < part[1]]

    def meta(self, name: bytes) -> bytes | None:
        """A meta entry, as an earlier process left it."""
        return self._engine.get_meta(name)

    def bytes_used(self) -> int:
        """Bytes on disk, about."""
        return self._engine.bytes_used()

    # --- writing ---------------------------------------------------------------------------

    def apply(self, row: bytes, record: Record, lock: int = 0) -> bytes:
        """Keep `record` if it is newer. Returns the higher version held instead, else ABSENT.
        Fenced, and nothing is kept, if it would win and must not. `lock`: of the partition, where
        another replica holds it.

        Either way acknowledge only through `when_durable`: what is held may not be durable yet.
        """
        is_listed = lock > 0 and self.fences.is_proven(partition_of(row), record, lock)
        return self.apply_over(row, record, self.latest(row), is_listed=is_listed)

    def apply_over(
        self, row: bytes, record: Record, held: Record | None, *, is_listed: bool = False
    ) -> bytes:
        """`apply`, for a caller that has just read `held = latest(row)`. `is_listed`: those who
        sent it are known to hold the record in spite of the lock, so no fence refuses it, however
        old it is."""
        version = record.version
        before, was_live = ABSENT, False
        if held is not None:
            before, was_live = held.version, not held.is_tombstone
        if before >= version and held is not None and not wins(record, held):
            return before if before > version else ABSENT
        if version < self.fences.highest and not is_listed:
            is_unknown = held is None and self._is_damaged(row)
            if not is_unknown and not self.fences.lets_in(partition_of(row), record, held):
                return ABSENT
        if before > self.replaced.since:
            self.replaced.note(before)
        entry = self._undurable.get(row)
        shown = held if entry is None else entry[2]
        self._undurable[row] = record, self._mark + 1, shown
        self._records.append((row, record))
        self.digests.feed(row, before, version)
        if record.is_tombstone:
            self.keys -= was_live
            if (held is None or was_live) and self.digests.covers(row):
                self.tombstones[partition_of(row)] += 1
        elif not was_live:
            self.keys += 1
            if held is not None:
                self._count_tombstone_out(row)
        if record.expires_ms:
            self.note_expiry(row, record)
        return ABSENT

    def never_held(self, record: Record) -> bool:
        """Whether a record that `apply` found to be too low was surely never held."""
        return self.replaced.never_was(record.version)

    def _is_damaged(self, row: bytes) -> bool:
        """Whether nobody knows what is held: a repair of it may be older than any fence."""
        try:
            self._engine.get(row)
        except Corrupt:
            return row not in self._undurable
        return False

    def _count_tombstone_out(self, row: bytes) -> None:
        partition = partition_of(row)
        if self.tombstones[partition] and self.digests.covers(row):
            self.tombstones[partition] -= 1

    def note_expiry(self, row: bytes, record: Record) -> None:
        """Take note of when a record that is held expires, if it does."""
        if record.expires_ms and not record.is_tombstone:
            partition = partition_of(row)
            self.expiries_ms[partition] = min(self.expiries_ms[partition], record.expires_ms)

    def collect(self, row: bytes, held: Record) -> None:
        """Hold nothing of a row any more, from this step's batch on; `held` is its newest record.
        Until that is durable reads may see what they saw."""
        entry = self._undurable.get(row)
        self._undurable[row] = None, self._mark + 1, held if entry is None else entry[2]
        self._records.append((row, None))
        self.digests.feed(row, held.version, ABSENT)
        if held.version > self.replaced.since:
            self.replaced.note(held.version)
        if held.is_tombstone:
            self._count_tombstone_out(row)
        else:
            self.keys -= 1

    def count_anew(self, partition: int) -> None:
        """All rows of the partition are about to be gone through, and given to `counted`."""
        self.tombstones[partition] = 0
        self.expiries_ms[partition] = NEVER_MS

    def counted(self, rows: dict[bytes, Record]) -> None:
        """Take note of rows that were not covered so far."""
        for row, record in rows.items():
            if record.is_tombstone:
                self.tombstones[partition_of(row)] += 1
            self.note_expiry(row, record)

    @property
    def keeps(self) -> bool:
        """Whether records were applied in this step."""
        return bool(self._records)

    def put_meta(self, name: bytes, blob: bytes | None) -> None:
        """Write a meta entry with this step's batch; None deletes."""
        self._meta.append((name, blob))

    def put_hint(self, name: bytes, blob: bytes | None) -> None:
        """Write a hint with this step's batch; None deletes."""
        self._hints.append((name, blob))

    def drop(self, partition: int, live: int) -> None:
        """Give up this node's copy of a partition, with this step's batch: its rows are nobody's
        any more, and not seen from now on. `live` of them are no tombstones.

        What is applied to the partition from now on is kept. No row of it may be on its way to the
        disk."""
        assert not any(partition_of(row) == partition for row in self._undurable), (
            f"partition {partition} is dropped while rows of it are not durable"
        )
        self._dropped[partition] = self._mark + 1
        self.votes.drop(partition, self._mark + 1)
        self._dropped_rows.append(partition_bounds(partition))
        self.fences.forget(partition)
        self.keys -= live

    def drop_hints(self, start: bytes, end: bytes) -> None:
        """Delete the hints of [start, end) with this step's batch, but for those that the step
        itself puts, before or after this call."""
        assert start < end, f"no range of hints: {start!r} to {end!r}"
        self._dropped_hints.append((start, end))

    def when_durable(self, call: Callable[[], None]) -> None:
        """Call once all that was applied up to the end of this step is durable."""
        self._calls.append(call)

    def close_turn(self) -> tuple[Batch | None, int]:
        """This step's batch and its mark; (None, 0) if there is nothing to store.

        Promises of a step without a batch wait for the batches before it, as what they speak of
        may be in one of them.
        """
        if not (self._records or self.votes.fresh or self._has_more()):
            if self._calls:
                self._waiting.append(_Promised(self._mark, [], self._calls))
                self._calls = []
            return None, 0
        if self.keys != self._stored_keys:
            self._stored_keys = self.keys
            self._meta.append((KEYS_META, self.keys.to_bytes(8, "big")))
        batch = Batch(
            self._records, self._hints, self._meta, self._dropped_rows, self._dropped_hints
        )
        self._mark += 1
        if self.votes.fresh:
            batch.votes = self.votes.take(self._mark)
        if self._records or self._calls:
            # Else nothing was promised: on a full disk such batches may come for hours.
            self._waiting.append(_Promised(self._mark, self._records, self._calls))
        self._records, self._hints, self._meta, self._calls = [], [], [], []
        if self._dropped_rows or self._dropped_hints:
            self._dropped_rows, self._dropped_hints = [], []
        return batch, self._mark

    def _has_more(self) -> bool:
        """Whether there is anything to store but records and votes."""
        return bool(self._hints or self._meta or self._dropped_rows or self._dropped_hints)

    def on_durable(self, mark: int) -> None:
        """Everything up to `mark` is durable: show it, and make the promised calls."""
        assert self._durable <= mark <= self._mark, f"durable mark {mark} out of order"
        self._durable = mark
        if self._dropped:
            self._dropped = {each: at for each, at in self._dropped.items() if at > mark}
        if self.votes.has_undurable:
            self.votes.on_durable(mark)
        self._release()

    def release_settled(self) -> bool:
        """Make the calls of steps that had nothing to store and have nothing to wait for. True if
        there were any: they may have written."""
        if not self._waiting or self._waiting[0].mark > self._durable:
            return False
        self._release()
        return True

    def _release(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0].mark <= self._durable:
            done = waiting.popleft()
            if done.mark == self._mark and not self._records:
                self._undurable.clear()  # Nothing waits for a later batch.
            else:
                self._show(done.mark, done.records)
            for call in done.calls:
                call()

    def _show(self, mark: int, records: list[tuple[bytes, Record | None]]) -> None:
        undurable = self._undurable
        for row, record in records:
            entry = undurable.get(row)
            if entry is None:
                continue  # written twice in this batch, and dropped with the later
            latest, latest_mark, _ = entry
            if latest_mark == mark:
                del undurable[row]
            else:
                undurable[row] = latest, latest_mark, record
