# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a write, ack by ack (P2, I5, I7)."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from quorate.core.exchanges.writes import PATIENCE_MS
from quorate.core.node import CEILING_META
from quorate.core.values.events import Batch, Put, PutResult
from quorate.core.values.messages import AcceptRows, Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ABSENT, pack_version, stamp_at, stamp_of, successor
from quorate.errors import (
    ClockUntrusted,
    DeadlineExceeded,
    InvalidRequest,
    Outcome,
    QuorumUnreachable,
)
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.read_stage import KEY as KEY_OF_OTHERS
from tests.unit.core.read_stage import outsider
from tests.unit.core.write_stage import ack, alone_of, error_of

KEY = b"k"
ROW = row_of(KEY)
WRITE_WAIT_MS = 3_000


# --- the usual way -----------------------------------------------------------------------------


def test_a_write_goes_to_all_replicas_and_is_answered_when_w_have_it() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v", expires_ms=7)
    assert not asker.results, "one ack, its own"
    (record,) = ack(alone, 1)
    assert (record.value, record.expires_ms, record.prior) == (b"v", 7, ABSENT)
    assert asker.result == PutResult(record.version, acks=2, replicas=3)
    assert ack(alone, 2) == [record]
    assert len(asker.results) == 1


def test_its_own_ack_waits_for_its_own_disk() -> None:
    """P1."""
    alone = alone_of()
    alone.syncs = False
    asker = alone.put(KEY, b"v", w=2)
    ack(alone, 1)
    assert not asker.results
    alone.sync()
    assert isinstance(asker.result, PutResult)


def test_an_answer_that_comes_twice_is_one_ack() -> None:
    """I7: W acks are of W distinct replicas."""
    alone = alone_of()
    asker = alone.put(KEY, b"v", w=3)
    (mutate,) = alone.take(1, Mutate)
    for _ in range(3):
        alone.hear(1, Mutated(mutate.batch, [], []))
        alone.hear(2, Mutated(mutate.batch + 1_000, [], []))
    assert not asker.results
    ack(alone, 2)
    assert isinstance(asker.result, PutResult)
    assert asker.result.acks == 3


def test_what_the_coordinator_saw_before_is_recorded() -> None:
    alone = alone_of()
    old = record_at(-5)
    alone.disk.format(Batch([(ROW, old)], [], []))
    alone.put(KEY, b"v")
    (record,) = ack(alone, 1)
    assert record.prior == old.version


def test_a_coordinator_that_holds_a_higher_version_starts_above_it() -> None:
    """Conflicts are rare: nothing is re-stamped."""
    alone = alone_of()
    ahead = record_at(300)
    alone.disk.format(Batch([(ROW, ahead)], [], []))
    asker = alone.put(KEY, b"v")
    (record,) = ack(alone, 1)
    assert record.version > ahead.version
    assert asker.result == PutResult(record.version, acks=2, replicas=3)


def test_stamps_of_one_turn_rise_in_the_order_of_the_writes() -> None:
    alone = alone_of()
    for number in range(5):
        alone.put(KEY, b"%d" % number)
    records = ack(alone, 1)
    assert [record.value for record in records] == [b"0", b"1", b"2", b"3", b"4"]
    assert [r.version for r in records] == sorted({r.version for r in records})


# --- too few replicas --------------------------------------------------------------------------


def test_too_few_replicas_are_waited_for_and_then_surely_nothing_was_applied() -> None:
    """I5."""
    alone = alone_of()
    alone.unlink(1, 2)
    asker = alone.put(KEY, b"v")
    alone.step(after_ms=WRITE_WAIT_MS - 1)
    assert not asker.results
    assert alone.wake_ms == alone.mono_ms + 1
    alone.step(after_ms=1)
    error = error_of(asker, QuorumUnreachable, Outcome.NOT_APPLIED)
    assert error.facts == {"needed": 2, "live": 1}
    assert alone.disk.get(ROW) is None
    alone.link(1, 2)
    assert ROW not in [row for m in alone.take(1, Mutate) for row, _ in m.items]


def test_a_replica_that_comes_meanwhile_makes_the_write_succeed() -> None:
    alone = alone_of()
    alone.unlink(1, 2)
    asker = alone.put(KEY, b"v")
    alone.step(after_ms=WRITE_WAIT_MS - 1)
    alone.link(2)
    ack(alone, 2)
    assert isinstance(asker.result, PutResult)


def test_a_write_begun_late_still_has_its_whole_timeout_and_the_node_wakes_for_it() -> None:
    alone = alone_of(heartbeat_ms=60_000, timeout_ms=50_000)
    alone.unlink(1, 2)
    asker = alone.put(KEY, b"v", timeout_ms=400)
    alone.syncs = False
    alone.step(after_ms=100)
    alone.link(1)
    assert alone.wake_ms == 500
    alone.step(after_ms=400)
    error_of(asker, DeadlineExceeded, Outcome.UNKNOWN)


def test_a_replica_that_is_not_there_gets_a_hint_that_is_no_ack() -> None:
    """I7."""
    alone = alone_of()
    alone.unlink(2)
    asker = alone.put(KEY, b"v", w=2)
    assert not asker.results
    assert alone.node.hints.count(alone.peer(2)) == 1
    ack(alone, 1)
    assert isinstance(asker.result, PutResult)


@pytest.mark.parametrize("w", [-1, 4])
def test_a_w_that_cannot_be_is_refused(w: int) -> None:
    alone = alone_of()
    error_of(alone.put(KEY, b"v", w=w), InvalidRequest, Outcome.NOT_APPLIED)


# --- failures after it was sent ----------------------------------------------------------------


def test_at_the_deadline_the_outcome_is_unknown() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v", timeout_ms=100)
    alone.step(after_ms=100)
    error = error_of(asker, DeadlineExceeded, Outcome.UNKNOWN)
    assert error.facts == {"needed": 2, "acked": 1}
    ack(alone, 1)
    assert len(asker.results) == 1, "a late ack changes nothing"


@pytest.mark.parametrize("how", ["lost", "refused", "busy"])
def test_when_too_few_replicas_are_left_the_write_fails_at_once_and_is_unknown(how: str) -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    for index in (1, 2):
        assert not asker.results
        if how == "lost":
            alone.unlink(index)
        else:
            ack(alone, index, refused=how == "refused", busy=how == "busy")
    error = error_of(asker, QuorumUnreachable, Outcome.UNKNOWN)
    assert error.facts == {"needed": 2, "acked": 1}


@pytest.mark.parametrize(("how", "hints"), [("lost", 1), ("busy", 1), ("refused", 0)])
def test_a_replica_that_did_not_take_it_gets_a_hint_unless_it_never_will(
    how: str, hints: int
) -> None:
    alone = alone_of()
    alone.put(KEY, b"v")
    if how == "lost":
        alone.unlink(2)
    else:
        ack(alone, 2, refused=how == "refused", busy=how == "busy")
    assert alone.node.hints.count(alone.peer(2)) == hints


def test_a_replica_that_does_not_answer_in_time_gets_a_hint() -> None:
    alone = alone_of(timeout_ms=500)
    asker = alone.put(KEY, b"v")
    ack(alone, 1)
    assert isinstance(asker.result, PutResult)
    alone.step(after_ms=501)
    assert alone.node.hints.count(alone.peer(2)) == 1


@pytest.mark.parametrize("order", list(permutations(["ack", "superseded", "refused"])))
def test_of_writes_in_one_message_each_has_what_the_replica_said_of_it(
    order: tuple[str, ...],
) -> None:
    """It says so by their places; places that there are none of mean nothing."""
    alone = alone_of()
    askers = {said: Asker() for said in order}
    alone.step(*[Put(asker, said.encode(), b"v") for said, asker in askers.items()])
    (mutate,) = alone.take(1, Mutate)
    higher, place = record_at(200).version, order.index
    superseded, refused = [(9, higher)], [(9, "no")]
    superseded.append((place("superseded"), higher))
    refused.append((place("refused"), "no"))
    alone.hear(1, Mutated(mutate.batch, superseded, refused))
    told = {said: bool(asker.results) for said, asker in askers.items()}
    assert told == {"ack": True, "superseded": False, "refused": False}
    assert alone.node.hints.total == 0
    assert alone.take(1, Mutate) == []
    ack(alone, 2)
    for said, asker in askers.items():
        assert isinstance(asker.result, PutResult)
        assert asker.result.superseded == (said == "superseded")
        assert not asker.result.restamped


# --- held, or stamped again --------------------------------------------------------------------


def _held(alone: Alone, *, ahead: tuple[int, ...], held: tuple[int, ...]) -> None:
    """These replicas were ahead of a write, and those held its stamp."""
    for index in ahead:
        ack(alone, index, higher=record_at(200 + index).version)
    for index in held:
        ack(alone, index)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3, 4))))
def test_a_write_that_a_majority_held_is_done_whoever_was_ahead(order: tuple[int, ...]) -> None:
    """Its own replica and nodes 1 and 2 hold it."""
    alone = alone_of(5)
    asker = alone.put(KEY, b"v")
    for place, index in enumerate(order):
        done = {0, *order[:place]} >= {0, 1, 2}
        assert bool(asker.results) == done
        _held(alone, ahead=() if index < 3 else (index,), held=(index,) if index < 3 else ())
    assert isinstance(asker.result, PutResult)
    assert not asker.result.restamped
    assert "writes_moved" not in alone.node.status().counters
    assert [alone.take(index, AcceptRows) for index in (1, 2, 3, 4)] == [[]] * 4


def test_what_was_built_on_a_stamp_shows_that_it_was_held() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    stamp = _last(alone, 1).version
    ack(alone, 1, higher=successor(stamp, 3))
    assert asker.result == PutResult(stamp, acks=2, replicas=3)


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_a_write_that_nobody_held_is_stamped_again_above_the_highest(
    order: tuple[int, ...],
) -> None:
    """This node is none of the replicas; all three have answered."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    first = _last(alone, holders[0]).version
    for place in order[:2]:
        ack(alone, holders[place - 1], higher=record_at(200 + place).version)
        assert alone.take(holders[0], AcceptRows) == []
        assert not asker.results
    ack(alone, holders[order[2] - 1], higher=record_at(200 + order[2]).version)
    (second,) = ack(alone, holders[0])
    assert second.version > record_at(203).version > first
    assert (second.value, second.prior) == (b"v", record_at(203).version)
    ack(alone, holders[1])
    assert asker.result == PutResult(second.version, acks=2, replicas=3, restamped=True)
    assert alone.node.status().counters["writes_restamped"] == 1
    ack(alone, holders[2])
    assert len(asker.results) == 1


def _stamped_again(**options: Any) -> tuple[Alone, list[int], Asker, Record]:
    """A write through a node that is no replica, whose second stamp is on its way."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v", **options)
    for index in holders:
        ack(alone, index, higher=record_at(200).version)
    return alone, holders, asker, _last(alone, holders[0])


def _last(alone: Alone, index: int) -> Record:
    """The record that a peer was sent last, and has yet to answer."""
    said = [each for each in alone.said[id_of(index)] if isinstance(each, Mutate)]
    return said[-1].items[-1][1]


def test_a_second_stamp_changes_nothing_of_when_the_value_expires() -> None:
    *_, second = _stamped_again(expires_ms=EPOCH_MS + 60_000)
    assert second.expires_ms == EPOCH_MS + 60_000


def test_a_write_superseded_twice_is_answered_all_the_same() -> None:
    """Whatever supersedes the second stamp ran while we did, and may be ordered after us."""
    alone, holders, asker, second = _stamped_again()
    for index in holders[:2]:
        assert not asker.results
        ack(alone, index, higher=record_at(400).version)
    assert asker.result == PutResult(
        second.version, acks=2, replicas=3, restamped=True, superseded=True
    )
    assert alone.take(holders[0], Mutate) == []


def test_a_replica_that_may_have_held_the_first_stamp_is_waited_for() -> None:
    """Two were ahead, which would do; but had the third held it, it may have been read."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    for index in holders[:2]:
        ack(alone, index, higher=record_at(200).version)
    assert alone.take(holders[0], Mutate) == []
    alone.step(after_ms=PATIENCE_MS - 1)
    assert alone.take(holders[0], AcceptRows) == []
    ack(alone, holders[2], higher=record_at(200).version)
    assert len(ack(alone, holders[0])) == 1, "stamped again"
    ack(alone, holders[1])
    assert isinstance(asker.result, PutResult)
    assert asker.result.restamped


def test_where_w_is_less_than_a_majority_the_first_ack_decides() -> None:
    """Nothing is promised there (P2)."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v", w=1)
    ack(alone, holders[0], higher=record_at(200).version)
    (second,) = ack(alone, holders[0])
    assert asker.result == PutResult(second.version, acks=1, replicas=3, restamped=True)


def test_an_ack_that_comes_after_the_answer_stamps_nothing_again() -> None:
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    ack(alone, 1)
    ack(alone, 2, higher=record_at(200).version)
    assert isinstance(asker.result, PutResult)
    assert not asker.result.restamped
    assert alone.take(2, Mutate) == []


def test_a_second_stamp_far_above_the_clocks_ceiling_waits_for_nothing() -> None:
    """Peers' clocks may be ahead by nearly the guard."""
    alone, holders = outsider()
    alone.syncs = False
    higher = record_at(950).version
    asker = alone.put(KEY_OF_OTHERS, b"v")
    for index in holders:
        ack(alone, index, higher=higher)
    for index in holders[:2]:
        (second,) = ack(alone, index)
    assert second.version > higher
    assert asker.result == PutResult(second.version, acks=2, replicas=3, restamped=True)
    alone.sync()
    assert stamp_of(second.version) <= _ceiling(alone)


def test_a_second_stamp_that_the_clock_refuses_leaves_a_write_unknown() -> None:
    """P3. Nobody held the first stamp, but the node cannot go on with another."""
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v")
    last = stamp_at(alone.now.wall_ms + alone.node.settings.max_clock_skew_ms + 1) - 1
    for index in holders:
        ack(alone, index, higher=pack_version(last, 9))
    error_of(asker, ClockUntrusted, Outcome.UNKNOWN)


@pytest.mark.parametrize(
    "higher",
    [
        record_at(3_600_000).version,
        successor(record_at(200).version, stamp_of(record_at(3_600_000).version)),
    ],
    ids=["stamped", "made"],
)
def test_a_replica_that_holds_what_no_trusted_clock_gave_out_is_no_ack(higher: bytes) -> None:
    """It can neither be beaten nor believed; the others decide."""
    alone = alone_of()
    asker = alone.put(KEY, b"v")
    ack(alone, 1, higher=higher)
    assert not asker.results
    ack(alone, 2)
    assert isinstance(asker.result, PutResult)
    assert not asker.result.restamped


def test_the_deadline_counts_from_the_first_stamp() -> None:
    alone, holders = outsider()
    asker = alone.put(KEY_OF_OTHERS, b"v", timeout_ms=100)
    alone.step(after_ms=60)
    for index in holders:
        ack(alone, index, higher=record_at(200).version)
    alone.step(after_ms=39)
    assert not asker.results
    alone.step(after_ms=1)
    error_of(asker, DeadlineExceeded, Outcome.UNKNOWN)


# --- the clock ---------------------------------------------------------------------------------


def _ceiling(alone: Alone) -> int:
    return int.from_bytes(alone.disk.get_meta(CEILING_META) or b"", "big")


@pytest.mark.parametrize("quiet_ms", [0, 3_600_000])
def test_a_write_through_a_quiet_node_needs_one_sync_and_stores_its_ceiling_with_it(
    quiet_ms: int,
) -> None:
    """I8. Nobody that the write could wait for needs to know the ceiling first."""
    alone = Alone(1, syncs=False)
    alone.sync()
    alone.step(after_ms=quiet_ms)
    asker = alone.put(KEY, b"v")
    assert len(alone.marks) == 1
    alone.sync()
    assert isinstance(asker.result, PutResult)
    assert stamp_of(asker.result.version) <= _ceiling(alone)


def test_a_coordinator_that_holds_no_copy_stores_its_ceiling_and_waits_for_no_sync() -> None:
    alone, holders = outsider()
    alone.syncs = False
    asker = alone.put(KEY_OF_OTHERS, b"v")
    assert len(alone.marks) == 1
    for index in holders[:2]:
        (record,) = ack(alone, index)
    assert isinstance(asker.result, PutResult)
    assert stamp_of(record.version) <= _ceiling(alone)


def test_a_clock_that_was_set_back_a_little_delays_writes_and_refuses_none() -> None:
    """The wall clock catches up within write-wait, and nothing else has to happen for it."""
    alone = alone_of()
    alone.wall_offset_ms = -2_500
    asker = alone.put(KEY, b"v", w=1)
    assert not asker.results
    for _ in range(20):
        if asker.results:
            break
        assert alone.wake_ms is not None
        alone.step(after_ms=alone.wake_ms - alone.mono_ms)
    assert isinstance(asker.result, PutResult)
    assert alone.mono_ms <= 2_000


def test_a_clock_that_was_set_far_back_refuses_writes_and_says_why() -> None:
    alone = alone_of()
    alone.wall_offset_ms = -3_600_000
    asker = alone.put(KEY, b"v")
    alone.step(after_ms=WRITE_WAIT_MS)
    error_of(asker, ClockUntrusted, Outcome.NOT_APPLIED)


def test_a_stamp_above_what_this_replica_holds_is_the_clocks_own() -> None:
    """I8: later ones are above it, and it is within the guard."""
    alone = alone_of()
    wall_ms, row = alone.now.wall_ms, row_of(KEY)
    for ahead_ms in (500, 10_000):
        held = Record(pack_version(stamp_at(wall_ms + ahead_ms) - 1, 9), b"old")
        alone.disk.write(Batch([(row, held)], [], []))
        asker = alone.put(KEY, b"v")
        if ahead_ms == 500:
            (sent,) = ack(alone, 1)
            assert stamp_of(sent.version) == stamp_of(held.version) + 1
            alone.put(b"another", b"v")
            assert alone.node.parts.clock.last > stamp_of(sent.version)
        else:
            alone.step(after_ms=WRITE_WAIT_MS)
            error_of(asker, ClockUntrusted, Outcome.NOT_APPLIED)
