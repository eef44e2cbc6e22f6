# SPDX-License-Identifier: GPL-3.0-or-later
"""No two lists found a cluster with a node in common, whatever is late, lost or dies; each rule
that this rests on, broken on purpose, is noticed; and whole nodes found a cluster."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from quorate.core.topology.founding import Founder, Founding
from quorate.core.values.events import Discovered
from quorate.core.values.settings import majority
from quorate.sim.cluster import SimCluster, url_of
from tests.simulation import asking
from tests.simulation.founding_world import SHAPES, FoundingNode, FoundingWorld

SEEDS = range(2_100)
SEEDS_PER_TEST = 700


@pytest.mark.parametrize("first", SEEDS[::SEEDS_PER_TEST])
def test_no_two_clusters_have_a_founder_in_common(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        violations = FoundingWorld(seed).run().violations()
        assert not violations, f"FoundingWorld({seed}): {violations}"


def test_the_worlds_reach_what_they_are_to_test() -> None:
    """Clusters are founded in most, two in some of those in two groups; and few nodes are left that
    promised in vain."""
    worlds = [FoundingWorld(seed).run() for seed in range(700)]
    reached = sum([world.seen["crashes"] for world in worlds])
    founded = [len(world.founded) for world in worlds]
    assert min(reached, sum([world.seen["losses"] for world in worlds])) > 500
    assert founded.count(0) < 140, founded.count(0)
    assert any(number == 2 for number in founded)
    everybody = [node for world in worlds for node in world.nodes.values() if world.founded]
    assert sum([not node.layout for node in everybody]) < len(everybody) / 20


def test_without_faults_those_who_see_each_other_are_a_cluster() -> None:
    class Calm(FoundingWorld):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self._sees_from = dict.fromkeys(self._sees_from, 0.0)

        def _send(self, deliver: Any) -> None:
            self._after(1.0, deliver)

        def _carry_out(self, node: FoundingNode, said: Any) -> None:
            state = self.random.getstate()
            self.random.random = lambda: 1.0  # type: ignore[method-assign]
            super()._carry_out(node, said)
            del self.random.random
            self.random.setstate(state)

    for seed in range(5 * len(SHAPES)):
        world = Calm(seed).run()
        assert world.founded, seed
        assert all(node.layout for node in world.nodes.values()), seed


class ForgetsPromise(FoundingWorld):
    """A promise is told, and gone after a crash."""

    def keep(self, node: FoundingNode, promise: bytes) -> None:
        pass


class _NeedsMajority(Founding):
    def _settle(self) -> Any:
        if len(self._free) < majority(self._count):
            return []
        self._free = {node_id for node_id, _ in self._held}
        return super()._settle()

    def _count_promises(self) -> None:
        if len(self._yes) >= majority(self._count):
            self.founded = self.promised


class NeedsMajority(FoundingWorld):
    """A list founds a cluster once most of it are free, and have promised."""

    kind = _NeedsMajority


class _PromisesAgain(Founding):
    def _promise(self, founders: tuple[Founder, ...]) -> None:
        self.promised = ()
        super()._promise(founders)

    def hear(self, sender: int, message: Any, now_ms: int) -> Any:
        if message.stage == 2 and tuple(message.founders) != self.promised:
            self.promised = ()
        return super().hear(sender, message, now_ms)


class PromisesAgain(FoundingWorld):
    """Who promised to one list promises to the next that asks."""

    kind = _PromisesAgain


@pytest.mark.parametrize("broken", [ForgetsPromise, NeedsMajority, PromisesAgain])
def test_each_rule_is_needed(broken: type[FoundingWorld]) -> None:
    """Broken, it is noticed within so many worlds."""
    assert any(broken(seed).run().violations() for seed in range(1_400))


# --- whole nodes -------------------------------------------------------------------------------


def meet(cluster: SimCluster, *pairs: tuple[int, int]) -> None:
    """Let these have discovered each other."""
    for one, other in pairs:
        cluster.machines[one].receive(Discovered([url_of(other)]))


def expecting(count: int, *, seed: int, expect: int = 3, **settings: Any) -> SimCluster:
    return SimCluster(
        seed,
        count,
        nodes={index: [] for index in range(count)},
        discover=("mdns",),
        expect=expect,
        **settings,
    )


def lists(cluster: SimCluster) -> set[tuple[str, ...]]:
    """Who the clusters are of, as nodes know it."""
    layouts = [machine.node.membership.layout for machine in cluster.machines if machine.is_running]
    return {tuple(layout.urls()) for layout in layouts if layout is not None}


@pytest.mark.parametrize("seed", range(5))
def test_nodes_that_discovered_each_other_found_one_cluster_and_serve(seed: int) -> None:
    cluster = expecting(3, seed=seed)
    meet(cluster, (0, 1), (2, 1))
    cluster.run_until(lambda: all(m.node.status().ready for m in cluster.machines), 20_000)
    assert lists(cluster) == {tuple(map(url_of, range(3)))}
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    assert asking.value(cluster, 2, b"k") == b"v"


def test_whoever_comes_later_finds_the_cluster_and_founds_none() -> None:
    cluster = expecting(5, seed=1)
    meet(cluster, (0, 1), (2, 1))
    cluster.run_until(lambda: bool(lists(cluster)), 20_000)
    meet(cluster, (3, 0), (4, 3))
    cluster.run_until(lambda: all(m.node.status().ready for m in cluster.machines), 30_000)
    assert lists(cluster) == {tuple(map(url_of, range(3)))}


@pytest.mark.parametrize("seed", range(8))
def test_nodes_that_are_killed_while_they_found_a_cluster_found_one_at_last(seed: int) -> None:
    cluster = expecting(3, seed=seed)
    meet(cluster, *itertools.permutations(range(3), 2))
    for turn in range(3):
        cluster.run(3 + 7 * seed * turn)
        cluster.kill((seed + turn) % 3)
        cluster.run(100)
        cluster.restart((seed + turn) % 3)
        meet(cluster, *itertools.permutations(range(3), 2))
    cluster.run_until(lambda: all(m.node.status().ready for m in cluster.machines), 60_000)
    assert lists(cluster) == {tuple(map(url_of, range(3)))}


def test_who_expects_another_number_is_no_founder() -> None:
    cluster = expecting(3, seed=1, expect=4)
    meet(cluster, (0, 1), (2, 1))
    cluster.run(20_000)
    assert lists(cluster) == set()
    reason = cluster.machines[0].node.status().reason
    assert reason == "a new cluster: 4 nodes that expect as many have yet to agree on it"
