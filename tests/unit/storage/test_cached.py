# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache in front of an engine never answers what the engine would not."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.errors import StorageBusy
from quorate.storage.cached import VOTES_BYTES_MAX, VOTES_MAX, CachedEngine, Lru
from quorate.storage.memory import MemoryEngine
from tests.unit.storage.samples import EVERYTHING, batch, record, row


class Inner(MemoryEngine):
    """Says what it was asked, and refuses writes when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []
        self.asked_votes: list[bytes] = []
        self.busy = False

    def get(self, row: bytes) -> Record | None:
        self.asked.append(row)
        return super().get(row)

    def get_votes(self, row: bytes) -> bytes | None:
        self.asked_votes.append(row)
        return super().get_votes(row)

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


# --- votes -------------------------------------------------------------------------------------


def _voted(*votes: tuple[bytes, bytes | None]) -> Batch:
    return Batch([], [], [], votes=list(votes))


def test_votes_that_were_written_last_are_read_without_the_engine(
    engine: CachedEngine, inner: Inner
) -> None:
    engine.write(_voted((row(1), b"first"), (row(1), b"second")))
    assert engine.get_votes(row(1)) == b"second"
    assert inner.asked_votes == []
    assert engine.get_votes(row(2)) is None


def test_votes_that_are_deleted_or_dropped_are_not_answered_any_more(engine: CachedEngine) -> None:
    engine.write(_voted(*[(row(number), b"votes") for number in range(3)]))
    engine.write(_voted((row(1), None)))
    assert [engine.get_votes(row(number)) for number in range(3)] == [b"votes", None, b"votes"]
    dropping = batch(dropped_rows=[EVERYTHING])
    dropping.votes = [(row(2), b"new")]
    engine.write(dropping)
    assert [engine.get_votes(row(number)) for number in range(3)] == [None, None, b"new"]


def test_older_votes_that_are_dropped_are_not_answered_any_more(engine: CachedEngine) -> None:
    engine.write(_voted((row(0), b"old"), (row(1), bytes(VOTES_BYTES_MAX))))
    engine.write(batch(dropped_rows=[EVERYTHING]))
    assert engine.get_votes(row(0)) is None


@pytest.mark.parametrize(("count", "size"), [(VOTES_MAX, 1), (4, VOTES_BYTES_MAX // 4)])
def test_older_votes_are_asked_of_the_engine(
    engine: CachedEngine, inner: Inner, count: int, size: int
) -> None:
    """Those that were written since are twice as many as are kept, or twice as large."""
    engine.write(_voted((row(0), b"old")))
    for number in range(1, 2 * count + 2):
        engine.write(_voted((row(number), bytes(size))))
    assert engine.get_votes(row(0)) == b"old"
    assert engine.get_votes(row(2 * count + 1)) == bytes(size)
    assert inner.asked_votes == [row(0)]


def test_votes_of_a_refused_write_are_not_answered(engine: CachedEngine, inner: Inner) -> None:
    engine.write(_voted((row(1), b"told")))
    inner.busy = True
    with pytest.raises(StorageBusy):
        engine.write(_voted((row(1), b"not written")))
    assert engine.get_votes(row(1)) == b"told"
