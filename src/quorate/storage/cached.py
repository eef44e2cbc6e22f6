# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine with a read cache in front.

The cache learns a record from the very call that wrote or read it in the engine, and only after
that call succeeded, so it never holds what the engine would not answer. "Nothing here" is not
cached: the engine's bloom filters answer that about as fast.

Records are bounded by entries and by bytes; what was long not used goes. Who goes is found by
second chance (Corbato 1968, "the clock"): entries wait in a queue; one that was used since it was
queued is queued again, the first that was not goes. An exact order of uses would be touched by
every read and write, and cost as much again as finding the entry.

Both bounds hold after every call. A record that is larger than the whole cache is not kept, and
takes the row's older record with it: the cache never holds anything but the newest it was given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import Final

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.storage.engine import Engine, merged

ENTRY_BYTES: Final = 350
"""What an entry costs beside its row and its value: the objects and their place in the order."""
VOTES_MAX: Final = 10_000
"""Rows whose votes are kept, and as many again of those before them."""
VOTES_BYTES_MAX: Final = 4 << 20
"""Of them, likewise."""
_GONE: Final = -1
"""The epoch of an entry whose row was deleted."""
CHANCES_MAX: Final = 32
"""Used entries that are queued again before one goes though it was used: where all are in use, to
look for one that is not would take milliseconds."""


def cost_of(row: bytes, record: Record) -> int:
    """Bytes that an entry counts for, about what it takes of memory."""
    return ENTRY_BYTES + len(row) + record.size


class _Entry:
    __slots__ = ("cost", "epoch", "is_used", "record")

    def __init__(self, record: Record, cost: int, epoch: int) -> None:
        self.record = record
        self.epoch = epoch
        """How often ranges had been forgotten when this was put, or found not to be in them."""
        self.cost = cost
        """Kept, so that it need not be worked out again to take it back."""
        self.is_used = False
        """Since it was queued last."""


class Lru:
    """A bounded map from row to record; every call is O(1) but for the evictions it causes."""

    def __init__(self, *, entries_max: int, bytes_max: int) -> None:
        self._entries: dict[bytes, _Entry] = {}
        self._queue: deque[bytes] = deque()
        """The rows of all entries; the first is the next to go."""
        self._entries_max: Final = entries_max
        self._bytes_max: Final = bytes_max
        self._forgotten: list[tuple[bytes, bytes]] = []
        """All ranges that ever were, as few as they can be."""
        self._edges: list[bytes] = []
        """Their starts and ends, in order."""
        self._epoch = 0
        self.bytes_used = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, row: bytes) -> Record | None:
        """The record of a row, which counts as used then, or None; counts either."""
        entry = self._entries.get(row)
        if entry is None or (entry.epoch != self._epoch and self._is_forgotten(row, entry)):
            self.misses += 1
            return None
        self.hits += 1
        entry.is_used = True
        return entry.record

    def put(self, records: Iterable[tuple[bytes, Record | None]]) -> None:
        """Keep records, in place of their rows' older ones; forget rows of which there is none.

        One call for a whole batch: this is on every write's way.
        """
        entries = self._entries
        for row, record in records:
            entry = entries.get(row)
            if record is None:
                if entry is not None:
                    # It goes as the unused do: to take it out of the queue would cost a search.
                    entry.epoch = _GONE
                continue
            cost = cost_of(row, record)
            if cost > self._bytes_max:
                if entry is not None:
                    self._queue.remove(row)
                    self._drop(row)
            elif entry is None:
                entries[row] = _Entry(record, cost, self._epoch)
                self._queue.append(row)
                self.bytes_used += cost
            else:
                self.bytes_used += cost - entry.cost
                entry.record, entry.cost, entry.is_used = record, cost, True
                entry.epoch = self._epoch
        while self.bytes_used > self._bytes_max or len(entries) > self._entries_max:
            self._evict()

    def forget(self, ranges: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer no more what was put so far of rows in these ranges [start, end). To look at all
        entries would hold up the loop for tens of milliseconds, so each is looked at when it is
        asked for, and who is never asked for goes as the unused do."""
        self._forgotten = merged([*self._forgotten, *ranges])
        self._edges = [edge for span in self._forgotten for edge in span]
        self._epoch += 1

    def _is_forgotten(self, row: bytes, entry: _Entry) -> bool:
        """Whether the entry is stale, as `forget` named its row after it was put. It may say so of
        a fresh entry too: ranges are kept together, without the time that each was forgotten at.
        Then the row is read from the engine once more than it needs to be."""
        if entry.epoch == _GONE:
            return True
        # With an odd number of edges at or below it, it is past a start and before the end.
        if bisect_right(self._edges, row) & 1:
            return True
        entry.epoch = self._epoch
        return False

    def _evict(self) -> None:
        queue = self._queue
        row = queue.popleft()
        for _ in range(CHANCES_MAX):
            entry = self._entries[row]
            if not entry.is_used:
                break
            entry.is_used = False
            queue.append(row)
            row = queue.popleft()
        self._drop(row)

    def _drop(self, row: bytes) -> None:
        self.bytes_used -= self._entries.pop(row).cost


class CachedEngine:
    """`inner` with `lru` in front of `get`. Satisfies `Engine`.

    All but `get`, `get_votes` and `write` are the inner engine's own. A scan is among them: one of
    everything would evict all that is hot.

    Of votes it keeps what was written last: a replica votes twice for one update.
    """

    def __init__(self, inner: Engine, lru: Lru) -> None:
        self._inner = inner
        self.lru = lru
        self._votes: dict[bytes, bytes] = {}
        self._older_votes: dict[bytes, bytes] = {}
        """What was in `_votes` when it was last full."""
        self._votes_bytes = 0
        self.needs_sync = inner.needs_sync
        self.note_ms = inner.note_ms
        self.scan: Final = inner.scan
        self.get_meta: Final = inner.get_meta
        self.scan_votes: Final = inner.scan_votes
        self.scan_hints: Final = inner.scan_hints
        self.note_next: Final = inner.note_next
        self.sync: Final = inner.sync
        self.bytes_used: Final = inner.bytes_used
        self.close: Final = inner.close

    def get(self, row: bytes) -> Record | None:
        record = self.lru.get(row)
        if record is None:
            record = self._inner.get(row)
            if record is not None:
                self.lru.put(((row, record),))
        return record

    def get_votes(self, row: bytes) -> bytes | None:
        found = self._votes.get(row)
        if found is None:
            found = self._older_votes.get(row)
        return self._inner.get_votes(row) if found is None else found

    def write(self, batch: Batch) -> None:
        self._inner.write(batch)
        if batch.dropped_rows:
            self.lru.forget(batch.dropped_rows)
            self._votes, self._older_votes, self._votes_bytes = {}, {}, 0
        self.lru.put(batch.records)
        if batch.votes:
            self._keep(batch.votes)

    def _keep(self, votes: list[tuple[bytes, bytes | None]]) -> None:
        for row, blob in votes:
            if blob is None:
                self._votes.pop(row, None)
                self._older_votes.pop(row, None)
                continue
            self._votes[row] = blob
            self._votes_bytes += len(row) + len(blob)
            if self._votes_bytes > VOTES_BYTES_MAX or len(self._votes) > VOTES_MAX:
                self._votes, self._older_votes, self._votes_bytes = {}, self._votes, 0
