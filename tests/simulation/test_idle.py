# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node pays while nothing happens does not grow with the cluster (P7)."""

from __future__ import annotations

from tests.simulation.idle import Idle, measured


def test_a_node_of_a_large_cluster_pays_no_more_than_one_of_a_small_one() -> None:
    small, large = measured(10), measured(40)
    assert small.steps / 1.5 < large.steps < 1.5 * small.steps
    assert small.frames / 1.5 < large.frames < 1.5 * small.frames
    assert small.heartbeats / 1.5 < large.heartbeats < 1.5 * small.heartbeats
    assert large.digests < small.digests


def test_all_nodes_of_a_large_cluster_know_the_same_and_nobody_for_down() -> None:
    idle = Idle(20)
    idle.run(10_000)
    assert len({node.membership.facts.hash() for node in idle.nodes}) == 1
    assert all(peer.is_up for node in idle.nodes for peer in node.roster.peers)
