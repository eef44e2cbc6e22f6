# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory: who may use it, and which release wrote it.

    LOCK     held with flock by the process that uses the directory; holds its process id
    FORMAT   one line of JSON: the format, and a count of writes that are surely durable
    rocks/   RocksDB's files

RocksDB's own lock and files are not enough. Its lock's message tells nobody what to do. With a file
lost, or cut short, it may open empty or as it was some time ago, where a replica must never forget
what it acknowledged: FORMAT, written last when the directory is made, says that there is something
to be found, and how much of it at least.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from quorate.errors import FormatUnsupported, StorageError, StorageLocked
from quorate.storage.faults import Faults

FORMAT: Final = 2
"""Of the directory as a whole, 1 that of release 0.1.0; records carry a format of their own
(`wire.records`)."""


class _Format(msgspec.Struct):
    format: Annotated[int, msgspec.Meta(ge=1)]
    engine: str = ""
    writes: Annotated[int, msgspec.Meta(ge=0)] = 0


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

    def promised(self) -> int | None:
        """The count that `promise` left, None in a directory that was never made to the end.

        FormatUnsupported if another release wrote it, StorageError if it cannot be read.
        """
        with self.faults:
            try:
                text = (self.path / "FORMAT").read_bytes()
            except FileNotFoundError:
                return None
        try:
            found = msgspec.json.decode(text, type=_Format)
        except msgspec.DecodeError as error:
            raise StorageError(
                "the FORMAT file is damaged", directory=str(self.path), reason=str(error)
            ) from error
        if found.format != FORMAT:
            raise FormatUnsupported(
                "the data directory was written by another release",
                directory=str(self.path),
                found=found.format,
                supported=FORMAT,
            )
        return found.writes

    def release(self) -> None:
        """Let others use the directory. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def promise(path: Path, *, writes: int) -> None:
    """Write FORMAT, durably: a directory with fewer than `writes` writes is not whole."""
    with Faults(path):
        fresh = path / "FORMAT.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(_Format(FORMAT, "rocksdb", writes)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path / "FORMAT")
        sync_entries(path)


def _make_durably(path: Path) -> None:
    """Make a directory and those above it so that they survive a power cut."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for part in missing:
        sync_entries(part.parent)


def sync_entries(directory: Path) -> None:
    """Make what was created, renamed or deleted in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
