# SPDX-License-Identifier: GPL-3.0-or-later
"""What storing and finding a record costs, on the loop's thread: no sync."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.micro.conftest import Measure
from bench.micro.samples import BATCH, PAIRS, RECORDS, ROWS
from quorate.core.values.events import Batch
from quorate.storage.lru import Lru
from quorate.storage.rocks import RocksEngine

_BATCH = Batch(records=PAIRS, hints=[], meta=[])


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RocksEngine]:
    """RocksDB with every record in it."""
    engine = RocksEngine.open(tmp_path / "data", durability="os")
    engine.write(_BATCH)
    yield engine
    engine.close()


def test_rocksdb_write_in_a_batch(engine: RocksEngine, measure: Measure) -> None:
    measure(lambda: engine.write(_BATCH))


def test_rocksdb_get(engine: RocksEngine, measure: Measure) -> None:
    assert [engine.get(row) for row in ROWS] == RECORDS
    measure(lambda: [engine.get(row) for row in ROWS])


def test_rocksdb_get_in_a_batch(engine: RocksEngine, measure: Measure) -> None:
    assert engine.get_many(ROWS) == RECORDS
    measure(lambda: engine.get_many(ROWS))


def test_lru_get(measure: Measure) -> None:
    lru = Lru(entries_max=BATCH, bytes_max=1 << 30)
    lru.put(PAIRS)
    measure(lambda: [lru.get(row) for row in ROWS])
    assert not lru.misses


def test_lru_put_in_a_batch(measure: Measure) -> None:
    lru = Lru(entries_max=BATCH, bytes_max=1 << 30)
    measure(lambda: lru.put(PAIRS))
    assert len(lru) == BATCH
