# SPDX-License-Identifier: GPL-3.0-or-later
"""Coordinating a read, answer by answer (S14, S39, I14, I23)."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.events import Batch, GetResult, StorageState
from quorate.core.layout import first_layout
from quorate.core.membership import LAYOUT_META
from quorate.core.messages import Mutate, Mutated, Read, ReadAnswer
from quorate.core.peers import HEDGE_MS_MIN
from quorate.core.reads import READ_WAIT_MS
from quorate.core.record import ABSENT, Record
from quorate.core.slots import partition_of, row_of
from quorate.errors import DeadlineExceeded, Overloaded, QuorumUnreachable
from tests.sim_cluster import url_of
from tests.sim_host import Disk
from tests.unit.core.alone import Alone, record_at


def _key_of_nodes(*indices: int) -> bytes:
    """A key whose replicas are nodes 0 to 2, in this order."""
    layout = first_layout([url_of(index) for index in range(3)], replication=3)
    wanted = [url_of(index) for index in indices]
    keys = (b"key%d" % number for number in range(1000))
    return next(key for key in keys if layout.replicas(partition_of(row_of(key))) == wanted)


KEY = _key_of_nodes(0, 1, 2)
ROW = row_of(KEY)
OLD, NEW = record_at(1, b"old"), record_at(2, b"new")


def _alone(**settings: Any) -> Alone:
    """Node 0 of three, which hold every key; the test is nodes 1 and 2."""
    alone = Alone(3, **settings)
    alone.link(1, 2)
    return alone


def _outsider(count: int = 5, replication: int = 3) -> tuple[Alone, list[int]]:
    """A node that holds nothing of KEY, and those that do, in the order it asks them."""
    layout = first_layout([url_of(index) for index in range(1, count)], replication=replication)
    disk = Disk()
    disk.format(Batch([], [], [(LAYOUT_META, layout.encode())]))
    alone = Alone(count, listed=[1], disk=disk)
    alone.link(*range(1, count))
    placement = alone.node.membership.placement
    assert placement is not None
    peers = placement.others[partition_of(ROW)]
    return alone, [next(i for i in range(count) if url_of(i) == peer.url) for peer in peers]


def _give(alone: Alone, record: Record) -> None:
    """Node 0 holds the record already."""
    alone.disk.format(Batch([(ROW, record)], [], []))


def _answer(alone: Alone, index: int, record: Record | None) -> None:
    """Peer `index` answers whatever it was asked, as a replica that holds `record`."""
    for read in alone.take(index, Read):
        version = ABSENT if record is None else record.version
        alone.hear(
            index, ReadAnswer(read.batch, [record] * len(read.full), [version] * len(read.brief))
        )


def _ack(alone: Alone, index: int, *, higher: bytes = ABSENT) -> list[Record]:
    """Peer `index` acknowledges what it was told to keep; the records."""
    kept = []
    for mutate in alone.take(index, Mutate):
        kept += [record for _, record in mutate.items]
        superseded = [(at, higher) for at in range(len(mutate.items))] if higher else []
        alone.hear(index, Mutated(mutate.batch, superseded, []))
    return kept


# --- asking ------------------------------------------------------------------------------------


def test_one_full_record_is_asked_for_and_versions_from_the_rest() -> None:
    alone, (first, second, third) = _outsider()
    asker = alone.get(KEY)
    assert [(len(r.full), len(r.brief)) for r in alone.take(first, Read)] == [(1, 0)]
    assert [(len(r.full), len(r.brief)) for r in alone.take(second, Read)] == [(0, 1)]
    assert alone.take(third, Read) == []
    assert not asker.results


def test_a_replica_counts_itself_and_asks_one_other() -> None:
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    assert (read.full, read.brief) == ([], [ROW])
    alone.hear(1, ReadAnswer(read.batch, [], [NEW.version]))
    assert asker.result == GetResult(NEW, answers=2)
    assert alone.take(2, Read) == []


def test_a_local_read_asks_nobody() -> None:
    alone = _alone()
    _give(alone, NEW)
    assert alone.get(KEY, r=1).result == GetResult(NEW, answers=1)
    assert not any(alone.take(peer, Read) for peer in (1, 2))


def test_absent_is_an_answer() -> None:
    """S14, S20: nothing here, said by R replicas."""
    alone = _alone()
    asker = alone.get(KEY)
    _answer(alone, 1, None)
    assert asker.result == GetResult(None, answers=2)


def test_faster_peers_are_asked_first() -> None:
    alone = _alone()
    peers = alone.node.membership.peers
    peers[url_of(1)].speed = 5
    alone.get(KEY)
    assert alone.take(1, Read) == []
    assert len(alone.take(2, Read)) == 1


# --- too few -----------------------------------------------------------------------------------


def test_too_few_replicas_are_waited_for_and_then_it_is_unreachable_not_absent() -> None:
    """P3, S35."""
    alone = _alone()
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
    alone = _alone()
    _give(alone, NEW)
    alone.unlink(1, 2)
    asker = alone.get(KEY)
    alone.step(after_ms=100)
    alone.link(2)
    _answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_without_an_answer_a_read_ends_at_its_deadline() -> None:
    alone = _alone()
    asker = alone.get(KEY, timeout_ms=40)
    alone.step(after_ms=39)
    assert not asker.results
    alone.step(after_ms=1)
    assert isinstance(asker.result, DeadlineExceeded)
    _answer(alone, 1, NEW)
    assert len(asker.results) == 1, "a late answer changes nothing"


# --- losing and hedging ------------------------------------------------------------------------


def test_a_lost_replica_is_replaced_at_once() -> None:
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY)
    alone.unlink(1)
    _answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_a_silent_replica_is_hedged_after_its_p95_and_the_node_wakes_for_it() -> None:
    alone = _alone()
    _give(alone, NEW)
    alone.node.membership.peers[url_of(1)].p95_ms = 30.0
    asker = alone.get(KEY)
    assert alone.wake_ms == 31, "else nothing happens until the next heartbeat"
    alone.step(after_ms=29)
    assert alone.take(2, Read) == []
    alone.step(after_ms=2)
    assert alone.node.parts.turn.counters["reads_hedged"] == 1
    _answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_a_read_is_hedged_once_and_at_most_with_all_replicas() -> None:
    alone = _alone()
    alone.get(KEY)
    for _ in range(5):
        alone.step(after_ms=int(HEDGE_MS_MIN) * 3)
    assert len(alone.take(2, Read)) == 1
    assert alone.node.parts.turn.counters["reads_hedged"] == 1


def test_when_the_last_replicas_are_lost_the_read_fails_at_once() -> None:
    alone = _alone()
    asker = alone.get(KEY)
    alone.unlink(1)
    assert not asker.results
    alone.unlink(2)
    assert isinstance(asker.result, QuorumUnreachable)
    assert asker.result.facts == {"needed": 2, "answered": 1}


def test_a_damaged_answer_is_none_and_another_is_asked() -> None:
    """I23."""
    alone = _alone()
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [], [ABSENT], [ROW]))
    assert not asker.results
    _answer(alone, 2, NEW)
    assert alone.take(2, Read) == []
    # Node 0 itself has nothing: the newest is fetched in full, and kept here.
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == NEW


# --- differing ---------------------------------------------------------------------------------


def test_the_newest_is_fetched_from_one_that_has_it() -> None:
    alone, (first, second, third) = _outsider()
    asker = alone.get(KEY)
    _answer(alone, first, OLD)
    _answer(alone, second, NEW)
    (read,) = alone.take(second, Read)
    assert read.full == [ROW]
    alone.hear(second, ReadAnswer(read.batch, [NEW], []))
    assert _ack(alone, first) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.take(third, Mutate) == []


def test_one_that_dies_before_it_sent_its_newest_did_not_answer() -> None:
    alone, (first, second, third) = _outsider()
    asker = alone.get(KEY)
    _answer(alone, first, OLD)
    _answer(alone, second, NEW)
    alone.unlink(second)
    _answer(alone, third, OLD)
    assert asker.result == GetResult(OLD, answers=2)


@pytest.mark.parametrize("held", [None, OLD])
def test_a_replica_that_is_behind_is_repaired_before_the_answer(held: Record | None) -> None:
    """S39: stale and missing, when R + W > N."""
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY)
    _answer(alone, 1, held)
    assert not asker.results, "no majority holds it yet"
    assert _ack(alone, 1) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_this_node_is_repaired_and_the_answer_waits_for_its_disk() -> None:
    """S39."""
    alone = _alone()
    _give(alone, OLD)
    alone.syncs = False
    asker = alone.get(KEY)
    _answer(alone, 1, NEW)
    _answer(alone, 1, NEW)
    assert alone.disk.get(ROW) == NEW
    assert not asker.results
    alone.sync()
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_without_an_overlap_the_repair_goes_on_behind_the_answer() -> None:
    """S39: at R=1 too, by whoever was hedged."""
    alone = _alone(w=1)
    _give(alone, NEW)
    asker = alone.get(KEY, r=2)
    _answer(alone, 1, OLD)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert _ack(alone, 1) == [NEW]


def test_a_minority_that_is_behind_does_not_delay_the_answer() -> None:
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY, r=3)
    _answer(alone, 1, NEW)
    _answer(alone, 2, OLD)
    assert asker.result == GetResult(NEW, answers=3, repaired=1)
    assert _ack(alone, 2) == [NEW]


def test_replicas_that_agree_are_written_nothing() -> None:
    """I14."""
    alone = _alone()
    _give(alone, NEW)
    alone.get(KEY, r=3)
    for peer in (1, 2):
        _answer(alone, peer, NEW)
    assert not any(alone.take(peer, Mutate) for peer in (1, 2))
    assert alone.node.parts.turn.counters["reads_repaired"] == 0


def test_another_replica_takes_the_place_of_one_that_dies_while_being_repaired() -> None:
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY)
    _answer(alone, 1, OLD)
    alone.unlink(1)
    assert _ack(alone, 2) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_a_slow_replica_can_take_the_place_of_one_that_dies_while_being_repaired() -> None:
    """It was asked, it did not answer yet: it can be written all the same."""
    alone, (first, second, third) = _outsider()
    asker = alone.get(KEY)
    _answer(alone, first, OLD)
    alone.step(after_ms=100)
    _answer(alone, third, NEW)
    _answer(alone, third, NEW)
    assert not asker.results
    alone.unlink(first)
    assert _ack(alone, second) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)


def test_a_replica_lost_after_the_answers_is_neither_replaced_nor_missed() -> None:
    alone, (first, second, third, fourth, fifth) = _outsider(6, replication=5)
    asker = alone.get(KEY)
    _answer(alone, first, OLD)
    alone.step(after_ms=100)
    for peer in (second, fourth, fourth, second):
        _answer(alone, peer, NEW)
    for peer in (fifth, third):
        alone.take(peer, Read)
    assert len(alone.take(first, Mutate)) == 1, "it is being written back"
    alone.unlink(third)
    assert alone.take(fifth, Read) == []
    assert not asker.results


def test_a_full_disk_here_does_not_keep_a_read_from_being_answered() -> None:
    """RELIABILITY 72: it goes on serving reads; another replica holds what this one cannot."""
    alone = _alone()
    _give(alone, OLD)
    alone.step(StorageState("disk_full", "no space"))
    asker = alone.get(KEY)
    _answer(alone, 1, NEW)
    _answer(alone, 1, NEW)
    assert _ack(alone, 2) == [NEW]
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.disk.get(ROW) == OLD


def test_what_was_superseded_while_it_was_written_back_is_not_answered() -> None:
    """The second look (DESIGN 5): what was read is already old."""
    alone = _alone()
    _give(alone, OLD)
    asker = alone.get(KEY)
    _answer(alone, 1, None)
    assert _ack(alone, 1, higher=NEW.version) == [OLD]
    assert not asker.results
    assert alone.node.parts.turn.counters["reads_looked_again"] == 1
    _answer(alone, 1, NEW)
    _answer(alone, 1, NEW)
    assert isinstance(asker.result, GetResult)
    assert asker.result.record == NEW


def test_a_second_look_keeps_the_deadline_of_the_first() -> None:
    alone = _alone()
    _give(alone, OLD)
    asker = alone.get(KEY, timeout_ms=100)
    alone.step(after_ms=60)
    _answer(alone, 1, None)
    _ack(alone, 1, higher=NEW.version)
    alone.step(after_ms=39)
    assert not asker.results
    alone.step(after_ms=1)
    assert isinstance(asker.result, DeadlineExceeded)


def test_a_second_look_without_replicas_is_unreachable() -> None:
    alone = _alone()
    _give(alone, OLD)
    asker = alone.get(KEY)
    alone.unlink(2)
    _answer(alone, 1, None)
    (mutate,) = alone.take(1, Mutate)
    alone.node.membership.peers[url_of(1)].is_reachable = False
    alone.hear(1, Mutated(mutate.batch, [(0, NEW.version)], []))
    assert isinstance(asker.result, QuorumUnreachable)


# --- damage and wrong clocks -------------------------------------------------------------------


def test_a_damaged_copy_here_is_repaired_by_a_read() -> None:
    """I23."""
    alone = _alone()
    _give(alone, OLD)
    alone.disk.damaged.add(ROW)
    asker = alone.get(KEY)
    for peer in (1, 2):
        _answer(alone, peer, NEW)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert alone.disk.get(ROW) == NEW


def test_a_damaged_copy_at_a_peer_is_repaired_by_a_read() -> None:
    """I23."""
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [], [ABSENT], [ROW]))
    _answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2, repaired=1)
    assert _ack(alone, 1) == [NEW]


def test_a_damaged_copy_is_left_alone_by_a_read_that_may_have_missed_what_it_held() -> None:
    """At R=1 the answer may be older than what was lost: the damage must go on being seen."""
    alone = _alone()
    _give(alone, NEW)
    alone.disk.damaged.add(ROW)
    asker = alone.get(KEY, r=1)
    _answer(alone, 1, OLD)
    assert asker.result == GetResult(OLD, answers=1)
    assert alone.disk.damaged == {ROW}


def test_a_record_from_a_wrong_clock_is_not_spread_by_reads() -> None:
    """RELIABILITY 66: written back, the key could not be written anywhere until its time comes."""
    ahead = record_at(3_600_000, b"from the future")
    alone = _alone()
    _give(alone, NEW)
    asker = alone.get(KEY)
    _answer(alone, 1, ahead)
    _answer(alone, 2, NEW)
    assert asker.result == GetResult(NEW, answers=2)
    assert alone.disk.get(ROW) == NEW
    assert alone.take(2, Mutate) == []
    assert alone.node.parts.turn.counters["read_answers_distrusted"] == 1


def test_a_full_answer_from_a_wrong_clock_gives_way_to_what_others_have() -> None:
    ahead = record_at(3_600_000, b"from the future")
    alone, (first, second, third) = _outsider()
    asker = alone.get(KEY)
    _answer(alone, first, ahead)
    _answer(alone, second, NEW)
    for peer in (third, second, third, second):
        _answer(alone, peer, NEW)
    assert asker.result == GetResult(NEW, answers=2)


def test_replicas_that_agree_are_believed_whatever_the_clock_here_says() -> None:
    """Else a clock set back would make all that was written before unreadable."""
    ahead = record_at(3_600_000)
    alone = _alone()
    _give(alone, ahead)
    asker = alone.get(KEY)
    _answer(alone, 1, ahead)
    assert asker.result == GetResult(ahead, answers=2)


def test_reads_of_large_values_are_charged_and_shed_at_the_limit() -> None:
    """P7: what a read may bring counts like what a write brings."""
    alone = Alone(2, listed=[0, 1], replication=1, inflight_bytes_max=1000)
    alone.link(1)
    placement = alone.node.reads.placement
    assert placement is not None
    keys = (b"key%d" % number for number in range(100))
    theirs = next(key for key in keys if not placement.is_mine[partition_of(row_of(key))])
    first = alone.get(theirs)
    (read,) = alone.take(1, Read)
    alone.hear(1, ReadAnswer(read.batch, [record_at(1, b"x" * 400)], []))
    assert isinstance(first.result, GetResult)
    askers = [alone.get(theirs) for _ in range(5)]
    assert [isinstance(each.result, Overloaded) for each in askers] == [False] * 3 + [True] * 2
    for read in alone.take(1, Read):
        alone.hear(1, ReadAnswer(read.batch, [None] * len(read.full), []))
    assert alone.node.parts.requests.bytes == 0
