# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs, and which layout is in force."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.greeting import URL_CHARS_MAX
from quorate.core.topology.layout import Layout, Member, first_layout, unmet_id
from quorate.core.topology.membership import LAYOUT_META, MEMBERS_MAX, MEMBERS_META, Membership
from quorate.core.turn import Alarm, Turn
from quorate.core.values.events import Batch
from quorate.core.values.messages import Greeting
from quorate.errors import Conflict, InvalidRequest, NotReady
from quorate.sim.cluster import id_of, settings_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone
from tests.unit.core.parts import peer_of


def _membership(index: int, nodes: list[int], disk: Disk | None = None) -> Membership:
    """What it stores goes into the disk."""
    disk, turn = disk or Disk(), Turn()
    membership = Membership(
        settings_of(index, nodes),
        turn,
        peer_of,
        process=1 + index,
        adopted=Alarm(turn, lambda: None),
        store=lambda name, blob: disk.format(Batch([], [], [(name, blob)])),
    )
    membership.open(disk.get_meta)
    return membership


def _urls(membership: Membership) -> list[str]:
    return sorted([peer.url for peer in membership.peers])


def _members(*urls: str) -> tuple[Member, ...]:
    return tuple([Member(unmet_id(url), url) for url in sorted(urls)])


def _layout(*nodes: int) -> Layout:
    return first_layout([url_of(i) for i in nodes], replication=3)


def test_a_node_in_its_own_list_begins_with_the_lists_layout() -> None:
    """Whatever the order of the list."""
    first, second = _membership(0, [0, 1, 2]), _membership(2, [2, 0, 1])
    assert first.layout == second.layout == _layout(0, 1, 2)
    assert first.greeting().layout_hash == second.greeting().layout_hash != b""


def test_a_node_without_a_list_is_a_cluster_of_its_own() -> None:
    assert _membership(0, []).layout == _layout(0)


def test_a_node_that_lists_only_others_holds_a_proposal_and_serves_nothing() -> None:
    """Its own URL missing."""
    node = _membership(0, [1])
    assert node.layout is None
    with pytest.raises(NotReady, match="not known yet"):
        node.current()
    assert node.proposal == _layout(0, 1)
    greeting = node.greeting()
    assert (greeting.epoch, greeting.layout_hash) == (0, b"")
    assert greeting.layout == _layout(0, 1).encode()


def test_two_nodes_that_list_only_each_other_agree() -> None:
    first, second = _membership(0, [1]), _membership(1, [0])
    first.meet(second.greeting())
    second.meet(first.greeting())
    assert first.layout == second.layout == _layout(0, 1)


def test_a_proposal_that_is_not_ours_is_not_adopted() -> None:
    first, second = _membership(0, [1]), _membership(1, [0, 2])
    second.proposal = _layout(0, 1, 2)
    second.topology = None
    first.meet(second.greeting())
    assert first.layout is None


def test_a_node_that_meets_a_cluster_adopts_its_layout_and_owns_nothing() -> None:
    node, member = _membership(5, [0]), _membership(0, [0, 1])
    node.meet(member.greeting())
    assert node.layout == _layout(0, 1)
    assert not any(replicas.is_mine for replicas in node.current().partitions)
    assert _urls(node) == [url_of(0), url_of(1)]


def test_a_layout_in_force_is_kept_whatever_a_peer_shows() -> None:
    node, other = _membership(0, [0, 1]), _membership(0, [0, 1, 2])
    node.meet(other.greeting())
    node.hear_of(_layout(0, 1, 2).encode(), url_of(2))
    assert node.layout == _layout(0, 1)


def test_who_is_behind_adopts_and_who_is_ahead_waits() -> None:
    """A layout of a higher epoch comes with a greeting; the other end keeps its own."""
    behind, ahead = _membership(0, [0, 1]), _membership(1, [0, 1])
    newer = msgspec.structs.replace(_layout(0, 1, 2), epoch=2)
    ahead.adopt(newer)
    ahead.meet(behind.greeting())
    assert ahead.layout == newer
    before = behind.current()
    behind.meet(ahead.greeting())
    assert (behind.layout, behind.epoch) == (newer, 2)
    assert _urls(behind) == [url_of(1), url_of(2)]
    assert (before.epoch, before.urls) == (1, [url_of(0), url_of(1)]), "whoever has it keeps it"
    assert [note.event for note in behind._turn.notes] == ["layout_adopted"]


def test_parked_requests_are_tried_again_after_a_layout_was_adopted() -> None:
    node, member = _membership(5, [0]), _membership(0, [0, 1])
    rang = []
    node._adopted = Alarm(node._turn, lambda: rang.append(1))
    node.meet(member.greeting())
    node._turn.ring()
    assert rang == [1]


def test_a_later_layout_survives_a_restart_with_the_list_of_the_first() -> None:
    disk = Disk()
    newer = msgspec.structs.replace(_layout(0, 1, 2), epoch=2)
    _membership(0, [0, 1], disk).adopt(newer)
    assert _membership(0, [0, 1], disk).layout == newer


def test_layout_and_members_survive_a_restart_with_another_list() -> None:
    disk = Disk()
    node = _membership(0, [0, 1], disk)
    node.add(url_of(7))
    node.close_turn()
    assert disk.get_meta(LAYOUT_META) == _layout(0, 1).encode()
    assert disk.get_meta(MEMBERS_META) is not None
    again = _membership(0, [1], disk)
    assert again.layout == _layout(0, 1)
    assert _urls(again) == [url_of(1), url_of(7)]


def _greeting_with(layout: bytes) -> Greeting:
    return msgspec.structs.replace(_membership(1, [1, 2]).greeting(), layout=layout)


@pytest.mark.parametrize(
    "layout",
    [
        b"nonsense",
        msgspec.structs.replace(_layout(1, 2), epoch=-1).encode(),
        msgspec.structs.replace(
            _layout(0, 1), members=(Member(5, url_of(0)), Member(6, url_of(1)))
        ).encode(),
        msgspec.structs.replace(
            _layout(1, 2), members=_members(*[f"http://x{i}:1" for i in range(MEMBERS_MAX + 1)])
        ).encode(),
        msgspec.structs.replace(_layout(1, 2), members=_members("a", "b" * 10_000)).encode(),
    ],
)
def test_a_hostile_layout_is_noted_and_changes_nothing(layout: bytes) -> None:
    node = _membership(0, [1])
    node.meet(_greeting_with(layout))
    assert node.layout is None
    assert _urls(node) == [url_of(1)]
    assert [note.event for note in node._turn.notes] == ["peer_layout_unreadable"]


def test_members_are_added_once_and_told_once() -> None:
    """Joining twice changes nothing."""
    node = _membership(0, [0, 1])
    assert node.close_turn() == [url_of(1)]
    assert node.add(url_of(2))
    assert not node.add(url_of(2))
    assert not node.add(url_of(0)), "itself"
    assert node.close_turn() == [url_of(1), url_of(2)]
    assert node.close_turn() is None


def test_members_are_bounded() -> None:
    """Ten thousand ids."""
    node = _membership(0, [0])
    node.learn([f"http://x{i}:1" for i in range(MEMBERS_MAX + 5)])
    assert len(node.peers) == MEMBERS_MAX
    with pytest.raises(InvalidRequest, match="too many members"):
        node.add("http://one-more:1")


def test_what_cannot_be_a_url_is_not_learnt() -> None:
    """An id of a megabyte."""
    node = _membership(0, [0])
    node.learn(["", "x" * (URL_CHARS_MAX + 1), url_of(1)])
    assert _urls(node) == [url_of(1)]


@pytest.mark.parametrize(
    ("first", "then", "is_refused"),
    [
        ([0], [0, 1, 2], True),
        ([0, 1, 2], [0, 1], True),
        ([0], [1, 2], True),
        ([0, 1, 2], [2, 1, 0], False),
        ([0, 1, 2], [], False),
        ([0, 1, 2], [1], False),
    ],
)
def test_a_directory_is_not_taken_into_another_cluster(
    first: list[int], then: list[int], is_refused: bool
) -> None:
    """Else it would serve its old layout beside the new one, and both would take writes."""
    disk = Disk()
    _membership(0, first, disk).close_turn()
    if is_refused:
        with pytest.raises(Conflict, match="-nodes says"):
            _membership(0, then, disk)
    else:
        assert _membership(0, then, disk).layout == _layout(*first)


def test_a_directory_of_another_replication_is_refused() -> None:
    disk = Alone(3).disk
    with pytest.raises(Conflict, match="-replication=3"):
        Alone(3, disk=disk, replication=2)


# --- who a node is -------------------------------------------------------------------------------


def _greeting(url: str, node_id: int) -> Greeting:
    return msgspec.structs.replace(
        _membership(1, [0, 1]).greeting(), url=url, node_id=node_id, layout_hash=b"", layout=b""
    )


def test_a_peer_is_known_by_its_id_once_it_was_met() -> None:
    node = _membership(0, [0, 1])
    assert node.named(id_of(1)) is None
    node.meet(_greeting(url_of(1), id_of(1)))
    (peer,) = node.peers
    assert node.named(id_of(1)) is node.at(url_of(1)) is peer
    assert peer.id == id_of(1)


def test_another_disk_at_a_url_is_another_node() -> None:
    node = _membership(0, [0, 1])
    node.meet(_greeting(url_of(1), 77))
    node.meet(_greeting(url_of(1), 78))
    assert node.named(77) is None
    assert node.named(78) is node.peers[0]


def test_a_node_that_moved_is_no_longer_where_it_was() -> None:
    node = _membership(0, [0, 1, 2])
    node.meet(_greeting(url_of(1), 77))
    node.meet(_greeting(url_of(2), 77))
    assert node.named(77) is node.at(url_of(2))
    assert [peer.id for peer in node.peers] == [0, 77]


@pytest.mark.parametrize("url", [url_of(1), url_of(2)])
def test_whom_our_own_link_leads_to_is_believed_before_what_others_call_themselves(
    url: str,
) -> None:
    node = _membership(0, [0, 1, 2])
    node.meet(_greeting(url_of(1), 77))
    node.peers[0].is_linked = True
    node.meet(_greeting(url, 77 if url == url_of(2) else 78))
    assert node.named(77) is node.at(url_of(1))
    assert node.named(78) is None
    assert [peer.id for peer in node.peers] == [77, 0]
