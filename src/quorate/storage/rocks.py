# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine on disk: RocksDB through rocksdict, one column family for each family of entries.

How durability is reached: `write` puts a batch into RocksDB's log (WAL) without waiting for the
disk, which survives the process; `sync` makes the log survive the machine, in another thread, and
releases the GIL, which a synced write would not.

A full disk: `write` asks the file system first and keeps a reserve, so RocksDB hardly ever meets
one. If it does, its log refuses everything from then on, a sync too; then the log's files are
synced directly, reads go on, and once there is room a sync closes RocksDB and opens it again, which
stores what its log holds. That takes seconds, in which nothing can be read.

How much is surely durable is noted at open, at close, and a stated time after a write
(`storage.database` says why). What may be lost unseen is the newest log's end from that time before
a crash.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakSet

from rocksdict import Rdict, WriteBatch

from quorate.core.values.events import Batch
from quorate.core.values.record import (
    Record,
    decode_stored,
    encode_stored,
    open_votes,
    seal,
    sound_votes,
)
from quorate.errors import Corrupt, DiskFull, FormatUnsupported, StorageError
from quorate.storage import tuning
from quorate.storage.database import Cursor, Database, open_database
from quorate.storage.directory import DataDirectory, Noted, sync_entries
from quorate.storage.engine import merged
from quorate.storage.faults import LogRefuses, ReadFaults
from quorate.storage.logs import logs_of

RESERVE_BYTES_MAX: Final = 256 << 20
"""Free space that is not written into: a flush of all memtables and a compaction need it."""
RESERVE_SHARE: Final = 16
"""The reserve of a small file system is a 16th of it."""
_ROOM_SECONDS: Final = 0.05
"""Until the file system is asked again how much is free; sooner if all that was free is written."""
RECLAIM_DELETES_MIN: Final = 10_000
RECLAIM_SHARE: Final = 4
"""Deleted rows are compacted when they are a quarter of what is left, and no fewer than that."""
_LOG_BYTES: Final = 20
"""Of an entry in RocksDB's log, about, beside its name and blob."""
_REOPEN_PAUSE_SECONDS: Final = 5.0
"""Between two tries to get over a full disk."""
NOTE_MS: Final = 10_000
"""From a write until it is noted how much is durable. A note costs four syncs."""


class RocksEngine:
    """Satisfies `Engine`. Made by `open`."""

    def __init__(
        self, directory: DataDirectory, rocks: Database, *, needs_sync: bool, note_ms: int
    ) -> None:
        self.needs_sync = needs_sync
        self.note_ms = note_ms
        self._directory = directory
        self._faults = directory.faults
        self._read_faults = ReadFaults(directory.path)
        self._open: Database | None = rocks
        """None after `close`, and while RocksDB is closed and opened again."""
        self._is_closed = False
        self._write_options = tuning.write_options()
        self._cursors: WeakSet[Cursor] = WeakSet()
        self._syncing = threading.Lock()
        """Held by the thread that syncs or closes."""
        self._has_sync_failed = False
        """From then on nothing may be called durable."""
        self._outgoing: Database | None = None
        """The database that the next sync closes and opens again; None once it is closed."""
        self._must_note = False
        """Whether the next sync is to note how much is durable."""
        self._room_bytes = 0
        """How much may still be written before the file system is asked again."""
        self._ask_at = 0.0
        self._deleted = 0
        """Rows that were deleted one by one since some were last compacted."""
        self._deleted_span: tuple[bytes, bytes] | None = None
        """The first and the last of these."""

    @classmethod
    def open(cls, directory: Path, *, durability: str, note_ms: int = NOTE_MS) -> RocksEngine:
        """The engine of a data directory, made if missing. `durability` is `sync` or `os`.

        StorageLocked, FormatUnsupported, Corrupt, DiskFull, StorageError.
        """
        held = DataDirectory(directory)
        try:
            rocks = open_database(held)
        except BaseException:
            held.release()
            raise
        return cls(held, rocks, needs_sync=durability == "sync", note_ms=note_ms)

    @property
    def _rocks(self) -> Database:
        if self._open is None:
            raise self._why_unusable()
        return self._open

    def _why_unusable(self) -> StorageError:
        directory = str(self._directory.path)
        why = "the engine is closed" if self._is_closed else "the database is being opened again"
        # Not Corrupt: it says nothing about the data.
        return StorageError(why, directory=directory)

    def get(self, row: bytes) -> Record | None:
        try:
            blob = self._rocks.data.get(row)
        except Exception:
            with self._read_faults:
                raise
        return None if blob is None else _record(row, blob)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        cursor = self._cursor(self._rocks.data, start, end)
        return ((row, _record(row, blob)) for row, blob in cursor)

    def get_meta(self, name: bytes) -> bytes | None:
        with self._read_faults:
            blob: bytes | None = self._rocks.meta.get(name)
        return blob

    def get_votes(self, row: bytes) -> bytes | None:
        try:
            blob = self._rocks.votes.get(row)
        except Exception:
            with self._read_faults:
                raise
        return None if blob is None else open_votes(row, blob)

    def scan_votes(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        cursor = self._cursor(self._rocks.votes, start, end)
        return ((row, sound_votes(row, blob)) for row, blob in cursor)

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._cursor(self._rocks.hints, start, end)

    def _cursor(self, family: Rdict, start: bytes, end: bytes) -> Cursor:
        with self._read_faults:
            cursor = Cursor(family, start, end, self._read_faults)
        self._cursors.add(cursor)
        return cursor

    def write(self, batch: Batch) -> None:
        self._make_sure_of_room()
        rocks = self._rocks
        deleted: list[bytes] = []
        lone = _lone_entry(batch, rocks)
        if lone is not None:
            family, row, blob = lone
            self._room_bytes -= _LOG_BYTES + len(row) + len(blob)
            store = partial(family.put, row, blob)
        else:
            blobs = _blobs_of(batch, rocks, deleted)
            self._room_bytes -= blobs.size_in_bytes()
            store = partial(rocks.database.write, blobs)
        try:
            store(self._write_options)
        except Exception:
            try:
                with self._faults:
                    raise
            except DiskFull:
                self._room_bytes = 0
                rocks.reopen_at = time.monotonic() + _REOPEN_PAUSE_SECONDS
                raise
        if batch.dropped_rows or batch.dropped_hints:
            rocks.reclaimer.reclaim(data=batch.dropped_rows, hints=batch.dropped_hints)
        if deleted:
            self._reclaim_deleted(rocks, deleted)

    def _reclaim_deleted(self, rocks: Database, rows: list[bytes]) -> None:
        """Have rows that were deleted one by one make room, once there are many: until they are
        compacted every scan passes over them."""
        self._deleted += len(rows)
        span = self._deleted_span
        first, last = (min(rows), max(rows)) if span is None else span
        self._deleted_span = first, last = min(first, *rows), max(last, *rows)
        if self._deleted < RECLAIM_DELETES_MIN:
            return
        with self._faults:
            rows_left = rocks.data.property_int_value("rocksdb.estimate-num-keys") or 0
        if self._deleted * RECLAIM_SHARE >= rows_left:
            rocks.reclaimer.reclaim(data=[(first, last + b"\0")], hints=[])
            self._deleted, self._deleted_span = 0, None

    def _make_sure_of_room(self) -> None:
        now = time.monotonic()
        if now < self._ask_at and self._room_bytes > 0:
            return
        try:
            disk = os.statvfs(self._directory.path)
        except OSError:
            with self._faults:
                raise
        free = disk.f_bavail * disk.f_frsize
        reserve = min(RESERVE_BYTES_MAX, disk.f_blocks * disk.f_frsize // RESERVE_SHARE)
        self._room_bytes = 0
        if free < reserve:
            raise DiskFull("no space left but the reserve", free_bytes=free, reserve_bytes=reserve)
        self._make_sure_of_log()
        self._room_bytes = free - reserve
        self._ask_at = now + _ROOM_SECONDS

    def _make_sure_of_log(self) -> None:
        """DiskFull while RocksDB's log refuses writes because it met a full disk."""
        # Read once: the sync's thread may set it meanwhile.
        rocks = self._open
        if rocks is not None:
            if rocks.reopen_at is None:
                return
            if time.monotonic() >= rocks.reopen_at:
                # On this thread and not the sync's, because this one reads.
                self._outgoing = rocks
                self._open = None
                self._drop_cursors()
        elif self._is_closed:
            raise self._why_unusable()
        raise DiskFull("the disk was full a moment ago", directory=str(self._directory.path))

    def _drop_cursors(self) -> None:
        for cursor in self._cursors:
            cursor.invalidate()

    def note_next(self) -> None:
        self._must_note = True

    def sync(self) -> None:
        with self._syncing:
            try:
                # Read once: `write` may set it to None meanwhile.
                rocks = self._open
                if rocks is None:
                    rocks = self._reopen()
                self._sync(rocks)
                if self._must_note:
                    self._note(rocks)
            except BaseException:
                self._has_sync_failed = True
                raise

    def _reopen(self) -> Database:
        """Get RocksDB over a full disk: it replays its log and stores what was in memory."""
        if self._outgoing is None:
            raise self._why_unusable()
        self._outgoing.close(self._faults)
        self._outgoing = None
        try:
            with self._faults:
                rocks = Database(self._directory.rocks, self._directory.noted())
        except DiskFull as error:
            # Nothing can be read now, so waiting for room is no answer any more.
            raise StorageError(str(error)) from error
        self._open = rocks
        return rocks

    def _sync(self, rocks: Database) -> None:
        try:
            rocks.database.flush_wal(True)
        except Exception:
            try:
                with self._faults:
                    raise
            except LogRefuses:
                self._sync_log_files()

    def _note(self, rocks: Database) -> None:
        """Note how much is there and durable. If that cannot be now, the next sync tries again."""
        if rocks.reopen_at is None:
            noted = Noted(rocks.database.latest_sequence_number(), logs_of(self._directory.rocks))
            self._sync(rocks)
            # A sync does not fail for want of a note: the one before is still true.
            with contextlib.suppress(StorageError):
                self._directory.note(noted)
                self._must_note = False

    def _sync_log_files(self) -> None:
        """Sync the log behind RocksDB's back. Every batch that `write` took is whole in a file;
        the one that met the full disk is cut short, and so never replayed."""
        with self._faults:
            for path in self._directory.rocks.glob("*.log"):
                # RocksDB deletes a log whose entries are all stored elsewhere.
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    os.fsync(file.fileno())
            # A log that was begun since the last sync is not in the directory yet.
            sync_entries(self._directory.rocks)

    def bytes_used(self) -> int:
        rocks = self._open
        if rocks is None:
            return 0
        with self._faults:
            return sum(
                (family.property_int_value("rocksdb." + name) or 0)
                for family in (rocks.data, rocks.hints, rocks.meta, rocks.votes)
                for name in ("total-sst-files-size", "cur-size-all-mem-tables")
            )

    def close(self) -> None:
        with self._syncing:
            if self._is_closed:
                return
            self._is_closed = True
            rocks = self._open or self._outgoing
            self._open = self._outgoing = None
            self._drop_cursors()
            try:
                if self._has_sync_failed:
                    raise StorageError("not all that was written is durable: a sync failed")
                if rocks is not None:
                    self._sync(rocks)
                    self._note(rocks)
                    rocks.close(self._faults)
            finally:
                # RocksDB ends with the last reference, without a flush where a sync has failed.
                del rocks
                self._directory.release()


def _lone_entry(batch: Batch, rocks: Database) -> tuple[Rdict, bytes, bytes] | None:
    """Where to put what, if the batch is to put one record, or the votes of one row, and nothing
    else, as is so of a write alone in its turn: to make a batch of it costs more than to store it.
    """
    records, votes = batch.records, batch.votes
    if len(records) + len(votes) != 1 or batch.hints or batch.meta:
        return None
    if batch.dropped_rows or batch.dropped_hints:
        return None
    if votes:
        row, voted = votes[0]
        return None if voted is None else (rocks.votes, row, seal(row, voted))
    row, record = records[0]
    return None if record is None else (rocks.data, row, encode_stored(row, record))


def _blobs_of(batch: Batch, rocks: Database, deleted: list[bytes]) -> WriteBatch:
    """What RocksDB is to do, in order. Adds to `deleted` the rows that are deleted one by one."""
    blobs = WriteBatch(raw_mode=True)
    put, data = blobs.put, rocks.data_handle
    if batch.dropped_rows or batch.dropped_hints:
        # As few as can be: a seek into a dropped range goes through all that follow without a gap.
        for start, end in merged(batch.dropped_rows):
            blobs.delete_range(start, end, data)
            blobs.delete_range(start, end, rocks.votes_handle)
        for start, end in merged(batch.dropped_hints):
            blobs.delete_range(start, end, rocks.hints_handle)
    for row, record in batch.records:
        if record is None:
            blobs.delete(row, data)
            deleted.append(row)
        else:
            put(row, encode_stored(row, record), data)
    for handle, changes in ((rocks.hints_handle, batch.hints), (rocks.meta_handle, batch.meta)):
        for name, blob in changes:
            if blob is None:
                blobs.delete(name, handle)
            else:
                put(name, blob, handle)
    for row, voted in batch.votes:
        if voted is None:
            blobs.delete(row, rocks.votes_handle)
        else:
            put(row, seal(row, voted), rocks.votes_handle)
    return blobs


def _record(row: bytes, blob: bytes) -> Record:
    try:
        return decode_stored(row, blob)
    except FormatUnsupported as error:
        # One record that a newer release left behind is no reason to stop serving the others.
        raise Corrupt(str(error), row=row.hex()) from error
