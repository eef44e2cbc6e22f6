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
from quorate.storage.directory import DataDirectory, Noted

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


def test_of_a_new_directory_nothing_is_noted(tmp_path: Path) -> None:
    held = DataDirectory(tmp_path)
    assert held.noted() is None
    for writes in (0, 17, 2**63):
        (tmp_path / "rocks").mkdir(exist_ok=True)
        held.note(Noted(writes, ["000004.log"]))
        assert held.noted() == (writes, ["000004.log"], 4)
    held.release()


def held_with_note(tmp_path: Path) -> DataDirectory:
    held = DataDirectory(tmp_path)
    held.rocks.mkdir()
    held.note(Noted(123, ["000004.log", "000017.log"]))
    return held


def test_the_format_file_is_one_line_of_json(tmp_path: Path) -> None:
    held_with_note(tmp_path).release()
    text = (tmp_path / "FORMAT").read_text()
    logs = '["000004.log","000017.log"]'
    assert text == f'{{"format":4,"engine":"rocksdb","writes":123,"logs":{logs}}}\n'


@pytest.mark.parametrize("other", [2, 5])
def test_another_format_is_refused_with_both_numbers(tmp_path: Path, other: int) -> None:
    held = DataDirectory(tmp_path)
    (tmp_path / "FORMAT").write_text(f'{{"format": {other}, "something": "new"}}\n')
    with pytest.raises(FormatUnsupported) as caught:
        held.noted()
    assert caught.value.facts == {"directory": str(tmp_path), "found": other, "supported": 4}
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
        b'{"format":3,"logs":["../x"]}',
        b"\xff",
        b'{"format":4,"engine":"\xff"}',
    ],
)
def test_a_damaged_format_file_is_refused(tmp_path: Path, content: bytes) -> None:
    held = DataDirectory(tmp_path)
    (tmp_path / "FORMAT").write_bytes(content)
    with pytest.raises(StorageError, match="FORMAT file is damaged") as caught:
        held.noted()
    assert type(caught.value) is StorageError
    held.release()


def test_a_format_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    held = held_with_note(tmp_path)
    whole = (tmp_path / "FORMAT").read_bytes()
    for length in range(len(whole) - 1):
        (tmp_path / "FORMAT").write_bytes(whole[:length])
        with pytest.raises(StorageError):
            held.noted()
    held.release()


def test_a_file_in_the_place_of_the_directory_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError) as caught:
            DataDirectory(path)
        assert str(tmp_path / "file") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_name_that_is_not_utf8_is_refused_before_the_directory_is_made(tmp_path: Path) -> None:
    """RocksDB takes none."""
    with pytest.raises(StorageError, match="has to be UTF-8"):
        DataDirectory(tmp_path / "\udcff" / "below")
    assert list(tmp_path.iterdir()) == []


# --- the order of what is to survive a power cut -----------------------------------------------


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this process made, renamed and synced, in order; of files with what was in them."""
    story: list[str] = []
    mkdir, rename, fsync = os.mkdir, os.rename, os.fsync

    def name(path: str | Path) -> str:
        return str(Path(path).relative_to(tmp_path))

    def noting_mkdir(path: Path, mode: int = 0o777) -> None:
        mkdir(path, mode)
        story.append(f"make {name(path)}")

    def noting_rename(source: Path, target: Path) -> None:
        rename(source, target)
        story.append(f"rename {name(source)} to {name(target)}")

    def noting_fsync(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        content = f": {path.read_text().strip()}" if path.is_file() else ""
        story.append(f"sync {name(path)}{content}")

    monkeypatch.setattr(os, "mkdir", noting_mkdir)
    monkeypatch.setattr(os, "rename", noting_rename)
    monkeypatch.setattr(os, "fsync", noting_fsync)
    return story


def test_each_directory_that_is_made_is_synced_where_it_stands(
    tmp_path: Path, calls: list[str]
) -> None:
    """Also by who finds it made: its maker may have been killed in between."""
    DataDirectory(tmp_path / "a" / "b").release()
    made = [calls.index(f"make {each}") for each in ("a", "a/b")]
    synced = [calls.index(f"sync {each}") for each in (".", "a")]
    assert max(made) < min(synced)
    calls.clear()
    DataDirectory(tmp_path / "a" / "b").release()
    assert calls == ["sync a"]


def test_a_note_replaces_the_one_before_once_it_is_durable_itself(
    tmp_path: Path, calls: list[str]
) -> None:
    held = DataDirectory(tmp_path / "a")
    held.rocks.mkdir()
    calls.clear()
    held.note(Noted(5, ["000004.log"]))
    assert calls == [
        "sync a/rocks",
        'sync a/FORMAT.new: {"format":4,"engine":"rocksdb","writes":5,"logs":["000004.log"]}',
        "rename a/FORMAT.new to a/FORMAT",
        "sync a",
    ]
    held.release()
