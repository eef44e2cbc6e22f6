# SPDX-License-Identifier: GPL-3.0-or-later
"""RocksEngine on a disk that fails a sync, or takes its time over one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from quorate.errors import StorageError
from quorate.storage import rocks
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

    def failing_promise(_: Path, *, writes: int) -> None:
        nonlocal tries
        tries += 1
        raise StorageError("Too many open files", writes=writes)

    monkeypatch.setattr(rocks, "_PROMISE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(rocks, "promise", failing_promise)
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))
    engine.sync()
    assert tries == 1
    engine.close()
    again = open_engine(tmp_path)
    assert whole_numbered(again)
    again.close()


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
