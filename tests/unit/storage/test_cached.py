# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache in front of an engine never answers what the engine would not."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.errors import StorageBusy
from quorate.storage.cached import CachedEngine, Lru
from quorate.storage.memory import MemoryEngine
from tests.unit.storage.samples import EVERYTHING, batch, record, row


class Inner(MemoryEngine):
    """Says what it was asked, and refuses writes when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.busy = False

    def get(self, row: bytes) -> Record | None:
        self.asked.append(row)
        return super().get(row)

    def write(self, batch: Batch) -> None:
        if self.busy:
            raise StorageBusy("full")
        super().write(batch)


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
def engine(inner: Inner) -> CachedEngine:
    return CachedEngine(inner, Lru(entries_max=100, bytes_max=1 << 20))


def test_a_written_record_is_read_without_the_engine(engine: CachedEngine, inner: Inner) -> None:
    engine.write(batch([(row(1), record(1)), (row(1), record(2))]))
    assert engine.get(row(1)) == record(2)
    assert inner.asked == []


def test_a_read_record_is_read_from_the_engine_once(engine: CachedEngine, inner: Inner) -> None:
    inner.write(batch([(row(1), record(1)), (row(2), record(2))]))
    for _ in range(2):
        assert engine.get(row(1)) == record(1)
        assert engine.get(row(2)) == record(2)
    assert inner.asked == [row(1), row(2)]
    assert (engine.lru.hits, engine.lru.misses) == (2, 2)


def test_nothing_here_is_not_cached(engine: CachedEngine, inner: Inner) -> None:
    assert engine.get(row(1)) is None
    assert engine.get(row(1)) is None
    inner.write(batch([(row(1), record(1))]))
    assert engine.get(row(1)) == record(1)


def test_a_refused_write_does_not_reach_the_cache(engine: CachedEngine, inner: Inner) -> None:
    engine.write(batch([(row(1), record(1))]))
    inner.busy = True
    with pytest.raises(StorageBusy):
        engine.write(batch([(row(1), record(2)), (row(2), record(2))]))
    assert engine.get(row(1)) == record(1)
    assert engine.get(row(2)) is None


def test_a_scan_goes_past_the_cache(engine: CachedEngine, inner: Inner) -> None:
    inner.write(batch([(row(1), record(1))]))
    assert list(engine.scan(b"", b"\xff")) == [(row(1), record(1))]
    assert len(engine.lru) == 0


def test_a_dropped_row_is_asked_of_the_engine_and_what_the_batch_puts_there_is_not(
    engine: CachedEngine, inner: Inner
) -> None:
    engine.write(batch([(row(number), record(number)) for number in range(4)]))
    engine.write(batch([(row(1), record(9))], dropped_rows=[EVERYTHING]))
    assert [engine.get(row(number)) for number in range(4)] == [None, record(9), None, None]
    assert inner.asked == [row(0), row(2), row(3)]


def test_a_refused_drop_leaves_the_cache_as_it_is(engine: CachedEngine, inner: Inner) -> None:
    engine.write(batch([(row(1), record(1))]))
    inner.busy = True
    with pytest.raises(StorageBusy):
        engine.write(batch(dropped_rows=[EVERYTHING]))
    assert engine.get(row(1)) == record(1)
    assert inner.asked == []


def test_a_row_that_is_deleted_is_not_answered_any_more_and_a_new_record_of_it_is() -> None:
    engine = CachedEngine(MemoryEngine(), Lru(entries_max=10, bytes_max=1 << 20))
    engine.write(batch([(row(1), record(1)), (row(2), record(2))]))
    engine.write(batch([(row(1), None)]))
    assert engine.get(row(1)) is None
    assert engine.get(row(2)) == record(2)
    engine.write(batch([(row(1), record(3)), (row(2), None), (row(2), record(4))]))
    assert engine.get(row(1)) == record(3)
    assert engine.get(row(2)) == record(4)
