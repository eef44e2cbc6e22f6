# SPDX-License-Identifier: GPL-3.0-or-later
"""Who finds whom, who is called down, and that neither moves a key (S11, S26, S30, S31, S34)."""

from __future__ import annotations

import itertools

import pytest

from quorate.core.values.events import Join, JoinResult
from quorate.sim.cluster import SimCluster, url_of

HEARTBEAT_MS = 2_000


def _layouts(cluster: SimCluster) -> set[bytes]:
    layouts = [cluster.node(index).membership.layout for index in range(len(cluster.machines))]
    return {layout.encode() if layout else b"" for layout in layouts}


def _states(cluster: SimCluster, index: int) -> list[str]:
    return [member.state for member in cluster.node(index).status().members]


# --- finding each other ------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_nodes_agree_on_the_layout_whatever_the_order_of_their_lists(order: list[int]) -> None:
    """S34."""
    cluster = SimCluster(1, 3, nodes={0: order, 1: order[::-1], 2: [2, 0, 1]})
    cluster.run_until(cluster.is_connected)
    assert len(_layouts(cluster)) == 1
    cluster.must_put(0, b"k", b"v", w=3)
    assert cluster.value(2, b"k") == b"v"


def test_two_nodes_that_list_only_each_other_form_a_cluster() -> None:
    """S11: own URL missing."""
    cluster = SimCluster(2, 2, nodes={0: [1], 1: [0]})
    cluster.run_until(cluster.is_connected)
    cluster.must_put(0, b"k", b"v", w=2)
    assert cluster.value(1, b"k", r=2) == b"v"


def test_requests_that_came_before_the_layout_are_served_when_it_is_there() -> None:
    cluster = SimCluster(3, 2, nodes={0: [1], 1: [0]})
    handle = cluster.put(0, b"k", b"v")
    cluster.finish(handle)
    assert handle.took_ms < 1_000
    assert cluster.value(1, b"k") == b"v"


def test_a_node_that_knows_one_member_learns_all_and_coordinates_without_owning() -> None:
    """S26."""
    cluster = SimCluster(4, 4, nodes={0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2], 3: [1]})
    cluster.run(3 * HEARTBEAT_MS)
    assert cluster.is_connected()
    for index in range(4):
        members = cluster.node(index).status().members
        assert [(m.url, m.owns) for m in members] == [(url_of(i), i != 3) for i in range(4)]
    cluster.must_put(3, b"k", b"v", w=3)
    assert cluster.value(3, b"k") == b"v"
    assert cluster.held(3, b"k") is None


def _join(cluster: SimCluster, index: int, joining: int) -> JoinResult:
    handle = cluster.ask(index, lambda waiter: Join(waiter, url_of(joining)))
    cluster.finish(handle)
    return handle.of(JoinResult)


def test_two_joins_at_once_lose_nobody() -> None:
    """S26: within three heartbeats every member lists both."""
    listed = {index: [0, 1, 2] for index in range(3)}
    cluster = SimCluster(5, 5, nodes={**listed, 3: [3], 4: [4]})
    cluster.run(500)
    assert not _join(cluster, 0, 3).known
    assert not _join(cluster, 2, 4).known
    cluster.run(3 * HEARTBEAT_MS)
    for index in range(3):
        assert {url_of(i) for i in range(5) if i != index} == set(
            cluster.node(index).membership.peers
        )


def test_a_second_join_changes_nothing() -> None:
    """S26."""
    cluster = SimCluster(6, 3)
    first, second = _join(cluster, 0, 2), _join(cluster, 0, 2)
    assert first == second == JoinResult(known=True, owns=True)
    assert cluster.is_connected()


def test_members_are_remembered_over_a_restart() -> None:
    listed = {index: [0, 1] for index in range(2)}
    cluster = SimCluster(7, 3, nodes={**listed, 2: [0]})
    cluster.run(3 * HEARTBEAT_MS)
    cluster.kill(1)
    cluster.restart(1)
    cluster.run(2_000)
    assert url_of(2) in cluster.node(1).membership.peers
    assert len(_layouts(cluster)) == 1


# --- liveness is not placement -----------------------------------------------------------------


def test_a_node_that_is_down_moves_no_key() -> None:
    """S34, P4."""
    cluster = SimCluster(8, 5)
    before = {key: cluster.replicas(key) for key in (b"%d" % n for n in range(200))}
    cluster.kill(3)
    cluster.run(30_000)
    assert _states(cluster, 0)[3] == "down"
    assert {key: cluster.replicas(key) for key in before} == before
    assert len({cluster.node(i).membership.epoch for i in (0, 1, 2, 4)}) == 1


def test_a_node_stopped_for_a_minute_is_back_within_two_heartbeats_everywhere() -> None:
    """S31: no operator, no rejoin."""
    cluster = SimCluster(9, 3)
    cluster.pause(1)
    cluster.run(60_000)
    assert _states(cluster, 0) == ["self", "down", "up"]
    assert _states(cluster, 2) == ["up", "down", "self"]
    cluster.resume(1)
    cluster.run(2 * HEARTBEAT_MS)
    for index in range(3):
        assert sorted(_states(cluster, index)) == ["self", "up", "up"]
    cluster.must_put(1, b"k", b"v", w=3)


def test_a_node_is_called_down_after_three_misses_and_not_before() -> None:
    """S30."""
    cluster = SimCluster(10, 3)
    cluster.run(HEARTBEAT_MS)
    cluster.pause(2)
    paused_ms = cluster.world.now
    cluster.run_until(lambda: _states(cluster, 0)[2] == "down", 20_000)
    took_ms = cluster.world.now - paused_ms
    assert 2 * HEARTBEAT_MS < took_ms <= 4 * HEARTBEAT_MS + 10


def test_a_node_stopped_for_less_than_three_heartbeats_is_never_down() -> None:
    """S30."""
    cluster = SimCluster(11, 3)
    for _ in range(5):
        cluster.pause(2)
        cluster.run(1.9 * HEARTBEAT_MS)
        cluster.resume(2)
        cluster.run(1.2 * HEARTBEAT_MS)
        assert _states(cluster, 0) == ["self", "up", "up"]
    assert not [n for machine in cluster.machines for n in machine.notes if n.event == "peer_down"]


def test_a_peer_that_hears_us_but_cannot_be_heard_is_called_down() -> None:
    """N3: a cut in one direction; only answers count."""
    cluster = SimCluster(12, 3)
    cluster.cut(2, 0)
    cluster.run(5 * HEARTBEAT_MS)
    assert _states(cluster, 0) == ["self", "up", "down"]
    cluster.must_put(0, b"k", b"v")
    cluster.heal()
    cluster.run(2 * HEARTBEAT_MS)
    assert _states(cluster, 0) == ["self", "up", "up"]


def test_a_bridge_node_serves_both_halves_of_a_split() -> None:
    """N4."""
    cluster = SimCluster(13, 3)
    for source, target in ((0, 2), (2, 0)):
        cluster.cut(source, target)
    cluster.run(5 * HEARTBEAT_MS)
    for index in range(3):
        cluster.must_put(index, b"k%d" % index, b"v")
        assert cluster.value(2 - index, b"k%d" % index) == b"v"


def test_the_smaller_side_of_a_split_refuses_and_the_larger_goes_on() -> None:
    """N1, P3."""
    cluster = SimCluster(14, 5, replication=5, write_wait_ms=300)
    cluster.split([0, 1], [2, 3, 4])
    cluster.run(5 * HEARTBEAT_MS)
    cluster.must_put(3, b"k", b"v")
    refused = [cluster.put(0, b"k", b"w"), cluster.get(1, b"k")]
    cluster.finish(*refused)
    assert all(isinstance(handle.result, Exception) for handle in refused)
    cluster.heal()
    cluster.run(3 * HEARTBEAT_MS)
    assert cluster.value(0, b"k") == b"v"
