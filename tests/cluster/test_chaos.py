# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's real twin: three real nodes are killed, paused and split while clients work, and
what the clients saw is judged by the simulator's own checkers.

Clocks are one machine's here, and disks keep what was synced: skewed clocks, torn records and
rotten disks are the simulator's. What is shown here is that processes, sockets and disks do what
its world says they do.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.cluster.chaos import FLAGS, Lost, chaos_on, others
from tests.cluster.namespaces import NoNamespaces, SpacedCluster, spaced
from tests.cluster.processes import Cluster
from tests.cluster.recorder import N

# --- processes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes on loopback, ready."""
    with Cluster(tmp_path_factory.mktemp("joined"), *FLAGS) as cluster:
        yield cluster


def test_killed_nodes_lose_nothing_and_tell_no_lies(joined: Cluster) -> None:
    """P1 to P3, I25: each in turn, then all at once."""
    with chaos_on(joined, "killed") as chaos:
        for index, node in enumerate(joined.nodes):
            node.kill()
            chaos.goes_on(without=[index])
            joined.start()
        joined.kill()
        joined.start()
        chaos.work()


def test_paused_nodes_do_yesterdays_work_when_they_go_on_and_break_nothing(joined: Cluster) -> None:
    """For less than it takes to notice, for more, and two at once. A paused node has been sent
    requests, which it serves long after their clients gave up."""
    with chaos_on(joined, "paused") as chaos:
        for index, node in enumerate(joined.nodes):
            node.signal(signal.SIGSTOP)
            chaos.goes_on(without=[index])
            node.signal(signal.SIGCONT)
            chaos.are_together()
            node.signal(signal.SIGSTOP)
            chaos.goes_on(without=[index], lost=[(other, index) for other in others(index)])
            node.signal(signal.SIGCONT)
            chaos.are_together()
        for index in (1, 2):
            joined.nodes[index].signal(signal.SIGSTOP)
        chaos.have_lost([(0, 1), (0, 2)])
        for index in (1, 2):
            joined.nodes[index].signal(signal.SIGCONT)


# --- wires -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpacedCluster]:
    """Three nodes in network namespaces of their own, ready."""
    try:
        with spaced(tmp_path_factory.mktemp("wired"), *FLAGS) as cluster:
            yield cluster
    except NoNamespaces as reason:
        pytest.skip(str(reason))


def isolate(cluster: SpacedCluster, index: int) -> list[Lost]:
    """Cut a node off from the others in both directions: who will lose whom."""
    lost = [pair for other in others(index) for pair in ((index, other), (other, index))]
    for sender, receiver in lost:
        cluster.switch.cut(sender, receiver)
    return lost


def test_a_split_leaves_a_majority_that_serves_and_a_minority_that_does_not_lie(
    wired: SpacedCluster,
) -> None:
    """Clients reach every node throughout. Each is cut off in turn, then all from all."""
    with chaos_on(wired, "split") as chaos:
        for index in range(N):
            chaos.goes_on(without=[index], lost=isolate(wired, index))
            wired.switch.heal()
            chaos.are_together()
        chaos.have_lost([pair for index in range(N) for pair in isolate(wired, index)])
        wired.switch.heal()


def test_one_way_and_flapping_cuts_between_two_nodes_are_felt_by_nobody(
    wired: SpacedCluster,
) -> None:
    """I25: the third node sees both, so each of them has a quorum with it."""
    with chaos_on(wired, "one-way") as chaos:
        for sender, receiver in ((0, 1), (1, 2), (2, 0)):
            wired.switch.cut(sender, receiver)
            chaos.goes_on(lost=[(sender, receiver), (receiver, sender)])
            wired.switch.heal()
            chaos.goes_on()
            wired.switch.cut(receiver, sender)
            chaos.goes_on()
            wired.switch.heal()
            chaos.are_together()


def test_kills_pauses_and_splits_at_once_lose_nothing_and_tell_no_lies(
    wired: SpacedCluster,
) -> None:
    _, second, third = wired.nodes
    with chaos_on(wired, "mixed") as chaos:
        # One restarts while another, which may hold the only other copy, is cut off.
        isolate(wired, 0)
        chaos.work()
        second.kill()
        second.start()
        chaos.work()
        wired.switch.heal()
        chaos.are_together()
        # A cut and a pause leave nobody a quorum; the cut heals while the third still sleeps.
        wired.switch.cut(0, 1)
        third.signal(signal.SIGSTOP)
        chaos.have_lost([(0, 1), (1, 0), (0, 2)])
        wired.switch.heal()
        chaos.work()
        third.signal(signal.SIGCONT)
        chaos.are_together()
        # All die during a split, and start into it.
        isolate(wired, 2)
        chaos.work()
        wired.kill()
        for node in wired.nodes:
            node.start()
        chaos.work()
        wired.switch.heal()
