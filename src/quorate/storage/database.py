# SPDX-License-Identifier: GPL-3.0-or-later
"""An open RocksDB with its column families, and cursors over them.

RocksDB cannot see all that is missing: an end cut off a log or a manifest looks like one that a
crash tore off, and a log that is gone like one that never was. So a count of durable writes and the
names of the logs are noted outside (`storage.directory`), and a database that has less is refused.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

from rocksdict import Cache, ColumnFamily, Rdict, RdictIter

from quorate.errors import Corrupt, StorageError
from quorate.storage import tuning
from quorate.storage.directory import FORMAT, DataDirectory, Noted
from quorate.storage.faults import Faults
from quorate.storage.logs import check_logs, logs_of
from quorate.storage.reclaim import Reclaimer


class Database:
    """An open RocksDB. It stays open for as long as any handle or cursor that it gave is alive."""

    def __init__(self, path: Path, noted: Noted | None) -> None:
        """Made if nothing was ever noted of it; Corrupt if a log is missing."""
        cache = Cache(tuning.BLOCK_CACHE_BYTES)
        share = random.uniform(*tuning.MEMTABLE_SHARES)
        families = {
            name: tuning.family_options(memtable_bytes=int(share * memtable_bytes), cache=cache)
            for name, memtable_bytes in tuning.MEMTABLE_BYTES.items()
        }
        check_logs(path, noted=None if noted is None else noted.logs)
        options = tuning.database_options(
            create=noted is None, create_families=noted is None or noted.format < FORMAT
        )
        self.database = Rdict(str(path), options, column_families=families)
        self.data = self.database.get_column_family("data")
        self.hints = self.database.get_column_family("hints")
        self.meta = self.database.get_column_family("meta")
        self.votes = self.database.get_column_family("votes")
        handle = self.database.get_column_family_handle
        self.data_handle: ColumnFamily | None = handle("data")
        self.hints_handle: ColumnFamily | None = handle("hints")
        self.meta_handle: ColumnFamily | None = handle("meta")
        self.votes_handle: ColumnFamily | None = handle("votes")
        self.reclaimer = Reclaimer(self.database)
        self.reopen_at: float | None = None
        """Set once its log refuses writes because it met a full disk: when to try another."""

    def close(self, faults: Faults) -> None:
        """Flush and let go. What a failing flush leaves is in the log. Idempotent."""
        self.reclaimer.stop()
        self.data_handle = self.hints_handle = self.meta_handle = self.votes_handle = None
        for part in (self.data, self.hints, self.meta, self.votes, self.database):
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
    noted = held.noted()
    with held.faults:
        rocks = Database(held.rocks, noted)
    try:
        _compare(rocks.database.latest_sequence_number(), noted, directory=str(held.path))
        held.note(Noted(rocks.database.latest_sequence_number(), logs_of(held.rocks)))
    except BaseException:
        rocks.close(held.faults)
        raise
    return rocks


def _compare(writes: int, noted: Noted | None, *, directory: str) -> None:
    if noted is None and writes > 0:
        raise StorageError(
            "the FORMAT file is missing from a directory that holds data", directory=directory
        )
    if noted is not None and writes < noted.writes:
        raise Corrupt(
            "durable writes are missing: a file is lost, cut short or an older copy",
            directory=directory,
            found=writes,
            wanted=noted.writes,
        )
