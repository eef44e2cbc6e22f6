# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulator's real twin: three real nodes are killed, paused and split while clients work, and
what the clients saw is judged by the simulator's own checkers.

Clocks are one machine's here, and disks keep what was synced: skewed clocks, torn records and
rotten disks are the simulator's. What is shown here is that processes, sockets and disks do what
its world says they do.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec
import pytest

from quorate.client import Client
from quorate.core.values.events import GetResult
from quorate.errors import QuorateError
from quorate.sim import checkers
from quorate.sim.history import ClientOperation, Evidence, History
from tests.cluster.namespaces import NoNamespaces, SpacedCluster, spaced
from tests.cluster.processes import Cluster, wait_until
from tests.cluster.recorder import PATIENCE_S, N, Recorder

FLAGS: Final = ("-heartbeat=200ms", "-timeout=2s", "-write-wait=500ms")
"""Faults are noticed, and requests given up, in a time that a test can wait for. The rest are the
defaults: three copies, majorities, RocksDB, every write synced before its answer."""
ANSWERS: Final = 100
"""What a fault lasts at least: until so many more operations succeeded in spite of it."""
SHOWN: Final = 10
"""One fault shows in many reads."""

Lost = tuple[int, int]
"""A node and one that it takes for down."""


class Chaos:
    """A cluster under recorded load, and the spans of time in which a quorum had to answer."""

    def __init__(self, cluster: Cluster, recorder: Recorder) -> None:
        self.cluster = cluster
        self.nodes = cluster.nodes
        self.recorder = recorder
        self._spans: list[tuple[float, float, frozenset[int]]] = []

    def work(self) -> None:
        """Wait for answers, whoever gives them."""
        self.recorder.wait_for(ANSWERS)

    def goes_on(self, *, without: Sequence[int] = (), lost: Sequence[Lost] = ()) -> None:
        """A span in which the nodes but `without` form a quorum whose every member must serve. It
        lasts for some answers, and until these nodes have lost each other."""
        from_ms = self.recorder.now_ms()
        self.have_lost(lost)
        self.work()
        self._spans.append((from_ms, self.recorder.now_ms(), frozenset(without)))

    def have_lost(self, lost: Sequence[Lost]) -> None:
        """Wait until the first of each pair takes the second for down."""
        for viewer, gone in lost:
            self.nodes[viewer].sees(self.nodes[gone].url, "down")

    def are_together(self) -> None:
        """Wait until every node reaches every other one, and is answered: for a while after a cut
        that was too short to be noticed, TCP may not have tried again."""
        self.cluster.wait_ready()
        for node in self.nodes:
            wait_until(partial(reaches_all, node.url), within_s=20, what=f"{node.url} reaches all")

    def judge(self) -> None:
        """All checkers on all that was recorded, once the load is over and every fault healed.
        Each span is judged for itself as well: its operations had to succeed."""
        self.are_together()
        wait_until(self._has_no_hints, within_s=20, what="all hints taken")
        evidence = self.recorder.settle()
        operations = self.recorder.history.operations
        wrong = found(self.recorder.history, evidence)
        for from_ms, to_ms, away in self._spans:
            span = History()
            span.operations = [each for each in operations if from_ms <= each.asked_ms < to_ms]
            due = msgspec.structs.replace(evidence, healthy_from_ms=from_ms, dead=away)
            wrong += found(span, due, names=["liveness"])
        assert not wrong, "\n".join(wrong[:SHOWN])

    def _has_no_hints(self) -> bool:
        urls = self.cluster.urls
        return not any(
            node.hints_for(url) for node in self.nodes for url in urls if url != node.url
        )


@contextmanager
def chaos_on(cluster: Cluster, name: str) -> Iterator[Chaos]:
    """Clients at work on a cluster during the block; then the verdict."""
    with Recorder(cluster.urls, name=name) as recorder:
        chaos = Chaos(cluster, recorder)
        chaos.work()
        yield chaos
    chaos.judge()


def reaches_all(url: str) -> bool:
    """Whether a write through this node is acknowledged by all."""
    with Client(url, timeout=PATIENCE_S) as client:
        try:
            return client.put("together", b"", w=N).acks == N
        except QuorateError:
            return False


def found(
    history: History, evidence: Evidence, *, names: Sequence[str] = tuple(checkers.ALL)
) -> list[str]:
    """What these checkers have to say."""
    return [
        f"{name}: {each.invariant} {each.key!r}: {each.told}"
        for name in names
        for each in checkers.ALL[name](told_to(name, history), evidence)
    ]


def told_to(name: str, history: History) -> History:
    """What a checker can judge: freshness goes by versions, which the answer "not found" lacks."""
    if name != "freshness":
        return history
    versioned = History()
    versioned.operations = [op for op in history.operations if not is_not_found(op)]
    return versioned


def is_not_found(operation: ClientOperation) -> bool:
    """Whether it is a read that found nothing."""
    return isinstance(operation.result, GetResult) and operation.result.record is None


def others(index: int) -> list[int]:
    """The other nodes."""
    return [each for each in range(N) if each != index]


# --- processes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes on loopback, ready."""
    with Cluster(tmp_path_factory.mktemp("joined"), *FLAGS) as cluster:
        yield cluster


def kill_all(cluster: Cluster) -> None:
    """At one instant, as near as it gets."""
    for node in cluster.nodes:
        node.signal(signal.SIGKILL)
    for node in cluster.nodes:
        node.wait()


def test_killed_nodes_lose_nothing_and_tell_no_lies(joined: Cluster) -> None:
    """P1 to P3, I25: each in turn, then all at once."""
    with chaos_on(joined, "killed") as chaos:
        for index, node in enumerate(joined.nodes):
            node.kill()
            chaos.goes_on(without=[index])
            joined.start()
        kill_all(joined)
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
        kill_all(wired)
        for node in wired.nodes:
            node.start()
        chaos.work()
        wired.switch.heal()
