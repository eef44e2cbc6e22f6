# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine on disk: RocksDB through rocksdict, one column family for each family of entries.

How durability is reached: `write` puts a batch into RocksDB's log (WAL) without waiting for the
disk, which survives the process; `sync` makes the log survive the machine, in another thread, and
releases the GIL, which a synced write would not.

A full disk: `write` asks the file system first and keeps a reserve, so RocksDB hardly ever meets
one. If it does, its log refuses everything from then on, a sync too; then the log's files are
synced directly, reads go on, and once there is room RocksDB is closed and opened again, which
stores what its log holds.

How much is surely durable is noted at open, at close and once a minute (`storage.database` says
why). What may be lost unseen is an end of the log from the last minute before a crash.
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

from rocksdict import Checkpoint, Rdict, WriteBatch

from quorate.core.events import Batch
from quorate.core.record import Record
from quorate.errors import DiskFull, StorageError
from quorate.storage import tuning
from quorate.storage.database import Cursor, Database, open_database
from quorate.storage.directory import DataDirectory, promise
from quorate.storage.faults import Faults, LogRefuses
from quorate.wire.records import decode, encode

RESERVE_BYTES_MAX: Final = 256 << 20
"""Free space that is not written into: a flush of all memtables and a compaction need it."""
RESERVE_SHARE: Final = 16
"""Of a small file system the reserve is this fraction."""
_REOPEN_PAUSE_SECONDS: Final = 5.0
"""Between two tries to get over a full disk."""
_PROMISE_PAUSE_SECONDS: Final = 60.0
"""Between two notes of how much is durable."""


class RocksEngine:
    """Satisfies `Engine`. Made by `open`."""

    def __init__(self, directory: DataDirectory, rocks: Database, *, needs_sync: bool) -> None:
        self.needs_sync = needs_sync
        self._directory = directory
        self._faults = directory.faults
        self._rocks = rocks
        self._closed = False
        self._write_options = tuning.write_options()
        self._cursors: WeakSet[Cursor] = WeakSet()
        self._syncing = threading.Lock()
        """Held while the sync thread uses `_rocks`, and to replace it."""
        self._reopen_at: float | None = None
        """Set while RocksDB refuses writes because it met a full disk: when to try again."""
        self._promise_at = time.monotonic() + _PROMISE_PAUSE_SECONDS

    @classmethod
    def open(cls, directory: Path, *, durability: str) -> RocksEngine:
        """The engine of a data directory, made if missing. `durability` is `sync` or `os`.

        StorageLocked, FormatUnsupported, Corrupt, DiskFull, StorageError.
        """
        held = DataDirectory(directory)
        try:
            rocks = open_database(held)
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

    def _cursor(self, family: Rdict, start: bytes, end: bytes) -> Cursor:
        with self._faults:
            cursor = Cursor(family, start, end, self._faults)
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
                    self._rocks = Database(self._directory.rocks, create=False)
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
            self._sync()
            if time.monotonic() >= self._promise_at:
                self._promise()

    def _sync(self) -> None:
        try:
            with self._faults:
                self._rocks.database.flush_wal(True)
        except LogRefuses:
            self._sync_log_files()

    def _promise(self) -> None:
        """Note how much is there and durable."""
        self._promise_at = time.monotonic() + _PROMISE_PAUSE_SECONDS
        if self._reopen_at is None:
            writes = self._rocks.database.latest_sequence_number()
            self._sync()
            # Not worth failing for: an older note is as true.
            with contextlib.suppress(DiskFull):
                promise(self._directory.path, writes=writes)

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
            writes = self._rocks.database.latest_sequence_number()
            Checkpoint(self._rocks.database).create_checkpoint(str(directory / "rocks"))
        promise(directory, writes=writes)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._promise_at = 0.0
        try:
            self.sync()
        finally:
            self._release_rocks()
            self._directory.release()
