# SPDX-License-Identifier: GPL-3.0-or-later
"""While a cluster changes nodes are away, late, lost or switched off early: somebody can still
decide what is next, by itself or by the command that status names."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from quorate.core.topology.layout import Course
from quorate.core.topology.wishes import wished
from quorate.core.values.events import Change, PutResult
from quorate.core.values.results import ChangeResult
from quorate.core.values.wish import Wish
from quorate.errors import Conflict, InvalidRequest
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


def _founded(count: int, *, replication: int = 3) -> SimCluster:
    """A cluster whose founders have yet to meet."""
    nodes: dict[int, Sequence[int]] = dict.fromkeys(range(count), range(count))
    return SimCluster(1, count, nodes=nodes, grow_after_ms=0, replication=replication)


def _without_the_last(count: int) -> SimCluster:
    """A cluster that has never met the last of its founders."""
    cluster = _founded(count)
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


def test_a_lost_disk_is_refilled_while_a_founder_was_never_there() -> None:
    """Of three copies one is lost and one never was: what two acknowledged the third has."""
    cluster = _without_the_last(5)
    cluster.kill(3)
    cluster.restart(3, is_empty=True)
    cluster.run_until(lambda: cluster.layout().lost)
    cluster.run_until(lambda: cluster.layout().course == Course.REST, 120_000)
    assert not cluster.layout().lost
    assert not cluster.layout().members[4].is_bound
    cluster.restart(4)
    _comes_to_rest(cluster)


def test_a_founder_comes_and_is_to_leave_before_it_is_known() -> None:
    cluster = _without_the_last(3)
    url = cluster.machines[2].url
    cluster.restart(2)
    roster = cluster.machines[1].node.membership.roster
    cluster.run_until(lambda: (peer := roster.at(url)) is not None and peer.is_there)
    _wish(cluster, 1, Wish(leave=(url,), replication=2))
    _comes_to_rest(cluster)


@pytest.mark.parametrize(("count", "late", "replication"), [(3, 1, 1), (5, 2, 3)])
@pytest.mark.parametrize("comes", [False, True])
def test_founders_that_never_came_are_given_up(
    count: int, late: int, replication: int, comes: bool
) -> None:
    """Nothing was acknowledged by them, so no pull waits for anybody in their place."""
    every = range(count)
    cluster = _founded(count, replication=replication)
    for index in every[-late:]:
        cluster.kill(index)
    cluster.run(AWAY_MS)
    puts = [asking.put(cluster, 0, key, b"v") for key in KEYS]
    cluster.run(AWAY_MS)
    done = [key for key, put in zip(KEYS, puts, strict=True) if isinstance(put.result, PutResult)]
    urls = tuple([cluster.machines[each].url for each in every[-late:]])
    _wish(cluster, 0, Wish(leave=urls, is_forced=True))
    cluster.run_until(lambda: is_at_rest(cluster), 120_000)
    assert {each.url for each in cluster.layout().members}.isdisjoint(urls)
    for index in every[-late:] if comes else ():
        cluster.restart(index)
    cluster.run(AWAY_MS)
    assert done
    assert [asking.value(cluster, 0, key) for key in done] == [b"v"] * len(done)


def test_one_by_one_the_members_that_never_came_can_be_named() -> None:
    cluster = _without_the_last(3)
    url = cluster.machines[2].url
    _wish(cluster, 0, Wish(leave=(url,), is_forced=True, stops=True))
    with pytest.raises(InvalidRequest, match="counts as lost"):
        wished(cluster.machines[0].node.membership, Wish(weights=((url, 1),)), now_s=0)


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


# --- who is to take a place is not there ---


def test_the_only_voter_is_not_handed_over_to_one_that_is_away() -> None:
    cluster = SimCluster(1, 2, spares=1, grow_after_ms=0, replication=1)
    _fill(cluster)
    first, second = [machine.url for machine in cluster.machines]
    cluster.kill(1)
    cluster.run(AWAY_MS)
    asked = Asked()
    cluster.machines[0].receive(Change(asked, Wish(replace=((first, second),))))
    cluster.run(1_000)
    assert isinstance(asked.result, Conflict)
    cluster.restart(1)
    cluster.run_until(cluster.is_connected)
    _wish(cluster, 0, Wish(replace=((first, second),)))
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


@pytest.mark.parametrize("replication", [2, 3])
def test_only_who_leaves_survives_beside_a_founder_that_never_came(replication: int) -> None:
    cluster = _founded(3, replication=replication)
    cluster.kill(2)
    cluster.run(AWAY_MS)
    had = [key for key in KEYS if {0, 1} <= set(cluster.replicas(key))]
    for key in had:
        asking.must_put(cluster, 0, key, b"v")
    urls = [machine.url for machine in cluster.machines]
    _wish(cluster, 1, Wish(leave=(urls[0],), is_forced=True))
    cluster.kill(1)
    cluster.run(AWAY_MS)
    _wish(cluster, 0, Wish(recover=(urls[1],)))
    cluster.run(AWAY_MS)
    assert [asking.value(cluster, 0, key) for key in had] == [b"v"] * len(had)
    assert had


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
