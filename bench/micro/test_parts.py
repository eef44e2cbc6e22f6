# SPDX-License-Identifier: GPL-3.0-or-later
"""What each part costs: bytes, the core of all three nodes together, and storing on the loop's
thread, without a sync."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.micro.cluster import BareCluster, CountedResults
from bench.micro.conftest import BATCH, KEYS, PAIRS, RECORDS, ROWS, VALUE, Repeated
from quorate.core.values.events import Batch, Get, Put
from quorate.core.values.messages import Frame, Mutate
from quorate.core.values.record import Record, decode_stored, encode_stored
from quorate.storage.cached import Lru
from quorate.storage.rocks import RocksEngine
from quorate.wire.frames import FrameParser, encode_frame
from quorate.wire.resp import CommandParser, array, bulk

_FRAME = Frame(epoch=1, clock=1 << 40, messages=[Mutate(batch=1, items=PAIRS)])
_BATCH = Batch(records=[*PAIRS], hints=[], meta=[])


def test_frame_encode_a_write(measure: Repeated) -> None:
    measure(lambda: encode_frame(_FRAME))


def test_frame_decode_a_write(measure: Repeated) -> None:
    data, parser = bytes(encode_frame(_FRAME)), FrameParser()
    assert parser.feed(data) == [_FRAME]
    measure(lambda: parser.feed(data))


def test_resp_parse_a_set(measure: Repeated) -> None:
    """One after the other, as connections bring them."""
    commands = [array([bulk(b"SET"), bulk(key), bulk(VALUE)]) for key in KEYS]
    parser = CommandParser(bulk_bytes_max=1 << 20, value_bytes_max=1 << 20)
    assert parser.feed(commands[0]) == [[b"SET", KEYS[0], VALUE]]
    measure(lambda: [parser.feed(command) for command in commands])


def test_resp_encode_a_value(measure: Repeated) -> None:
    measure(lambda: [bulk(VALUE) for _ in KEYS])


def test_record_encode(measure: Repeated) -> None:
    """Made, as its bytes are made once."""
    measure(lambda: [encode_stored(row, Record(each.version, VALUE)) for row, each in PAIRS])


def test_record_decode(measure: Repeated) -> None:
    blobs = [(row, encode_stored(row, record)) for row, record in PAIRS]
    measure(lambda: [decode_stored(row, blob) for row, blob in blobs])


@pytest.fixture
def cluster() -> BareCluster:
    """With every key written."""
    cluster, answers = BareCluster(), CountedResults()
    cluster.ask([Put(answers, key, VALUE) for key in KEYS])
    assert answers.count == BATCH
    return cluster


def test_core_put_w2_on_three_nodes(cluster: BareCluster, measure: Repeated) -> None:
    answers = CountedResults()
    measure(lambda: cluster.ask([Put(answers, key, VALUE) for key in KEYS]))
    assert answers.count >= BATCH


def test_core_get_r2_on_three_nodes(cluster: BareCluster, measure: Repeated) -> None:
    answers = CountedResults()
    measure(lambda: cluster.ask([Get(answers, key) for key in KEYS]))
    assert answers.count >= BATCH


def test_core_get_r1_on_three_nodes(cluster: BareCluster, measure: Repeated) -> None:
    answers = CountedResults()
    measure(lambda: cluster.ask([Get(answers, key, r=1) for key in KEYS]))
    assert answers.count >= BATCH


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RocksEngine]:
    """RocksDB with every record in it."""
    engine = RocksEngine.open(tmp_path / "data", durability="os")
    engine.write(_BATCH)
    yield engine
    engine.close()


def test_rocksdb_write_in_a_batch(engine: RocksEngine, measure: Repeated) -> None:
    measure(lambda: engine.write(_BATCH))


def test_rocksdb_get(engine: RocksEngine, measure: Repeated) -> None:
    assert [engine.get(row) for row in ROWS] == RECORDS
    measure(lambda: [engine.get(row) for row in ROWS])


def test_lru_get(measure: Repeated) -> None:
    lru = Lru(entries_max=BATCH, bytes_max=1 << 30)
    lru.put(PAIRS)
    measure(lambda: [lru.get(row) for row in ROWS])
    assert not lru.misses


def test_lru_put_in_a_batch(measure: Repeated) -> None:
    lru = Lru(entries_max=BATCH, bytes_max=1 << 30)
    measure(lambda: lru.put(PAIRS))
    assert len(lru) == BATCH
