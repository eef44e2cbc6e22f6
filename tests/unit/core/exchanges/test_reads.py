# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a read, answer by answer (I14, I23)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from quorate.core.exchanges.outbox import HEDGE_MS_MIN
from quorate.core.exchanges.reads import READ_WAIT_MS
from quorate.core.values.events import Batch, GetResult, PutResult
from quorate.core.values.messages import Mutate, Mutated, Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt, DeadlineExceeded, Overloaded, QuorumUnreachable
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, made_at, record_at
from tests.unit.core.read_stage import KEY, NEW, OLD, ROW, ack, answer, give, outsider, three

# --- asking ------------------------------------------------------------------------------------


def test_one_full_record_is_asked_for_and_versions_from_the_rest() -> None:
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    assert [(len(r.full), len(r.brief)) for r in alone.take(first, Read)] == [(1, 0)]
    assert [(len(r.full), len(r.brief)) for r in alone.take(second, Read)] == [(0, 1)]
    assert alone.take(third, Read) == []
    assert not asker.results


def test_a_replica_counts_itself_and_asks_one_other() -> None:
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    assert (read.full, read.brief) == ([], [ROW])
    alone.hear(1, ReadAnswer(read.batch, [], [NEW.version]))
    assert asker.result == GetResult(NEW, answers=2)
    assert alone.take(2, Read) == []


def test_a_local_read_asks_nobody() -> None:
    alone = three()
    give(alone, NEW)
    assert alone.get(KEY, r=1).result == GetResult(NEW, answers=1)
    assert not any(alone.take(peer, Read) for peer in (1, 2))


def test_absent_is_an_answer() -> None:
    """Nothing here, said by R replicas."""
    alone = three()
    asker = alone.get(KEY)
    answer(alone, 1, None)
    assert asker.result == GetResult(None, answers=2)


def test_faster_peers_are_asked_first() -> None:
    alone = three()
    alone.peer(1).speed = 5
    alone.get(KEY)
    assert alone.take(1, Read) == []
    assert len(alone.take(2, Read)) == 1


# --- too few -----------------------------------------------------------------------------------


def test_too_few_replicas_are_waited_for_and_then_it_is_unreachable_not_absent() -> None:
    """P3."""
    alone = three()
    alone.unlink(1, 2)
    asker = alone.get(KEY)
    assert not asker.results
    assert alone.wake_ms == READ_WAIT_MS
    alone.step(after_ms=READ_WAIT_MS - 1)
    assert not asker.results
    alone.step(after_ms=1)
    assert isinstance(asker.result, QuorumUnreachable)
    assert asker.result.facts == {"needed": 2, "live": 1}


def test_a_link_that_comes_back_meanwhile_serves_the_read() -> None:
    alone = three()
    give(alone, NEW)
    alone.unlink(1, 2)
    asker = alone.get(KEY)
    alone.step(after_ms=100)
    alone.link(2)
    answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_without_an_answer_a_read_ends_at_its_deadline() -> None:
    alone = three()
    asker = alone.get(KEY, timeout_ms=40)
    alone.step(after_ms=39)
    assert not asker.results
    alone.step(after_ms=1)
    assert isinstance(asker.result, DeadlineExceeded)
    answer(alone, 1, NEW)
    assert len(asker.results) == 1, "a late answer changes nothing"


# --- losing and hedging ------------------------------------------------------------------------


def test_a_lost_replica_is_not_replaced_by_one_that_cannot_be_reached() -> None:
    """Its answer would be waited for until the read's time is over; so it is refused at once."""
    alone = three()
    asker = alone.get(KEY)
    assert len(alone.take(1, Read)) == 1
    alone.unlink(2, 1)
    assert isinstance(asker.result, QuorumUnreachable)


def test_a_lost_replica_is_replaced_at_once() -> None:
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    alone.unlink(1)
    answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_a_silent_replica_is_hedged_after_its_p95_and_the_node_wakes_for_it() -> None:
    alone = three()
    give(alone, NEW)
    alone.node.outboxes[0].p95_ms = 30.0
    asker = alone.get(KEY)
    assert alone.wake_ms == 31, "else nothing happens until the next heartbeat"
    alone.step(after_ms=29)
    assert alone.take(2, Read) == []
    alone.step(after_ms=2)
    assert alone.node.parts.turn.counters["reads_hedged"] == 1
    answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_a_read_is_hedged_once_and_at_most_with_all_replicas() -> None:
    alone = three()
    alone.get(KEY)
    for _ in range(5):
        alone.step(after_ms=int(HEDGE_MS_MIN) * 3)
    assert len(alone.take(2, Read)) == 1
    assert alone.node.parts.turn.counters["reads_hedged"] == 1


def test_a_read_whose_time_is_over_is_not_hedged() -> None:
    alone = three()
    asker = alone.get(KEY, timeout_ms=int(HEDGE_MS_MIN) // 2)
    for _ in range(5):
        alone.step(after_ms=int(HEDGE_MS_MIN))
    assert isinstance(asker.result, DeadlineExceeded)
    assert alone.take(2, Read) == []
    assert "reads_hedged" not in alone.node.status().counters


def test_when_the_last_replicas_are_lost_the_read_fails_at_once() -> None:
    alone = three()
    asker = alone.get(KEY)
    alone.unlink(1)
    assert not asker.results
    alone.unlink(2)
    assert isinstance(asker.result, QuorumUnreachable)
    assert asker.result.facts == {"needed": 2, "live": 1}


def test_a_damaged_answer_is_none_and_another_is_asked() -> None:
    """I23."""
    alone = three()
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [], [ABSENT], [ROW]))
    assert not asker.results
    answer(alone, 2, NEW)
    assert alone.take(2, Read) == []
    # Node 0 itself has nothing: the newest is fetched in full, and kept here.
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == NEW


def test_answers_that_come_after_the_read_was_answered_change_nothing() -> None:
    """Of the third replica, which was hedged: whatever it holds, or if it cannot read it."""
    for late in (None, OLD, NEW, record_at(3), record_at(3_600_000), "damaged"):
        alone = three()
        give(alone, NEW)
        asker = alone.get(KEY)
        alone.step(after_ms=100)
        (slow,) = alone.take(1, Read)
        answer(alone, 2, NEW)
        assert asker.result == GetResult(NEW, answers=2)
        if isinstance(late, str):
            alone.hear(1, ReadAnswer(slow.batch, [], [ABSENT], [ROW]))
        else:
            alone.hear(1, ReadAnswer(slow.batch, [], [ABSENT if late is None else late.version]))
        assert [alone.take(peer, kind) for peer in (1, 2) for kind in (Read, Mutate)] == [[]] * 4
        assert (asker.results, alone.node.inflight) == ([GetResult(NEW, answers=2)], 0)


# --- damage and wrong clocks -------------------------------------------------------------------


def test_a_damaged_copy_here_is_repaired_by_a_read() -> None:
    """I23."""
    alone = three()
    give(alone, OLD)
    assert alone.disk.rot(ROW, Random(1))
    asker = alone.get(KEY)
    for peer in (1, 2):
        answer(alone, peer, NEW)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.disk.get(ROW) == NEW


def test_a_damaged_copy_at_a_peer_is_repaired_by_a_read() -> None:
    """I23."""
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [], [ABSENT], [ROW]))
    answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert ack(alone, 1) == [NEW]


def test_where_damage_is_what_is_in_the_way_the_answer_says_so() -> None:
    """The only copy; one of all that are asked for; and a peer's."""
    alone = Alone(1)
    give(alone, OLD)
    assert alone.disk.rot(ROW, Random(1))
    asker = alone.get(KEY)
    alone.step(after_ms=READ_WAIT_MS)
    assert isinstance(asker.result, Corrupt)
    assert asker.result.facts == {"needed": 1, "live": 0, "damaged": 1}
    assert "copy_damaged" in alone.notes
    assert alone.node.status().counters["copies_damaged"] == 1

    alone = three()
    give(alone, OLD)
    assert alone.disk.rot(ROW, Random(1))
    asker = alone.get(KEY, r=3)
    alone.step(after_ms=READ_WAIT_MS)
    assert isinstance(asker.result, Corrupt)
    assert asker.result.facts == {"needed": 3, "live": 2, "damaged": 1}

    alone = three()
    asker = alone.get(KEY, r=3)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [], [ABSENT], [ROW]))
    assert isinstance(asker.result, Corrupt)
    assert asker.result.facts == {"needed": 3, "live": 2, "damaged": 1}


def test_where_others_are_missing_too_a_damaged_copy_is_not_to_blame() -> None:
    alone = Alone(5, replication=5)
    alone.link(1, 2)
    alone.unlink(2)
    alone.disk.format(Batch([(row_of(KEY), OLD)], [], []))
    assert alone.disk.rot(row_of(KEY), Random(1))
    asker = alone.get(KEY)
    alone.step(after_ms=READ_WAIT_MS)
    assert isinstance(asker.result, QuorumUnreachable)
    assert asker.result.facts == {"needed": 3, "live": 1}


def test_a_write_takes_the_place_of_damage_which_the_operator_is_told() -> None:
    alone = Alone(1)
    give(alone, OLD)
    assert alone.disk.rot(ROW, Random(1))
    asker = alone.put(KEY, b"new")
    assert isinstance(asker.result, PutResult)
    assert "copy_damaged" in alone.notes
    again = alone.get(KEY)
    assert isinstance(again.result, GetResult)


def test_a_damaged_copy_is_left_alone_by_a_read_that_may_have_missed_what_it_held() -> None:
    """At R=1 the answer may be older than what was lost: the damage must go on being seen."""
    alone = three()
    give(alone, NEW)
    assert alone.disk.rot(ROW, Random(1))
    asker = alone.get(KEY, r=1)
    answer(alone, 1, OLD)
    assert asker.result == GetResult(OLD, answers=1)
    assert alone.disk.damaged() == [ROW]


@pytest.mark.parametrize(
    ("ahead", "held"),
    [(record_at(3_600_000), NEW), (made_at(3_600_000), record_at(-1))],
    ids=["stamped", "made"],
)
def test_a_record_from_a_wrong_clock_is_not_spread_by_reads(ahead: Record, held: Record) -> None:
    """Written back, the key could not be written anywhere until its time comes."""
    alone = three()
    give(alone, held)
    asker = alone.get(KEY)
    answer(alone, 1, ahead)
    answer(alone, 2, held)
    assert asker.result == GetResult(held, answers=2)
    assert alone.disk.get(ROW) == held
    assert alone.take(2, Mutate) == []
    assert alone.node.parts.turn.counters["read_answers_distrusted"] == 1


def test_a_full_answer_from_a_wrong_clock_gives_way_to_what_others_have() -> None:
    ahead = record_at(3_600_000, b"from the future")
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, ahead)
    answer(alone, second, NEW)
    for peer in (third, second, third, second):
        answer(alone, peer, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_a_full_answer_from_a_wrong_clock_is_not_read_where_others_have_nothing() -> None:
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, record_at(3_600_000, b"from the future"))
    for peer in (second, third):
        answer(alone, peer, None)
    assert asker.result == GetResult(None, answers=2)


def test_a_copy_here_that_cannot_be_read_any_more_does_not_count_when_it_is_read_again() -> None:
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    assert alone.disk.rot(ROW, Random(1))
    answer(alone, 1, record_at(3_600_000))
    for _ in range(2):
        answer(alone, 2, NEW)
    assert isinstance(asker.result, Corrupt)
    assert asker.result.facts == {"needed": 2, "live": 1, "damaged": 1}

    alone = Alone(5, replication=5)
    alone.link(1, 2, 3, 4)
    give(alone, NEW)
    asker = alone.get(KEY)
    assert alone.disk.rot(row_of(KEY), Random(1))
    ahead, *others = sorted(range(1, 5), key=lambda index: not alone.said[id_of(index)])
    answer(alone, ahead, record_at(3_600_000))
    for index in others * 2:
        answer(alone, index, NEW)
    assert asker.result == GetResult(NEW, answers=3, repaired=1)


def test_where_nobody_has_anything_a_damaged_copy_is_not_written_over() -> None:
    """There is nothing to write."""
    alone = three()
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [], [ABSENT], [ROW]))
    answer(alone, 2, None)
    assert asker.result == GetResult(None, answers=2)
    assert alone.take(1, Mutate) == []


def test_replicas_that_agree_are_believed_whatever_the_clock_here_says() -> None:
    """Else a clock set back would make all that was written before unreadable."""
    ahead = record_at(3_600_000)
    alone = three()
    give(alone, ahead)
    asker = alone.get(KEY)
    answer(alone, 1, ahead)
    assert asker.result == GetResult(ahead, answers=2)


@pytest.mark.parametrize("ahead", [record_at(3_600_000), made_at(3_600_000)])
def test_a_damaged_copy_here_does_not_take_what_is_past_the_guard_here(ahead: Record) -> None:
    """I8: others agree on it, so it is believed."""
    alone = three()
    give(alone, OLD)
    assert alone.disk.rot(ROW, Random(1))
    asker = alone.get(KEY)
    for peer in (1, 2):
        answer(alone, peer, ahead)
    assert asker.result == GetResult(ahead, answers=2, repaired=1)
    assert alone.disk.damaged() == [ROW]


def test_reads_of_large_values_are_charged_and_shed_at_the_limit() -> None:
    """P7: what a read may bring counts like what a write brings."""
    alone = Alone(2, replication=1, inflight_bytes_max=1000)
    alone.link(1)
    partitions = alone.node.membership.current().partitions
    keys = (b"key%d" % number for number in range(100))
    theirs = next(key for key in keys if not partitions[partition_of(row_of(key))].is_mine)
    first = alone.get(theirs)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [record_at(1, b"x" * 400)], []))
    assert isinstance(first.result, GetResult)
    askers = [alone.get(theirs) for _ in range(5)]
    assert [isinstance(each.result, Overloaded) for each in askers] == [False] * 3 + [True] * 2
    for read in alone.take(1, Read):
        alone.hear(1, ReadAnswer(read.batch, [None] * len(read.full), []))
    assert alone.node.parts.requests.bytes == 0


def test_what_a_read_may_bring_is_learnt_from_own_copies_too() -> None:
    alone = Alone(2, replication=1, inflight_bytes_max=1000)
    alone.link(1)
    partitions = alone.node.membership.current().partitions
    keys = [b"key%d" % number for number in range(100)]
    mine = next(key for key in keys if partitions[partition_of(row_of(key))].is_mine)
    theirs = next(key for key in keys if not partitions[partition_of(row_of(key))].is_mine)
    alone.put(mine, b"x" * 400)
    assert isinstance(alone.get(mine).result, GetResult)
    askers = [alone.get(theirs) for _ in range(5)]
    assert [bool(each.results) for each in askers] == [False] * 3 + [True] * 2
    assert isinstance(askers[-1].result, Overloaded)


def _looked_again(alone: Alone) -> None:
    """What was read is old already when it is written back."""
    answer(alone, 1, None)
    ack(alone, 1, higher=NEW.version)


def _looked_again_in_vain(alone: Alone) -> None:
    alone.unlink(2)
    answer(alone, 1, None)
    (mutate,) = alone.take(1, Mutate)
    alone.peer(1).is_reachable = False
    alone.hear(1, Mutated(mutate.batch, [(0, NEW.version)], []))


@pytest.mark.parametrize(
    "events",
    [
        [lambda alone: answer(alone, 1, OLD)],
        [lambda alone: answer(alone, 1, None), lambda alone: ack(alone, 1)],
        [lambda alone: answer(alone, 1, NEW)] * 2,
        [_looked_again, lambda alone: answer(alone, 1, NEW), lambda alone: answer(alone, 1, NEW)],
        [_looked_again, lambda alone: alone.unlink(1, 2)],
        [_looked_again, lambda alone: alone.step(after_ms=100)],
        [_looked_again_in_vain],
        [lambda alone: alone.unlink(1, 2)],
        [lambda alone: alone.step(after_ms=100)],
    ],
)
def test_what_a_read_was_charged_with_is_given_back_however_it_ends(
    events: list[Callable[[Alone], object]],
) -> None:
    """P7: else a node would take fewer and fewer requests."""
    alone = three()
    give(alone, record_at(0, bytes(1_000)))
    assert alone.get(KEY, r=1).results
    give(alone, OLD)
    requests = alone.node.parts.requests
    asker = alone.get(KEY, timeout_ms=100)
    assert requests.bytes == 1_000
    for event in events:
        assert not asker.results
        event(alone)
        if not asker.results:
            assert requests.bytes >= 1_000, "and not before"
    if not asker.results:
        ack(alone, 1)
    assert len(asker.results) == 1
    assert (requests.count, requests.bytes) == (0, 0)


def test_large_values_are_forgotten_slowly_by_what_reads_are_charged_with() -> None:
    """Between small ones they come again."""
    alone = three()
    give(alone, record_at(0, bytes(6_400)))
    assert alone.get(KEY, r=1).results
    give(alone, OLD)
    charges = []
    for _ in range(500):
        assert alone.get(KEY, r=1).results
        alone.get(KEY, timeout_ms=1)
        charges.append(alone.node.parts.requests.bytes)
        alone.step(after_ms=1)
    assert charges[:2] == [6_300, 6_202], "a 64th less for each"
    assert charges == sorted(charges, reverse=True)
    assert charges[-1] < 100


def test_a_read_that_had_to_wait_is_charged_once() -> None:
    alone = three()
    give(alone, record_at(0, bytes(1_000)))
    assert alone.get(KEY, r=1).results
    alone.unlink(1, 2)
    asker = alone.get(KEY)
    assert alone.node.parts.requests.bytes == 0
    alone.link(1)
    assert alone.node.parts.requests.bytes == 1_000
    answer(alone, 1, None)
    ack(alone, 1)
    assert len(asker.results) == 1
    assert alone.node.parts.requests.bytes == 0
