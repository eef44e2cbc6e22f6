# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints when layouts come and go: whom they are kept for, and that no two logs are one."""

from __future__ import annotations

from random import Random
from typing import Final

import pytest

from quorate.core.exchanges.hints import peer_of
from quorate.core.topology.layout import Course, Layout, Member, unmet_id
from quorate.core.topology.peer import Ground
from quorate.core.topology.steps import changed, settled
from quorate.core.values.events import LinkDown, LinkUp, PeerFrame
from quorate.core.values.messages import Frame, Mutate, Mutated, Ping
from quorate.core.values.slots import partition_of, row_of
from quorate.sim.cluster import bound_to, id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone
from tests.unit.core.founders import disk_of, first, hinted
from tests.unit.core.moving import (
    gaining,
    hear,
    later,
    replace,
    settle,
    shared,
    stable,
    with_member,
    without,
)

REST: Final = stable(4, course=Course.REST)
NEW_DISK: Final = 77


def _node(layout: Layout = REST, *, disk: Disk | None = None, count: int = 4) -> Alone:
    alone = Alone(count, disk=disk or disk_of(layout), heartbeat_ms=3_600_000)
    alone.link(*range(1, count))
    return alone


def _put(alone: Alone, value: bytes, *ackers: int, key: bytes = b"k") -> None:
    alone.put(key + value, value)
    for index in ackers:
        for mutate in alone.take(index, Mutate):
            alone.hear(index, Mutated(mutate.batch, [], []))


def _hint(alone: Alone, index: int, *values: bytes) -> None:
    """Hints for a peer, which is away."""
    alone.unlink(index)
    others = [each for each in (1, 2, 3) if each != index]
    layout = alone.node.membership.layout
    assert layout is not None
    for value in values:
        key = next(k for n in range(999) if index in layout.table[_partition(k := b"%d" % n)])
        _put(alone, value, *others, key=key)


def _partition(key: bytes) -> int:
    return partition_of(row_of(key + b"1"))


def _check(alone: Alone) -> None:
    """No two queues have one name, and together they are what is stored."""
    queues = alone.node.hints._queues
    called = [queue.called for queue in queues if queue.called]
    assert len(called) == len(set(called)), "two queues of one name"
    known = {name for queue in queues for name in queue.peer.names}
    assert hinted(alone) <= known, "hints for nobody are kept"
    assert alone.node.hints.bytes == sum(queue.bytes for queue in queues)
    stored = [peer_of(name) for name in alone.disk.hint_names()]
    for queue in queues:
        assert queue.count == stored.count(queue.called) if queue.called else not queue.count


def _new_disk(alone: Alone, index: int, node_id: int = NEW_DISK) -> None:
    """A node with an empty disk is where a peer was."""
    alone.step(alone.met(index, node_id=node_id), LinkUp(node_id))
    epoch = alone.node.membership.epoch
    alone.step(PeerFrame(node_id, Frame(epoch, 0, [Ping(1, [], 0, 0)])))


def _replaced(old: Layout, index: int) -> Layout:
    """A new disk takes the place of one that is lost."""
    gone = old.members[index]
    members = [replace(each, weight=0) if each is gone else each for each in old.members]
    members.append(replace(gone, id=NEW_DISK))
    return changed(old, members, replication=3, lost=[gone.id], course=Course.MOVE)


def test_hints_are_kept_through_layouts_that_keep_the_peer() -> None:
    alone = _node()
    _hint(alone, 3, b"1")
    partition = without(REST, 0)[0]
    moving = replace(REST, epoch=3, course=Course.MOVE)
    hear(alone, moving)
    hear(alone, gaining(moving, partition))
    hear(alone, shared(gaining(moving, partition), 3))
    _check(alone)
    assert hinted(alone) == {id_of(3)}
    assert alone.node.hints.count(alone.peer(3)) == 1


def test_hints_for_nobody_are_dropped_though_those_for_another_are_damaged() -> None:
    alone = _node()
    _hint(alone, 3, b"1")
    _hint(alone, 2, b"2")
    assert hinted(alone) == {id_of(2), id_of(3)}
    alone.disk.rot_hint(min(alone.disk.hint_names()))
    hear(alone, shared(REST, 3, lost=(3,)))
    assert {peer_of(name) for name in alone.disk.hint_names()} == {id_of(2)}


def test_hints_for_a_disk_that_is_lost_are_dropped_and_no_more_are_kept() -> None:
    alone = _node()
    _hint(alone, 3, b"1", b"1")
    hear(alone, shared(REST, 3, lost=(3,)))
    settle(alone)
    _check(alone)
    assert hinted(alone) == set()
    assert (alone.node.hints.total, alone.node.hints.bytes) == (0, 0)
    _hint(alone, 3, b"1")
    assert hinted(alone) == set()
    alone.link(3)
    assert alone.take(3, Mutate) == []


def test_who_has_the_place_of_a_stranger_that_was_forgotten_gets_hints_of_its_own() -> None:
    alone = _node()
    alone.node.roster.add(url_of(8), Ground.ANNOUNCED)
    assert alone.node.roster.forget(url_of(8))
    _new_disk(alone, 5)
    joined = with_member(REST, Member(NEW_DISK, url_of(5)))
    place = [each.id for each in joined.members].index(NEW_DISK)
    hear(alone, later(replace(joined, table=tuple([(0, 1, place) for _ in joined.table]))))
    alone.step(LinkDown(NEW_DISK))
    _put(alone, b"1", 1)
    _check(alone)
    assert hinted(alone) == {NEW_DISK}


def test_hints_for_who_is_in_no_layout_any_more_are_dropped() -> None:
    alone = _node()
    _hint(alone, 3, b"1")
    leaving = shared(REST, 3)
    emptied = replace(leaving, table=tuple([(0, 1, 2) for _ in leaving.table]))
    hear(alone, later(settled(emptied)))
    settle(alone)
    _check(alone)
    assert hinted(alone) == set()
    assert alone.node.hints.bytes == 0


def test_who_takes_the_place_of_a_lost_disk_gets_none_of_its_hints() -> None:
    alone = _node()
    _hint(alone, 3, b"1")
    _new_disk(alone, 3)
    _check(alone)
    assert hinted(alone) == {id_of(3)}, "who was there may come back"
    hear(alone, _replaced(REST, 3))
    settle(alone)
    _check(alone)
    assert hinted(alone) == set()
    said = [each for each in alone.said.get(NEW_DISK, []) if isinstance(each, Mutate)]
    assert said == []


def test_of_two_members_at_one_url_each_has_its_own() -> None:
    alone = _node()
    _hint(alone, 3, b"1")
    hear(alone, with_member(REST, Member(NEW_DISK, url_of(3))))
    settle(alone)
    _check(alone)
    assert hinted(alone) == {id_of(3)}
    names = [queue.peer.names for queue in alone.node.hints._queues if queue.peer.names]
    assert (NEW_DISK,) in names
    again = _node(disk=alone.disk)
    _check(again)
    assert again.node.hints.total == 1


def test_hints_under_the_name_of_a_url_at_which_two_are_by_now_are_nobodys() -> None:
    """Which of the two they are meant for is not known; a read repairs what they would bring."""
    half = bound_to(first(4), {url_of(i): id_of(i) for i in (0, 1, 2)}, drawn=b"drawn by")
    alone = Alone(4, disk=disk_of(half), heartbeat_ms=3_600_000)
    alone.link(1, 2)
    key = next(k for n in range(99) if 3 in half.table[_partition(k := b"%d" % n)])
    _put(alone, b"1", 1, 2, key=key)
    assert hinted(alone) == {unmet_id(url_of(3))}
    bound = bound_to(half, {url_of(3): id_of(3)}, drawn=b"")
    hear(alone, bound)
    settle(alone)
    _check(alone)
    assert hinted(alone) == {unmet_id(url_of(3))}
    hear(alone, with_member(bound, Member(NEW_DISK, url_of(3))))
    settle(alone)
    _check(alone)
    assert hinted(alone) == set()


def test_a_stranger_that_was_met_before_the_layout_is_known_has_no_queue_of_the_members() -> None:
    """The node knows a new disk at a URL, and then hears of a layout in which another is there."""
    half = bound_to(first(), {url_of(index): id_of(index) for index in (0, 1)}, drawn=b"drawn by")
    alone = Alone(3, disk=disk_of(half), heartbeat_ms=3_600_000)
    alone.link(1)
    _put(alone, b"1", 1)
    assert hinted(alone) == {unmet_id(url_of(2))}
    _new_disk(alone, 2)
    hear(alone, bound_to(half, {url_of(2): id_of(2)}, drawn=b""))
    settle(alone)
    _check(alone)
    said = [each for each in alone.said.get(NEW_DISK, []) if isinstance(each, Mutate)]
    assert said == [], "the hints are the member's"
    alone.step(LinkDown(NEW_DISK))
    alone.link(2)
    settle(alone)
    assert [len(mutate.items) for mutate in alone.take(2, Mutate)] == [1]


def test_a_coordinator_without_copies_may_have_met_a_stranger_first() -> None:
    """It had no layout at all when it met who is at the URL of a member."""
    alone = Alone(4, listed=[1, 2, 3], heartbeat_ms=3_600_000)
    alone.step(alone.met(3, node_id=NEW_DISK), LinkUp(NEW_DISK))
    alone.link(1)
    others = stable(4, course=Course.REST)
    members = others.members[1:]
    table = tuple([(0, 1, 2) for _ in others.table])
    voters = tuple([each.id for each in members])
    layout = replace(others, members=members, table=table, voters=voters)
    hear(alone, layout)
    settle(alone)
    _check(alone)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_no_two_queues_are_one_and_a_restart_counts_the_same(seed: int) -> None:
    random = Random(seed)
    alone = _node()
    for _ in range(25):
        layout = alone.node.membership.layout
        assert layout is not None
        index = random.randrange(1, 4)
        act = random.randrange(7)
        if act == 0:
            alone.unlink(index)
        elif act == 1:
            alone.link(index)
        elif act == 2:
            _new_disk(alone, index)
        elif act == 3 and len(layout.members) == 4:
            hear(alone, with_member(layout, Member(NEW_DISK, url_of(index))))
        elif act == 4 and not layout.lost and len(layout.members) == 4:
            hear(alone, shared(layout, index, lost=(index,)))
        elif act == 5:
            hear(alone, later(layout, 2))
        else:
            _put(alone, b"%d" % random.randrange(99), *random.sample((1, 2, 3), 2))
        settle(alone)
        _check(alone)
    alone.step(after_ms=10_000)
    settle(alone)
    again = _node(disk=alone.disk)
    _check(again)
    assert again.node.hints.bytes == alone.node.hints.bytes
