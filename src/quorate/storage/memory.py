# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that keeps everything in this process and loses it with the process.

Each family is a dictionary plus a sorted list of its keys that is brought up to date by the next
scan. A scan is a snapshot without a copy: a write that finds a scan open leaves it the containers
that it reads and goes on with copies. Scans are closed within the step that opened them, so that
copy is hardly ever made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final, Generic, TypeVar
from weakref import WeakSet

from quorate.core.values.events import Batch
from quorate.core.values.record import Record

Entry = TypeVar("Entry")

_INSERTS_MAX: Final = 64
"""Changed keys up to which placing each beats sorting all of them in."""
_RECORD_BYTES: Final = 250
"""About what a record's objects and its place in the family take beside row and value."""
_BLOB_BYTES: Final = 130
"""The same for a hint, a meta entry or votes."""


class _Scan(Generic[Entry]):
    """The entries of `keys[start:stop]` in order; dropping it ends it."""

    def __init__(self, entries: dict[bytes, Entry], keys: list[bytes], span: range) -> None:
        self._entries = entries
        self._keys = keys
        self._span = iter(span)

    def __iter__(self) -> Iterator[tuple[bytes, Entry]]:
        return self

    def __next__(self) -> tuple[bytes, Entry]:
        key = self._keys[next(self._span)]
        return key, self._entries[key]


class _Family(Generic[Entry]):
    """One ordered map. `_keys` lags behind `_entries` by the keys in `_changed`."""

    def __init__(self) -> None:
        self._entries: dict[bytes, Entry] = {}
        self._keys: list[bytes] = []
        self._changed: set[bytes] = set()
        """Keys that came or went since `_keys` was last in order."""
        self._scans: WeakSet[_Scan[Entry]] = WeakSet()
        """Open scans of the present containers."""

    def get(self, key: bytes) -> Entry | None:
        return self._entries.get(key)

    def put(self, key: bytes, entry: Entry | None) -> Entry | None:
        """Replace an entry, or delete it with None; returns what was there before."""
        if self._scans:
            self._leave_scans()
        before = self._entries.get(key)
        if (before is None) is not (entry is None):
            self._changed ^= {key}
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry
        return before

    def drop(self, start: bytes, end: bytes) -> list[tuple[bytes, Entry]]:
        """Delete the entries of [start, end) and return them."""
        if self._scans:
            self._leave_scans()
        span = self._span(start, end)
        dropped = [(key, self._entries.pop(key)) for key in self._keys[span.start : span.stop]]
        del self._keys[span.start : span.stop]
        return dropped

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Entry]]:
        if self._changed and self._scans:
            self._leave_scans()
        span = self._span(start, end)
        scan = _Scan(self._entries, self._keys, span)
        self._scans.add(scan)
        return scan

    def _span(self, start: bytes, end: bytes) -> range:
        """Where the keys of [start, end) are, brought into order."""
        if self._changed:
            self._order_keys()
        return range(bisect_left(self._keys, start), bisect_left(self._keys, end))

    def _leave_scans(self) -> None:
        """Let the open scans keep the present containers to themselves."""
        self._entries = dict(self._entries)
        self._keys = list(self._keys)
        self._scans.clear()

    def _order_keys(self) -> None:
        keys, changed = self._keys, self._changed
        if len(changed) > _INSERTS_MAX:
            # One long run and a few new keys: the sort finds the run and costs about one pass.
            keys[:] = [key for key in keys if key not in changed]
            keys += [key for key in changed if key in self._entries]
            keys.sort()
        else:
            for key in changed:
                index = bisect_left(keys, key)
                if key in self._entries:
                    keys.insert(index, key)
                else:
                    del keys[index]
        changed.clear()


class MemoryEngine:
    """Satisfies `Engine`; nothing survives `close`."""

    def __init__(self) -> None:
        self.needs_sync = False
        self.note_ms = 0
        self._records: _Family[Record] = _Family()
        self._hints: _Family[bytes] = _Family()
        self._meta: _Family[bytes] = _Family()
        self._votes: _Family[bytes] = _Family()
        self._bytes_used = 0

    def get(self, row: bytes) -> Record | None:
        return self._records.get(row)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        return self._records.scan(start, end)

    def get_meta(self, name: bytes) -> bytes | None:
        return self._meta.get(name)

    def get_votes(self, row: bytes) -> bytes | None:
        return self._votes.get(row)

    def scan_votes(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._votes.scan(start, end)

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._hints.scan(start, end)

    def write(self, batch: Batch) -> None:
        for start, end in batch.dropped_rows:
            for row, dropped in self._records.drop(start, end):
                self._bytes_used -= _record_bytes(row, dropped)
            for row, voted in self._votes.drop(start, end):
                self._bytes_used -= _blob_bytes(row, voted)
        for start, end in batch.dropped_hints:
            for name, blob in self._hints.drop(start, end):
                self._bytes_used -= _blob_bytes(name, blob)
        for row, record in batch.records:
            before = self._records.put(row, record)
            self._bytes_used += _record_bytes(row, record) - _record_bytes(row, before)
        for family, changes in (
            (self._hints, batch.hints),
            (self._meta, batch.meta),
            (self._votes, batch.votes),
        ):
            for name, fresh in changes:
                held = family.put(name, fresh)
                self._bytes_used += _blob_bytes(name, fresh) - _blob_bytes(name, held)

    def note_next(self) -> None:
        """Nothing to do: there is no next start."""

    def sync(self) -> None:
        """Nothing to do: memory is as durable as this engine gets."""

    def bytes_used(self) -> int:
        return self._bytes_used

    def close(self) -> None:
        """Nothing to do: whoever drops the engine drops its content."""


def _record_bytes(row: bytes, record: Record | None) -> int:
    if record is None:
        return 0
    return _RECORD_BYTES + len(row) + record.size


def _blob_bytes(name: bytes, blob: bytes | None) -> int:
    return 0 if blob is None else _BLOB_BYTES + len(name) + len(blob)
