# SPDX-License-Identifier: GPL-3.0-or-later
"""RocksEngine on a disk that fails a sync, or takes its time over one."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from quorate.errors import StorageError
from quorate.storage.database import Database
from quorate.storage.directory import Noted
from quorate.storage.logs import logs_of
from quorate.storage.rocks import RocksEngine
from tests.unit.storage.samples import EVERYTHING, numbered_batch, open_engine, record, row


def test_after_a_failed_sync_close_only_releases_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never tried again, and nothing more is said to be durable."""
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))
    tries = 0

    def failing_sync(_: object) -> None:
        nonlocal tries
        tries += 1
        raise StorageError("Input/output error")

    monkeypatch.setattr(engine, "_sync", failing_sync)
    with pytest.raises(StorageError):
        engine.sync()
    before = (tmp_path / "FORMAT").read_bytes()
    with pytest.raises(StorageError, match="not all"):
        engine.close()
    assert tries == 1
    assert (tmp_path / "FORMAT").read_bytes() == before
    again = open_engine(tmp_path)
    assert whole_numbered(again)
    again.close()


def whole_numbered(engine: RocksEngine) -> bool:
    """Whether the first numbered batch is there: it was in the log, which a process's end keeps."""
    return dict(engine.scan(*EVERYTHING)) == {row(number): record(number) for number in range(5)}


def test_a_sync_that_fails_at_close_is_told_and_the_directory_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))

    def failing_sync(_: object) -> None:
        raise StorageError("Input/output error")

    monkeypatch.setattr(engine, "_sync", failing_sync)
    with pytest.raises(StorageError, match="Input/output"):
        engine.close()
    engine.close()
    again = open_engine(tmp_path)
    assert whole_numbered(again)
    again.close()


def test_a_note_of_what_is_durable_that_fails_fails_no_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For want of a file descriptor, say: the note before is as true."""
    tries = 0

    def failing_note(_: object) -> None:
        nonlocal tries
        tries += 1
        raise StorageError("Too many open files")

    engine = open_engine(tmp_path)
    monkeypatch.setattr(engine._directory, "note", failing_note)
    engine.write(numbered_batch(0))
    engine.sync()
    assert tries == 0
    engine.note_next()
    for _ in range(2):
        engine.sync()
    # The second because the first could not.
    assert tries == 2
    engine.close()
    again = open_engine(tmp_path)
    assert whole_numbered(again)
    again.close()


def test_a_note_is_made_once_and_of_all_that_is_durable_by_then(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    before = (tmp_path / "FORMAT").read_bytes()
    engine.write(numbered_batch(0))
    engine.sync()
    assert (tmp_path / "FORMAT").read_bytes() == before
    engine.note_next()
    engine.sync()
    noted = (tmp_path / "FORMAT").read_bytes()
    logs = logs_of(tmp_path / "rocks")
    assert json.loads(noted) == {"format": 4, "engine": "rocksdb", "writes": 7, "logs": logs}
    engine.write(numbered_batch(1))
    engine.sync()
    assert (tmp_path / "FORMAT").read_bytes() == noted
    engine.close()


@pytest.mark.parametrize("is_at_close", [False, True])
def test_what_a_note_counts_was_synced_before_it_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_at_close: bool
) -> None:
    """Also if the loop's thread writes at any moment: what a sync may not cover is not counted."""
    engine = open_engine(tmp_path)
    sync, note = engine._sync, engine._directory.note
    counts: list[int] = []
    synced: list[int] = []

    def count() -> int:
        return engine._rocks.database.latest_sequence_number()

    def sync_among_writes(rocks: Database) -> None:
        before = rocks.database.latest_sequence_number()
        sync(rocks)
        synced.append(before)
        rocks.database[b"written meanwhile"] = b"by the other thread"

    def checked_note(noted: Noted) -> None:
        assert noted.writes <= synced[-1]
        counts.append(noted.writes)
        note(noted)

    monkeypatch.setattr(engine, "_sync", sync_among_writes)
    monkeypatch.setattr(engine._directory, "note", checked_note)
    engine.write(numbered_batch(0))
    wanted = count()
    if is_at_close:
        engine.close()
    else:
        engine.note_next()
        engine.sync()
        engine.close()
    assert counts[0] >= wanted


def test_close_waits_for_the_sync_under_way(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    closing = threading.Thread(target=engine.close)
    with engine._syncing:
        closing.start()
        closing.join(0.05)
        assert closing.is_alive()
        assert engine.get(row(0)) is None
    closing.join(30)
    assert not closing.is_alive()
    open_engine(tmp_path).close()
