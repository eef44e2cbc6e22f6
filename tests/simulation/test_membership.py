# SPDX-License-Identifier: GPL-3.0-or-later
"""Who finds whom, who is called down, and that neither moves a key."""

from __future__ import annotations

import itertools

import pytest

from quorate.core.topology.layout import Member
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Batch, GetResult, Join, JoinResult, PutResult
from quorate.errors import NotReady
from quorate.sim.cluster import SimCluster, url_of
from tests.simulation import asking

HEARTBEAT_MS = 2_000


def _layouts(cluster: SimCluster) -> set[bytes]:
    layouts = [machine.node.membership.layout for machine in cluster.machines]
    return {layout.encode() if layout else b"" for layout in layouts}


def _states(cluster: SimCluster, index: int) -> list[str]:
    return [member.state for member in cluster.machines[index].node.status().members]


# --- finding each other ------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_nodes_agree_on_the_layout_whatever_the_order_of_their_lists(order: list[int]) -> None:
    cluster = SimCluster(1, 3, nodes={0: order, 1: order[::-1], 2: [2, 0, 1]})
    cluster.run_until(cluster.is_connected)
    assert len(_layouts(cluster)) == 1
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    assert asking.value(cluster, 2, b"k") == b"v"


def test_two_nodes_that_list_only_each_other_form_a_cluster() -> None:
    """Own URL missing."""
    cluster = SimCluster(2, 2, nodes={0: [1], 1: [0]})
    cluster.run_until(cluster.is_connected)
    asking.must_put(cluster, 0, b"k", b"v", w=2)
    assert asking.value(cluster, 1, b"k", r=2) == b"v"


def test_requests_that_came_before_the_layout_are_served_when_it_is_there() -> None:
    cluster = SimCluster(3, 2, nodes={0: [1], 1: [0]})
    handle = asking.put(cluster, 0, b"k", b"v")
    asking.finish(cluster, handle)
    assert handle.took_ms < 1_000
    assert asking.value(cluster, 1, b"k") == b"v"


def test_a_node_that_knows_one_member_learns_all_and_coordinates_without_owning() -> None:
    cluster = SimCluster(4, 4, nodes={0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2], 3: [1]})
    cluster.run(3 * HEARTBEAT_MS)
    assert cluster.is_connected()
    for index in range(4):
        members = cluster.machines[index].node.status().members
        assert [(m.url, m.owns) for m in members] == [(url_of(i), i != 3) for i in range(4)]
    asking.must_put(cluster, 3, b"k", b"v", w=3)
    assert asking.value(cluster, 3, b"k") == b"v"
    assert asking.held(cluster, 3, b"k") is None


def _join(cluster: SimCluster, index: int, joining: int) -> JoinResult:
    handle = asking.ask(cluster, index, lambda waiter: Join(waiter, url_of(joining)))
    asking.finish(cluster, handle)
    return handle.of(JoinResult)


def test_two_joins_at_once_lose_nobody() -> None:
    """Within three heartbeats every member lists both."""
    listed = {index: [0, 1, 2] for index in range(3)}
    cluster = SimCluster(5, 5, nodes={**listed, 3: [3], 4: [4]})
    cluster.run(500)
    assert not _join(cluster, 0, 3).known
    assert not _join(cluster, 2, 4).known
    cluster.run(3 * HEARTBEAT_MS)
    for index in range(3):
        peers = cluster.machines[index].node.membership.roster.peers
        assert {url_of(i) for i in range(5) if i != index} == {peer.url for peer in peers}


def test_a_second_join_changes_nothing() -> None:
    cluster = SimCluster(6, 3)
    first, second = _join(cluster, 0, 2), _join(cluster, 0, 2)
    assert first == second == JoinResult(known=True, owns=True, member=True)
    assert cluster.is_connected()


def test_members_are_remembered_over_a_restart() -> None:
    listed = {index: [0, 1] for index in range(2)}
    cluster = SimCluster(7, 3, nodes={**listed, 2: [0]})
    cluster.run(3 * HEARTBEAT_MS)
    cluster.kill(1)
    cluster.restart(1)
    cluster.run(2_000)
    assert cluster.machines[1].node.membership.roster.at(url_of(2)) is not None
    assert len(_layouts(cluster)) == 1


# --- the founders find together ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_new_cluster_serves_once_a_majority_has_met_and_binds_who_comes_later(seed: int) -> None:
    cluster = SimCluster(seed, 3, nodes={})
    cluster.kill(2)
    put = asking.put(cluster, 0, b"k", b"v")
    asking.finish(cluster, put)
    assert put.of(PutResult).acks == 2
    assert {each.is_bound for each in _members(cluster, 0)} == {True, False}
    hints = cluster.machines[0].node.hints
    assert hints.total == 1
    cluster.restart(2)
    cluster.run_until(lambda: hints.total == 0)
    assert {each.is_bound for each in _members(cluster, 2)} == {True}
    assert asking.held(cluster, 2, b"k") is not None
    assert len(_layouts(cluster)) == 1


def test_of_a_new_cluster_whose_majority_never_met_nothing_is_served() -> None:
    cluster = SimCluster(4, 3, nodes={}, write_wait_ms=100)
    cluster.kill(1)
    cluster.kill(2)
    put = asking.put(cluster, 0, b"k", b"v", w=1)
    get = asking.get(cluster, 0, b"k", r=1)
    asking.finish(cluster, put, get)
    for asked in (put, get):
        assert "2 of its 3 nodes have to meet before it serves" in str(asked.of(NotReady))


def test_an_empty_disk_under_a_members_url_holds_nothing_and_is_not_asked() -> None:
    """It cannot say that there is nothing, whatever R is (P1)."""
    cluster = SimCluster(5, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.kill(1)
    cluster.restart(1, is_empty=True)
    for _ in range(50):
        get = asking.get(cluster, 1, b"k", r=1)
        asking.finish(cluster, get)
        if not isinstance(get.result, NotReady):
            assert get.of(GetResult).record is not None
    assert asking.value(cluster, 1, b"k", r=2) == b"v"
    asking.must_put(cluster, 1, b"k", b"w", w=2)
    cluster.run(100)
    assert asking.held(cluster, 1, b"k") is None


def test_disks_that_change_places_are_members_that_moved() -> None:
    cluster = SimCluster(6, 3)
    keys = [b"k%d" % number for number in range(20)]
    for key in keys:
        asking.must_put(cluster, 0, key, b"v", w=3)
    for index in (0, 1):
        cluster.kill(index)
    images = [cluster.machines[index].image() for index in (0, 1)]
    for index, image in zip((0, 1), reversed(images), strict=True):
        cluster.restart(index, image=image)
    cluster.run_until(cluster.is_connected)
    for key in keys:
        asking.must_put(cluster, 2, key, b"w", w=3)
        assert asking.value(cluster, 0, key, r=3) == b"w"
    assert len(cluster.machines[2].node.status().members) == 3


def _members(cluster: SimCluster, index: int) -> tuple[Member, ...]:
    layout = cluster.machines[index].node.membership.layout
    assert layout is not None
    return layout.members


# --- layouts of different epochs ---------------------------------------------------------------


def _return_with_a_newer_layout(cluster: SimCluster, index: int) -> bytes:
    """The node comes back with a table of the next epoch on its disk."""
    layout = cluster.machines[index].node.membership.layout
    assert layout is not None
    newer = asking.newer(layout).encode()
    cluster.kill(index)
    cluster.machines[index].disk.format(Batch([], [], [(LAYOUT_META, newer)]))
    cluster.restart(index)
    return newer


def test_a_newer_layout_is_learnt_by_all_who_meet_it_and_remembered() -> None:
    cluster = SimCluster(15, 3)
    asking.must_put(cluster, 0, b"k", b"before")
    newer = _return_with_a_newer_layout(cluster, 2)
    cluster.run_until(cluster.is_connected)
    assert _layouts(cluster) == {newer}
    asking.must_put(cluster, 1, b"k", b"after", w=3)
    assert asking.value(cluster, 2, b"k") == b"after"
    cluster.kill(0)
    cluster.restart(0)
    cluster.run_until(cluster.is_connected)
    assert _layouts(cluster) == {newer}


def test_who_cannot_meet_the_newer_layout_learns_it_by_a_refusal() -> None:
    """The request that is refused is begun anew under the newer one: its client sees nothing."""
    cluster = SimCluster(16, 3)
    cluster.run(50)
    cluster.cut(1, 2)
    cluster.cut(2, 1)
    cluster.reset(1, 2)
    newer = _return_with_a_newer_layout(cluster, 2)
    cluster.run_until(lambda: cluster.machines[0].node.membership.epoch == 3)
    assert cluster.machines[1].node.membership.epoch == 2
    put, get = asking.put(cluster, 1, b"k", b"v"), asking.get(cluster, 1, b"other")
    asking.finish(cluster, put, get)
    assert put.of(PutResult).acks == 2
    assert get.of(GetResult).answers == 2
    assert put.took_ms < 100
    assert _layouts(cluster) == {newer}
    assert asking.value(cluster, 0, b"k") == b"v"


def test_who_only_answers_is_told_of_the_newer_layout_too() -> None:
    cluster = SimCluster(17, 3)
    cluster.run(50)
    cluster.cut(1, 2)
    cluster.cut(2, 1)
    newer = _return_with_a_newer_layout(cluster, 2)
    cluster.run_until(lambda: cluster.machines[0].node.membership.epoch == 3)
    asking.finish(cluster, asking.put(cluster, 0, b"k", b"v"))
    cluster.run(100)
    assert _layouts(cluster) == {newer}


def test_two_clusters_of_one_name_refuse_each_other_and_say_what_to_do() -> None:
    cluster = SimCluster(18, 3, nodes={0: [0, 1], 1: [0, 1], 2: [0, 1, 2]})
    cluster.run(5_000)
    refusals = {
        str(note.facts["reason"])
        for machine in cluster.machines
        for note in machine.notes
        if note.event == "link_refused"
    }
    assert any("was started with another -nodes list" in refusal for refusal in refusals)
    asking.must_put(cluster, 0, b"k", b"v")


# --- liveness is not placement -----------------------------------------------------------------


def test_a_node_that_is_down_moves_no_key() -> None:
    """P4."""
    cluster = SimCluster(8, 5)
    before = {key: cluster.replicas(key) for key in (b"%d" % n for n in range(200))}
    cluster.kill(3)
    cluster.run(30_000)
    assert _states(cluster, 0)[3] == "down"
    assert {key: cluster.replicas(key) for key in before} == before
    assert len({cluster.machines[i].node.membership.epoch for i in (0, 1, 2, 4)}) == 1


def test_a_node_stopped_for_a_minute_is_back_within_two_heartbeats_everywhere() -> None:
    """No operator, no rejoin."""
    cluster = SimCluster(9, 3)
    cluster.pause(1)
    cluster.run(60_000)
    assert _states(cluster, 0) == ["self", "down", "up"]
    assert _states(cluster, 2) == ["up", "down", "self"]
    cluster.resume(1)
    cluster.run(2 * HEARTBEAT_MS)
    for index in range(3):
        assert sorted(_states(cluster, index)) == ["self", "up", "up"]
    asking.must_put(cluster, 1, b"k", b"v", w=3)


def test_a_node_is_called_down_after_three_misses_and_not_before() -> None:
    cluster = SimCluster(10, 3)
    cluster.run(HEARTBEAT_MS)
    cluster.pause(2)
    paused_ms = cluster.world.now
    cluster.run_until(lambda: _states(cluster, 0)[2] == "down", 20_000)
    took_ms = cluster.world.now - paused_ms
    assert 2 * HEARTBEAT_MS < took_ms <= 4 * HEARTBEAT_MS + 10


def test_a_node_stopped_for_less_than_three_heartbeats_is_never_down() -> None:
    cluster = SimCluster(11, 3)
    for _ in range(5):
        cluster.pause(2)
        cluster.run(1.9 * HEARTBEAT_MS)
        cluster.resume(2)
        cluster.run(1.2 * HEARTBEAT_MS)
        assert _states(cluster, 0) == ["self", "up", "up"]
    assert not [n for machine in cluster.machines for n in machine.notes if n.event == "peer_down"]


def test_a_peer_that_hears_us_but_cannot_be_heard_is_called_down() -> None:
    """A cut in one direction; only answers count."""
    cluster = SimCluster(12, 3)
    cluster.cut(2, 0)
    cluster.run(5 * HEARTBEAT_MS)
    assert _states(cluster, 0) == ["self", "up", "down"]
    asking.must_put(cluster, 0, b"k", b"v")
    asking.heal(cluster)
    cluster.run(2 * HEARTBEAT_MS)
    assert _states(cluster, 0) == ["self", "up", "up"]


def test_a_bridge_node_serves_both_halves_of_a_split() -> None:
    cluster = SimCluster(13, 3)
    for source, target in ((0, 2), (2, 0)):
        cluster.cut(source, target)
    cluster.run(5 * HEARTBEAT_MS)
    for index in range(3):
        asking.must_put(cluster, index, b"k%d" % index, b"v")
        assert asking.value(cluster, 2 - index, b"k%d" % index) == b"v"


def test_the_smaller_side_of_a_split_refuses_and_the_larger_goes_on() -> None:
    """P3."""
    cluster = SimCluster(14, 5, replication=5, write_wait_ms=300)
    asking.split(cluster, [0, 1], [2, 3, 4])
    cluster.run(5 * HEARTBEAT_MS)
    asking.must_put(cluster, 3, b"k", b"v")
    refused = [asking.put(cluster, 0, b"k", b"w"), asking.get(cluster, 1, b"k")]
    asking.finish(cluster, *refused)
    assert all(isinstance(handle.result, Exception) for handle in refused)
    asking.heal(cluster)
    cluster.run(3 * HEARTBEAT_MS)
    assert asking.value(cluster, 0, b"k") == b"v"
