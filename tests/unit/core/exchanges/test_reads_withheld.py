# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads of a key that a replica withholds: what it holds of an earlier layout goes first."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.reads import WITHHELD_AGAIN_MS
from quorate.core.topology.steps import completed, stepped
from quorate.core.values.events import GetResult, StorageState
from quorate.core.values.messages import Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt, DeadlineExceeded, QuorumUnreachable
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.moving import hear, held_by, keys_in, node, settle, stable, swapped

OLD = stable(3, replication=2)
KEY = next(k for n in range(9999) if OLD.table[partition_of(row_of(k := b"%d" % n))] == (1, 2))
"""This node has no copy of it, and both of its replicas must answer."""
HELD = record_at(5)


def _answer(alone: Alone, index: int) -> int:
    """Peer `index` answers what it was asked; how often."""
    asked = alone.take(index, Read)
    for read in asked:
        versions = [HELD.version] * len(read.brief)
        alone.hear(index, ReadAnswer(read.batch, [HELD] * len(read.full), versions))
    return len(asked)


def _fail(alone: Alone, index: int, *, is_withheld: bool) -> None:
    """Peer `index` cannot read what it is asked for."""
    for read in alone.take(index, Read):
        rows = [*read.full, *read.brief]
        records: list[Record | None] = [None] * len(read.full)
        versions = [ABSENT] * len(read.brief)
        withheld = rows if is_withheld else []
        alone.hear(index, ReadAnswer(read.batch, records, versions, rows, 0, withheld))


def test_it_is_asked_again_and_the_read_is_answered() -> None:
    alone = node(count=3, layout_of=OLD)
    asker = alone.get(KEY)
    _fail(alone, 2, is_withheld=True)
    assert _answer(alone, 1) == 1
    for _ in range(2):
        alone.step(after_ms=WITHHELD_AGAIN_MS - 1)
        assert not alone.take(2, Read), "not before it may have dropped it"
        alone.step(after_ms=1)
        assert not asker.results
        _fail(alone, 2, is_withheld=True)
    alone.step(after_ms=WITHHELD_AGAIN_MS)
    assert len(alone.node.parts.requests.under_way()) == 1, "each keeps a record"
    assert _answer(alone, 1) == 0, "what it answered counts"
    assert _answer(alone, 2) == 1
    assert asker.result == GetResult(HELD, answers=2)


def test_who_was_lost_since_is_not_asked_again() -> None:
    alone = node(count=3, layout_of=OLD)
    asker = alone.get(KEY)
    _fail(alone, 2, is_withheld=True)
    alone.unlink(2)
    _answer(alone, 1)
    alone.step(after_ms=WITHHELD_AGAIN_MS)
    assert isinstance(asker.result, QuorumUnreachable)


def test_a_damaged_copy_is_told_of_though_another_is_withheld() -> None:
    alone = node(count=3, layout_of=OLD)
    asker = alone.get(KEY)
    _fail(alone, 2, is_withheld=True)
    _fail(alone, 1, is_withheld=False)
    assert isinstance(asker.result, Corrupt)


def test_a_damaged_copy_is_not_waited_for() -> None:
    alone = node(count=3, layout_of=OLD)
    asker = alone.get(KEY)
    _fail(alone, 2, is_withheld=False)
    assert isinstance(asker.result, Corrupt)


def test_nor_is_it_if_another_replica_is_lost() -> None:
    """Its answer would not be enough."""
    alone = node(count=3, layout_of=OLD)
    asker = alone.get(KEY)
    _fail(alone, 2, is_withheld=True)
    alone.unlink(1)
    assert isinstance(asker.result, QuorumUnreachable)


def test_a_replica_that_never_has_an_answer_is_asked_until_the_deadline() -> None:
    alone = node(count=3, layout_of=OLD)
    asker = alone.get(KEY, timeout_ms=3 * WITHHELD_AGAIN_MS)
    for _ in range(3):
        assert not asker.results
        _fail(alone, 2, is_withheld=True)
        alone.step(after_ms=WITHHELD_AGAIN_MS)
    assert isinstance(asker.result, DeadlineExceeded)
    assert alone.node.parts.requests.count == 0


def test_the_others_of_more_are_enough() -> None:
    layout = stable(4)
    key = next(
        k for n in range(9999) if 0 not in layout.table[partition_of(row_of(k := b"%d" % n))]
    )
    alone = node(count=4, layout_of=layout)
    asker = alone.get(key)
    first = layout.table[partition_of(row_of(key))][0]
    _fail(alone, first, is_withheld=True)
    assert sum(_answer(alone, index) for index in (1, 2, 3)) == 2
    assert isinstance(asker.result, GetResult)


def _withholding() -> tuple[Alone, bytes]:
    """A node whose disk is slow: what it gave up of a partition is still there when it has that
    again. And a key of it."""
    partition = next(p for p in held_by(OLD, 0) if OLD.table[p] == (0, 1))
    key = keys_in(partition, 1)[0]
    alone = node(count=3, layout_of=OLD)
    alone.node.parts.replica.apply(row_of(key), record_at(1))
    alone.step()
    alone.syncs = False
    gone = completed(stepped(OLD, {partition: swapped(OLD, partition, 0, 2)}))
    hear(alone, gone)
    hear(alone, completed(stepped(gone, {partition: OLD.table[partition]})))
    assert partition in alone.node.parts.replica.withheld
    return alone, key


def test_a_coordinator_waits_for_its_own_copy_likewise() -> None:
    alone, key = _withholding()
    asker = alone.get(key)
    _answer(alone, 1)
    assert not asker.results, "it has nothing to tell yet"
    alone.syncs = True
    alone.sync()
    settle(alone)
    alone.step(after_ms=WITHHELD_AGAIN_MS)
    while _answer(alone, 1):  # As its version is newer, the record; it is written back here.
        settle(alone)
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == HELD


@pytest.mark.parametrize("is_stuck", [False, True])
def test_who_asks_is_told_to_wait_unless_the_disk_takes_nothing(*, is_stuck: bool) -> None:
    """It may be hours then, and whoever waits asks again and again."""
    alone, key = _withholding()
    if is_stuck:
        alone.step(StorageState("disk_full", "no space"))
    row = row_of(key)
    alone.hear(1, Read(7, [row], [row]))
    (answer,) = alone.take(1, ReadAnswer)
    assert answer.failed == [row, row]
    assert answer.withheld == ([] if is_stuck else [row, row])


def test_a_coordinator_whose_disk_takes_nothing_does_not_wait_for_its_own_copy() -> None:
    alone, key = _withholding()
    alone.step(StorageState("disk_full", "no space"))
    alone.get(key)
    assert alone.node.parts.requests.under_way() == []
    assert alone.take(1, Read) == []
