# SPDX-License-Identifier: GPL-3.0-or-later
"""Three real nodes under recorded load and faults, judged by the simulator's own checkers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import msgspec

from quorate.client import Client
from quorate.core.values.events import GetResult
from quorate.errors import QuorateError
from quorate.sim import checkers
from quorate.sim.history import ClientOperation, Evidence, History
from quorate.sim.layouts import Holders
from tests.cluster.processes import Cluster, wait_until
from tests.cluster.recorder import CLIENTS, PATIENCE_S, QUORUM, N, Recorder

FLAGS: Final = ("-heartbeat=200ms", "-timeout=2s", "-write-wait=500ms")
"""Faults are noticed, and requests given up, in a time that a test can wait for. The rest are the
defaults: three copies, majorities, RocksDB, every write synced before its answer."""
ANSWERS: Final = 100
"""What a fault lasts at least, if nothing else is said: until so many more operations succeeded in
spite of it."""
SHOWN: Final = 10
"""One fault shows in many reads."""
_OLD_ROW: Final = Holders((0, 1, 2))
MOVING: Final = [
    [_OLD_ROW],
    *[[_OLD_ROW, Holders(row)] for row in ((1, 2, 3), (2, 3, 4), (3, 4, 5))],
]
"""What replicas a key may have had where copies move: three, or those and three that shall be, of
which some may be the same."""

Lost = tuple[int, int]
"""A node and one that it takes for down."""


class Chaos:
    """A cluster under recorded load, and the spans of time in which a quorum had to answer."""

    def __init__(self, cluster: Cluster, recorder: Recorder, *, answers: int) -> None:
        self.cluster = cluster
        self.nodes = cluster.nodes
        self.recorder = recorder
        self.moves = False
        """Whether layouts changed meanwhile: a key that moves has its replicas, and new ones."""
        self._answers = answers
        self._lost_ms: list[float] = []
        self._spans: list[tuple[float, float, frozenset[int]]] = []

    def work(self) -> None:
        """Wait for answers, whoever gives them."""
        self.recorder.wait_for(self._answers)

    def goes_on(self, *, without: Sequence[int] = (), lost: Sequence[Lost] = ()) -> None:
        """A span in which the nodes but `without` form a quorum whose every member must serve. It
        lasts for some answers, until these nodes have lost each other, and until what was asked in
        it of those that must serve is over: the next fault may be theirs."""
        from_ms = self.recorder.now_ms()
        self.have_lost(lost)
        self.work()
        to_ms = self.recorder.now_ms()
        self.recorder.wait_over(without=without)
        self._spans.append((from_ms, to_ms, frozenset(without)))

    def have_lost(self, lost: Sequence[Lost]) -> None:
        """Wait until the first of each pair takes the second for down."""
        for viewer, gone in lost:
            self.nodes[viewer].sees(self.nodes[gone].url, "down")

    def loses_a_disk(self) -> None:
        """What goes on now may have heard a replica that is about to be no more."""
        self._lost_ms.append(self.recorder.now_ms())

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
        evidence = self._known(self.recorder.settle())
        operations = self.recorder.history.operations
        wrong = found(self.recorder.history, evidence)
        for from_ms, to_ms, away in self._spans:
            span = History()
            span.operations = [each for each in operations if from_ms <= each.asked_ms < to_ms]
            due = msgspec.structs.replace(evidence, healthy_from_ms=from_ms, dead=away)
            wrong += found(span, due, names=["liveness"])
        assert not wrong, "\n".join(wrong[:SHOWN])

    def _known(self, evidence: Evidence) -> Evidence:
        if self.moves:
            evidence = msgspec.structs.replace(evidence, had=lambda _: MOVING)
        lost_ms = dict.fromkeys(self.recorder.history.by_key(), self._lost_ms)
        return msgspec.structs.replace(evidence, lost_ms=lost_ms)

    def _has_no_hints(self) -> bool:
        urls = self.cluster.urls
        return not any(
            node.hints_for(url) for node in self.nodes for url in urls if url != node.url
        )


@contextmanager
def chaos_on(
    cluster: Cluster,
    name: str,
    *,
    answers: int = ANSWERS,
    once_w: int = QUORUM,
    clients: int = CLIENTS,
    patience_s: float = PATIENCE_S,
) -> Iterator[Chaos]:
    """Clients at work on a cluster during the block; then the verdict."""
    with Recorder(
        cluster.urls, name=name, clients=clients, once_w=once_w, patience_s=patience_s
    ) as recorder:
        chaos = Chaos(cluster, recorder, answers=answers)
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
