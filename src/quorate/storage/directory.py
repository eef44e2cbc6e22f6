# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory: who may use it, and which release wrote it.

    LOCK     held with flock by the process that uses the directory; holds its process id
    FORMAT   one line of JSON: the format, a count of writes that are surely durable, and the logs
    rocks/   RocksDB's files

RocksDB's own lock and files are not enough. Its lock's message tells nobody what to do. With a file
lost, or cut short, it may open empty or as it was some time ago, and a replica must never forget
what it acknowledged. FORMAT is written last when the directory is made. Where it is, data must be
too: at least as much as it says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec

from quorate.errors import FormatUnsupported, StorageError, StorageLocked
from quorate.storage.faults import Faults

FORMAT: Final = 4
"""Of the directory as a whole, 1 that of release 0.1.0; records carry a format of their own
(`core.values.record`)."""
FORMAT_MIN: Final = 3
"""Taken as well: it differs only in that it has no family of votes yet."""


class Noted(NamedTuple):
    """What was surely there at some time: a database that lacks any of it is not whole."""

    writes: int
    """As RocksDB counts them."""
    logs: list[str]
    """File names, oldest first; those that are not needed any more may be gone."""
    format: int = FORMAT


class _Format(msgspec.Struct):
    format: Annotated[int, msgspec.Meta(ge=1)]
    engine: str = ""
    writes: Annotated[int, msgspec.Meta(ge=0)] = 0
    logs: list[Annotated[str, msgspec.Meta(pattern=r"^[0-9]+\.log$")]] = []


class DataDirectory:
    """A directory that this process has to itself until `release`."""

    def __init__(self, path: Path) -> None:
        """Make the directory if need be, and lock it. StorageLocked; StorageError if it cannot be
        made or written."""
        self.path: Final = path
        self.rocks: Final = path / "rocks"
        self.faults: Final = Faults(path)
        try:
            str(path).encode()
        except UnicodeEncodeError:
            # RocksDB takes no other.
            raise StorageError(
                "the name of a data directory has to be UTF-8", directory=str(path)
            ) from None
        with self.faults:
            _make_durably(path)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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

    def noted(self) -> Noted | None:
        """What `note` noted last; None if nothing was, as the directory was not made to the end.

        FormatUnsupported if another release wrote it, StorageError if it cannot be read.
        """
        with self.faults:
            try:
                text = (self.path / "FORMAT").read_bytes()
            except FileNotFoundError:
                return None
        try:
            found = msgspec.json.decode(text, type=_Format)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(
                "the FORMAT file is damaged", directory=str(self.path), reason=str(error)
            ) from error
        if not FORMAT_MIN <= found.format <= FORMAT:
            raise FormatUnsupported(
                "the data directory was written by another release",
                directory=str(self.path),
                found=found.format,
                supported=FORMAT,
            )
        return Noted(found.writes, found.logs, found.format)

    def note(self, noted: Noted) -> None:
        """Write FORMAT, durably. What it counts must be durable already."""
        with self.faults:
            # The logs that it names are there after a power cut too.
            sync_entries(self.rocks)
            fresh = self.path / "FORMAT.new"
            with fresh.open("wb") as file:
                told = _Format(noted.format, "rocksdb", noted.writes, noted.logs)
                text = msgspec.json.encode(told)
                file.write(text + b"\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self.path / "FORMAT")
            sync_entries(self.path)

    def release(self) -> None:
        """Let others use the directory. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _make_durably(path: Path) -> None:
    """Make a directory and those above it so that they survive a power cut."""
    if path.exists() and not path.is_dir():  # mkdir would say that it exists.
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    missing = [part for part in path.parents if not part.exists()]
    path.mkdir(0o700, parents=True, exist_ok=True)
    for part in missing:
        sync_entries(part.parent)
    # Also if it was there: whoever made it may have been killed before this.
    with contextlib.suppress(PermissionError):
        sync_entries(path.parent)


def sync_entries(directory: Path) -> None:
    """Make what was created, renamed or deleted in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
