# SPDX-License-Identifier: GPL-3.0-or-later
"""Two processes with one identity: a copied data directory, machine or container, both started."""

from __future__ import annotations

import pytest

from quorate.core.topology.greeting import TWIN_MS
from quorate.core.values.events import PutResult
from quorate.errors import Outcome, QuorumUnreachable
from quorate.sim.cluster import SimCluster
from quorate.sim.network import SILENCE_MS
from quorate.sim.twins import twin_of
from tests.simulation import asking

SEEDS = range(5)
KEYS = [b"key%d" % number for number in range(30)]
ENDED_MS = TWIN_MS + 1_000


@pytest.fixture(params=SEEDS)
def cluster(request: pytest.FixtureRequest) -> SimCluster:
    """Three nodes that hold all keys; whatever a clock has to be allowed first, it is."""
    cluster = SimCluster(request.param, 3)
    for index in range(3):
        for key in KEYS:
            asking.must_put(cluster, index, key, b"old", w=3)
    return cluster


def test_the_original_keeps_its_links_and_the_twin_ends(cluster: SimCluster) -> None:
    twin = twin_of(cluster, 0)
    for _ in range(int(ENDED_MS) // 10):
        cluster.run(10)
        assert cluster.is_connected()
    assert not twin.is_running
    for index in range(3):
        asking.must_put(cluster, index, b"k", b"v", w=3)


def test_a_process_that_ended_asks_for_nothing_more(cluster: SimCluster) -> None:
    """Though it ended in the middle of a handshake."""
    twin = twin_of(cluster, 0)
    cluster.run_until(lambda: not twin.is_running, ENDED_MS)
    steps = len(twin.notes)
    cluster.run(30_000)
    assert twin.sockets == {}
    assert len(twin.notes) == steps


def test_a_twin_meets_no_quorum_and_says_so(cluster: SimCluster) -> None:
    twin = twin_of(cluster, 0)
    written = asking.put_through(twin, b"k", b"of the twin")
    asking.finish(cluster, written)
    assert isinstance(written.result, QuorumUnreachable)
    assert written.result.outcome is Outcome.NOT_APPLIED
    assert all(asking.held(cluster, index, b"k") is None for index in range(3))


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_process_that_starts_again_is_taken_for_no_twin(
    cluster: SimCluster, is_silent: bool
) -> None:
    cluster.kill(0, is_silent=is_silent)
    cluster.run(100)
    cluster.restart(0)
    cluster.run_until(cluster.is_connected, 1_000)


def test_nor_is_one_that_starts_on_another_machine_while_links_to_the_last_look_alive(
    cluster: SimCluster,
) -> None:
    """Nobody tells the peers that these lead nowhere: it waits for the kernel to find out."""
    cluster.kill(0, is_silent=True)
    cluster.machines[0].start()
    cluster.run_until(cluster.is_connected, SILENCE_MS[1] + 1_000)
    assert cluster.machines[0].life == 3


def test_a_process_that_dials_while_nobody_reaches_the_other_gives_way_to_it(
    cluster: SimCluster,
) -> None:
    """The peers take the twin's links while the original is down, and end them when it is back."""
    cluster.kill(0)
    twin = twin_of(cluster, 0)
    cluster.run(1_000)
    cluster.restart(0)
    cluster.run_until(cluster.is_connected, 1_000)
    cluster.run(ENDED_MS)
    assert cluster.is_connected()
    assert not twin.is_running


def test_two_writes_of_twins_at_one_instant_are_two_versions(cluster: SimCluster) -> None:
    """Nobody but the twin itself has its writes until it takes the place of the original."""
    twin = twin_of(cluster, 0)
    written = []
    for key in KEYS:
        # Where the clocks read the same for both, only the tie-break is left.
        pair = (
            asking.put(cluster, 0, key, b"of the original", w=1),
            asking.put_through(twin, key, b"of the twin", w=1),
        )
        asking.finish(cluster, *pair)
        written.append((key, [handle.of(PutResult).version for handle in pair]))
    cluster.kill(0)
    asking.lead(cluster, twin, 1, 2)
    cluster.run(10_000)
    for key, versions in written:
        assert versions[0] != versions[1]
        newest = (b"of the original", b"of the twin")[versions.index(max(versions))]
        assert asking.value(cluster, 1, key) == asking.value(cluster, 2, key) == newest


def test_where_the_address_leads_to_both_one_of_them_ends(cluster: SimCluster) -> None:
    """Half of the peers reach the twin, and would find quorums with it."""
    twin = twin_of(cluster, 0)
    asking.lead(cluster, twin, 2)
    cluster.run(ENDED_MS)
    assert twin.is_running + cluster.machines[0].is_running < 2
