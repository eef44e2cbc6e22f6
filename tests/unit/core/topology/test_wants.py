# SPDX-License-Identifier: GPL-3.0-or-later
"""What a layout wants next without anybody's asking. The peers of the one node are the test."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from quorate.core.exchanges.changes import NOTHING_MS, TRY_MS, TURN_MS
from quorate.core.topology.layout import (
    MOVES_MAX,
    Course,
    Layout,
    Member,
    decode_layout,
    unmet_id,
)
from quorate.core.topology.steps import changed, completed, settled, stepped
from quorate.core.topology.wants import PUT_OFF_MS, REPLACE_MS, joined_by, with_course
from quorate.core.values.events import Change, ChangeResult, Join, JoinResult, LinkUp, PeerFrame
from quorate.core.values.messages import Accept, Frame, Ping, Prepare, Vote, Voted
from quorate.core.values.settings import MEMBERS_MAX
from quorate.core.values.wish import Wish
from quorate.sim.cluster import bound_to, id_of, url_of
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.founders import disk_of, first
from tests.unit.core.moving import (
    gaining,
    hear,
    held_by,
    later,
    node,
    replace,
    settle,
    shared,
    sources_of,
    stable,
    swapped,
    with_member,
    without,
    work,
)

REST = stable(4, course=Course.REST)
P, Q = without(REST, 0)[:2]


def _node(layout: Layout = REST, **settings: Any) -> Alone:
    return node(layout_of=layout, **settings)


def _wanted(alone: Alone) -> Layout | None:
    """What it proposes now, if it does: its peers vote for it."""
    for index in (1, 2, 3):
        for asked in alone.take(index, Prepare)[-1:]:
            alone.hear(index, Voted(asked.batch, Vote(asked.number, True, asked.ballot)))
    found = None
    for index in (1, 2, 3):
        for offer in alone.take(index, Accept)[-1:]:
            found = decode_layout(offer.value)
            alone.hear(
                index, Voted(offer.batch, Vote(offer.number, True, offer.ballot, offer.ballot))
            )
    if found is not None:
        assert alone.node.membership.layout == found
    return found


def _come(alone: Alone, index: int, **told: Any) -> None:
    """A node is there, under its id."""
    node_id = told.get("node_id", id_of(index))
    alone.step(alone.met(index, **told), LinkUp(node_id))
    alone.step(PeerFrame(node_id, Frame(alone.node.membership.epoch, 0, [Ping(1, [], 0, 0)])))


def _join(alone: Alone, index: int) -> JoinResult:
    asker = Asker()
    alone.step(Join(asker, url_of(index)))
    assert isinstance(asker.result, JoinResult)
    return asker.result


def _tell(alone: Alone, index: int, epoch: int) -> None:
    """A peer says that it has all its copies for a layout."""
    alone.hear(index, Ping(9, [], 0, 0, pulled=epoch))


# --- nothing -----------------------------------------------------------------------------------


def test_a_layout_at_rest_wants_nothing() -> None:
    alone = _node()
    for _ in range(3):
        alone.step(after_ms=TURN_MS)
        assert _wanted(alone) is None
    assert alone.node.membership.layout == REST


# --- joining -----------------------------------------------------------------------------------


def test_who_joined_and_is_there_becomes_a_member_at_once() -> None:
    alone = _node()
    _join(alone, 8)
    assert _wanted(alone) is None, "nobody was met there yet"
    _come(alone, 8, zone="z", weight=4)
    layout = _wanted(alone)
    assert layout is not None
    assert layout.members[4] == Member(id_of(8), url_of(8), "z", 4)
    assert layout.table == REST.table
    assert layout.course == Course.SOON
    assert _wanted(alone) is None


def test_who_was_met_and_not_joined_becomes_none() -> None:
    alone = _node()
    _come(alone, 8)
    alone.step(after_ms=TURN_MS)
    assert _wanted(alone) is None


def test_to_join_a_member_is_nothing() -> None:
    alone = _node()
    assert _join(alone, 1).owns
    alone.step(after_ms=TURN_MS)
    assert _wanted(alone) is None


def test_several_that_joined_are_one_step() -> None:
    alone = _node()
    alone.unlink(1, 2, 3)
    for index in (7, 8):
        _join(alone, index)
        _come(alone, index)
    alone.link(1, 2, 3)
    layout = _wanted(alone)
    assert layout is not None
    assert len(layout.members) == 6


def test_copies_go_to_who_joined_some_time_after_the_last_one() -> None:
    alone = _node(grow_after_ms=30_000)
    _join(alone, 7)
    _come(alone, 7)
    assert _wanted(alone) is not None
    alone.step(after_ms=29_000)
    _join(alone, 8)
    _come(alone, 8)
    assert _wanted(alone) is not None
    alone.step(after_ms=29_999)
    assert _wanted(alone) is None
    alone.step(after_ms=1)
    layout = _wanted(alone)
    assert layout is not None
    assert layout.course == Course.MOVE
    assert layout.moves == ()


@pytest.mark.parametrize("told", [{"zone": "z"}, {"weight": 3}, {"zone": "y", "weight": 2}])
def test_and_so_they_do_whatever_their_zone_and_weight(told: dict[str, Any]) -> None:
    alone = _node(grow_after_ms=1_000)
    _join(alone, 8)
    _come(alone, 8, **told)
    assert _wanted(alone) is not None
    alone.step(after_ms=1_000)
    layout = _wanted(alone)
    assert layout is not None
    assert layout.course == Course.MOVE


def test_a_join_while_copies_move_calls_these_off_and_the_course_goes_on() -> None:
    alone = _node(stable())
    hear(alone, gaining(stable(), P))
    _join(alone, 8)
    _come(alone, 8)
    layout = _wanted(alone)
    assert layout is not None
    assert (layout.moves, layout.course) == ((), Course.MOVE)


def test_no_more_become_members_than_a_node_can_know() -> None:
    """Nodes would not take such a layout from others: they would be left behind."""
    members = [*REST.members, *[Member(100 + n, f"http://x{n}:1") for n in range(MEMBERS_MAX - 5)]]
    crowd = changed(REST, members, replication=3, lost=(), course=Course.REST)
    alone = Alone(4, disk=disk_of(replace(crowd, voters=REST.voters)), heartbeat_ms=3_600_000)
    alone.link(1, 2)
    alone.node.membership.marks.counts = True  # As if most of the crowd had answered.
    assert len(alone.node.roster.peers) == MEMBERS_MAX - 2
    for index in (7, 8):
        _join(alone, index)
        _come(alone, index)
    layout = _wanted(alone)
    assert layout is not None
    assert len(layout.members) == MEMBERS_MAX
    assert _wanted(alone) is None


# --- moving ------------------------------------------------------------------------------------


def _uneven() -> Layout:
    """A fifth member holds nothing yet."""
    grown = with_member(stable(), Member(id_of(4), url_of(4)))
    return replace(grown, course=Course.MOVE)


def test_the_next_partitions_move_to_who_is_there() -> None:
    alone = node(count=5, layout_of=_uneven())
    layout = _wanted(alone)
    assert layout is not None
    assert 0 < len(layout.moves) <= MOVES_MAX
    assert layout.gainers() == {id_of(4)}


def test_copies_of_a_lost_disk_are_made_good_before_others_move() -> None:
    layout = shared(stable(6), 2, 5, lost=(5,))
    alone = node(count=6, layout_of=layout)
    moving = _wanted(alone)
    assert moving is not None
    assert len(moving.moves) == MOVES_MAX
    assert all(5 in layout.table[partition] for partition, _ in moving.moves)


def test_while_nobody_is_there_to_take_copies_it_is_looked_again() -> None:
    alone = Alone(5, disk=disk_of(_uneven()), heartbeat_ms=3_600_000)
    alone.link(1, 2, 3)
    assert _wanted(alone) is None
    assert alone.wake_ms == alone.mono_ms + NOTHING_MS
    alone.link(4)
    alone.step(after_ms=NOTHING_MS)
    layout = _wanted(alone)
    assert layout is not None
    assert layout.gainers() == {id_of(4)}


def test_a_move_is_complete_when_all_who_gain_say_so_for_this_very_layout() -> None:
    joint = stepped(stable(), {P: swapped(stable(), P, 3, 0), Q: swapped(stable(), Q, 3, 0)})
    other = without(stable(), 1)[0]
    joint = stepped(stable(), {**dict(joint.moves), other: swapped(stable(), other, 3, 1)})
    alone = _node(stable())
    hear(alone, joint)
    work(alone, *sources_of(alone, {}))
    assert alone.node.pulls.pulled == joint.epoch
    assert _wanted(alone) is None, "peer 1 gains too"
    for epoch in (joint.epoch - 1, joint.epoch + 1, 0):
        _tell(alone, 1, epoch)
        assert _wanted(alone) is None
    _tell(alone, 2, joint.epoch)
    assert _wanted(alone) is None, "it gains nothing"
    _tell(alone, 1, joint.epoch)
    layout = _wanted(alone)
    assert layout == completed(joint)


def test_a_row_that_becomes_shorter_does_not_wait_for_who_stays_and_lost_its_disk() -> None:
    lost = shared(stable(), 3, lost=(3,))
    partition = held_by(lost, 0, 1, 3)[0]
    shorter = tuple([index for index in lost.table[partition] if index != 1])
    joint = stepped(lost, {partition: shorter})
    assert joint.gainers() == {id_of(0), id_of(3)}
    alone = _node(lost)
    hear(alone, joint)
    work(alone, *sources_of(alone, {}, 1, 2))
    assert _wanted(alone) == completed(joint)


def test_what_it_has_pulled_itself_counts_once_that_is_durable() -> None:
    alone = _node(stable())
    hear(alone, gaining(stable(), P))
    alone.syncs = False
    work(alone, *sources_of(alone, {}))
    assert _wanted(alone) is None
    alone.syncs = True
    alone.sync()
    settle(alone)
    assert _wanted(alone) == completed(gaining(stable(), P))


def test_what_too_few_could_read_stays_and_is_moved_again_only_some_time_later() -> None:
    alone = node(count=5, layout_of=_uneven())
    joint = _wanted(alone)
    assert joint is not None
    hear(alone, joint)
    unreadable = joint.moves[0][0]
    alone.hear(4, Ping(9, [], 0, 0, pulled=joint.epoch, unreadable=[unreadable]))
    done = _wanted(alone)
    assert done == completed(joint, without={unreadable})
    hear(alone, done)
    following = _wanted(alone)
    assert following is not None
    assert following.moves
    assert unreadable not in dict(following.moves)
    assert alone.node.changes.wants.put_off() == [unreadable]
    alone.step(after_ms=PUT_OFF_MS)
    assert alone.node.changes.wants.put_off() == []


def test_when_all_is_where_it_belongs_it_rests_and_who_left_is_gone() -> None:
    leaving = shared(stable(), 3)
    emptied = replace(leaving, table=tuple([(0, 1, 2) for _ in leaving.table]))
    alone = _node(emptied)
    layout = _wanted(alone)
    assert layout == settled(emptied)


def test_who_left_is_gone_only_once_those_who_stay_can_decide_without_it() -> None:
    leaving = shared(stable(), 2, 3)
    emptied = replace(leaving, table=tuple([(0, 1) for _ in leaving.table]), replication=2)
    alone = _node(emptied)
    alone.unlink(1)
    alone.step(after_ms=TURN_MS)
    assert _wanted(alone) is None
    alone.link(1)
    alone.step(after_ms=NOTHING_MS)
    assert _wanted(alone) == settled(emptied)


# --- an empty disk at the URL of a member ------------------------------------------------------


def test_an_empty_disk_at_the_url_of_a_member_takes_its_place() -> None:
    alone = _node()
    alone.unlink(3)
    _come(alone, 3, node_id=77)
    assert _wanted(alone) is None
    alone.step(after_ms=REPLACE_MS - 1)
    assert _wanted(alone) is None
    alone.step(after_ms=1)
    layout = _wanted(alone)
    assert layout is not None
    assert layout.lost == (id_of(3),)
    weights = {each.id: each.weight for each in layout.members}
    assert (weights[id_of(3)], weights[77]) == (0, 1)
    assert layout.course == Course.MOVE


def test_a_member_that_is_heard_elsewhere_meanwhile_keeps_its_place() -> None:
    alone = _node()
    alone.unlink(3)
    _come(alone, 3, node_id=77)
    alone.step(after_ms=REPLACE_MS - 1)
    alone.step(alone.met(3, url=url_of(9), serial=5), LinkUp(id_of(3)))
    alone.step(after_ms=TURN_MS)
    assert _wanted(alone) is None


def test_an_empty_disk_that_joins_takes_the_place_all_the_same() -> None:
    """As a member beside the one that it follows it would keep that from being lost."""
    alone = _node()
    alone.unlink(3)
    _come(alone, 3, node_id=77)
    _join(alone, 3)
    assert _wanted(alone) is None
    alone.step(after_ms=REPLACE_MS)
    layout = _wanted(alone)
    assert layout is not None
    assert layout.lost == (id_of(3),)
    assert {each.id: each.weight for each in layout.members}[77] == 1
    alone.step(after_ms=REPLACE_MS)
    following = _wanted(alone)
    assert following is None or len(following.members) == len(layout.members)


def test_an_empty_disk_at_the_url_of_one_that_leaves_says_that_it_is_lost() -> None:
    """Else who gains its copies would wait for it for ever. Nobody takes its place."""
    leaving = shared(stable(), 3)
    alone = _node(leaving)
    hear(alone, gaining(leaving, P))
    alone.unlink(3)
    _come(alone, 3, node_id=77)
    alone.step(after_ms=REPLACE_MS)
    layout = _wanted(alone)
    assert layout is not None
    assert (layout.lost, layout.moves) == ((id_of(3),), ())
    assert [each.id for each in layout.members] == [id_of(index) for index in range(4)]
    alone.step(after_ms=REPLACE_MS)
    following = _wanted(alone)
    assert following is not None
    assert following.moves, "and its copies move without it"


def test_an_empty_disk_takes_one_place() -> None:
    """Two members were at one URL, one after the other."""
    second = with_member(REST, Member(id_of(8), url_of(3)))
    alone = Alone(4, disk=disk_of(replace(second, course=Course.REST)), heartbeat_ms=3_600_000)
    alone.link(1, 2)
    _come(alone, 3, node_id=77)
    alone.step(after_ms=REPLACE_MS)
    layout = _wanted(alone)
    if layout is not None:
        assert sum(each.id == 77 for each in layout.members) == 1


# --- founders ----------------------------------------------------------------------------------


def _half() -> Layout:
    return bound_to(first(), {url_of(index): id_of(index) for index in (0, 1)}, drawn=b"drawn by")


def test_a_founder_that_was_given_up_and_comes_is_in_nobodys_way() -> None:
    """Nobody had met it; an operator said that it is lost."""
    alone = Alone(3, disk=disk_of(_half()), heartbeat_ms=3_600_000)
    alone.link(1)
    asker = Asker()
    wish = Wish(leave=(url_of(2),), is_forced=True, stops=True)
    alone.step(Change(asker, wish, timeout_ms=60_000))
    layout = _wanted(alone)
    assert layout is not None
    assert layout.lost == (unmet_id(url_of(2)),)
    assert isinstance(asker.result, ChangeResult)
    alone.link(2)
    for _ in range(5):
        alone.step(after_ms=TRY_MS)
    assert _wanted(alone) is None
    again = Asker()
    alone.step(Change(again, Wish(weights=((url_of(1), 3),), stops=True), timeout_ms=60_000))
    assert _wanted(alone) is not None
    assert isinstance(again.result, ChangeResult)


def test_a_founder_that_is_to_hold_nothing_is_not_bound_to_hold_something() -> None:
    """It comes while it leaves."""
    half = _half()
    members = [replace(m, weight=0) if m.url == url_of(2) else m for m in half.members]
    alone = Alone(3, disk=disk_of(replace(half, members=tuple(members))), heartbeat_ms=3_600_000)
    alone.link(1, 2)
    alone.step(after_ms=TURN_MS)
    layout = _wanted(alone)
    assert layout is None or not {m.url: m.weight for m in layout.members}[url_of(2)]


# --- layouts made ------------------------------------------------------------------------------


def test_who_joins_holds_nothing_and_is_last_in_time_not_in_order() -> None:
    layout = joined_by(REST, [Member(id_of(9), "http://a:1")])
    assert layout.copies()[id_of(9)] == 0
    assert layout.course == Course.SOON
    assert joined_by(stable(), [Member(id_of(9), "http://a:1")]).course == Course.MOVE


def test_another_course_calls_off_what_moves() -> None:
    joint = gaining(stable(), P)
    assert with_course(joint, Course.REST) == later(joint, moves=(), course=Course.REST)
    assert msgspec.msgpack.decode(joint.encode(), type=Layout) == joint
