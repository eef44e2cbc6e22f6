# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that differ: the newest is fetched, written back, looked at again (P2, I14)."""

from __future__ import annotations

from itertools import permutations

import pytest

from quorate.core.exchanges.repairs import WRITE_BACK_AGAIN_MS, WRITE_BACK_HEDGE_MS
from quorate.core.values.events import Batch, Get, GetResult, StorageState
from quorate.core.values.messages import Mutate, Mutated, Read, ReadAnswer
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ABSENT
from quorate.errors import DeadlineExceeded, QuorumUnreachable
from quorate.sim.cluster import id_of
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.read_stage import KEY, NEW, NEWER, OLD, ROW, ack, answer, give, outsider, three
from tests.unit.core.update_stage import pass_ms


def test_the_newest_is_fetched_from_one_that_has_it() -> None:
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    (read,) = alone.take(second, Read)
    assert read.full == [ROW]
    alone.hear(second, ReadAnswer(read.batch, [NEW], []))
    assert ack(alone, first) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.take(third, Mutate) == []


def test_one_that_dies_before_it_sent_its_newest_did_not_answer() -> None:
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    alone.unlink(second)
    answer(alone, third, OLD)
    assert asker.result == GetResult(OLD, answers=2)


@pytest.mark.parametrize("held", [None, OLD])
def test_a_replica_that_is_behind_is_repaired_before_the_answer(held: Record | None) -> None:
    """Stale and missing, when R + W > N."""
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    answer(alone, 1, held)
    assert not asker.results, "no majority holds it yet"
    assert ack(alone, 1) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_this_node_is_repaired_and_the_answer_waits_for_its_disk() -> None:
    alone = three()
    give(alone, OLD)
    alone.syncs = False
    asker = alone.get(KEY)
    answer(alone, 1, NEW)
    answer(alone, 1, NEW)
    assert alone.disk.get(ROW) == NEW
    assert not asker.results
    alone.sync()
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_without_an_overlap_the_repair_goes_on_behind_the_answer() -> None:
    """At R=1 too, by whoever was hedged."""
    alone = three(w=1)
    give(alone, NEW)
    asker = alone.get(KEY, r=2)
    answer(alone, 1, OLD)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert ack(alone, 1) == [NEW]


def test_a_minority_that_is_behind_does_not_delay_the_answer() -> None:
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY, r=3)
    answer(alone, 1, NEW)
    answer(alone, 2, OLD)
    assert asker.result == GetResult(NEW, answers=3, repaired=1)
    assert ack(alone, 2) == [NEW]


def test_replicas_that_agree_are_written_nothing() -> None:
    """I14."""
    alone = three()
    give(alone, NEW)
    alone.get(KEY, r=3)
    for peer in (1, 2):
        answer(alone, peer, NEW)
    assert not any(alone.take(peer, Mutate) for peer in (1, 2))
    assert alone.node.parts.turn.counters["reads_repaired"] == 0


def test_another_replica_takes_the_place_of_one_that_dies_while_being_repaired() -> None:
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    answer(alone, 1, OLD)
    alone.unlink(1)
    assert ack(alone, 2) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_a_slow_replica_can_take_the_place_of_one_that_dies_while_being_repaired() -> None:
    """It was asked, it did not answer yet: it can be written all the same."""
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    alone.step(after_ms=100)
    answer(alone, third, NEW)
    answer(alone, third, NEW)
    assert not asker.results
    alone.unlink(first)
    assert ack(alone, second) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_another_replica_is_written_what_a_slow_one_does_not_take() -> None:
    """Its disk may take seconds, and the other one may hold it long since."""
    alone = three()
    give(alone, NEW)
    asker = alone.get(KEY)
    answer(alone, 1, OLD)
    assert len(alone.take(1, Mutate)) == 1
    alone.step(after_ms=WRITE_BACK_HEDGE_MS - 1)
    assert alone.take(2, Mutate) == []
    alone.step(after_ms=1)
    assert ack(alone, 2) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.node.parts.turn.counters["reads_hedged"] == 1


def test_another_replica_is_written_what_the_slow_disk_here_does_not_take() -> None:
    alone = three()
    give(alone, OLD)
    alone.syncs = False
    asker = alone.get(KEY)
    answer(alone, 1, NEW)
    answer(alone, 1, NEW)
    alone.step(after_ms=WRITE_BACK_HEDGE_MS)
    assert ack(alone, 2) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_what_was_written_back_in_time_is_sent_to_nobody_else() -> None:
    alone = three()
    give(alone, NEW)
    alone.get(KEY)
    answer(alone, 1, OLD)
    assert ack(alone, 1) == [NEW]
    alone.step(after_ms=WRITE_BACK_HEDGE_MS)
    assert alone.take(2, Mutate) == []
    assert alone.node.parts.turn.counters["reads_hedged"] == 0


def test_a_write_back_that_nobody_can_take_goes_to_whoever_comes_back() -> None:
    """I25: with a live quorum a read is answered, however the replicas come and go."""
    alone, (first, second, third) = outsider()
    alone.unlink(third)
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    answer(alone, second, NEW)
    assert len(alone.take(first, Mutate)) == 1
    alone.unlink(first)
    assert not asker.results
    alone.link(first)
    alone.step(after_ms=WRITE_BACK_AGAIN_MS)
    assert ack(alone, first) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_a_replica_that_takes_no_writes_now_is_not_asked_in_a_loop() -> None:
    alone, (first, second, third) = outsider()
    alone.unlink(third)
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    answer(alone, second, NEW)
    for _ in range(3):
        (mutate,) = alone.take(first, Mutate)
        alone.hear(first, Mutated(mutate.batch, [], [], busy=True))
        due_ms = alone.mono_ms + WRITE_BACK_AGAIN_MS
        while alone.mono_ms < due_ms:
            assert alone.take(first, Mutate) == []
            alone.sleep()
        assert alone.mono_ms == due_ms
    assert ack(alone, first) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_two_replicas_that_take_no_writes_are_not_sent_it_in_turns() -> None:
    """P7: each is asked once in WRITE_BACK_AGAIN_MS, however fast it refuses."""
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    answer(alone, second, NEW)
    asked = 0
    for _ in range(50):
        for index in (first, third):
            for mutate in alone.take(index, Mutate):
                asked += 1
                alone.hear(index, Mutated(mutate.batch, [], [], busy=True))
    assert asked == 2
    alone.step(after_ms=WRITE_BACK_AGAIN_MS)
    assert ack(alone, first) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_who_has_yet_to_answer_is_not_sent_it_again_because_another_refuses() -> None:
    alone, (first, second, third) = outsider()
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    answer(alone, second, NEW)
    _be_busy(alone, first, third)
    pass_ms(alone, WRITE_BACK_AGAIN_MS)
    assert len(alone.take(first, Mutate)) == 1
    pass_ms(alone, WRITE_BACK_HEDGE_MS)
    _be_busy(alone, third)
    pass_ms(alone, WRITE_BACK_AGAIN_MS)
    assert alone.take(first, Mutate) == []
    assert ack(alone, third) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def _be_busy(alone: Alone, *indices: int) -> None:
    """Each takes nothing of what it was told to keep, once."""
    for index in indices:
        (mutate,) = alone.take(index, Mutate)
        alone.hear(index, Mutated(mutate.batch, [], [], busy=True))


def test_a_damaged_copy_that_is_repaired_counts_once() -> None:
    """I7: it is sent the record with the others, and not again when one of these is lost."""
    alone, (first, second, third, fourth, fifth) = outsider(6, replication=5)
    asker = alone.get(KEY)
    alone.hear(first, _damaged(alone, first))
    for index in (second, third, fourth, fifth):
        answer(alone, index, NEW if index == second else OLD)
    answer(alone, second, NEW)
    sent = {index: len(alone.take(index, Mutate)) for index in (first, third, fourth, fifth)}
    assert sent[first] == 1
    lost = next(index for index in (third, fourth, fifth) if sent[index])
    alone.unlink(lost)
    assert alone.take(first, Mutate) == []
    assert not asker.results


def _damaged(alone: Alone, index: int) -> ReadAnswer:
    """What a replica answers whose bytes are damaged."""
    (read,) = alone.take(index, Read)
    return ReadAnswer(read.batch, [None] * len(read.full), [ABSENT] * len(read.brief), [ROW])


def test_this_node_is_repaired_once_its_disk_takes_writes_again() -> None:
    alone = three()
    give(alone, OLD)
    alone.unlink(2)
    alone.step(StorageState("disk_full", "no space"))
    asker = alone.get(KEY)
    answer(alone, 1, NEW)
    answer(alone, 1, NEW)
    assert not asker.results
    alone.step(StorageState())
    alone.step(after_ms=WRITE_BACK_AGAIN_MS)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.disk.get(ROW) == NEW


def test_a_write_back_is_sent_again_only_while_somebody_waits() -> None:
    alone, (first, second, third) = outsider()
    alone.unlink(third)
    asker = alone.get(KEY, timeout_ms=50)
    answer(alone, first, OLD)
    answer(alone, second, NEW)
    answer(alone, second, NEW)
    assert len(alone.take(first, Mutate)) == 1
    alone.unlink(first)
    alone.step(after_ms=100)
    assert isinstance(asker.result, DeadlineExceeded)
    alone.link(first)
    alone.step(after_ms=WRITE_BACK_AGAIN_MS)
    assert alone.take(first, Mutate) == []


def test_a_replica_lost_after_the_answers_is_neither_replaced_nor_missed() -> None:
    alone, (first, second, third, fourth, fifth) = outsider(6, replication=5)
    asker = alone.get(KEY)
    answer(alone, first, OLD)
    alone.step(after_ms=100)
    for peer in (second, fourth, fourth, second):
        answer(alone, peer, NEW)
    for peer in (fifth, third):
        alone.take(peer, Read)
    assert len(alone.take(first, Mutate)) == 1, "it is being written back"
    alone.unlink(third)
    assert alone.take(fifth, Read) == []
    assert not asker.results


def test_a_full_disk_here_does_not_keep_a_read_from_being_answered() -> None:
    """It goes on serving reads; another replica holds what this one cannot."""
    alone = three()
    give(alone, OLD)
    alone.step(StorageState("disk_full", "no space"))
    asker = alone.get(KEY)
    answer(alone, 1, NEW)
    answer(alone, 1, NEW)
    assert ack(alone, 2) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.disk.get(ROW) == OLD


def test_what_was_superseded_while_it_was_written_back_is_not_answered() -> None:
    """The second look: what was read is already old."""
    alone = three()
    give(alone, OLD)
    asker = alone.get(KEY)
    answer(alone, 1, None)
    assert ack(alone, 1, higher=NEW.version) == [OLD]
    assert not asker.results
    assert alone.node.parts.turn.counters["reads_looked_again"] == 1
    answer(alone, 1, NEW)
    answer(alone, 1, NEW)
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == NEW


def test_one_replica_that_held_more_is_enough_for_a_second_look_whoever_answers_last() -> None:
    alone = Alone(5, replication=5)
    alone.link(1, 2, 3, 4)
    give(alone, OLD)
    asker = alone.get(KEY)
    asked = [index for index in range(1, 5) if answer(alone, index, None)]
    assert len(asked) == 2
    ack(alone, asked[0], higher=NEW.version)
    assert not asker.results
    ack(alone, asked[1])
    assert not asker.results
    assert alone.node.parts.turn.counters["reads_looked_again"] == 1


@pytest.mark.parametrize("late", ["ack", "superseded", "refused", "busy", "lost"])
def test_what_becomes_of_a_write_back_after_the_answer_changes_nothing(late: str) -> None:
    """A majority holds it already."""
    alone = Alone(5, replication=5)
    alone.link(1, 2, 3, 4)
    give(alone, NEW)
    asker = alone.get(KEY, r=4)
    asked = [index for index in range(1, 5) if answer(alone, index, OLD)]
    assert len(asked) == 3
    for index in asked[:2]:
        assert ack(alone, index) == [NEW]
    assert asker.result == GetResult(NEW, answers=4, repaired=3)
    (mutate,) = alone.take(asked[2], Mutate)
    if late == "lost":
        alone.unlink(asked[2])
    else:
        superseded = [(0, NEWER.version)] if late == "superseded" else []
        refused = [(0, "no")] if late == "refused" else []
        is_busy = late == "busy"
        alone.hear(asked[2], Mutated(mutate.batch, superseded, refused, busy=is_busy))
    for _ in range(3):
        alone.step(after_ms=WRITE_BACK_AGAIN_MS)
    for index in range(1, 5):
        assert alone.take(index, Mutate) == []
        assert alone.take(index, Read) == []
    assert (len(asker.results), alone.node.inflight) == (1, 0)


@pytest.mark.parametrize("order", list(permutations(["ack", "superseded", "refused"])))
def test_of_records_written_back_in_one_message_each_has_what_the_replica_said_of_it(
    order: tuple[str, ...],
) -> None:
    alone = three()
    alone.unlink(2)
    held = {said: row_of(said.encode()) for said in order}
    alone.disk.format(Batch([(row, NEW) for row in held.values()], [], []))
    askers = {said: Asker() for said in order}
    alone.step(*[Get(asker, said.encode()) for said, asker in askers.items()])
    answer(alone, 1, OLD)
    (mutate,) = alone.take(1, Mutate)
    rows = [row for row, _ in mutate.items]
    superseded = [(9, NEWER.version), (rows.index(held["superseded"]), NEWER.version)]
    refused = [(9, "no"), (rows.index(held["refused"]), "no")]
    alone.hear(1, Mutated(mutate.batch, superseded, refused))
    assert [said for said in order if askers[said].results] == ["ack"]
    (read,) = alone.take(1, Read)
    assert read.full + read.brief == [held["superseded"]], "the second look"
    alone.step(after_ms=WRITE_BACK_AGAIN_MS)
    (again,) = alone.take(1, Mutate)
    assert [row for row, _ in again.items] == [held["refused"]]


def test_what_a_replica_that_is_gone_should_have_is_written_to_another_at_once() -> None:
    """It had answered, and its link broke before the others did."""
    alone = Alone(5, replication=5)
    alone.link(1, 2, 3, 4)
    give(alone, NEW)
    asker = alone.get(KEY)
    gone, other, *spare = sorted(range(1, 5), key=lambda index: not alone.said[id_of(index)])
    answer(alone, gone, OLD)
    alone.unlink(gone)
    answer(alone, other, OLD)
    told = [index for index in (other, *spare) if ack(alone, index) == [NEW]]
    assert len(told) == 2
    assert other in told
    assert asker.result == GetResult(NEW, answers=3, repaired=2)


def test_a_second_look_keeps_the_deadline_of_the_first() -> None:
    alone = three()
    give(alone, OLD)
    asker = alone.get(KEY, timeout_ms=100)
    alone.step(after_ms=60)
    answer(alone, 1, None)
    ack(alone, 1, higher=NEW.version)
    alone.step(after_ms=39)
    assert not asker.results
    alone.step(after_ms=1)
    assert isinstance(asker.result, DeadlineExceeded)


def test_a_second_look_without_replicas_is_unreachable() -> None:
    alone = three()
    give(alone, OLD)
    asker = alone.get(KEY)
    alone.unlink(2)
    answer(alone, 1, None)
    (mutate,) = alone.take(1, Mutate)
    alone.peer(1).is_reachable = False
    alone.hear(1, Mutated(mutate.batch, [(0, NEW.version)], []))
    assert isinstance(asker.result, QuorumUnreachable)
