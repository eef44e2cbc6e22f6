# SPDX-License-Identifier: GPL-3.0-or-later
"""Every text and error number that the engine may meet has its class."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError, StorageLocked
from quorate.storage.faults import Faults, LogRefuses, ReadFaults

FAULTS = Faults(Path("/data"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("IO error: No space left on device: While appending to file: 4.log", DiskFull),
        ("IO error: Disk quota exceeded: While appending to file: 4.log", DiskFull),
        ("IO error: Writer has previous error.", LogRefuses),
        ("Operation aborted: Write stall", StorageBusy),
        ("Corruption: block checksum mismatch: stored = 1, computed = 2", Corrupt),
        ("IO error: lock hold by current process, acquire time 1", StorageLocked),
        ("IO error: While lock file: /data/rocks/LOCK: busy", StorageLocked),
        ("IO error: Input/output error: While fsync: 4.log", StorageError),
        ("Invalid argument: does not exist (create_if_missing is false)", StorageError),
    ],
)
def test_the_text_of_rocksdb_decides(text: str, wanted: type[StorageError]) -> None:
    with pytest.raises(StorageError) as caught, FAULTS:
        raise Exception(text)
    assert type(caught.value) is wanted
    assert caught.value.detail == text
    assert caught.value.facts == {"directory": "/data"}


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EROFS, StorageError),
        (errno.EIO, StorageError),
        (errno.EACCES, StorageError),
    ],
)
def test_the_error_number_of_the_system_decides(number: int, wanted: type[StorageError]) -> None:
    with pytest.raises(StorageError) as caught, FAULTS:
        raise OSError(number, "why", "/data/LOCK")
    assert type(caught.value) is wanted
    assert str(caught.value) == "why (path=/data/LOCK)"


def test_an_error_without_a_file_names_the_directory() -> None:
    with pytest.raises(StorageError, match="path=/data"), FAULTS:
        raise OSError(errno.EIO, "why")


def test_many_lines_become_one() -> None:
    with pytest.raises(StorageError) as caught, FAULTS:
        raise Exception("first\n  second\tthird")
    assert caught.value.detail == "first second third"


@pytest.mark.parametrize("error", [KeyError("a"), AssertionError(), Corrupt("b"), GeneratorExit()])
def test_mistakes_and_errors_of_the_taxonomy_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, FAULTS:
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("IO error: Input/output error: While pread offset 0 len 4096: 9.sst", Corrupt),
        ("IO error: No such file or directory: While open a file for random read: 9.sst", Corrupt),
        ("Corruption: block checksum mismatch: stored = 1, computed = 2", Corrupt),
        ("IO error: Too many open files: While open a file for random read", StorageError),
        ("IO error: Cannot allocate memory: While mmap", StorageError),
        ("Invalid argument: column family not found", StorageError),
    ],
)
def test_a_read_that_the_disk_fails_is_a_lost_record_and_not_a_lost_node(
    text: str, wanted: type[StorageError]
) -> None:
    """EIO on read."""
    with pytest.raises(StorageError) as caught, ReadFaults(Path("/data")):
        raise Exception(text)
    assert type(caught.value) is wanted
    assert caught.value.detail == text
