# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that changes: what was written is there afterwards, on exactly who is to hold it (I18).

Transcripts would tell of each of a thousand partitions; so what comes of it is looked at instead.
"""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.topology.layout import Course
from quorate.core.values.events import Change, Join, Result
from quorate.core.values.results import ChangeResult
from quorate.core.values.wish import Wish
from quorate.errors import InvalidRequest
from quorate.sim import judging
from quorate.sim.checkers import Handed, watch
from quorate.sim.checkers.digests import check
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import is_at_rest
from tests.simulation import asking, collecting
from tests.simulation.plants import layouts
from tests.simulation.plants.plant import planted

KEYS = [b"key%d" % number for number in range(40)]


class Asked:
    """Notes the answer (`events.Waiter`)."""

    result: Result | None = None

    def done(self, result: Result) -> None:
        self.result = result


def _filled(count: int, *, spares: int = 0, replication: int = 3) -> SimCluster:
    cluster = SimCluster(1, count, spares=spares, grow_after_ms=0, replication=replication)
    for key in KEYS:
        asking.must_put(cluster, 0, key, b"v", w=2)
    return cluster


def _wish(cluster: SimCluster, node: int, wish: Wish) -> None:
    cluster.machines[node].receive(Change(Asked(), wish))
    cluster.run(100)


def _is_whole(cluster: SimCluster, holders: set[int]) -> None:
    """All is read, and on exactly these machines."""
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    cluster.run(500)
    assert judging.misplaced(cluster) == []
    assert {index for key in KEYS for index in cluster.replicas(key)} == holders
    for key in KEYS:
        assert asking.value(cluster, 0, key) == b"v"
        for index in cluster.replicas(key):
            held = asking.held(cluster, index, key)
            assert held is not None, f"{key!r} at n{index}"


def test_lost_disks_are_refilled_one_after_another() -> None:
    """In the end no disk is left on which anything was written by a client."""
    cluster = _filled(3)
    for index in range(3):
        cluster.kill(index)
        cluster.restart(index, is_empty=True)
        cluster.run(5_000)
        _is_whole(cluster, {0, 1, 2})


def test_a_fourth_node_joins() -> None:
    cluster = _filled(4, spares=1)
    cluster.machines[1].receive(Join(Asked(), cluster.machines[3].url))
    cluster.run(5_000)
    _is_whole(cluster, {0, 1, 2, 3})


def test_a_node_that_is_to_hold_more_than_others_joins_them() -> None:
    """Where shares differ, a course is set like any other."""
    cluster = _filled(4, spares=1)
    _wish(cluster, 0, Wish(weights=((cluster.machines[0].url, 2),)))
    cluster.run_until(lambda: is_at_rest(cluster))
    cluster.machines[1].receive(Join(Asked(), cluster.machines[3].url))
    cluster.run(5_000)
    _is_whole(cluster, {0, 1, 2, 3})


def test_a_node_leaves_and_keeps_nothing() -> None:
    cluster = _filled(4)
    _wish(cluster, 1, Wish(leave=(cluster.machines[3].url,)))
    _is_whole(cluster, {0, 1, 2})
    assert cluster.machines[3].disk.rows() == []


def test_of_three_one_leaves_and_another_loses_its_disk() -> None:
    """Who stays could decide nothing alone; who leaves decides with it that the disk is lost."""
    cluster = _filled(3, replication=2)
    leaving, other = cluster.machines[0], cluster.machines[2]
    _wish(cluster, 1, Wish(leave=(leaving.url,)))
    assert cluster.layout().members[0].weight == 0
    cluster.kill(2)
    cluster.run(10_000)
    lost = other.settings.node_id
    cluster.restart(2, is_empty=True)
    _is_whole(cluster, {1, 2})
    members = [each.id for each in cluster.layout().members]
    assert members == [machine.settings.node_id for machine in cluster.machines[1:]]
    assert lost not in members


def test_a_node_that_left_joins_again_and_has_nothing_of_before() -> None:
    cluster = _filled(4)
    left = cluster.machines[3]
    held = [key for key in KEYS if 3 in cluster.replicas(key)]
    assert held
    _wish(cluster, 1, Wish(leave=(left.url,)))
    _is_whole(cluster, {0, 1, 2})
    asking.finish(cluster, *[asking.put(cluster, 0, key, None) for key in held])
    cluster.machines[1].receive(Join(Asked(), left.url))
    cluster.run(5_000)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert cluster.layout().copies()[left.settings.node_id] > 0, "it has the id that it had"
    assert judging.misplaced(cluster) == []
    assert [asking.value(cluster, 3, key) for key in held] == [None] * len(held)


def test_a_leave_that_is_cancelled_half_way_leaves_copies_where_they_are() -> None:
    cluster = _filled(4)
    leaving = cluster.machines[3]
    before = cluster.layout().copies()[leaving.settings.node_id]
    _wish(cluster, 1, Wish(leave=(leaving.url,)))
    cluster.run_until(lambda: cluster.layout().epoch == 6)
    _wish(cluster, 2, Wish(stops=True))
    _is_whole(cluster, {0, 1, 2, 3})
    assert 0 < cluster.layout().copies()[leaving.settings.node_id] < before
    _wish(cluster, 0, Wish())
    _is_whole(cluster, {0, 1, 2})


@pytest.mark.parametrize("is_dead", [False, True])
def test_a_node_takes_the_place_of_another(is_dead: bool) -> None:
    cluster = _filled(4, spares=1)
    if is_dead:
        cluster.kill(2)
        cluster.run(10_000)
    urls = [machine.url for machine in cluster.machines]
    _wish(cluster, 0, Wish(replace=((urls[2], urls[3]),)))
    assert cluster.layout().course is not Course.REST
    cluster.run_until(lambda: cluster.layout().course == Course.REST, 120_000)
    if is_dead:
        cluster.restart(2)
        cluster.run_until(cluster.is_connected)
    _is_whole(cluster, {0, 1, 3})


def _left_and_joined_again(*, is_dead: bool) -> tuple[SimCluster, list[bytes]]:
    """A world in which 3 is a member again with the directory that it left with, after all keys
    that it held were deleted, and that was dropped on the others; and which keys these are. If it
    was dead when it left, it has them on its disk when it starts."""
    cluster = collecting.world(count=4, grow_after_ms=0)
    leaving = cluster.machines[3]
    for key in KEYS:
        asking.must_put(cluster, 0, key, b"v", w=3)
    keys = [key for key in KEYS if 3 in cluster.replicas(key)]
    if is_dead:
        cluster.kill(3)
        cluster.run(10_000)
    _wish(cluster, 0, Wish(leave=(leaving.url,), is_forced=is_dead))
    cluster.run_until(lambda: is_at_rest(cluster) and len(cluster.layout().members) == 3, 120_000)
    if not is_dead:
        cluster.run(500)
        cluster.kill(3)
    assert bool(leaving.disk.rows()) is is_dead
    for key in keys:
        asking.must_put(cluster, 0, key, None, w=3)
    cluster.run(collecting.COLLECTED_MS)
    assert all(collecting.held(cluster, key) == [None] * 3 for key in keys)
    cluster.restart(3)
    cluster.run_until(cluster.is_connected)
    cluster.machines[0].receive(Join(Asked(), leaving.url))
    cluster.run_until(lambda: len(cluster.layout().members) == 4)
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    cluster.run(500)
    return cluster, keys


@pytest.mark.parametrize("is_dead", [False, True])
def test_of_a_member_that_left_and_joins_again_with_its_old_directory_nothing_comes_back(
    is_dead: bool,
) -> None:
    cluster, keys = _left_and_joined_again(is_dead=is_dead)
    assert judging.misplaced(cluster) == []
    assert any(3 in cluster.replicas(key) for key in keys), "it holds some of them again"
    for key in keys:
        assert collecting.held(cluster, key) == [None] * 3
        assert {asking.value(cluster, index, key) for index in range(4)} == {None}
    for key in set(KEYS).difference(keys):
        assert [each and each.value for each in collecting.held(cluster, key)] == [b"v"] * 3
    assert list(check(cluster.machines)) == []


@pytest.mark.plain
def test_if_it_kept_what_it_has_it_would_keep_what_is_not_its_own() -> None:
    plants = {plant.name: plant for plant in layouts.PLANTS}
    with planted(plants["copies are given up and stay"]):
        cluster, _ = _left_and_joined_again(is_dead=True)
    assert judging.misplaced(cluster)


def _recopied(cluster: SimCluster, copies: int) -> None:
    """Each key has so many copies from now on, and an operator was let do that."""
    asked = Asked()
    cluster.machines[0].receive(Change(asked, Wish(replication=copies)))
    cluster.run_until(lambda: asked.result is not None)
    assert isinstance(asked.result, ChangeResult), asked.result
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert {len(row) for row in cluster.layout().table} == {copies}


def _shown_quorums(cluster: SimCluster, node: int) -> list[tuple[int, int]]:
    return [(each.w, each.r) for each in cluster.machines[node].node.status().members]


def _restarted_with(cluster: SimCluster, index: int, **settings: int) -> None:
    machine = cluster.machines[index]
    cluster.kill(index)
    machine.settings = msgspec.structs.replace(machine.settings, **settings)
    cluster.restart(index)
    cluster.run_until(cluster.is_connected)
    cluster.run_until(lambda: is_at_rest(cluster))


def test_majorities_follow_the_copies_and_hold_nothing_up() -> None:
    """No link breaks meanwhile, so what a node said of itself stays what it was."""
    cluster = SimCluster(1, 5, replication=5, grow_after_ms=0)
    asking.must_put(cluster, 0, b"k", b"v")
    for copies, quorum in ((3, 2), (2, 2), (1, 1), (4, 3)):
        _recopied(cluster, copies)
        for node in range(5):
            assert _shown_quorums(cluster, node) == [(quorum, quorum)] * 5
            assert asking.value(cluster, node, b"k") == b"v"
            asking.must_put(cluster, node, b"k", b"v")


def test_a_quorum_that_a_node_was_started_with_holds_up_that_there_are_fewer_copies() -> None:
    """Two of three are what a majority was; of one copy they would never answer."""
    cluster = SimCluster(1, 3, grow_after_ms=0)
    _restarted_with(cluster, 2, w=2)
    asked = Asked()
    cluster.machines[0].receive(Change(asked, Wish(replication=1)))
    cluster.run_until(lambda: asked.result is not None)
    assert isinstance(asked.result, InvalidRequest)
    assert f"{cluster.machines[2].url} was started with -W=2" in str(asked.result)
    _restarted_with(cluster, 2, w=0)
    _recopied(cluster, 1)
    asking.must_put(cluster, 2, b"k", b"v")


def test_the_judge_does_not_look_for_what_a_replaced_node_had_alone() -> None:
    """Who takes the place of a dead node gets what others have."""
    cluster = SimCluster(1, 4, spares=1, grow_after_ms=0, replication=2)
    seen = watch(cluster.machines, Handed())
    cluster.observers.append(seen)
    asking.split(cluster, [2], [0, 1, 3])
    gone = [key for key in KEYS if 2 in cluster.replicas(key)]
    for key in gone:
        asking.must_put(cluster, 2, key, b"v", w=1)
    cluster.kill(2)
    asking.heal(cluster)
    cluster.run(5_000)
    urls = [machine.url for machine in cluster.machines]
    _wish(cluster, 0, Wish(replace=((urls[2], urls[3]),)))
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert gone
    assert all(3 in cluster.replicas(key) for key in gone)
    assert seen.violations() == []
