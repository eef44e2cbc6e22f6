# SPDX-License-Identifier: GPL-3.0-or-later
"""A layout as one node sees it: who else holds a partition, what a quorum of it is (S13, S14)."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import first_layout
from quorate.core.values.slots import PARTITION_COUNT
from quorate.errors import InvalidRequest
from tests.unit.core.parts import placement_of, urls


def test_this_node_and_the_others_together_are_the_layouts_replicas() -> None:
    layout = first_layout(urls(5), replication=3)
    placement = placement_of(layout, own=2)
    for partition in range(PARTITION_COUNT):
        mine = [placement.own_url] if placement.is_mine[partition] else []
        others = [peer.url for peer in placement.others[partition]]
        assert sorted(mine + others) == sorted(layout.replicas(partition))


def test_a_node_outside_the_layout_holds_nothing_and_asks_all_replicas() -> None:
    placement = placement_of(first_layout(urls(4), replication=3), own=9)
    assert not any(placement.is_mine)
    assert {len(others) for others in placement.others} == {3}


@pytest.mark.parametrize(
    ("nodes", "replication", "quorum"), [(1, 3, 1), (2, 3, 2), (3, 3, 2), (5, 5, 3), (4, 2, 2)]
)
def test_the_default_quorum_is_a_majority_of_the_replicas_there_are(
    nodes: int, replication: int, quorum: int
) -> None:
    """S13, S14: a lone default node accepts writes."""
    placement = placement_of(first_layout(urls(nodes), replication=replication), own=0)
    assert (placement.w, placement.r) == (quorum, quorum)


def test_a_quorum_that_was_given_is_never_lowered() -> None:
    """S13."""
    placement = placement_of(first_layout(urls(2), replication=3), own=0, w=3, r=3)
    assert (placement.n, placement.w, placement.r) == (2, 3, 3)


@pytest.mark.parametrize(("asked", "needed"), [(0, 2), (1, 1), (3, 3)])
def test_a_request_may_ask_for_any_number_of_replicas_there_are(asked: int, needed: int) -> None:
    placement = placement_of(first_layout(urls(3), replication=3), own=0)
    assert placement.needed(asked, placement.w, name="w") == needed


@pytest.mark.parametrize("asked", [-1, 4])
def test_a_request_for_more_replicas_than_there_are_is_the_callers_mistake(asked: int) -> None:
    placement = placement_of(first_layout(urls(3), replication=3), own=0)
    with pytest.raises(InvalidRequest, match="w must be from 1 to 3"):
        placement.needed(asked, placement.w, name="w")


def test_live_counts_this_node_and_the_peers_that_can_be_asked() -> None:
    placement = placement_of(first_layout(urls(3), replication=3), own=0)
    assert placement.live(0) == 1
    peer = placement.others[0][0]
    peer.is_linked = peer.is_heard = True
    peer.judge_reachable()
    assert placement.live(0) == 2
    peer.is_up = False
    peer.judge_reachable()
    assert placement.live(0) == 1
