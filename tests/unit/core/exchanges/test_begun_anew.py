# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests under way when another layout comes: each is answered once, by the replicas of that."""

from __future__ import annotations

from random import Random

import pytest

from quorate.core.exchanges.look import Look
from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.steps import completed, stepped
from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.messages import Mutate, Mutated, OtherEpoch, Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import DeadlineExceeded, InvalidRequest, Outcome, QuorumUnreachable
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.founders import disk_of
from tests.unit.core.moving import hear, keys_in, later, node, replace, stable, swapped

OLD = stable(5)
KEY = next(k for n in range(9999) if OLD.table[partition_of(row_of(k := b"%d" % n))] == (1, 2, 3))
P = partition_of(row_of(KEY))
JOINT = stepped(OLD, {P: (1, 2, 4)})
"""From 1, 2 and 3 to 1, 2 and 4; this node holds nothing of it."""
NEW = completed(JOINT)


def _node(layout: Layout = OLD) -> Alone:
    return node(count=5, layout_of=layout, write_wait_ms=300)


def _sent(alone: Alone) -> dict[int, Mutate]:
    """Who was sent a record to keep, last."""
    sent = {index: alone.take(index, Mutate) for index in range(1, 5)}
    return {index: messages[-1] for index, messages in sent.items() if messages}


def _ack(alone: Alone, index: int, mutate: Mutate) -> None:
    alone.hear(index, Mutated(mutate.batch, [], []))


# --- writes ------------------------------------------------------------------------------------


def test_a_write_needs_both_rows_once_they_are_two() -> None:
    alone = _node()
    asker = alone.put(KEY, b"v")
    before = _sent(alone)
    assert set(before) == {1, 2, 3}
    hear(alone, JOINT)
    sent = _sent(alone)
    assert set(sent) == {1, 2, 3, 4}
    assert [m.items[0] for m in sent.values()] == [before[1].items[0]] * 4, "with the same stamp"
    _ack(alone, 1, before[1])
    _ack(alone, 2, before[2])
    assert asker.results == [], "these acks are of the layout before"
    _ack(alone, 3, sent[3])
    _ack(alone, 4, sent[4])
    assert asker.results == [], "one of two of each"
    _ack(alone, 1, sent[1])
    assert isinstance(asker.result, PutResult)
    _ack(alone, 2, sent[2])
    assert len(asker.results) == 1


def test_a_write_is_begun_anew_by_each_layout_and_is_one_write() -> None:
    alone = _node()
    asker = alone.put(KEY, b"v")
    stamps = {m.items[0][1].version for m in _sent(alone).values()}
    for layout in (JOINT, NEW):
        hear(alone, layout)
        sent = _sent(alone)
        stamps |= {m.items[0][1].version for m in sent.values()}
    assert set(sent) == {1, 2, 4}
    assert len(stamps) == 1
    for index in (2, 4):
        _ack(alone, index, sent[index])
    assert isinstance(asker.result, PutResult)
    assert alone.node.inflight == 0


def test_a_write_that_may_have_been_read_under_an_earlier_layout_is_moved() -> None:
    """Those that hold it now never held it before, and a majority of those before did."""
    alone = _node()
    asker = alone.put(KEY, b"v")
    _sent(alone)
    hear(alone, JOINT)
    sent = _sent(alone)
    higher = record_at(10).version
    for index, mutate in sent.items():
        alone.hear(index, Mutated(mutate.batch, [(0, higher)], [], denied=[0]))
    assert not _sent(alone)
    assert not asker.results
    assert alone.node.status().counters["writes_moved"] == 1


@pytest.mark.parametrize("deniers", [{2, 3}, {2, 4}, {2, 3, 4}])
def test_while_copies_move_a_write_is_stamped_again_if_no_row_can_have_held_it(
    deniers: set[int],
) -> None:
    """1, 2 and 3 are one row, and 1, 2 and 4 the other; 1 held it. Of each row two have to deny."""
    alone = _node()
    hear(alone, JOINT)
    alone.put(KEY, b"v")
    higher = record_at(10).version
    for index, mutate in _sent(alone).items():
        superseded = [] if index == 1 else [(0, higher)]
        denied = [0] if index in deniers else []
        alone.hear(index, Mutated(mutate.batch, superseded, [], denied=denied))
    is_moved = bool(alone.node.parts.turn.counters["writes_moved"])
    assert is_moved == (len(deniers) < 3)
    assert bool(_sent(alone)) != is_moved


def test_a_write_that_was_superseded_is_stamped_again_once() -> None:
    alone = _node()
    asker = alone.put(KEY, b"v")
    first = _sent(alone)
    higher = record_at(10).version
    for index in (1, 2, 3):
        alone.hear(index, Mutated(first[index].batch, [(0, higher)], []))
    again = _sent(alone)
    assert again[1].items[0][1].version > higher
    hear(alone, JOINT)
    last = _sent(alone)
    assert last[4].items[0] == again[1].items[0]
    for index in (1, 2):
        alone.hear(index, Mutated(last[index].batch, [(0, record_at(20).version)], []))
    assert isinstance(asker.result, PutResult)
    assert asker.result.superseded


def test_a_write_that_asked_for_more_than_there_are_by_now_may_have_been_done() -> None:
    alone = _node()
    asker = alone.put(KEY, b"v", w=3)
    shorter = replace(OLD, table=tuple([row[:2] for row in OLD.table]), replication=2)
    hear(alone, later(shorter, 2))
    assert isinstance(asker.result, InvalidRequest)
    assert asker.result.outcome is Outcome.UNKNOWN


def test_a_write_whose_new_replicas_are_away_ends_in_time() -> None:
    alone = _node()
    asker = alone.put(KEY, b"v", timeout_ms=500)
    alone.unlink(2, 3, 4)
    hear(alone, JOINT)
    alone.step(after_ms=600)
    assert isinstance(asker.result, DeadlineExceeded | QuorumUnreachable)
    assert asker.result.outcome is Outcome.UNKNOWN
    assert alone.node.inflight == 0


def test_a_write_that_was_answered_is_not_begun_again() -> None:
    alone = _node()
    asker = alone.put(KEY, b"v")
    sent = _sent(alone)
    _ack(alone, 1, sent[1])
    _ack(alone, 2, sent[2])
    assert isinstance(asker.result, PutResult)
    hear(alone, JOINT)
    assert _sent(alone) == {}


def test_a_write_that_is_parked_begins_under_the_layout_that_lets_it() -> None:
    alone = _node()
    alone.unlink(2, 3)
    asker = alone.put(KEY, b"v")
    assert asker.results == []
    hear(alone, later(replace(OLD, table=tuple([(0, 1, 4)] * len(OLD.table))), 2))
    alone.step()
    assert _sent(alone)
    assert asker.results == [] or isinstance(asker.result, PutResult)


# --- reads -------------------------------------------------------------------------------------


def _answer(alone: Alone, index: int, held: Record | None) -> None:
    version = ABSENT if held is None else held.version
    for read in alone.take(index, Read):
        records = [held] * len(read.full)
        alone.hear(index, ReadAnswer(read.batch, records, [version] * len(read.brief)))


def test_a_read_asks_both_rows_once_they_are_two() -> None:
    alone = _node()
    asker = alone.get(KEY)
    early = {index: alone.take(index, Read) for index in (1, 2, 3)}
    hear(alone, JOINT)
    for index, reads in early.items():
        for read in reads:
            absent: list[Record | None] = [None] * len(read.full)
            alone.hear(index, ReadAnswer(read.batch, absent, [ABSENT] * len(read.brief)))
    assert asker.results == [], "these answers are of the layout before"
    held = record_at(5)
    for _ in range(3):
        for index in (1, 2, 3, 4):
            _answer(alone, index, held)
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == held
    assert alone.node.inflight == 0


def test_a_read_that_writes_back_begins_anew_too() -> None:
    alone = _node()
    asker = alone.get(KEY)
    held = record_at(5)
    for index, known in ((1, held), (2, None), (3, None)):
        _answer(alone, index, known)
    for index, known in ((1, held), (2, None), (3, None)):
        _answer(alone, index, known)
    hear(alone, JOINT)
    for _ in range(4):
        for index in (1, 2, 3, 4):
            _answer(alone, index, held)
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == held


def test_a_read_that_asked_for_more_than_there_are_by_now_is_refused() -> None:
    alone = _node()
    asker = alone.get(KEY, r=3)
    shorter = replace(OLD, table=tuple([row[:2] for row in OLD.table]), replication=2)
    hear(alone, later(shorter, 2))
    assert isinstance(asker.result, InvalidRequest)


def test_a_read_without_enough_replicas_under_the_new_layout_ends() -> None:
    alone = _node()
    asker = alone.get(KEY)
    alone.unlink(2, 4)
    hear(alone, later(replace(OLD, table=tuple([(2, 4, 1)] * len(OLD.table))), 2))
    alone.step(after_ms=5_000)
    assert isinstance(asker.result, QuorumUnreachable | DeadlineExceeded)
    assert alone.node.inflight == 0


# --- all of it ---------------------------------------------------------------------------------


def _table(random: Random) -> Layout:
    """Any table of these members, stable or with this key's partition under way."""
    rows = [tuple(random.sample(range(5), random.choice((1, 2, 3, 5)))) for _ in range(7)]
    layout = replace(OLD, table=tuple([rows[p % 7] for p in range(len(OLD.table))]))
    row = layout.table[P]
    taker = next((index for index in range(5) if index not in row), None)
    if taker is not None and random.random() < 0.5:
        layout = replace(layout, moves=((P, (*row[1:], taker)),), course=Course.MOVE)
    return layout


@pytest.mark.parametrize("seed", range(25))
def test_whatever_layouts_come_each_request_is_answered_once(seed: int) -> None:
    random = Random(seed)
    alone = _node()
    askers: list[Asker] = []
    epoch = OLD.epoch
    for _ in range(60):
        act = random.randrange(8)
        index = random.randrange(1, 5)
        if act == 0:
            epoch += 2
            hear_of = replace(_table(random), epoch=epoch)
            alone.step()
            alone.hear(1, OtherEpoch(epoch, [], hear_of.encode()), epoch=epoch)
        elif act == 1:
            askers.append(alone.put(KEY, b"%d" % random.randrange(99)))
        elif act == 2:
            askers.append(alone.get(KEY, r=random.choice((0, 0, 1, 3))))
        elif act == 3:
            askers.append(alone.put(KEY, None, w=random.choice((0, 1, 2))))
        elif act == 4:
            alone.unlink(index)
        elif act == 5:
            alone.link(index)
        elif act == 6:
            for mutate in alone.take(index, Mutate):
                alone.hear(index, Mutated(mutate.batch, [], [], busy=random.random() < 0.3))
        else:
            _answer(alone, index, random.choice((None, record_at(5), record_at(9))))
    alone.step(after_ms=60_000)
    alone.step(after_ms=60_000)
    for asker in askers:
        assert asker.result is not None
    assert alone.node.inflight == 0
    assert alone.node.parts.requests.bytes == 0


# --- copies that do not count ------------------------------------------------------------------

SEVEN = stable(7)
GIVEN = next(p for p, row in enumerate(SEVEN.table) if 0 not in row and 3 not in row)
"""A partition that this node is given."""
GIVEN_KEY = keys_in(GIVEN, 1)[0]


def _uncounted() -> Alone:
    """One of seven that has met two others since its start: its mark does not count, as its
    directory may be an old one."""
    alone = Alone(7, disk=disk_of(SEVEN), heartbeat_ms=3_600_000)
    alone.link(*SEVEN.table[GIVEN][:2])
    return alone


def _give(alone: Alone) -> None:
    first, _, third = SEVEN.table[GIVEN]
    moved = completed(stepped(SEVEN, {GIVEN: swapped(SEVEN, GIVEN, third, 0)}))
    alone.hear(first, OtherEpoch(moved.epoch, [], moved.encode()), epoch=moved.epoch)
    assert alone.node.membership.layout == moved
    assert not alone.node.membership.marks.counts


def test_a_copy_that_does_not_count_yet_answers_no_read() -> None:
    alone = _uncounted()
    asker = alone.get(GIVEN_KEY)
    _give(alone)
    (look,) = alone.node.parts.requests.under_way()
    assert isinstance(look, Look)
    assert (look.asked.bit_count(), look.answers) == (2, 0)
    assert asker.results == []


def test_nor_does_it_acknowledge_a_write() -> None:
    alone = _uncounted()
    asker = alone.put(GIVEN_KEY, b"v")
    _give(alone)
    first, second, _ = SEVEN.table[GIVEN]
    _ack(alone, first, alone.take(first, Mutate)[-1])
    assert asker.results == []
    _ack(alone, second, alone.take(second, Mutate)[-1])
    assert isinstance(asker.result, PutResult)
