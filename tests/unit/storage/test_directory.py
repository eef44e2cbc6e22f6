# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory: one user, no newer release, nothing lost unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quorate.errors import FormatUnsupported, StorageError, StorageLocked
from quorate.storage.directory import DataDirectory, promise

HOLD = """
import sys
from pathlib import Path
from quorate.storage.directory import DataDirectory
held = DataDirectory(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_elsewhere(path: Path) -> Iterator[int]:
    """Another process that holds the directory; its id."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process.pid
        process.kill()


def test_a_second_process_is_refused_with_the_directory_and_the_holder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as pid, pytest.raises(StorageLocked) as caught:
        DataDirectory(tmp_path)
    assert caught.value.facts == {"directory": str(tmp_path), "pid": str(pid)}
    assert "\n" not in str(caught.value)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path):
        pass
    DataDirectory(tmp_path).release()


def test_one_process_cannot_take_a_directory_twice(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path)
    with pytest.raises(StorageLocked):
        DataDirectory(tmp_path)
    held.release()
    held.release()
    DataDirectory(tmp_path).release()


def test_a_refused_second_taker_leaves_the_holder_its_lock(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path)
    for _ in range(2):
        with pytest.raises(StorageLocked) as caught:
            DataDirectory(tmp_path)
        assert caught.value.facts["pid"] == str(os.getpid())
    held.release()


def test_missing_parents_are_made(tmp_path: Path) -> None:
    DataDirectory(tmp_path / "a" / "b").release()
    assert (tmp_path / "a" / "b" / "LOCK").exists()


def test_a_new_directory_promised_nothing(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path)
    assert held.promised() is None
    for writes in (0, 17, 2**63):
        promise(tmp_path, writes=writes)
        assert held.promised() == writes
    held.release()


def test_the_format_file_is_one_line_of_json(tmp_path: Path) -> None:
    promise(tmp_path, writes=5)
    text = (tmp_path / "FORMAT").read_text()
    assert text == '{"format":2,"engine":"rocksdb","writes":5}\n'


@pytest.mark.parametrize("other", [1, 3])
def test_another_format_is_refused_with_both_numbers(tmp_path: Path, other: int) -> None:
    held = DataDirectory(tmp_path)
    (tmp_path / "FORMAT").write_text(f'{{"format": {other}, "something": "new"}}\n')
    with pytest.raises(FormatUnsupported) as caught:
        held.promised()
    assert caught.value.facts == {"directory": str(tmp_path), "found": other, "supported": 2}
    held.release()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"1",
        b"[]",
        b'{"format":"1"}',
        b'{"format":0}',
        b'{"format":1,"writes":-1}',
        b"\xff",
    ],
)
def test_a_damaged_format_file_is_refused(tmp_path: Path, content: bytes) -> None:
    held = DataDirectory(tmp_path)
    (tmp_path / "FORMAT").write_bytes(content)
    with pytest.raises(StorageError, match="FORMAT file is damaged") as caught:
        held.promised()
    assert type(caught.value) is StorageError
    held.release()


def test_a_format_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path)
    promise(tmp_path, writes=123)
    whole = (tmp_path / "FORMAT").read_bytes()
    for length in range(len(whole) - 1):
        (tmp_path / "FORMAT").write_bytes(whole[:length])
        with pytest.raises(StorageError):
            held.promised()
    held.release()


def test_a_file_in_the_place_of_the_directory_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError) as caught:
            DataDirectory(path)
        assert str(tmp_path / "file") in str(caught.value)
        assert "\n" not in str(caught.value)
