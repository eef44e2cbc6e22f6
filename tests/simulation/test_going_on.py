# SPDX-License-Identifier: GPL-3.0-or-later
"""While a cluster changes nodes are away, late, lost or switched off early: somebody can still
decide what is next, by itself or by the command that status names."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Change
from quorate.core.values.results import ChangeResult
from quorate.core.values.wish import Wish
from quorate.sim.cluster import SimCluster
from quorate.sim.rest import is_at_rest
from tests.simulation import asking
from tests.simulation.test_changes import KEYS, Asked

AWAY_MS = 10_000
"""Until all have noticed that a node is away."""


def _fill(cluster: SimCluster, w: int = 0) -> None:
    for key in KEYS:
        asking.must_put(cluster, 0, key, b"v", w=w)


def _wish(cluster: SimCluster, node: int, wish: Wish, *, within_ms: int = 5_000) -> None:
    asked = Asked()
    cluster.machines[node].receive(Change(asked, wish))
    cluster.run_until(lambda: asked.result is not None, within_ms)
    assert isinstance(asked.result, ChangeResult), asked.result


def _comes_to_rest(cluster: SimCluster) -> None:
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    for key in KEYS:
        assert asking.value(cluster, 0, key) == b"v"


def _without_the_last(count: int) -> SimCluster:
    """A cluster that has never met the last of its founders."""
    every = list(range(count))
    cluster = SimCluster(1, count, nodes=dict.fromkeys(every, every), grow_after_ms=0)
    cluster.kill(count - 1)
    cluster.run(AWAY_MS)
    assert [each.is_bound for each in cluster.layout().members] == [*[True] * (count - 1), False]
    _fill(cluster, w=2)
    return cluster


# --- a founder that comes late -----------------------------------------------------------------


def test_fewer_copies_while_a_founder_was_never_there() -> None:
    """A row that becomes shorter needs all that hold it; all can be written until it is there."""
    cluster = _without_the_last(3)
    _wish(cluster, 1, Wish(replication=2))
    cluster.run(AWAY_MS)
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"v") for key in KEYS])
    cluster.restart(2)
    _comes_to_rest(cluster)


@pytest.mark.parametrize("leaving", [(0,), (0, 1)])
def test_nodes_leave_while_a_founder_was_never_there(leaving: tuple[int, ...]) -> None:
    cluster = _without_the_last(3)
    urls = tuple([cluster.machines[each].url for each in leaving])
    _wish(cluster, 1, Wish(leave=urls, is_forced=True))
    cluster.run(AWAY_MS)
    cluster.restart(2)
    _comes_to_rest(cluster)
    assert {each.url for each in cluster.layout().members}.isdisjoint(urls)


def test_a_founder_comes_late_that_who_replaces_a_lost_disk_waits_for() -> None:
    cluster = _without_the_last(5)
    cluster.kill(3)
    cluster.restart(3, is_empty=True)
    cluster.run(2 * AWAY_MS)
    assert cluster.layout().moves, "of some rows only one of two that are needed is there"
    cluster.restart(4)
    _comes_to_rest(cluster)


# --- one stays, and one leaves -----------------------------------------------------------------


def _one_of_two_leaves() -> SimCluster:
    cluster = SimCluster(1, 2, grow_after_ms=0, replication=2)
    _fill(cluster)
    _wish(cluster, 0, Wish(leave=(cluster.machines[1].url,), replication=1))
    return cluster


def test_who_leaves_is_stopped_too_early_and_given_up() -> None:
    cluster = _one_of_two_leaves()
    cluster.kill(1)
    cluster.run(AWAY_MS)
    _wish(cluster, 0, Wish(leave=(cluster.machines[1].url,), is_forced=True))
    _comes_to_rest(cluster)


def test_who_leaves_is_stopped_when_it_has_handed_over_all() -> None:
    cluster = _one_of_two_leaves()
    leaving = cluster.machines[1].settings.node_id
    cluster.run_until(lambda: not cluster.layout().copies()[leaving], 60_000)
    cluster.kill(1)
    _comes_to_rest(cluster)


def test_who_leaves_loses_its_disk() -> None:
    cluster = _one_of_two_leaves()
    cluster.kill(1)
    cluster.run(AWAY_MS)
    cluster.restart(1, is_empty=True)
    _comes_to_rest(cluster)


# --- those that were to stay are lost ----------------------------------------------------------


def test_who_was_to_take_the_only_place_is_lost() -> None:
    """Who was to leave has all, and is all that is left."""
    cluster = SimCluster(1, 2, spares=1, grow_after_ms=0, replication=1)
    _fill(cluster)
    first, second = [machine.url for machine in cluster.machines]
    _wish(cluster, 0, Wish(replace=((first, second),)))
    cluster.run_until(lambda: cluster.layout().moves)
    cluster.kill(1)
    cluster.run(AWAY_MS)
    _wish(cluster, 0, Wish(recover=(second,)))
    cluster.run_until(lambda: not cluster.layout().lost)
    (left,) = cluster.layout().members
    assert (left.url, left.weight) == (first, 1)
    _comes_to_rest(cluster)


def test_only_who_leaves_survives() -> None:
    cluster = SimCluster(1, 3, grow_after_ms=0, replication=2)
    _fill(cluster)
    leaving, *lost = [machine.url for machine in cluster.machines]
    had = [key for key in KEYS if 0 in cluster.replicas(key)]
    _wish(cluster, 0, Wish(leave=(leaving,)))
    cluster.run_until(lambda: cluster.layout().moves)
    cluster.kill(1)
    cluster.kill(2)
    cluster.run(AWAY_MS)
    _wish(cluster, 0, Wish(recover=tuple(lost)))
    cluster.run_until(lambda: not cluster.layout().lost)
    assert [each.url for each in cluster.layout().members] == [leaving]
    assert [asking.value(cluster, 0, key) for key in had] == [b"v"] * len(had)
    assert had
