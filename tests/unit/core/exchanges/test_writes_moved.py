# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that some held, and no majority: the replicas decide whether they go on under a higher
stamp, or have taken effect."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from quorate.core.exchanges.writes import PATIENCE_MS
from quorate.core.topology.steps import stepped
from quorate.core.values.events import PutResult, StorageState
from quorate.core.values.messages import AcceptRows, Mutate, Mutated, PrepareRows, Said
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import pack_version, stamp_at, stamp_of, successor
from quorate.errors import ClockUntrusted, DeadlineExceeded, Outcome, QuorumUnreachable
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.moving import hear, node, stable
from tests.unit.core.read_stage import KEY as KEY_OF_OTHERS
from tests.unit.core.read_stage import outsider
from tests.unit.core.update_stage import pass_ms
from tests.unit.core.vote_stage import accept, promise
from tests.unit.core.write_stage import ack, alone_of, error_of

KEY = b"k"
ROW = row_of(KEY)
HIGHER = record_at(200).version
ALL_SAID = list(product(("held", "ahead", "lost"), repeat=3))


@pytest.mark.parametrize("said", ALL_SAID)
@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_each_set_of_answers_has_one_end(said: tuple[str, ...], order: tuple[int, ...]) -> None:
    """A majority held it: done. All answered, and none held it: stamped again. Else it is moved, or
    too few are left."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    for place in order:
        if said[place] == "lost":
            alone.unlink(holders[place])
        else:
            ack(alone, holders[place], higher=HIGHER if said[place] == "ahead" else b"")
    held, lost = said.count("held"), said.count("lost")
    if held > 1:
        assert isinstance(asker.result, PutResult)
        assert not asker.result.restamped
        return
    if lost > 1:
        error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
        return
    assert not asker.results
    there = [holder for holder, what in zip(holders, said, strict=True) if what != "lost"]
    is_again = not held and not lost
    for index in there:
        assert bool(alone.take(index, Mutate)) == is_again
        assert bool(alone.take(index, AcceptRows)) != is_again


def _first(alone: Alone, index: int) -> Record:
    (mutate,) = alone.take(index, Mutate)
    return mutate.items[-1][1]


def _moving(**options: int) -> tuple[Alone, Asker, Record]:
    """A write that its own replica held, where node 1 is ahead and node 2 says nothing; if all are
    needed it is ahead, too."""
    alone = alone_of()
    asker = alone.put(KEY, b"v", **options)
    (first,) = ack(alone, 1, higher=HIGHER)
    if options.get("w") == 3:
        ack(alone, 2, higher=HIGHER)
    alone.take(2, Mutate)
    pass_ms(alone, PATIENCE_MS)
    return alone, asker, first


def test_a_silent_replica_is_waited_for_before_a_write_is_moved() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    ack(alone, 1, higher=HIGHER)
    alone.step(after_ms=PATIENCE_MS - 1)
    assert alone.take(1, AcceptRows) == []
    ack(alone, 2)
    assert isinstance(asker.result, PutResult)
    assert asker.result.superseded
    pass_ms(alone, PATIENCE_MS)
    assert alone.take(1, AcceptRows) == []


@pytest.mark.parametrize("silent", [1, 2, 3, 4])
def test_a_write_that_no_majority_can_have_held_is_stamped_again(silent: int) -> None:
    """Its own replica held it, and one says nothing: nobody waits for that."""
    alone = alone_of(5)
    asker = alone.put(KEY, b"v")
    others = [index for index in range(1, 5) if index != silent]
    for index in others:
        assert not alone.take(index, AcceptRows)
        ack(alone, index, higher=HIGHER, is_denied=True)
    for index in others[:2]:
        (record,) = ack(alone, index)
        assert record.version > HIGHER
    assert isinstance(asker.result, PutResult)
    assert asker.result.restamped
    assert "writes_moved" not in alone.node.status().counters


def test_a_write_that_some_may_have_held_is_moved_though_others_never_did() -> None:
    """Of five a majority is three: that two never held it leaves one."""
    alone = alone_of(5)
    alone.put(KEY, b"v")
    for index, is_denied in ((1, True), (2, True), (3, False), (4, False)):
        ack(alone, index, higher=HIGHER, is_denied=is_denied)
    assert alone.take(1, AcceptRows)


@pytest.mark.parametrize(("count", "deniers"), [(2, 1), (4, 2), (4, 3)])
def test_half_of_the_replicas_is_not_enough(count: int, deniers: int) -> None:
    """The others could be most of those from whom who comes to the row gets its copy."""
    alone = alone_of(count)
    alone.put(KEY, b"v")
    for index in range(1, count):
        ack(alone, index, higher=HIGHER, is_denied=index <= deniers)
    assert bool(alone.take(1, AcceptRows)) == (2 * deniers <= count)
    assert bool(alone.take(1, Mutate)) == (2 * deniers > count)


def test_what_a_write_was_moved_to_is_not_stamped_again_if_all_are_ahead_of_it() -> None:
    """It was moved for a lock: nobody was ahead then. Somebody else finished it, and it may have
    been built on."""
    alone, holders = outsider()
    alone.put(KEY_OF_OTHERS, b"v")
    ack(alone, holders[0])
    (mutate,) = alone.take(holders[1], Mutate)
    alone.hear(holders[1], Mutated(mutate.batch, [], [], fenced=[(0, HIGHER)]))
    alone.take(holders[2], Mutate)
    pass_ms(alone, PATIENCE_MS)
    ((_, _, _, second),) = accept(alone, holders[0])
    accept(alone, holders[1])
    higher = pack_version(stamp_of(second.version) + 5, 9)
    for index in holders:
        ack(alone, index, higher=higher)
    assert not [alone.take(index, Mutate) for index in holders if alone.take(index, Mutate)]


def test_who_answers_for_a_write_that_is_not_there_is_not_heard() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    (mutate,) = alone.take(1, Mutate)
    alone.hear(1, Mutated(mutate.batch, [(0, HIGHER)], [], denied=[1, 99]))
    pass_ms(alone, PATIENCE_MS)
    assert alone.take(2, AcceptRows)
    assert not asker.results


def test_a_write_is_moved_above_the_highest_that_was_told_by_one_more_round() -> None:
    alone, asker, first = _moving()
    ((row, base, ballot, record),) = accept(alone, 1)
    assert (row, base) == (ROW, first.version)
    assert ballot == (0, alone.node.parts.process)
    assert record.version > HIGHER > first.version
    assert (record.value, record.winners) == (b"v", ())
    assert not asker.results
    assert ack(alone, 1) == [record]
    assert asker.result == PutResult(record.version, 2, 3, restamped=True, moved=True)
    assert alone.disk.get(ROW) == record
    assert alone.node.status().counters["writes_moved"] == 1


def test_what_a_write_is_moved_to_is_done_whoever_is_ahead_of_it() -> None:
    alone, asker, _ = _moving()
    ((_, _, _, record),) = accept(alone, 1)
    ack(alone, 1, higher=record_at(300).version)
    assert asker.result == PutResult(
        record.version, acks=2, replicas=3, restamped=True, superseded=True, moved=True
    )


def test_a_move_that_others_outbid_goes_on_with_the_same_record() -> None:
    alone, asker, first = _moving()
    ((_, _, _, record),) = accept(alone, 1, said=Said.OUTBID, promised=(5, 1))
    accept(alone, 2, said=Said.OUTBID, promised=(5, 1))
    pass_ms(alone, 10)
    (asked,) = promise(alone, 1)
    assert asked[1] == first.version
    assert asked[2] > (5, 1)
    ((_, _, ballot, again),) = accept(alone, 1)
    assert (ballot, again) == (asked[2], record)
    ack(alone, 1)
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == record.version


def _built_on(first: Record) -> Record:
    """What somebody made of a stamp that he read."""
    return Record(successor(first.version, 1), b"v!", winners=((0, 77),))


@pytest.mark.parametrize("w", [2, 3])
def test_a_write_that_was_built_on_has_taken_effect(w: int) -> None:
    """And is done once W replicas have it, or something newer."""
    alone, asker, first = _moving(w=w)
    accept(alone, 1, said=Said.OUTBID, promised=(5, 1))
    accept(alone, 2, said=Said.OUTBID, promised=(5, 1))
    pass_ms(alone, 10)
    built = _built_on(first)
    promise(alone, 1, accepted=(5, 1), record=built)
    ((_, _, _, record),) = accept(alone, 1)
    assert record == built
    assert ack(alone, 1) == [built]
    assert not asker.results
    assert ack(alone, 1, higher=HIGHER) == [first], "the same stamp again"
    if w == 3:
        assert not asker.results
        ack(alone, 2, higher=HIGHER)
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == first.version
    assert asker.result.acks >= w
    assert not asker.result.restamped


def test_a_write_of_which_a_later_link_is_held_has_taken_effect() -> None:
    alone, asker, first = _moving()
    built = _built_on(first)
    told = Record(built.version, None, winners=built.winners)
    accept(alone, 1, said=Said.RESOLVED, record=told)
    assert not asker.results
    assert ack(alone, 1, higher=HIGHER) == [first]
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == first.version
    assert not asker.result.restamped


def test_a_write_that_has_taken_effect_tells_of_who_was_ahead_before() -> None:
    alone, asker, first = _moving()
    accept(alone, 1, said=Said.RESOLVED, record=_built_on(first))
    assert ack(alone, 2) == [first], "it holds nothing newer"
    assert isinstance(asker.result, PutResult)
    assert asker.result.superseded


def test_a_write_on_which_a_majority_forgot_its_votes_is_unknown() -> None:
    alone, asker, _ = _moving()
    for index in (1, 2):
        accept(alone, index, said=Said.GONE)
    error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert alone.node.inflight == 0


def test_a_write_for_which_the_clock_has_no_higher_stamp_is_unknown() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    last = stamp_at(alone.now.wall_ms + alone.node.settings.max_clock_skew_ms + 1) - 1
    ack(alone, 1, higher=pack_version(last, 9))
    alone.unlink(2)
    error_of(asker, ClockUntrusted, Outcome.UNKNOWN)
    assert alone.take(1, AcceptRows) == []


def test_who_is_lost_is_asked_nothing_because_it_is() -> None:
    """Nothing would leave, and be waited for until it is late."""
    alone, holders = outsider()
    alone.put(KEY_OF_OTHERS, b"v")
    for index in holders[:2]:
        ack(alone, index, higher=HIGHER)
    lost = holders[2]
    alone.unlink(lost)
    assert alone.take(holders[0], AcceptRows), "the others decide at once"
    assert alone.node.outboxes[alone.peer(lost).index].unanswered_bytes == 0


def test_a_move_that_nobody_waits_for_any_more_comes_to_an_end() -> None:
    alone, asker, _ = _moving(timeout_ms=300)
    pass_ms(alone, 300)
    error = error_of(asker, DeadlineExceeded, Outcome.UNKNOWN)
    assert ("voted in time" in str(error), error.facts) == (True, {}), "it has acks enough"
    for index in (1, 2):
        accept(alone, index, said=Said.OUTBID, promised=(5, 1))
    pass_ms(alone, 1_000)
    assert alone.take(1, PrepareRows) == []


def test_a_replica_that_may_have_got_a_hint_may_have_held_the_stamp() -> None:
    """It was away when the write was sent, and is away again; in between it may have been there."""
    alone, holders = outsider()
    alone.unlink(holders[2])
    asker = alone.put(KEY_OF_OTHERS, b"v")
    for index in holders[:2]:
        (first,) = ack(alone, index, higher=HIGHER)
    for index in holders[:2]:
        ((_, base, _, _),) = accept(alone, index)
        assert base == first.version
    for index in holders[:2]:
        ack(alone, index)
    assert isinstance(asker.result, PutResult)
    assert asker.result.restamped


def test_what_its_own_disk_did_not_take_is_no_reason_to_move() -> None:
    """All others answered, and none held it."""
    alone = alone_of()
    alone.node.parts.replica.trouble = _full()
    asker = alone.put(KEY, b"v")
    for index in (1, 2):
        ack(alone, index, higher=HIGHER)
    for index in (1, 2):
        (second,) = ack(alone, index)
    assert asker.result == PutResult(second.version, acks=2, replicas=3, restamped=True)


def _full() -> StorageState:
    return StorageState("disk_full", "no space")


# --- layouts -----------------------------------------------------------------------------------

LAYOUT = stable(5)
MOVING_KEY = next(
    k for n in range(9999) if LAYOUT.table[partition_of(row_of(k := b"%d" % n))] == (1, 2, 3)
)
JOINT = stepped(LAYOUT, {partition_of(row_of(MOVING_KEY)): (1, 2, 4)})


def test_a_move_goes_on_with_the_replicas_of_the_next_layout() -> None:
    """From nodes 1, 2 and 3 to 1, 2 and 4, none of which is this one."""
    alone = node(count=5, layout_of=LAYOUT, write_wait_ms=300)
    asker = alone.put(MOVING_KEY, b"v")
    first = _first(alone, 1)
    _answer_stale(alone)
    hear(alone, JOINT)
    assert [len(promise(alone, index)) for index in (1, 2, 3)] == [1, 1, 1]
    for index in (1, 3):
        ((_, base, _, record),) = accept(alone, index)
        assert base == first.version
    assert alone.take(1, Mutate) == [], "that is no majority of the row to come"
    assert len(accept(alone, 2)) == 1
    for index in (1, 3):
        assert ack(alone, index) == [record]
        assert not asker.results, "that is no majority of the row to come"
    assert ack(alone, 4) == [record]
    assert isinstance(asker.result, PutResult)
    assert asker.result.version == record.version


def test_a_write_that_has_taken_effect_is_not_stamped_again_under_the_next_layout() -> None:
    alone = node(count=5, layout_of=LAYOUT, write_wait_ms=300)
    asker = alone.put(MOVING_KEY, b"v")
    (first,) = ack(alone, 2)
    ack(alone, 3, higher=HIGHER)
    alone.take(1, Mutate)
    pass_ms(alone, PATIENCE_MS)
    accept(alone, 2, said=Said.RESOLVED, record=_built_on(first))
    hear(alone, JOINT)
    bound = record_at(alone.mono_ms + 50).version
    for index in (1, 2, 3, 4):
        mutate = alone.take(index, Mutate)[-1]
        assert [record for _, record in mutate.items] == [first]
        alone.hear(index, Mutated(mutate.batch, [], [], fenced=[(0, bound)]))
    error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert alone.take(1, Mutate) == []


def test_a_second_stamp_needs_as_many_under_the_next_layout_as_the_first() -> None:
    """All of the row, as the client asked for, and not a majority of it."""
    alone = node(count=5, layout_of=LAYOUT)
    asker = alone.put(MOVING_KEY, b"v", w=3)
    for index in (1, 2, 3):
        ack(alone, index, higher=HIGHER)
    hear(alone, JOINT)
    for index in (1, 2, 3):
        ack(alone, index)
        assert not asker.results
    ack(alone, 4)
    assert isinstance(asker.result, PutResult)


def _answer_stale(alone: Alone) -> None:
    """Nodes 2 and 3 answer a write: one held it, one was ahead. The rest is silent."""
    for index, higher in ((2, b""), (3, HIGHER)):
        (mutate,) = alone.take(index, Mutate)
        alone.hear(index, Mutated(mutate.batch, [(0, higher)] if higher else [], []))
    pass_ms(alone, PATIENCE_MS)
    for index in (1, 2, 3):
        alone.take(index, AcceptRows)
