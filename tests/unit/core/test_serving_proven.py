# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica takes below its lock: what another holds with that lock, or a later one."""

from __future__ import annotations

from typing import Final

import pytest

from quorate.core.serving import BELOW_HORIZON
from quorate.core.values.events import LinkRoom
from quorate.core.values.messages import Listed, Mutate, Mutated, Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import pack_version, stamp_at, successor
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.exchanges.test_agreement import PARTITION
from tests.unit.core.exchanges.test_anti_entropy import (
    LACKED,
    asked_for_list,
    asked_for_records,
    held,
)

ROW: Final = row_of(LACKED[0])
SLICE_MS: Final = 60_000
LOCK: Final = EPOCH_MS // SLICE_MS + 2
LOCK_MS: Final = LOCK * SLICE_MS
OLD: Final = pack_version(stamp_at(LOCK_MS - SLICE_MS), 7)
BUILT: Final = successor(OLD, stamp_at(LOCK_MS + 1))
BUILT_BEFORE: Final = successor(OLD, stamp_at(LOCK_MS - 1))
LIVE: Final = Record(BUILT, b"v")


def _locked(*, horizon: bool = False) -> Alone:
    alone = Alone(3, slice_ms=SLICE_MS)
    alone.link(1, 2)
    alone.step(after_ms=5 * SLICE_MS)
    fences = alone.node.parts.replica.fences
    fences.lock(PARTITION, LOCK, 1)
    if horizon:
        fences.advance(PARTITION, LOCK)
    return alone


def _answered(alone: Alone, record: Record, lock: int) -> Mutated:
    alone.hear(1, Mutate(7, [(ROW, record)], lock))
    (answer,) = alone.take(1, Mutated)
    return answer


@pytest.mark.parametrize("lock", [LOCK, LOCK + 1])
@pytest.mark.parametrize(
    "record",
    [LIVE, Record(BUILT, None, LOCK_MS + 1), Record(BUILT, b"v", LOCK_MS + 1)],
    ids=["live", "deleted since", "expires later"],
)
@pytest.mark.parametrize("horizon", [False, True], ids=["locked", "dropped"])
def test_what_is_held_with_this_lock_is_taken(lock: int, record: Record, *, horizon: bool) -> None:
    alone = _locked(horizon=horizon)
    assert _answered(alone, record, lock) == Mutated(7, [], [])
    assert alone.disk.get(ROW) == record


def test_it_takes_the_place_of_a_tombstone_that_is_not_dropped_yet() -> None:
    alone = _locked()
    alone.node.parts.replica.apply_over(ROW, Record(OLD, None), None, is_listed=True)
    assert _answered(alone, LIVE, LOCK) == Mutated(7, [], [])
    assert alone.disk.get(ROW) == LIVE


@pytest.mark.parametrize("lock", [0, LOCK - 1])
def test_what_is_held_with_an_earlier_lock_or_none_proves_nothing(lock: int) -> None:
    """A write that slept, a hint, or who has not heard of a delete."""
    alone = _locked(horizon=True)
    answer = _answered(alone, LIVE, lock)
    assert answer.refused == [(0, BELOW_HORIZON)]
    assert [index for index, _ in answer.fenced] == [0]
    counters = alone.node.parts.turn.counters
    assert (counters["peer_writes_fenced"], counters["peer_writes_refused"]) == (1, 0)
    assert alone.disk.get(ROW) is None


@pytest.mark.parametrize(
    "record",
    [Record(BUILT_BEFORE, None, LOCK_MS), Record(BUILT_BEFORE, b"v", LOCK_MS)],
    ids=["deleted before", "expired before"],
)
def test_garbage_is_refused_whatever_lock_it_is_held_with(record: Record) -> None:
    alone = _locked()
    assert _answered(alone, record, LOCK).fenced
    assert alone.disk.get(ROW) is None


@pytest.mark.parametrize("value", [None, b"v"])
def test_what_was_made_after_the_lock_is_no_garbage_whatever_its_expiry(
    value: bytes | None,
) -> None:
    alone = _locked()
    record = Record(BUILT, value, LOCK_MS)
    assert _answered(alone, record, LOCK) == Mutated(7, [], [])
    assert alone.disk.get(ROW) == record


# --- telling --------------------------------------------------------------------------------------


def test_a_lock_is_told_with_records_if_it_is_asked_for() -> None:
    alone = _locked()
    alone.hear(1, Read(8, [ROW], [ROW]), Read(9, [ROW], [], PARTITION), Read(10, [ROW], [], 0))
    answers = {answer.batch: answer.lock for answer in alone.take(1, ReadAnswer)}
    assert partition_of(ROW) == PARTITION
    assert answers == {8: 0, 9: LOCK, 10: 0}


def test_a_lock_is_told_with_each_piece_of_an_answer() -> None:
    alone = _locked()
    large = record_at(3 * SLICE_MS, b"v" * (1 << 20))
    alone.hear(1, Mutate(7, [(ROW, large)]))
    alone.hear(1, Read(9, [ROW] * 40, [], PARTITION))
    answers: list[ReadAnswer] = []
    while alone.node.serving.put_off or not answers:
        alone.step(LinkRoom(id_of(1)))
        answers += alone.take(1, ReadAnswer)
    assert len(answers) > 2
    assert sum(len(answer.records) for answer in answers) == 40
    assert {answer.lock for answer in answers} == {LOCK}


def test_repair_tells_its_lock_with_what_it_sends() -> None:
    alone, wanted = asked_for_list()
    alone.node.parts.replica.fences.lock(PARTITION, LOCK, 1)
    alone.hear(1, Listed(wanted.batch, held()[2:], b""))
    alone.step(after_ms=1_000)
    assert [push.lock for push in alone.take(1, Mutate)] == [LOCK]


@pytest.mark.parametrize(("lock", "is_taken"), [(0, False), (1 << 40, True)])
def test_repair_asks_for_the_lock_of_what_it_gets(lock: int, *, is_taken: bool) -> None:
    alone, asked = asked_for_records(1)
    assert asked.partition == PARTITION
    slice_ms = alone.node.settings.slice_ms
    alone.node.parts.replica.fences.lock(PARTITION, alone.now.wall_ms // slice_ms, 1)
    alone.hear(1, ReadAnswer(asked.batch, [record_at(5)], [], [], lock))
    assert (alone.disk.get(asked.full[0]) is not None) is is_taken
