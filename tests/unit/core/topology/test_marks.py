# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks are told when they are durable, kept, and compared at the start."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.core.node import CEILING_META
from quorate.core.topology.liveness import MESH_MAX
from quorate.core.topology.marks import KEEP_MS, MARKS_META
from quorate.core.values.events import Batch, GetResult, LinkUp, Met, Stop
from quorate.core.values.messages import (
    Accept,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Prepare,
    Pull,
    Read,
    ReadAnswer,
    ScanRows,
    Voted,
)
from quorate.core.values.slots import partition_of, row_of
from quorate.core.values.versions import ms_of, stamp_at
from quorate.errors import NotReady
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.founders import disk_of
from tests.unit.core.moving import hear, recopied, stable

KEY = b"k"
ROW = row_of(KEY)
MARK = stamp_at(EPOCH_MS + 100)


def ping(mark: int) -> Ping:
    return Ping(1, [], 0, 0, mark=mark)


def told(alone: Alone, index: int = 1) -> int:
    """The mark of the next heartbeat."""
    alone.take(index, Ping)
    alone.step(after_ms=alone.node.settings.heartbeat_ms)
    return alone.take(index, Ping)[-1].mark


def ceiling_of(disk: Disk) -> int:
    return int.from_bytes(disk.get_meta(CEILING_META) or b"", "big")


def five(**settings: Any) -> Alone:
    """One of five that hold every key: two others have to say what they remember."""
    return Alone(5, replication=5, **settings)


# --- telling -----------------------------------------------------------------------------------


def test_a_mark_is_told_once_it_is_durable_and_not_before() -> None:
    alone = Alone(3)
    alone.link(1)
    assert told(alone) == 0
    alone.syncs = False
    alone.hear(1, Mutate(7, [(ROW, record_at(0))]))
    assert ceiling_of(alone.disk) > 0
    assert told(alone) == 0, "a power cut now, and this disk would look like an old one"
    alone.sync()
    assert told(alone) == ceiling_of(alone.disk)


def test_what_is_kept_of_others_raises_the_mark_past_the_present() -> None:
    alone = Alone(3)
    alone.link(1)
    for number in (1, 2, 3):
        alone.step(after_ms=1_000)
        alone.hear(1, Mutate(number, [(ROW, record_at(alone.mono_ms))]))
        assert ms_of(ceiling_of(alone.disk)) > EPOCH_MS + alone.mono_ms


def test_marks_that_are_kept_raise_none() -> None:
    """Else two idle nodes would keep each other writing."""
    alone = Alone(3)
    alone.link(1)
    alone.hear(1, ping(MARK))
    alone.step(after_ms=KEEP_MS)
    assert alone.disk.get_meta(MARKS_META) is not None
    assert ceiling_of(alone.disk) == 0


# --- keeping -----------------------------------------------------------------------------------


def test_the_highest_mark_of_a_member_is_kept_over_a_restart() -> None:
    alone = Alone(3)
    alone.link(1)
    for mark in (MARK, MARK + 5, MARK + 1):
        alone.hear(1, ping(mark))
    assert alone.node.membership.marks.of(id_of(1)) == MARK + 5
    assert alone.disk.get_meta(MARKS_META) is None
    alone.step(after_ms=KEEP_MS)
    again = Alone(3, disk=alone.disk)
    assert again.node.membership.marks.of(id_of(1)) == MARK + 5
    assert again.node.membership.marks.of(id_of(2)) == 0


def test_an_orderly_stop_keeps_what_was_just_heard() -> None:
    alone = Alone(3)
    alone.link(1)
    alone.hear(1, ping(MARK))
    alone.step(Stop())
    kept = alone.disk.get_meta(MARKS_META)
    assert kept is not None
    assert msgspec.msgpack.decode(kept) == {id_of(1): MARK}


def test_no_mark_is_taken_from_who_only_says_that_it_is_a_member() -> None:
    """Our own link does not lead there: it may be anybody."""
    alone = Alone(3)
    alone.step(alone.met(1))
    alone.hear(1, ping(MARK))
    assert alone.node.membership.marks.of(id_of(1)) == 0


# --- being told --------------------------------------------------------------------------------


def old(mark: int, **settings: Any) -> Alone:
    """A node whose disk is at MARK, and which a peer has seen at another."""
    disk = Alone(3).disk
    disk.format(Batch([], [], [(CEILING_META, MARK.to_bytes(8, "big"))]))
    alone = Alone(3, disk=disk, **settings)
    alone.step(alone.met(1, mark=mark), after_ms=1_000)
    return alone


def test_a_disk_of_which_a_peer_saw_more_is_refused_in_one_line() -> None:
    alone = old(MARK + stamp_at(61_000))
    assert alone.node.membership.marks.refusal == (
        f"this disk is older than what node {url_of(1)} saw of it (2023-11-14 22:13:20.100 < "
        "2023-11-14 22:14:21.100): its copies do not count. Start with -old-disk=refill to give "
        "them up"
    )
    assert alone.step().end == alone.node.membership.marks.refusal
    assert "disk_is_old" in alone.notes
    assert not alone.node.membership.marks.counts


@pytest.mark.parametrize("mark", [0, MARK - 1, MARK])
def test_a_disk_of_which_nobody_saw_more_counts(mark: int) -> None:
    alone = old(mark)
    assert alone.step().end == ""
    assert alone.node.membership.marks.counts


@pytest.mark.parametrize("given", [{"durability": "os"}, {"old_disk": "accept"}])
def test_an_old_disk_is_only_told_of_where_a_power_cut_or_an_operator_made_it(
    given: dict[str, str],
) -> None:
    alone = old(MARK + 1, **given)
    assert alone.step().end == ""
    assert "disk_is_old" in alone.notes
    assert alone.node.membership.marks.counts
    assert ceiling_of(alone.disk) > MARK + 1, "it is not told again"


def test_later_answers_remember_what_this_process_told() -> None:
    alone = old(MARK)
    alone.step(alone.met(1, mark=MARK + stamp_at(1_000)))
    assert alone.step().end == ""


def test_the_word_of_who_is_no_member_does_not_end_a_node() -> None:
    alone = Alone(3)
    alone.step(alone.met(7, mark=MARK))
    assert alone.step().end == ""


def test_a_mark_that_no_clock_shows_is_shown_all_the_same() -> None:
    alone = Alone(3)
    alone.step(alone.met(1, mark=(1 << 64) - 1))
    assert "(never < 9999-12-31 23:59:59.655)" in alone.step().end


# --- counting ----------------------------------------------------------------------------------


def test_no_request_of_a_peer_is_served_before_a_majority_has_said() -> None:
    alone = five()
    alone.link(1)
    partition = partition_of(ROW)
    requests = (
        Mutate(7, [(ROW, record_at(0))]),
        Read(8, [ROW], []),
        ScanRows(9, partition, b"", b"", 9),
        Pull(10, partition, b"", 9),
        Prepare(11, 3, (1, 1)),
        Accept(12, 3, (1, 1), b""),
    )
    alone.hear(1, *requests)
    assert alone.take(1, OtherEpoch) == [OtherEpoch(2, [7, 8, 9, 10, 11, 12])]
    assert alone.disk.get(ROW) is None
    alone.link(2)
    alone.hear(1, *requests)
    assert not alone.take(1, OtherEpoch)
    assert alone.take(1, Mutated) == [Mutated(7, [], [])]
    assert len(alone.take(1, ReadAnswer)) == 1
    assert len(alone.take(1, Voted)) == 2


@pytest.mark.parametrize(("count", "is_at_once"), [(5, False), (2 * MESH_MAX, True)])
def test_all_are_told_that_a_node_waits_and_soon_that_it_does_no_more(
    count: int, *, is_at_once: bool
) -> None:
    """A heartbeat tells everyone while there are few links."""
    alone = Alone(count, disk=disk_of(stable(count)))
    *some, last = range(1, count // 2 + 1)
    alone.step(*[event for each in some for event in (alone.met(each), LinkUp(id_of(each)))])
    assert {each.waits for each in alone.take(1, Ping)} == {True}
    alone.step(alone.met(last), LinkUp(id_of(last)))
    assert [each.waits for each in alone.take(1, Ping)] == ([False] if is_at_once else [])
    assert {each.waits for each in alone.take(last, Ping)} == {False}
    if not is_at_once:
        alone.step(after_ms=alone.node.settings.heartbeat_ms)
        assert [each.waits for each in alone.take(1, Ping)] == [False]


def test_who_has_another_disk_now_is_not_waited_for() -> None:
    """What the lost one remembered nobody can say: without this no disk that was started since
    would count, nor vote, though those that are left are enough to replace the lost ones."""
    alone = five()
    alone.link(1)
    for index in (2, 3, 4):
        assert not alone.node.membership.marks.counts
        alone.step(alone.met(index, node_id=id_of(index + 10)))
    assert alone.node.membership.marks.counts


def test_a_member_that_may_yet_say_is_waited_for() -> None:
    """Of three, one has another disk, and the link to the other is not there yet."""
    alone = five()
    for index in (1, 2, 3):
        alone.step(alone.met(index, node_id=id_of(index + 10)))
    assert not alone.node.membership.marks.counts
    alone.link(4)
    assert alone.node.membership.marks.counts


def test_the_word_of_who_only_dials_that_a_member_has_another_disk_does_not_count() -> None:
    alone = five()
    alone.link(1)
    for index in (2, 3, 4):
        greeting = alone.met(index, node_id=id_of(index + 10)).greeting
        alone.step(Met(greeting, is_answer=False))
    assert not alone.node.membership.marks.counts


def test_a_member_whose_url_another_member_has_now_is_waited_for() -> None:
    alone = five()
    alone.step(alone.met(2, node_id=id_of(1)))
    for index in (3, 4):
        alone.step(alone.met(index, node_id=id_of(index + 10)))
    assert not alone.node.membership.marks.counts
    alone.step(alone.met(1, node_id=id_of(2)))
    assert alone.node.membership.marks.counts


def test_a_peer_whose_quorums_need_not_meet_is_served_before() -> None:
    """Where the others are gone for good nobody says anything any more."""
    alone = five(r=1, w=1)
    alone.step(alone.met(1, r=2, w=3), LinkUp(id_of(1)))
    alone.hear(1, Read(8, [ROW], []), Mutate(7, [(ROW, record_at(0))]))
    assert len(alone.take(1, ReadAnswer)) == len(alone.take(1, Mutated)) == 1
    alone.step(alone.met(1, r=3, w=3))
    alone.hear(1, Read(8, [ROW], []))
    assert alone.take(1, OtherEpoch) == [OtherEpoch(2, [8])]


def test_a_peer_that_follows_the_copies_is_not_served_before_as_there_are_more() -> None:
    """The majority of fewer copies would be quorums that need not meet."""
    alone = Alone(5, disk=disk_of(stable(5, replication=3)))
    alone.link(1)
    hear(alone, recopied(5, 3, 5))
    alone.hear(1, Read(8, [ROW], []))
    assert not alone.take(1, ReadAnswer)
    assert alone.take(1, OtherEpoch) == [OtherEpoch(alone.node.membership.epoch, [8])]


def waited(alone: Alone, asker: Asker) -> object:
    alone.step(after_ms=alone.node.settings.write_wait_ms)
    return asker.result


def test_its_own_copy_waits_too_where_reads_meet_writes() -> None:
    alone = five(r=2, w=4)
    alone.link(1)
    assert isinstance(waited(alone, alone.get(KEY)), NotReady)
    alone = five(r=4, w=2)
    alone.link(1)
    asker = alone.put(KEY, b"v")
    assert isinstance(waited(alone, asker), NotReady)
    assert not alone.take(1, Mutate)


def test_a_waiting_request_is_served_once_enough_have_said() -> None:
    alone = five(r=2, w=4)
    alone.link(1)
    asker = alone.get(KEY)
    assert asker.result is None
    alone.link(2)
    (read,) = alone.take(1, Read) or alone.take(2, Read)
    assert read.full or read.brief


def test_where_quorums_need_not_meet_nobody_waits() -> None:
    """R + W <= N: the answer says that it is `eventual`."""
    alone = Alone(3, r=1, w=1)
    assert not alone.node.membership.marks.counts
    assert isinstance(alone.get(KEY).result, GetResult)
    assert alone.put(KEY, b"v").result is not None
    strict = Alone(3)
    assert isinstance(strict.get(KEY, r=1).result, GetResult)
    regular = Alone(3, r=1, w=3)
    assert isinstance(waited(regular, regular.get(KEY)), NotReady)


def test_a_node_alone_and_a_new_directory_ask_nobody() -> None:
    assert Alone(1).node.membership.marks.counts
    assert Alone(3, is_new=True).node.membership.marks.counts
