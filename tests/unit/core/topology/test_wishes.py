# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators ask for: the layout that follows, and why some cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.topology.layout import (
    WEIGHT_MAX,
    ZONE_CHARS_MAX,
    Course,
    Layout,
    Member,
    decode_layout,
)
from quorate.core.topology.steps import follows, settled
from quorate.core.topology.wishes import plan_of, upgrade_of, wished
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Ping
from quorate.core.values.settings import REPLICATION_MAX
from quorate.core.values.wish import Wish
from quorate.errors import Conflict, InvalidRequest, NotReady
from quorate.sim.cluster import bound_to, id_of, url_of
from tests.unit.core.alone import Alone
from tests.unit.core.founders import disk_of, first, new
from tests.unit.core.moving import (
    gaining,
    hear,
    later,
    node,
    replace,
    shared,
    stable,
    with_member,
    without,
)

OLD = stable(4, course=Course.REST)
ZONES = ("a", "b", "b", "c")
NOW_S = 1_700_000_000


def _node(layout: Layout = OLD, **settings: Any) -> Alone:
    return node(layout_of=layout, **settings)


def _wished(alone: Alone, wish: Wish) -> Layout | None:
    """What follows; it may be decided."""
    membership = alone.node.membership
    fresh = wished(membership, wish, now_s=NOW_S)
    if fresh is not None:
        assert membership.layout is not None
        assert follows(membership.layout, fresh)
        assert decode_layout(fresh.encode()) == fresh
        assert plan_of(membership, fresh).replication == fresh.replication
    return fresh


def _grant(alone: Alone, wish: Wish) -> Layout:
    """What follows, which is in force from now on. The same wish once more changes nothing, but
    that who is lost cannot be spoken of again."""
    fresh = _wished(alone, wish)
    assert fresh is not None
    hear(alone, fresh)
    if fresh.lost:
        assert "counts as lost" in _refusal(alone, wish)
    else:
        assert _wished(alone, wish) is None
    return fresh


def _refusal(alone: Alone, wish: Wish) -> str:
    with pytest.raises(InvalidRequest) as caught:
        wished(alone.node.membership, wish, now_s=NOW_S)
    return str(caught.value)


def _weights(layout: Layout) -> list[int]:
    return [each.weight for each in layout.members]


def _hex(index: int) -> str:
    return f"{id_of(index):012x}"


def _stranger(alone: Alone, index: int, **told: Any) -> None:
    """A node that is no member is there."""
    alone.step(alone.met(index, **told), LinkUp(id_of(index)))
    alone.hear(index, Ping(1, [], 0, 0))


def _zoned() -> Layout:
    members = [replace(each, zone=zone) for each, zone in zip(OLD.members, ZONES, strict=True)]
    return replace(OLD, members=tuple(members))


# --- leaving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [url_of(2), _hex(2)])
def test_who_leaves_is_to_hold_nothing_and_votes_no_more_where_three_stay(name: str) -> None:
    alone = _node()
    fresh = _grant(alone, Wish(leave=(name,)))
    assert _weights(fresh) == [1, 1, 0, 1]
    assert fresh.table == OLD.table
    assert fresh.course == Course.MOVE
    assert (fresh.lost, fresh.voters) == ((), (id_of(0), id_of(1), id_of(3)))


def test_a_node_may_leave_by_its_own_word() -> None:
    fresh = _grant(_node(), Wish(leave=(url_of(0),)))
    assert _weights(fresh) == [0, 1, 1, 1]
    assert fresh.lost == ()


def test_who_is_away_leaves_by_force_only_and_its_disk_counts_as_lost() -> None:
    alone = _node()
    alone.unlink(2)
    assert "start it, or force it" in _refusal(alone, Wish(leave=(url_of(2),)))
    fresh = _grant(alone, Wish(leave=(url_of(2),), is_forced=True))
    assert fresh.lost == (id_of(2),)
    assert _weights(fresh) == [1, 1, 0, 1]


def test_who_is_there_is_not_lost_whatever_the_force() -> None:
    assert _grant(_node(), Wish(leave=(url_of(2),), is_forced=True)).lost == ()


def test_who_went_away_while_it_left_is_lost_by_a_second_wish() -> None:
    alone = _node()
    _grant(alone, Wish(leave=(url_of(2),)))
    alone.unlink(2)
    fresh = _grant(alone, Wish(leave=(_hex(2),), is_forced=True))
    assert fresh.lost == (id_of(2),)


def test_of_one_that_is_lost_nothing_else_can_be_asked() -> None:
    alone = _node()
    alone.unlink(2)
    _grant(alone, Wish(leave=(url_of(2),), is_forced=True))
    for wish in (
        Wish(weights=((_hex(2), 1),)),
        Wish(zones=((_hex(2), "z"),)),
        Wish(replace=((_hex(2), _hex(3)),)),
        Wish(leave=(_hex(2),)),
    ):
        assert "its disk counts as lost" in _refusal(alone, wish)


def test_too_few_would_be_left() -> None:
    alone = _node()
    fresh = _grant(alone, Wish(leave=(url_of(3),)))
    assert "2 nodes cannot hold 3 copies" in _refusal(alone, Wish(leave=(url_of(2),)))
    assert _weights(fresh) == [1, 1, 1, 0]
    both = _node()
    assert "2 nodes cannot hold 3 copies" in _refusal(both, Wish(leave=(url_of(2), url_of(3))))
    three = Wish(leave=(url_of(1), url_of(2), url_of(3)))
    assert "1 node cannot hold 3 copies" in _refusal(both, three)
    assert _weights(_grant(both, Wish(leave=(url_of(2), url_of(3)), replication=2))) == [1, 1, 0, 0]
    assert _weights(_grant(_node(), Wish(leave=(url_of(2), url_of(3)), is_forced=True))) == [
        1,
        1,
        0,
        0,
    ]


@pytest.mark.parametrize("is_forced", [False, True])
def test_somebody_has_to_stay(is_forced: bool) -> None:
    alone = _node()
    everyone = tuple(url_of(index) for index in range(4))
    assert "somebody has to hold" in _refusal(alone, Wish(leave=everyone, is_forced=is_forced))


def test_all_that_were_met_may_leave_and_decide_until_others_came() -> None:
    half = bound_to(first(), {url_of(index): id_of(index) for index in (0, 1)}, drawn=b"drawn by")
    alone = Alone(3, disk=disk_of(half), heartbeat_ms=3_600_000)
    alone.link(1)
    fresh = _grant(alone, Wish(leave=(url_of(0), url_of(1)), is_forced=True))
    assert fresh.voters == (id_of(0), id_of(1))
    came = bound_to(fresh, {url_of(2): id_of(2)}, drawn=b"")
    assert came.voters == (id_of(2),)


def test_copies_that_could_not_be_kept_in_different_zones_need_force() -> None:
    alone = _node(_zoned())
    assert "different zones" in _refusal(alone, Wish(leave=(url_of(0),)))
    assert _weights(_grant(alone, Wish(leave=(url_of(1),)))) == [1, 0, 1, 1]
    forced = _node(_zoned())
    assert _weights(_grant(forced, Wish(leave=(url_of(0),), is_forced=True))) == [0, 1, 1, 1]


# --- replacing ---------------------------------------------------------------------------------


def test_a_node_that_is_there_is_replaced_and_hands_over_what_it_has() -> None:
    alone = _node(_zoned())
    _stranger(alone, 9, zone="z", weight=5)
    fresh = _grant(alone, Wish(replace=((url_of(0), url_of(9)),)))
    assert _weights(fresh) == [0, 1, 1, 1, 1]
    assert fresh.members[4] == Member(id_of(9), url_of(9), "a", 1), "what it takes the place of"
    assert fresh.lost == ()


def test_a_node_that_is_away_is_replaced_and_its_disk_is_lost() -> None:
    alone = _node()
    _stranger(alone, 9)
    alone.unlink(2)
    fresh = _grant(alone, Wish(replace=((url_of(2), _hex(9)),)))
    assert fresh.lost == (id_of(2),)
    assert _weights(fresh) == [1, 1, 0, 1, 1]


def test_a_node_takes_the_place_of_another() -> None:
    """The one that is asked is no member: it can tell what that comes to."""
    layout = stable(4, course=Course.REST)
    members = tuple(
        [replace(m, id=id_of(7), url=url_of(0)) if m.id == id_of(0) else m for m in layout.members]
    )
    voters = tuple([m.id for m in members])
    alone = _node(replace(layout, members=tuple(members), voters=voters))
    fresh = wished(alone.node.membership, Wish(replace=((url_of(1), _hex(0)),)), now_s=NOW_S)
    assert fresh is not None
    assert {each.id for each in fresh.members if each.weight} >= {id_of(0)}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (url_of(2), url_of(2), "no node that could take its place"),
        (url_of(2), "http://nobody:1", "no node that could take its place"),
        (url_of(2), url_of(3), "holds copies of its own"),
        ("http://nobody:1", url_of(3), "no member of the cluster is called that"),
    ],
)
def test_who_cannot_take_a_place(old: str, new: str, reason: str) -> None:
    assert reason in _refusal(_node(), Wish(replace=((old, new),)))


def test_who_is_lost_takes_no_place() -> None:
    """It holds nothing any more, but is a member still."""
    gone = shared(OLD, 3, lost=(3,))
    emptied = replace(gone, table=tuple([(0, 1, 2) for _ in gone.table]))
    alone = _node(emptied)
    alone.unlink(3)
    assert "lost" in _refusal(alone, Wish(replace=((url_of(2), _hex(3)),)))


def test_a_member_that_holds_nothing_yet_takes_a_place() -> None:
    alone = _node()
    _stranger(alone, 9)
    hear(alone, with_member(OLD, Member(id_of(9), url_of(9), "", 4)))
    fresh = _grant(alone, Wish(replace=((url_of(2), url_of(9)),)))
    assert fresh.members[4] == Member(id_of(9), url_of(9), "", 1)
    assert _weights(fresh) == [1, 1, 0, 1, 1]


def test_what_a_peer_was_called_before_it_got_another_disk_ends_no_node() -> None:
    alone = _node()
    _stranger(alone, 8)
    alone.unlink(8)
    alone.step(alone.met(8, node_id=99))
    for name in (_hex(8), f"{99:012x}", url_of(8)):
        try:
            fresh = wished(alone.node.membership, Wish(replace=((url_of(2), name),)), now_s=NOW_S)
            assert fresh is not None
        except InvalidRequest:
            continue


# --- weights, zones, copies --------------------------------------------------------------------


def test_weights_and_zones_are_those_that_were_asked_for() -> None:
    alone = _node()
    wish = Wish(weights=((url_of(1), 7), (_hex(2), WEIGHT_MAX)), zones=((url_of(3), "z"),))
    fresh = _grant(alone, wish)
    assert _weights(fresh) == [1, 7, WEIGHT_MAX, 1]
    assert [each.zone for each in fresh.members] == ["", "", "", "z"]


def test_who_was_to_leave_stays_with_a_weight() -> None:
    alone = _node()
    _grant(alone, Wish(leave=(url_of(2),)))
    assert _weights(_grant(alone, Wish(weights=((_hex(2), 3),)))) == [1, 1, 3, 1]


@pytest.mark.parametrize("weight", [0, -1, WEIGHT_MAX + 1])
def test_no_such_weight(weight: int) -> None:
    assert "a weight is from 1" in _refusal(_node(), Wish(weights=((url_of(1), weight),)))


@pytest.mark.parametrize("zone", ["x" * (ZONE_CHARS_MAX + 1), "a\nb", "\x1b[0m"])
def test_no_such_zone(zone: str) -> None:
    assert "a zone has at most" in _refusal(_node(), Wish(zones=((url_of(1), zone),)))


def test_nobody_is_called_that() -> None:
    for wish in (
        Wish(leave=("http://nobody:1",)),
        Wish(weights=(("", 1),)),
        Wish(zones=(("0" * 12, "z"),)),
    ):
        assert "no member of the cluster is called that" in _refusal(_node(), wish)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_more_copies_or_fewer(copies: int) -> None:
    fresh = _grant(_node(), Wish(replication=copies))
    assert fresh.replication == copies
    assert fresh.table == OLD.table, "they move step by step"


@pytest.mark.parametrize("copies", [-1, REPLICATION_MAX + 1])
def test_no_such_number_of_copies(copies: int) -> None:
    assert "copies of each key are from 1" in _refusal(_node(), Wish(replication=copies))


def test_what_contradicts_itself_is_refused_and_not_proposed() -> None:
    """It counts as lost, and is to hold something."""
    alone = _node()
    alone.unlink(2)
    wish = Wish(leave=(url_of(2),), weights=((_hex(2), 2),), is_forced=True)
    assert _refusal(alone, wish)


# --- going on, and stopping --------------------------------------------------------------------


def test_to_go_on_is_to_move() -> None:
    alone = _node()
    assert _grant(alone, Wish()).course == Course.MOVE


def test_to_stop_leaves_every_copy_where_it_is_and_who_leaves_a_member() -> None:
    alone = _node(stable())
    leaving = _grant(alone, Wish(leave=(url_of(3),)))
    hear(alone, gaining(leaving, *without(leaving, 0)[:5]))
    stopped = _grant(alone, Wish(stops=True))
    assert (stopped.course, stopped.moves) == (Course.REST, ())
    assert stopped.table == OLD.table
    assert _weights(stopped) == [1, 1, 1, 0]
    assert _grant(alone, Wish()).course == Course.MOVE


def test_what_moves_goes_on_where_nothing_else_is_asked_for() -> None:
    alone = _node(stable())
    joint = gaining(stable(), *without(OLD, 0)[:5])
    hear(alone, joint)
    assert _wished(alone, Wish()) is None
    assert _wished(alone, Wish(weights=((url_of(1), 1),))) is None
    called_off = _wished(alone, Wish(weights=((url_of(1), 2),)))
    assert called_off is not None
    assert called_off.moves == ()


def test_two_wishes_in_a_row_are_one_plan() -> None:
    alone = _node()
    _grant(alone, Wish(weights=((url_of(1), 5),)))
    fresh = _grant(alone, Wish(leave=(url_of(3),)))
    assert _weights(fresh) == [1, 5, 1, 0]


def test_one_wish_may_say_several_things() -> None:
    alone = _node()
    _stranger(alone, 9)
    wish = Wish(replace=((url_of(2), url_of(9)),), leave=(url_of(3),), replication=2)
    fresh = _grant(alone, wish)
    assert _weights(fresh) == [1, 1, 0, 0, 1]


def test_who_has_left_is_nobody() -> None:
    alone = _node()
    leaving = _grant(alone, Wish(leave=(url_of(3),)))
    emptied = replace(leaving, table=tuple([(0, 1, 2) for _ in leaving.table]))
    hear(alone, later(settled(emptied)))
    assert "no member" in _refusal(alone, Wish(leave=(url_of(3),)))


def test_before_the_second_layout_nothing_can_be_asked() -> None:
    with pytest.raises(NotReady):
        wished(new().node.membership, Wish(), now_s=NOW_S)


# --- what it comes to --------------------------------------------------------------------------


def test_a_plan_says_who_gains_and_gives_what() -> None:
    alone = _node()
    alone.hear(1, Ping(9, [], keys=10, bytes_used=768_000))
    fresh = _wished(alone, Wish(leave=(url_of(3),)))
    assert fresh is not None
    plan = plan_of(alone.node.membership, fresh)
    assert plan.epoch == OLD.epoch
    held = sum(3 in row for row in OLD.table)
    gone = plan.shares[3]
    assert (gone.before, gone.after, gone.gives, gone.gains) == (held, 0, held, 0)
    assert sum(share.gains for share in plan.shares) == plan.copies == held
    assert sum(share.after for share in plan.shares) == sum(len(row) for row in OLD.table)
    assert plan.bytes == held * (768_000 // sum(1 in row for row in OLD.table))


# --- the end of an upgrade ---------------------------------------------------------------------

FINISH = Wish(raises_level=True)


def _upgraded(alone: Alone, *indices: int, level: int = 2) -> None:
    """These nodes were started again, in a release that knows this level."""
    for index in indices:
        alone.unlink(index)
        alone.step(alone.met(index, level=level, serial=level), LinkUp(id_of(index)))
        alone.hear(index, Ping(1, [], 0, 0))


def test_a_level_rises_once_all_members_know_it() -> None:
    alone = _node(level=2)
    _upgraded(alone, 1, 2)
    with pytest.raises(Conflict) as caught:
        wished(alone.node.membership, FINISH, now_s=NOW_S)
    assert caught.value.detail == (
        "feature level 2 is not known everywhere yet: http://n3:8000 knows feature level 1: start "
        "a newer release there"
    )
    _upgraded(alone, 3)
    fresh = _grant(alone, FINISH)
    assert (fresh.level, fresh.table, fresh.members) == (2, OLD.table, OLD.members)
    assert "level_raised" in alone.notes
    assert _wished(alone, Wish(weights=((url_of(1), 2),))).level == 2  # type: ignore[union-attr]


def test_a_node_that_is_behind_itself_says_so() -> None:
    alone = _node()
    _upgraded(alone, 1, 2, 3)
    level, waits = upgrade_of(alone.node.membership)
    assert level == 2
    assert waits == ["http://n0:8000 knows feature level 1: start a newer release there"]


def test_who_is_not_there_holds_a_level_up_unless_it_is_lost() -> None:
    """It may come back in the release before."""
    alone = _node(level=2)
    _upgraded(alone, 1, 2, 3)
    alone.unlink(3)
    _, waits = upgrade_of(alone.node.membership)
    assert waits == ["http://n3:8000 is not there: start it, or have it leave"]
    _grant(alone, Wish(leave=(url_of(3),), is_forced=True))
    assert upgrade_of(alone.node.membership) == (2, [])


def test_who_is_no_member_holds_a_level_up_while_it_is_there() -> None:
    alone = _node(level=2)
    _upgraded(alone, 1, 2, 3)
    _stranger(alone, 9)
    assert upgrade_of(alone.node.membership)[1] == [
        "http://n9:8000 knows feature level 1: start a newer release there"
    ]
    alone.step(LinkDown(id_of(9)))
    assert upgrade_of(alone.node.membership) == (2, [])


def test_who_is_no_member_raises_nothing_whatever_it_knows() -> None:
    alone = _node()
    _stranger(alone, 9, level=3)
    assert upgrade_of(alone.node.membership) == (1, [])
    assert _wished(alone, FINISH) is None


def test_where_no_release_knows_more_there_is_nothing_to_raise_whoever_is_away() -> None:
    alone = _node()
    alone.unlink(3)
    assert upgrade_of(alone.node.membership) == (1, [])
    assert _wished(alone, FINISH) is None


def test_nothing_else_goes_with_the_end_of_an_upgrade() -> None:
    wish = Wish(raises_level=True, replication=2)
    assert "nothing else may be asked" in _refusal(_node(level=2), wish)
