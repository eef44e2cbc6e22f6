# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a layout means: peers that it names, where they are, and what operators call them."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import Course, Layout, Member, unmet_id
from quorate.core.topology.peer import Ground, Peer
from quorate.core.topology.steps import settled
from quorate.core.values.events import LinkDown, LinkUp, PeerFrame
from quorate.core.values.messages import Frame, Ping
from quorate.core.values.settings import NODE_ID_MAX
from quorate.sim.cluster import bound_to, id_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone
from tests.unit.core.founders import disk_of, first
from tests.unit.core.moving import hear, later, node, replace, shared, stable, with_member
from tests.unit.core.topology.knowing import bound_after, first_of, membership_of

REST = stable(4, course=Course.REST)
OTHER = 77
"""A disk that no layout names at first."""


def _member(alone: Alone, node_id: int) -> Peer:
    peer = alone.node.membership.peer(node_id)
    assert peer is not None
    return peer


def _come(alone: Alone, index: int, node_id: int = OTHER) -> None:
    alone.step(alone.met(index, node_id=node_id), LinkUp(node_id))
    epoch = alone.node.membership.epoch
    alone.step(PeerFrame(node_id, Frame(epoch, 0, [Ping(1, [], 0, 0)])))


def _gone(layout: Layout, index: int) -> Layout:
    """The member has left, and is none any more."""
    leaving = shared(layout, index)
    rest = tuple([each for each in range(4) if each != index])
    return later(settled(replace(leaving, table=tuple([rest for _ in leaving.table]))))


def test_a_node_that_moved_knows_nobody_where_it_was_though_its_list_says_so() -> None:
    """Who may be there by now is dialled: two nodes may have exchanged their places."""
    disk = Disk()
    membership_of(0, [0], disk).adopt(bound_after(first_of(0)))
    for nodes in ([], [0], [0, 7]):
        again = membership_of(0, nodes, disk, url="http://moved:8000")
        grounds = {each.url: each.ground for each in again.roster.peers}
        assert grounds.pop(url_of(0)) is Ground.HEARSAY
        assert set(grounds.values()) <= {Ground.MET}


# --- one at a URL ------------------------------------------------------------------------------


def test_a_member_has_the_name_of_its_url_and_of_its_disk() -> None:
    alone = node(layout_of=REST)
    for index in (1, 2, 3):
        peer = _member(alone, id_of(index))
        assert peer.names == (unmet_id(url_of(index)), id_of(index))
        assert (peer.is_bound, peer.is_lost, peer.is_awaited) == (True, False, False)
        assert peer.ground is Ground.LISTED
        assert peer.is_reachable


def test_a_founder_that_was_not_met_is_awaited() -> None:
    half = bound_to(first(), {url_of(index): id_of(index) for index in (0, 1)}, drawn=b"drawn by")
    alone = Alone(3, disk=disk_of(half), heartbeat_ms=3_600_000)
    peer = _member(alone, unmet_id(url_of(2)))
    assert (peer.is_bound, peer.is_awaited, peer.id) == (False, True, 0)
    alone.link(2)
    assert peer.is_there
    assert not peer.is_reachable, "it holds nothing before it is bound"
    hear(alone, bound_to(half, {url_of(2): id_of(2)}, drawn=b""))
    assert _member(alone, id_of(2)) is peer
    assert peer.is_reachable


# --- two at a URL ------------------------------------------------------------------------------


def test_of_two_at_a_url_neither_has_its_name() -> None:
    alone = node(layout_of=REST)
    member = _member(alone, id_of(3))
    hear(alone, with_member(REST, Member(OTHER, url_of(3))))
    other = _member(alone, OTHER)
    assert other is not member
    assert (member.names, other.names) == ((id_of(3),), (OTHER,))
    assert alone.node.roster.at(url_of(3)) is member, "who is there is there"
    alone.step(LinkDown(id_of(3)))
    _come(alone, 3)
    assert _member(alone, OTHER) is other
    assert alone.node.roster.at(url_of(3)) is other
    assert other.is_reachable
    assert not member.is_reachable


def test_when_one_of_them_goes_the_other_has_the_name_again() -> None:
    alone = node(layout_of=REST)
    both = with_member(REST, Member(OTHER, url_of(3)))
    hear(alone, both)
    hear(alone, replace(REST, epoch=both.epoch + 1))
    assert _member(alone, id_of(3)).names == (unmet_id(url_of(3)), id_of(3))
    assert [peer.id for peer in alone.node.roster.peers if peer.names == (OTHER,)] == []


def test_a_stranger_at_the_url_is_not_the_member() -> None:
    alone = node(layout_of=REST)
    member = _member(alone, id_of(3))
    alone.unlink(3)
    _come(alone, 3)
    hear(alone, later(REST, 2))
    assert _member(alone, id_of(3)) is member
    stranger = alone.node.roster.by_id[OTHER]
    assert not stranger.is_bound
    assert stranger.names == ()


# --- lost, and gone ----------------------------------------------------------------------------


def test_one_whose_disk_is_lost_has_no_name_and_is_asked_nothing() -> None:
    alone = node(layout_of=REST)
    hear(alone, shared(REST, 3, lost=(3,)))
    peer = _member(alone, id_of(3))
    assert (peer.names, peer.is_lost) == ((), True)
    assert peer.is_there
    assert not peer.is_reachable


def test_this_node_is_no_replica_if_its_own_disk_counts_as_lost() -> None:
    alone = node(layout_of=REST)
    hear(alone, shared(REST, 0, lost=(0,)))
    membership = alone.node.membership
    assert not membership.is_in
    assert not any(each.is_mine for each in membership.current().distinct)
    own = _member(alone, id_of(0))
    assert (own.is_up, own.is_reachable) == (False, False)
    alone.step(after_ms=1)
    assert alone.node.status().url == url_of(0)
    hear(alone, replace(_gone(REST, 0), epoch=9))
    assert id_of(0) not in alone.node.roster.by_id


def test_who_has_left_is_a_node_as_any_that_was_met() -> None:
    alone = node(layout_of=REST)
    peer = _member(alone, id_of(3))
    hear(alone, _gone(REST, 3))
    assert not alone.node.membership.is_member(peer)
    assert (peer.is_bound, peer.is_lost, peer.names) == (False, False, ())
    assert peer.ground is Ground.MET
    assert alone.node.roster.by_id[id_of(3)] is peer
    alone.unlink(3)
    assert alone.node.roster.forget(url_of(3))


def test_a_disk_whose_place_another_took_is_listed_no_more() -> None:
    """Else it is down for ever, as nobody can be told to forget it: who is at its URL is there."""
    alone = node(layout_of=REST)
    alone.unlink(3)
    _come(alone, 3)
    both = with_member(shared(REST, 3, lost=(3,)), Member(OTHER, url_of(3)))
    hear(alone, both)
    peers = alone.node.roster.peers
    assert sorted([peer.id for peer in peers if peer.url == url_of(3)]) == [id_of(3), OTHER]
    hear(alone, later(settled(replace(both, table=tuple([(0, 1, 2) for _ in both.table])))))
    assert [peer.id for peer in peers if peer.url == url_of(3)] == [OTHER]
    assert id_of(3) not in alone.node.roster.by_id


def test_a_member_that_nobody_met_and_that_goes_leaves_nothing_behind() -> None:
    half = bound_to(first(), {url_of(index): id_of(index) for index in (0, 1)}, drawn=b"drawn by")
    alone = Alone(3, disk=disk_of(half), heartbeat_ms=3_600_000)
    _come(alone, 2)
    hear(alone, bound_to(half, {url_of(2): 55}, drawn=b""))
    assert _member(alone, 55) is not alone.node.roster.by_id[OTHER]
    assert len([peer for peer in alone.node.roster.peers if peer.url == url_of(2)]) == 2


# --- what operators call them ------------------------------------------------------------------


@pytest.mark.parametrize("index", range(4))
def test_a_member_is_found_by_its_url_and_by_its_id(index: int) -> None:
    find = node(layout_of=REST).node.membership.find
    assert find(url_of(index)) == find(f"{id_of(index):012x}") == id_of(index)


def test_who_leaves_is_found_still() -> None:
    alone = node(layout_of=REST)
    hear(alone, shared(REST, 3))
    assert alone.node.membership.find(url_of(3)) == id_of(3)


def test_of_two_at_a_url_the_one_that_stays_is_meant() -> None:
    alone = node(layout_of=REST)
    hear(alone, with_member(shared(REST, 3), Member(OTHER, url_of(3))))
    find = alone.node.membership.find
    assert find(url_of(3)) == OTHER
    assert find(f"{id_of(3):012x}") == id_of(3)


def test_a_member_is_found_where_it_is_by_now() -> None:
    alone = node(layout_of=REST)
    alone.unlink(3)
    alone.step(alone.met(3, url=url_of(8), serial=5))
    assert alone.node.membership.find(url_of(8)) == id_of(3)


def test_a_stranger_is_found_and_is_what_it_would_be_as_a_member() -> None:
    alone = node(layout_of=REST)
    alone.step(alone.met(8, node_id=OTHER, zone="z", weight=3), LinkUp(OTHER))
    membership = alone.node.membership
    assert membership.find(url_of(8)) == membership.find(f"{OTHER:012x}") == OTHER
    assert membership.stranger(OTHER) == Member(OTHER, url_of(8), "z", 3)


def test_nobody_is_called_nothing() -> None:
    membership = node(layout_of=REST).node.membership
    for name in ("", "0" * 12, "http://nobody:1", "f" * 12, f"{NODE_ID_MAX:012x}"):
        assert membership.find(name) == 0


@pytest.mark.parametrize("swaps", range(4))
def test_whoever_is_found_and_is_no_member_could_become_one(swaps: int) -> None:
    """Disks come and go at a URL, before and after each other."""
    alone = node(layout_of=REST)
    for turn in range(swaps + 1):
        _come(alone, 8, OTHER + turn)
        alone.step(LinkDown(OTHER + turn))
    membership = alone.node.membership
    names = [url_of(8), *[f"{OTHER + turn:012x}" for turn in range(swaps + 1)]]
    for found in filter(None, map(membership.find, names)):
        assert membership.stranger(found).id == found
