# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where what RocksDB and the operating system raise becomes our taxonomy.

rocksdict raises bare `Exception`s that carry RocksDB's text, so the text has to decide.
"""

from __future__ import annotations

import errno
from pathlib import Path
from types import TracebackType
from typing import Final

from rocksdict import DbClosedError

from quorate.errors import Corrupt, DiskFull, QuorateError, StorageBusy, StorageError, StorageLocked


class LogRefuses(DiskFull):
    """RocksDB's log failed a write before, and now refuses to write or sync anything."""


_BY_TEXT: Final[tuple[tuple[str, type[StorageError]], ...]] = (
    ("Writer has previous error", LogRefuses),
    ("No space left", DiskFull),
    ("Disk quota exceeded", DiskFull),
    ("Write stall", StorageBusy),
    ("Corruption", Corrupt),
    ("checksum mismatch", Corrupt),
    ("lock hold by current process", StorageLocked),
    ("While lock file", StorageLocked),
)
_READING: Final[tuple[tuple[str, type[StorageError]], ...]] = (
    # These say nothing about the data.
    ("Too many open files", StorageError),
    ("Cannot allocate memory", StorageError),
    ("IO error", Corrupt),
)
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Faults:
    """`with faults:` around calls that may fail; one object serves all calls of a directory.

    What every request does has it around a bare `raise` where the call has failed: each `with`
    costs two calls of Python.
    """

    __slots__ = ("_by_text", "_directory")

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._by_text = _BY_TEXT

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        # Other classes are mistakes of ours: they pass.
        if error is not None and (kind in (Exception, DbClosedError) or isinstance(error, OSError)):
            raise self._translated(error) from error

    def _translated(self, error: BaseException) -> QuorateError:
        if isinstance(error, OSError):
            found = DiskFull if error.errno in _FULL else StorageError
            return found(error.strerror or str(error), path=str(error.filename or self._directory))
        line = " ".join(str(error).split())
        for text, wanted in self._by_text:
            if text in line:
                return wanted(line, directory=self._directory)
        return StorageError(line, directory=self._directory)


class ReadFaults(Faults):
    """The same around reads. What the disk does not give back is as lost as what it gives back
    wrong: Corrupt, which costs this replica's answer, and other replicas repair it."""

    __slots__ = ()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._by_text = _READING + _BY_TEXT
