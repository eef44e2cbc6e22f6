# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of a storage engine; `tests/conformance/test_engines.py` runs on every one.

Four families of entries: *records* (row -> Record), *votes* (row -> bytes: what this replica voted
on what is to follow the record), *hints* and *meta* (bytes -> bytes), ordered by key. All calls but
`sync` are made on the event loop's thread and must return in microseconds; `sync` is called in one
other thread and may block.

Writes are visible to `get` and `scan` as soon as `write` returns, durable when a `sync` that began
after it has returned. Of the batches not yet synced a crash keeps a prefix, each whole or not at
all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from quorate.core.values.events import Batch
from quorate.core.values.record import Record

ENTRY_BYTES: Final = 200
"""About what an entry of a batch takes of memory beside its bytes."""


class Engine(Protocol):
    """An ordered store. Reads raise Corrupt for what cannot be read, now or ever: damage, an error
    of the disk, a record of a newer format; and StorageError where that says nothing about the
    data: for want of files or memory, or while a database that met a full disk is opened again.
    Others: DiskFull, StorageBusy."""

    needs_sync: bool
    """False when `write` alone reaches the promised durability."""
    note_ms: int
    """By so long after a write the engine wants to note how much is durable (`note_next`), so that
    the next start sees if some of that is missing; 0 if it notes nothing."""

    def get(self, row: bytes) -> Record | None:
        """The record of a row, or None. Corrupt if it cannot be read."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        """Rows of [start, end) in order, as they are when the scan begins. Corrupt on damage:
        a scan never ends early in silence. Close the iterator (or exhaust it) soon."""

    def get_meta(self, name: bytes) -> bytes | None:
        """A meta entry."""

    def get_votes(self, row: bytes) -> bytes | None:
        """What was voted of a row, or None. Corrupt if it is not what was written."""

    def scan_votes(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The votes of rows of [start, end), as `scan` does it; but what is not what was written is
        empty, and the scan goes on behind it."""

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Hints of [start, end) in order."""

    def write(self, batch: Batch) -> None:
        """Apply the batch, all or nothing, without waiting for the disk; what it drops goes before
        what it puts. StorageBusy on a write stall and DiskFull without space: nothing was stored,
        and the same batch may be tried again; after DiskFull call `sync` first, in which an engine
        gets over it. Any other StorageError: the engine is broken, stop the node."""

    def sync(self) -> None:
        """Make every write that returned before this call durable. Blocks, releases the GIL, runs
        in the sync thread. An error is final: the node must stop and not try again."""

    def note_next(self) -> None:
        """Have the next `sync` also note how much is durable. Not called during one."""

    def bytes_used(self) -> int:
        """Bytes on disk (or in memory), about."""

    def close(self) -> None:
        """Sync and release everything, the directory's lock included; after a failed sync only
        release. The last call, in any thread. Idempotent."""


def merged(ranges: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same names as few ranges in order, none of which overlaps or touches another."""
    spans: list[tuple[bytes, bytes]] = []
    for start, end in sorted(ranges):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((start, end))
    return spans


def bytes_of(batch: Batch) -> int:
    """About what a batch takes of memory while it waits for an engine."""
    dropped = [*batch.dropped_rows, *batch.dropped_hints]
    count = len(batch.records) + len(dropped)
    size = ENTRY_BYTES * count + sum(len(start) + len(end) for start, end in dropped)
    for row, record in batch.records:
        size += len(row) + (0 if record is None else record.size)
    for changes in (batch.hints, batch.meta, batch.votes):
        size += sum(ENTRY_BYTES + len(name) + len(blob or b"") for name, blob in changes)
    return size
