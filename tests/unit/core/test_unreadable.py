# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that cannot read at the moment, for want of files or memory, costs this replica's
answer. It says nothing about the data, so nothing may be put over it, and the node goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quorate.core.values.events import (
    Batch,
    Explain,
    GetResult,
    LocalPut,
    LocalScan,
    Scan,
    ScanResult,
)
from quorate.core.values.messages import Mutate, Mutated, Read, ReadAnswer, ScannedRows, ScanRows
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.errors import Outcome, QuorateError, StorageError
from quorate.storage.memory import MemoryEngine
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.vote_stage import accept

ROW = row_of(b"k")


class Starved(MemoryEngine):
    """An engine whose reads fail while `is_starved`."""

    is_starved = False

    def get(self, row: bytes) -> Record | None:
        self._check()
        return super().get(row)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        self._check()
        return super().scan(start, end)

    def _check(self) -> None:
        if self.is_starved:
            raise StorageError("Too many open files")


@pytest.fixture
def engine() -> Starved:
    engine = Starved()
    engine.write(Batch([(ROW, record_at(1, b"mine"))], [], []))
    return engine


@pytest.fixture
def starved(engine: Starved) -> Alone:
    """A node of three that can read nothing; the engine holds a record of `k`."""
    alone = Alone(3)
    alone.link(1, 2)
    alone.node.parts.replica._engine = engine
    engine.is_starved = True
    return alone


def test_a_peer_is_told_that_its_read_failed(starved: Alone) -> None:
    starved.hear(1, Read(1, [ROW], []))
    assert [answer.failed for answer in starved.take(1, ReadAnswer)] == [[ROW]]
    starved.hear(1, Read(2, [], [ROW]))
    assert [answer.failed for answer in starved.take(1, ReadAnswer)] == [[ROW]]
    starved.hear(1, ScanRows(3, partition_of(ROW), b"", b"", 10))
    assert [answer.failed for answer in starved.take(1, ScannedRows)] == [True]


def test_a_peers_write_is_not_taken(starved: Alone, engine: Starved) -> None:
    starved.hear(1, Mutate(1, [(ROW, record_at(0, b"older"))]))
    assert [answer.busy for answer in starved.take(1, Mutated)] == [True]
    assert "engine_unreadable" in starved.notes
    engine.is_starved = False
    assert engine.get(ROW) == record_at(1, b"mine")


def test_a_clients_read_asks_the_others_and_puts_nothing_over_what_is_here(
    starved: Alone, engine: Starved
) -> None:
    asker = starved.get(b"k")
    older = record_at(0, b"older")
    for index in (1, 2):
        for read in starved.take(index, Read):
            full: list[Record | None] = [older for _ in read.full]
            brief = [older.version for _ in read.brief]
            starved.hear(index, ReadAnswer(read.batch, full, brief, []))
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == older
    assert starved.disk.get(ROW) is None
    engine.is_starved = False
    assert engine.get(ROW) == record_at(1, b"mine")


def test_a_write_here_goes_to_the_others_alone_and_is_refused_without_them(
    starved: Alone, engine: Starved
) -> None:
    starved.put(b"k", b"new")
    assert len(starved.take(1, Mutate)) == len(starved.take(2, Mutate)) == 1
    starved.unlink(2)
    asker = starved.put(b"k", b"newer")
    assert isinstance(asker.result, StorageError)
    assert asker.result.outcome is Outcome.NOT_APPLIED
    assert starved.take(1, Mutate) == []
    assert starved.disk.get(ROW) is None
    local = Asker()
    starved.step(LocalPut(local, b"k", record_at(2, b"new")))
    assert isinstance(local.result, QuorateError)
    engine.is_starved = False
    assert engine.get(ROW) == record_at(1, b"mine")


def test_what_a_write_is_moved_to_goes_only_to_the_others(engine: Starved) -> None:
    alone = Alone(3)
    alone.link(1, 2)
    alone.put(b"k", b"new")
    alone.node.parts.replica._engine = engine
    engine.is_starved = True
    first = {index: alone.take(index, Mutate)[0] for index in (1, 2)}
    alone.hear(1, Mutated(first[1].batch, [(0, record_at(200).version)], []))
    alone.hear(2, Mutated(first[2].batch, [(0, record_at(200).version)], []))
    accept(alone, 1)
    accept(alone, 2)
    for index in (1, 2):
        assert len(alone.take(index, Mutate)) == 1
    assert alone.disk.get(ROW) == first[1].items[0][1]


def test_lists_are_answered_once_and_are_not_complete(starved: Alone) -> None:
    listed, local, explained = Asker(), Asker(), Asker()
    starved.step(Scan(listed, r=3), LocalScan(local), Explain(explained, b"k"))
    assert isinstance(local.result, ScanResult)
    assert not local.result.complete
    starved.step(after_ms=10_000)
    assert listed.result is not None
    assert explained.result is not None
    assert starved.node.inflight == 0
