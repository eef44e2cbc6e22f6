# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that changes: what was written is there afterwards, on exactly who is to hold it (I18).

Transcripts would tell of each of a thousand partitions; so what comes of it is looked at instead.
"""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import Course
from quorate.core.values.events import Change, Join, Result
from quorate.core.values.wish import Wish
from quorate.sim import judging
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import is_at_rest
from tests.simulation import asking

KEYS = [b"key%d" % number for number in range(40)]


class Asked:
    """Notes the answer (`events.Waiter`)."""

    result: Result | None = None

    def done(self, result: Result) -> None:
        self.result = result


def _filled(count: int, *, spares: int = 0) -> SimCluster:
    cluster = SimCluster(1, count, spares=spares, grow_after_ms=0)
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
