# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory: who may use it, and which release wrote it.

    LOCK     held with flock by the process that uses the directory; holds its process id
    FORMAT   one line of JSON, written last when the directory is made: with it, the rest is whole
    rocks/   RocksDB's files

The engine's own lock and files are not enough: its lock's message tells nobody what to do, and
with a lost file it might start anew, empty, where a replica must never forget what it acknowledged.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import Final

from quorate.errors import FormatUnsupported, StorageError, StorageLocked
from quorate.storage.faults import Faults

FORMAT: Final = 1
"""Of the directory as a whole; records carry a format of their own (`wire.records`)."""


class DataDirectory:
    """A directory that this process has to itself until `release`."""

    def __init__(self, path: Path) -> None:
        """Make the directory if need be, and lock it. StorageLocked; StorageError if it cannot be
        made or written."""
        self.path: Final = path
        self.rocks: Final = path / "rocks"
        self.faults: Final = Faults(path)
        with self.faults:
            _make_durably(path)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take_lock()
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            raise StorageLocked(
                "another process uses the data directory",
                directory=str(self.path),
                pid=holder or "unknown",
            ) from None
        with self.faults:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)

    def is_complete(self) -> bool:
        """Whether FORMAT is there, and ours. FormatUnsupported if it is of a newer release,
        StorageError if it cannot be read."""
        with self.faults:
            try:
                text = (self.path / "FORMAT").read_bytes()
            except FileNotFoundError:
                return False
        found = None
        with contextlib.suppress(ValueError):
            found = json.loads(text)
        number = found.get("format") if isinstance(found, dict) else None
        if not isinstance(number, int) or number < 1:
            raise StorageError("the FORMAT file is damaged", directory=str(self.path))
        if number > FORMAT:
            raise FormatUnsupported(
                "the data directory was written by a newer release",
                directory=str(self.path),
                format=number,
                supported=FORMAT,
            )
        return True

    def complete(self) -> None:
        """Write FORMAT, durably."""
        complete(self.path)

    def release(self) -> None:
        """Let others use the directory. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def complete(path: Path) -> None:
    """Mark the directory as whole: write its FORMAT file, durably."""
    with Faults(path):
        fresh = path / "FORMAT.new"
        with fresh.open("wb") as file:
            file.write(json.dumps({"format": FORMAT, "engine": "rocksdb"}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path / "FORMAT")
        _sync_entries(path)


def _make_durably(path: Path) -> None:
    """Make a directory and those above it so that they survive a power cut."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for part in missing:
        _sync_entries(part.parent)


def _sync_entries(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
