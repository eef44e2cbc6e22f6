# SPDX-License-Identifier: GPL-3.0-or-later
"""What is dropped gives its room on disk back, without anybody's doing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quorate.core.values.record import Record
from quorate.core.values.slots import PARTITION_COUNT, partition_bounds
from quorate.core.values.versions import pack_version
from quorate.storage import reclaim
from quorate.storage.rocks import RocksEngine
from tests.unit.client.scripted import wait_until
from tests.unit.storage.samples import EVERYTHING, batch, open_engine, record, row

ROWS, ROWS_PER_BATCH = 100_000, 1_000


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaim, "PAUSE_SECONDS", 0.01)


def fill(engine: RocksEngine) -> None:
    """100,000 rows that cannot be compressed, some of them in tables, the rest in memory."""
    for first in range(0, ROWS, ROWS_PER_BATCH):
        numbers = range(first, first + ROWS_PER_BATCH)
        version = pack_version(1, 1)
        rows = [(row(number), Record(version, os.urandom(100))) for number in numbers]
        engine.write(batch(rows, hints=[(b"%d" % first, os.urandom(10_000))]))
        if first == ROWS // 2:
            engine._rocks.data.flush()
            engine._rocks.hints.flush()


@pytest.mark.usefixtures("prompt")
def test_room_comes_back_and_what_was_not_dropped_stays(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    fill(engine)
    engine.write(batch([(row(1), record(1))]))
    used = engine.bytes_used()
    assert used > 10 << 20
    kept = list(engine.scan(*partition_bounds(3)))
    spans = [partition_bounds(each) for each in range(PARTITION_COUNT) if each != 3]
    engine.write(batch(dropped_rows=spans, dropped_hints=[(b"", b"\xff")]))
    wait_until(lambda: engine.bytes_used() < used // 10, what="the room comes back")
    assert list(engine.scan(*EVERYTHING)) == kept
    engine.write(batch([(row(1), record(1))]))
    engine.close()
    engine = open_engine(tmp_path)
    assert dict(engine.scan(*EVERYTHING)) == {**dict(kept), row(1): record(1)}
    engine.close()


@pytest.mark.usefixtures("prompt")
def test_rows_that_are_deleted_one_by_one_make_room_too_once_there_are_many(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    fill(engine)
    used = engine.bytes_used()
    rows = [each for each, _ in engine.scan(*EVERYTHING)]
    for start in range(0, len(rows), 500):
        engine.write(batch([(each, None) for each in rows[start : start + 500]]))
    assert list(engine.scan(*EVERYTHING)) == []
    wait_until(lambda: engine.bytes_used() < used // 2, what="the room comes back")
    engine.close()


def test_a_drop_that_the_process_did_not_get_to_is_found_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(tmp_path)
    fill(engine)
    engine._rocks.data.flush()
    used = engine.bytes_used()
    engine.write(batch(dropped_rows=[EVERYTHING]))
    engine.close()
    monkeypatch.setattr(reclaim, "PAUSE_SECONDS", 0.01)
    engine = open_engine(tmp_path)
    assert list(engine.scan(*EVERYTHING)) == []
    wait_until(lambda: engine.bytes_used() < used // 5, what="the room comes back")
    engine.close()


@pytest.mark.usefixtures("prompt")
def test_an_engine_is_closed_in_the_middle_of_it_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reclaim, "_PATIENCE_SECONDS", 0.0)
    engine = open_engine(tmp_path)
    fill(engine)
    for partition in range(5):
        engine.write(batch(dropped_rows=[partition_bounds(partition)]))
        left = len(list(engine.scan(*EVERYTHING)))
        engine.close()
        engine = open_engine(tmp_path)
        assert len(list(engine.scan(*EVERYTHING))) == left
    engine.close()


def test_an_engine_that_drops_nothing_begins_no_thread(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.write(batch([(row(1), record(1))], hints=[(b"h", b"1")]))
    engine.write(batch(hints=[(b"h", None)]))
    engine.close()
    engine = open_engine(tmp_path)
    assert engine._rocks.reclaimer._thread is None
    engine.close()
