# SPDX-License-Identifier: GPL-3.0-or-later
"""Founders that come after the second layout, and disks that are no members."""

from __future__ import annotations

from quorate.core.exchanges.hints import RETRY_MS
from quorate.core.topology.layout import unmet_id
from quorate.core.values.events import GetResult, LinkDown, LinkUp, PeerFrame, PutResult
from quorate.core.values.messages import (
    Accept,
    Frame,
    Mutate,
    OtherEpoch,
    Pong,
    Prepare,
    Read,
    ReadAnswer,
    Vote,
    Voted,
)
from quorate.core.values.slots import row_of
from quorate.sim.cluster import bound_to, id_of, url_of
from tests.unit.core.alone import Alone
from tests.unit.core.founders import (
    accept,
    ack,
    adopt,
    bind,
    disk_of,
    first,
    found,
    hinted,
    layout_of,
    new,
    put,
    second,
)

# --- a founder that comes later ----------------------------------------------------------------


def test_a_founder_that_comes_later_is_bound_and_then_gets_its_hints() -> None:
    alone = new()
    layout = found(alone, 1)
    assert isinstance(put(alone, b"1").result, PutResult)
    assert hinted(alone) == {unmet_id(url_of(2))}
    alone.link(2)
    assert isinstance(put(alone, b"2").result, PutResult)
    assert alone.take(2, Mutate) == [], "it would refuse: the layout does not name it"
    assert alone.take(2, Prepare) == [], "nor does it vote"
    bind(alone)
    assert layout_of(alone).epoch == 3
    assert layout_of(alone).cluster == layout.cluster
    kinds = [type(each) for each in alone.said[id_of(2)]]
    assert kinds.index(OtherEpoch) < kinds.index(Mutate)
    assert ack(alone, 2) == [b"1", b"2"]
    assert hinted(alone) == set()
    assert isinstance(put(alone, b"3").result, PutResult)
    assert ack(alone, 2) == [b"3"], "it is a replica as any other"


def test_nobody_waits_for_who_is_missing_to_bind_who_came() -> None:
    """Unlike before the second layout: it is a member already, and holds nothing until then."""
    alone = new(5)
    adopt(alone, second(0, 1, 4, count=5))
    alone.link(4, 3)
    (asked,) = alone.take(1, Prepare)
    assert asked.number == 3


def test_hints_of_who_was_bound_meanwhile_outlive_a_restart_and_keep_their_order() -> None:
    alone = new()
    found(alone, 1)
    put(alone, b"1")
    alone.link(2)
    bind(alone)
    alone.take(2, Mutate)
    alone.unlink(2)
    put(alone, b"2")
    again = new(disk=alone.disk)
    again.wall_offset_ms = alone.mono_ms
    again.link(1)
    assert again.node.hints.count(again.peer(2)) == 2
    again.link(2)
    assert ack(again, 2) == [b"1", b"2"]
    again.unlink(2)
    put(again, b"3")
    assert hinted(again) == {id_of(2)}
    last = new(disk=again.disk)
    last.link(1, 2)
    assert ack(last, 2) == [b"3"]
    assert hinted(last) == set()


def test_a_founder_is_bound_by_whom_it_is_when_it_is_decided() -> None:
    """A disk that came and went before is none of the cluster's."""
    alone = new()
    found(alone, 1)
    alone.step(alone.met(2, node_id=77), LinkUp(77))
    alone.step(LinkDown(77))
    alone.link(2)
    (asked,) = alone.take(1, Prepare)[-1:]
    alone.hear(1, Voted(asked.batch, Vote(3, True, asked.ballot)))
    (layout,) = accept(alone, 1)
    assert layout.voters == (id_of(0), id_of(1), id_of(2))


# --- a new disk at a member's URL --------------------------------------------------------------


def _replace_disk(alone: Alone) -> None:
    """Another disk greets at the URL of peer 2, and is reached there."""
    alone.unlink(2)
    alone.step(alone.met(2, node_id=77), LinkUp(77))
    alone.step(PeerFrame(77, Frame(alone.node.membership.epoch, 0, [Pong(1)])))


def test_a_new_disk_is_another_peer_and_gets_nothing_of_the_member() -> None:
    alone = Alone(replication=3, heartbeat_ms=3_600_000)
    alone.link(1, 2)
    member = alone.peer(2)
    _replace_disk(alone)
    assert "peer_has_another_directory" in alone.notes
    assert alone.peer(2) is not member
    assert alone.node.roster.by_id.get(id_of(2)) is member
    assert not member.is_reachable
    assert isinstance(put(alone, b"1").result, PutResult)
    reading = alone.get(b"k1")
    (read,) = alone.take(1, Read)
    held = alone.disk.get(row_of(b"k1"))
    assert held is not None
    alone.hear(1, ReadAnswer(read.batch, [], [held.version]))
    assert reading.result == GetResult(held, answers=2)
    assert not {type(each) for each in alone.said[77]} & {Mutate, Read, Prepare, Accept}
    assert alone.node.hints.count(member) == 1
    alone.step(LinkDown(77))
    alone.link(2)
    assert alone.node.roster.by_id.get(id_of(2)) is member
    assert ack(alone, 2) == [b"1"]


def test_a_disk_that_others_bound_another_than_leaves_nothing_behind() -> None:
    """The hints are the member's, and are counted once."""
    alone = new()
    found(alone, 1)
    put(alone, b"1")
    alone.step(alone.met(2, node_id=77), LinkUp(77))
    layout = bound_to(layout_of(alone), {url_of(2): id_of(2)}, drawn=b"")
    alone.hear(1, OtherEpoch(3, [], layout.encode()), epoch=3)
    alone.step(LinkDown(77))
    alone.link(2)
    assert ack(alone, 2) == [b"1"]
    assert hinted(alone) == set()
    assert alone.node.hints.total == 0
    assert [peer.id for peer in alone.node.roster.peers if peer.url == url_of(2)] == [id_of(2)]


def test_a_new_disk_gets_no_hints_that_are_stored_under_the_name_of_the_members_url() -> None:
    """They are the member's, which was bound before they were replayed."""
    alone = new()
    found(alone, 1)
    put(alone, b"1")
    alone.link(2)
    bind(alone)
    assert len(alone.take(2, Mutate)) == 1, "and it goes before it has kept them"
    member = alone.peer(2)
    _replace_disk(alone)
    assert alone.peer(2) is not member
    assert [each for each in alone.said[77] if isinstance(each, Mutate)] == []
    assert alone.node.hints.count(member) == alone.node.hints.total == 1
    alone.step(LinkDown(77))
    alone.step(after_ms=RETRY_MS)
    alone.link(2)
    assert ack(alone, 2) == [b"1"]


def test_a_member_that_moved_to_where_another_is_awaited_proposes_nothing_for_itself() -> None:
    """It is one disk, and the other's place is not its own."""
    layout = bound_to(first(), {url_of(1): id_of(0), url_of(2): id_of(2)}, drawn=b"another!")
    alone = new(disk=disk_of(layout))
    alone.link(2)
    for _ in range(12):
        alone.step(after_ms=1_000)
    assert alone.take(2, Prepare) == []


def test_hints_for_a_founder_that_first_came_elsewhere_are_replayed_when_it_is_bound() -> None:
    alone = new()
    found(alone, 1)
    put(alone, b"1")
    alone.step(alone.met(2, url=url_of(7)), LinkUp(id_of(2)))
    alone.unlink(2)
    alone.link(2)
    layout = bound_to(layout_of(alone), {url_of(2): id_of(2)}, drawn=b"")
    alone.hear(1, OtherEpoch(3, [], layout.encode()), epoch=3)
    alone.step()
    assert ack(alone, 2) == [b"1"]
    assert (hinted(alone), alone.node.hints.total) == (set(), 0)
    assert [peer.url for peer in alone.node.roster.peers] == [url_of(1), url_of(2)]
