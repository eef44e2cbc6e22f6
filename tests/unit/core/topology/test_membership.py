# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs, and which layout is in force (S11, S26, S34)."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from quorate.core.parts import Parts
from quorate.core.topology.greeting import URL_CHARS_MAX
from quorate.core.topology.layout import Layout, first_layout
from quorate.core.topology.membership import LAYOUT_META, MEMBERS_MAX, MEMBERS_META, Membership
from quorate.core.values.messages import Greeting
from quorate.errors import Conflict, InvalidRequest
from quorate.sim.cluster import settings_of, url_of
from quorate.sim.disk import Disk
from tests.unit.core.alone import Alone
from tests.unit.core.parts import peer_of


def _membership(index: int, nodes: list[int], disk: Disk | None = None) -> Membership:
    disk = disk or Disk()
    parts = Parts(settings_of(index, nodes), disk, Random(1), ceiling=0)
    return Membership(parts, disk, peer_of)


def _stored(membership: Membership) -> Disk:
    """A disk with what the membership wants to keep."""
    membership.close_turn()
    batch, _ = membership._parts.replica.close_turn()
    disk = Disk()
    if batch is not None:
        disk.write(batch)
    return disk


def _layout(*nodes: int) -> Layout:
    return first_layout([url_of(i) for i in nodes], replication=3)


def test_a_node_in_its_own_list_begins_with_the_lists_layout() -> None:
    """S34: whatever the order of the list."""
    first, second = _membership(0, [0, 1, 2]), _membership(2, [2, 0, 1])
    assert first.layout == second.layout == _layout(0, 1, 2)
    assert first.greeting().layout_hash == second.greeting().layout_hash != b""


def test_a_node_without_a_list_is_a_cluster_of_its_own() -> None:
    assert _membership(0, []).layout == _layout(0)


def test_a_node_that_lists_only_others_holds_a_proposal_and_serves_nothing() -> None:
    """S11: its own URL missing."""
    node = _membership(0, [1])
    assert node.layout is None
    assert node.placement is None
    assert node.proposal == _layout(0, 1)
    greeting = node.greeting()
    assert (greeting.epoch, greeting.layout_hash) == (0, b"")
    assert greeting.layout == _layout(0, 1).encode()


def test_two_nodes_that_list_only_each_other_agree() -> None:
    """S11."""
    first, second = _membership(0, [1]), _membership(1, [0])
    assert first.meet(second.greeting())
    assert second.meet(first.greeting())
    assert first.layout == second.layout == _layout(0, 1)


def test_a_proposal_that_is_not_ours_is_not_adopted() -> None:
    first, second = _membership(0, [1]), _membership(1, [0, 2])
    second.proposal = _layout(0, 1, 2)
    second.layout = None
    assert not first.meet(second.greeting())
    assert first.layout is None


def test_a_node_that_meets_a_cluster_adopts_its_layout_and_owns_nothing() -> None:
    node, member = _membership(5, [0]), _membership(0, [0, 1])
    assert node.meet(member.greeting())
    assert node.layout == _layout(0, 1)
    assert node.placement is not None
    assert not any(node.placement.is_mine)
    assert sorted(node.peers) == [url_of(0), url_of(1)]


def test_a_layout_in_force_is_kept_whatever_a_peer_shows() -> None:
    node, other = _membership(0, [0, 1]), _membership(0, [0, 1, 2])
    assert not node.meet(other.greeting())
    assert node.layout == _layout(0, 1)


def test_layout_and_members_survive_a_restart_with_another_list() -> None:
    node = _membership(0, [0, 1])
    node.add(url_of(7))
    disk = _stored(node)
    assert disk.get_meta(LAYOUT_META) == _layout(0, 1).encode()
    assert disk.get_meta(MEMBERS_META) is not None
    again = _membership(0, [1], disk)
    assert again.layout == _layout(0, 1)
    assert sorted(again.peers) == [url_of(1), url_of(7)]


def _greeting_with(layout: bytes) -> Greeting:
    return msgspec.structs.replace(_membership(1, [1, 2]).greeting(), layout=layout)


@pytest.mark.parametrize(
    "layout",
    [
        b"nonsense",
        msgspec.structs.replace(_layout(1, 2), epoch=-1).encode(),
        msgspec.structs.replace(
            _layout(1, 2), nodes=tuple(sorted(f"http://x{i}:1" for i in range(MEMBERS_MAX + 1)))
        ).encode(),
        msgspec.structs.replace(_layout(1, 2), nodes=("a", "b" * 10_000)).encode(),
    ],
)
def test_a_hostile_layout_is_noted_and_changes_nothing(layout: bytes) -> None:
    node = _membership(0, [1])
    assert not node.meet(_greeting_with(layout))
    assert node.layout is None
    assert list(node.peers) == [url_of(1)]
    assert [note.event for note in node._parts.turn.notes] == ["peer_layout_unreadable"]


def test_members_are_added_once_and_told_once() -> None:
    """S26: joining twice changes nothing."""
    node = _membership(0, [0, 1])
    assert node.close_turn() == [url_of(1)]
    assert node.add(url_of(2))
    assert not node.add(url_of(2))
    assert not node.add(url_of(0)), "itself"
    assert node.close_turn() == [url_of(1), url_of(2)]
    assert node.close_turn() is None


def test_members_are_bounded() -> None:
    """RELIABILITY 64: ten thousand ids."""
    node = _membership(0, [0])
    node.learn([f"http://x{i}:1" for i in range(MEMBERS_MAX + 5)])
    assert len(node.peers) == MEMBERS_MAX
    with pytest.raises(InvalidRequest, match="too many members"):
        node.add("http://one-more:1")


def test_what_cannot_be_a_url_is_not_learnt() -> None:
    """RELIABILITY 64: an id of a megabyte."""
    node = _membership(0, [0])
    node.learn(["", "x" * (URL_CHARS_MAX + 1), url_of(1)])
    assert list(node.peers) == [url_of(1)]


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
    disk = _stored(_membership(0, first))
    if is_refused:
        with pytest.raises(Conflict, match="-nodes says"):
            _membership(0, then, disk)
    else:
        assert _membership(0, then, disk).layout == _layout(*first)


def test_a_directory_of_another_replication_is_refused() -> None:
    disk = Alone(3).disk
    with pytest.raises(Conflict, match="-replication=3"):
        Alone(3, disk=disk, replication=2)
