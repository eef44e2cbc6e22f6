# SPDX-License-Identifier: GPL-3.0-or-later
"""An open RocksDB with its column families, and cursors over them.

What RocksDB cannot see: an end cut off a log or a manifest looks like one that a crash tore off. So
a count of durable writes is kept outside (`storage.directory`), and a database that has fewer is
refused.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rocksdict import Cache, ColumnFamily, Rdict, RdictIter

from quorate.errors import Corrupt, StorageError
from quorate.storage import tuning
from quorate.storage.directory import DataDirectory, promise
from quorate.storage.faults import Faults

_BLOCK_BYTES: Final = 32 << 10
_HEADER_BYTES: Final = 7
_KIND_MAX: Final = 4
"""Padding, full, first, middle and last; all above are for options that are off."""


class Database:
    """An open RocksDB. It stays open for as long as any handle or cursor that it gave is alive."""

    def __init__(self, path: Path, *, create: bool) -> None:
        cache = Cache(tuning.BLOCK_CACHE_BYTES)
        share = random.uniform(*tuning.MEMTABLE_SHARES)
        families = {
            name: tuning.family_options(memtable_bytes=int(share * memtable_bytes), cache=cache)
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
        self.reopen_at: float | None = None
        """Set once its log refuses writes because it met a full disk: when to try another."""

    def close(self, faults: Faults) -> None:
        """Flush and let go. What a failing flush leaves is in the log. Idempotent."""
        self.data_handle = self.hints_handle = self.meta_handle = None
        for part in (self.data, self.hints, self.meta, self.database):
            with contextlib.suppress(StorageError), faults:
                part.close()


class Cursor:
    """Entries from `start` to before `end`, as they were when this was made."""

    def __init__(self, family: Rdict, start: bytes, end: bytes, faults: Faults) -> None:
        self._end = end
        self._faults = faults
        self._rows: RdictIter | None = family.iter(tuning.scan_options())
        self._rows.seek(start)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self

    def __next__(self) -> tuple[bytes, bytes]:
        rows = self._rows
        if rows is None:
            raise StorageError("the engine was closed during a scan")
        if rows.valid():
            key: bytes = rows.key()
            if key < self._end:
                blob: bytes = rows.value()
                rows.next()
                return key, blob
        else:
            # At the end and at damage alike: only the status tells them apart.
            with self._faults:
                rows.status()
        raise StopIteration

    def invalidate(self) -> None:
        """Let go of RocksDB; the scan fails if it goes on."""
        self._rows = None


def open_database(held: DataDirectory) -> Database:
    """The database of a directory, made in a new one. Corrupt if it is not all there."""
    promised = held.promised()
    with held.faults:
        rocks = Database(held.rocks, create=promised is None)
    try:
        _compare(rocks.database.latest_sequence_number(), promised, directory=str(held.path))
        promise(held.path, writes=rocks.database.latest_sequence_number())
    except BaseException:
        rocks.close(held.faults)
        raise
    return rocks


def _compare(writes: int, promised: int | None, *, directory: str) -> None:
    if promised is None and writes > 0:
        raise StorageError(
            "the FORMAT file is missing from a directory that holds data", directory=directory
        )
    if promised is not None and writes < promised:
        raise Corrupt(
            "durable writes are missing", directory=directory, found=writes, promised=promised
        )


def check_logs(directory: Path) -> None:
    """Corrupt if a log of this RocksDB holds a record of a kind that it never wrote.

    RocksDB checks its logs (WAL and MANIFEST) itself, but 9.8 loops for ever, the GIL held, over a
    record whose kind was flipped into one of the kinds for recycled files, which we never write. So
    the kinds are checked here; lengths and checksums are left to RocksDB.

    The format (RocksDB wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in them records of
    checksum (4), length (2, little-endian), kind (1) and payload; none begins in a block's last 6.
    """
    for pattern in ("MANIFEST-*", "*.log"):
        for path in sorted(directory.glob(pattern)):
            _check_log(path)


def _check_log(path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            if not _has_known_kinds(block):
                raise Corrupt("a log holds a record of unknown kind", path=str(path))


def _has_known_kinds(block: bytes) -> bool:
    at = 0
    while at + _HEADER_BYTES <= len(block):
        if block[at + 6] > _KIND_MAX:
            return False
        at += _HEADER_BYTES + (block[at + 4] | block[at + 5] << 8)
    return True
