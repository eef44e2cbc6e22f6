# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine on disk: RocksDB through rocksdict, one column family for each family of entries.

How durability is reached: `write` puts a batch into RocksDB's log (WAL) without waiting for the
disk, which survives the process; `sync` makes the log survive the machine, in another thread, and
releases the GIL, which a synced write would not.

A full disk: `write` asks the file system first and keeps a reserve, so RocksDB hardly ever meets
one. If it does, its log refuses everything from then on, a sync too; then the log's files are
synced directly, reads go on, and once there is room RocksDB is closed and opened again, which
stores what its log holds.

What it cannot see: an end cut off its newest log looks like the end that a crash tears off. `close`
therefore leaves the log empty.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakSet

from rocksdict import Cache, Checkpoint, ColumnFamily, Rdict, RdictIter, WriteBatch

from quorate.core.events import Batch
from quorate.core.record import Record
from quorate.errors import DiskFull, StorageError
from quorate.storage import tuning
from quorate.storage.directory import DataDirectory, complete
from quorate.storage.faults import Faults, LogRefuses
from quorate.storage.logs import check_logs
from quorate.wire.records import decode, encode

RESERVE_BYTES_MAX: Final = 256 << 20
"""Free space that is not written into: a flush of all memtables and a compaction need it."""
RESERVE_SHARE: Final = 16
"""Of a small file system the reserve is this fraction."""
_REOPEN_PAUSE_SECONDS: Final = 5.0
"""Between two tries to get over a full disk."""


class _Rocks:
    """An open RocksDB. It stays open for as long as any handle or cursor that it gave is alive."""

    def __init__(self, path: Path, *, create: bool) -> None:
        cache = Cache(tuning.BLOCK_CACHE_BYTES)
        families = {
            name: tuning.family_options(memtable_bytes=memtable_bytes, cache=cache)
            for name, memtable_bytes in tuning.MEMTABLE_BYTES.items()
        }
        check_logs(path)
        options = tuning.database_options(create=create)
        self.database = Rdict(str(path), options, column_families=families)
        self.data = self.database.get_column_family("data")
        self.hints = self.database.get_column_family("hints")
        self.meta = self.database.get_column_family("meta")
        handle = self.database.get_column_family_handle
        self.data_handle: ColumnFamily | None = handle("data")
        self.hints_handle: ColumnFamily | None = handle("hints")
        self.meta_handle: ColumnFamily | None = handle("meta")

    def flush(self) -> None:
        """Store the memtables; the log is empty afterwards."""
        for family in (self.data, self.hints, self.meta):
            family.flush()

    def close(self, faults: Faults) -> None:
        """Flush and let go. What a failing flush leaves is in the log. Idempotent."""
        self.data_handle = self.hints_handle = self.meta_handle = None
        for part in (self.data, self.hints, self.meta, self.database):
            with contextlib.suppress(StorageError), faults:
                part.close()


class _Cursor:
    """Entries from `start` to before `end`, as they were when this was made."""

    def __init__(self, family: Rdict, start: bytes, end: bytes, faults: Faults) -> None:
        self._faults = faults
        self._rows: RdictIter | None = family.iter(tuning.scan_options(end))
        self._rows.seek(start)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        rows = self._rows
        if rows is None:
            raise StorageError("the engine was closed during a scan")
        if not rows.valid():
            # At the end and at damage alike: only the status tells them apart.
            with self._faults:
                rows.status()
            raise StopIteration
        entry = rows.key(), rows.value()
        rows.next()
        return entry

    def invalidate(self) -> None:
        self._rows = None


class RocksEngine:
    """Satisfies `Engine`. Made by `open`."""

    def __init__(self, directory: DataDirectory, rocks: _Rocks, *, needs_sync: bool) -> None:
        self.needs_sync = needs_sync
        self._directory = directory
        self._faults = directory.faults
        self._rocks = rocks
        self._closed = False
        self._write_options = tuning.write_options()
        self._cursors: WeakSet[_Cursor] = WeakSet()
        self._syncing = threading.Lock()
        """Held while the sync thread uses `_rocks`, and to replace it."""
        self._reopen_at: float | None = None
        """Set while RocksDB refuses writes because it met a full disk: when to try again."""

    @classmethod
    def open(cls, directory: Path, *, durability: str) -> RocksEngine:
        """The engine of a data directory, made if missing. `durability` is `sync` or `os`.

        StorageLocked, FormatUnsupported, Corrupt, DiskFull, StorageError.
        """
        held = DataDirectory(directory)
        try:
            rocks = _open_rocks(held)
        except BaseException:
            held.release()
            raise
        return cls(held, rocks, needs_sync=durability == "sync")

    def get(self, row: bytes) -> Record | None:
        with self._faults:
            blob = self._rocks.data.get(row)
        return None if blob is None else decode(row, blob)

    def get_many(self, rows: Sequence[bytes]) -> list[Record | None]:
        with self._faults:
            blobs: list[bytes | None] = self._rocks.data.get(list(rows)) or []
        return [
            None if blob is None else decode(row, blob)
            for row, blob in zip(rows, blobs, strict=True)
        ]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        cursor = self._cursor(self._rocks.data, start, end)
        return ((row, decode(row, blob)) for row, blob in cursor)

    def get_meta(self, name: bytes) -> bytes | None:
        with self._faults:
            blob: bytes | None = self._rocks.meta.get(name)
        return blob

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self._cursor(self._rocks.hints, start, end)

    def _cursor(self, family: Rdict, start: bytes, end: bytes) -> _Cursor:
        with self._faults:
            cursor = _Cursor(family, start, end, self._faults)
        self._cursors.add(cursor)
        return cursor

    def write(self, batch: Batch) -> None:
        """As the contract says; returns late once after a full disk, when RocksDB is opened
        again."""
        self._make_sure_of_room()
        rocks = self._rocks
        blobs = WriteBatch(raw_mode=True)
        for row, record in batch.records:
            blobs.put(row, encode(row, record), rocks.data_handle)
        for handle, changes in (
            (rocks.hints_handle, batch.hints),
            (rocks.meta_handle, batch.meta),
        ):
            for name, blob in changes:
                if blob is None:
                    blobs.delete(name, handle)
                else:
                    blobs.put(name, blob, handle)
        try:
            with self._faults:
                rocks.database.write(blobs, self._write_options)
        except DiskFull:
            self._reopen_at = time.monotonic() + _REOPEN_PAUSE_SECONDS
            raise

    def _make_sure_of_room(self) -> None:
        with self._faults:
            disk = os.statvfs(self._directory.path)
        free = disk.f_bavail * disk.f_frsize
        reserve = min(RESERVE_BYTES_MAX, disk.f_blocks * disk.f_frsize // RESERVE_SHARE)
        if free < reserve:
            raise DiskFull("no space left but the reserve", free_bytes=free, reserve_bytes=reserve)
        if self._reopen_at is not None:
            self._reopen(self._reopen_at)

    def _reopen(self, when: float) -> None:
        """Get RocksDB over a full disk: it replays its log and stores what was in memory."""
        if time.monotonic() < when:
            raise DiskFull("the disk was full a moment ago", directory=str(self._directory.path))
        with self._syncing:
            self._release_rocks()
            try:
                with self._faults:
                    self._rocks = _Rocks(self._directory.rocks, create=False)
            except DiskFull as error:
                # Nothing can be read now: no longer a matter of waiting.
                raise StorageError(str(error)) from error
        self._reopen_at = None

    def _release_rocks(self) -> None:
        for cursor in self._cursors:
            cursor.invalidate()
        self._rocks.close(self._faults)

    def sync(self) -> None:
        with self._syncing:
            try:
                with self._faults:
                    self._rocks.database.flush_wal(True)
            except LogRefuses:
                self._sync_log_files()

    def _sync_log_files(self) -> None:
        """Sync the log behind RocksDB's back. Every batch that `write` took is whole in a file;
        the one that met the full disk is cut short, and so never replayed."""
        with self._faults:
            for path in self._directory.rocks.glob("*.log"):
                # RocksDB deletes a log whose entries are all stored elsewhere.
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    os.fsync(file.fileno())

    def bytes_used(self) -> int:
        rocks = self._rocks
        with self._faults:
            return sum(
                (family.property_int_value("rocksdb." + name) or 0)
                for family in (rocks.data, rocks.hints, rocks.meta)
                for name in ("total-sst-files-size", "cur-size-all-mem-tables")
            )

    def checkpoint(self, directory: Path) -> None:
        if directory.exists():
            raise StorageError("the directory of a checkpoint must not exist", path=str(directory))
        with Faults(directory):
            directory.mkdir(parents=True)
            # Else the checkpoint does it, and holds the GIL meanwhile.
            self._rocks.flush()
            Checkpoint(self._rocks.database).create_checkpoint(str(directory / "rocks"))
        complete(directory)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.sync()
        finally:
            self._release_rocks()
            self._directory.release()


def _open_rocks(held: DataDirectory) -> _Rocks:
    known = held.is_complete()
    with held.faults:
        rocks = _Rocks(held.rocks, create=not known)
    if known:
        return rocks
    try:
        if rocks.database.latest_sequence_number() > 0:
            raise StorageError(
                "the FORMAT file is missing from a directory that holds data",
                directory=str(held.path),
            )
        held.complete()
    except BaseException:
        rocks.close(held.faults)
        raise
    return rocks
