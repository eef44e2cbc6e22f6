# SPDX-License-Identifier: GPL-3.0-or-later
"""Three nodes grow to five and shrink to three while clients work, any of them is killed at any
moment, and one disk is lost: no acknowledged write is missing, what clients of a few keys saw is
judged by the simulator's checkers, and what failed failed by a kill. Counters stay exact, and no
two hold a lock."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

import quorate.core.node
from tests.cluster.chaos import Chaos, chaos_on
from tests.cluster.load import Failure, Load, missing
from tests.cluster.processes import Cluster, NodeProcess
from tests.cluster.test_changing import ask, id_of, one_more, settles, topology
from tests.cluster.test_counters import Counting
from tests.cluster.test_locks import Holders, Taking, faults

ROUNDS = int(os.environ.get("QUORATE_GROWTH_ROUNDS", "0"))
"""Of all this, with two nodes more and three kills at a time (`scripts/growth`); 0: one of each,
and no lost disk (`test_changing` has one)."""
JOINING, KILLS, WRITERS, WRITES = (2, 3, 8, 100_000) if ROUNDS else (1, 1, 4, 1_000)
"""WRITES are to be acknowledged in all: rounds go on until they are."""
RECORDED: Final = 3
"""Clients whose histories are recorded, beside the writers."""
COUNTERS: Final = tuple(f"count-{number}" for number in range(3))
FLAGS: Final = ("-heartbeat=300ms", "-grow-after=200ms", "-write-wait=5s")
PATIENCE_S: Final = 12.0
"""Longer than a node's own (`-timeout`), on a busy machine too."""
LINKED_S: Final = 5.0
"""After this, at the latest, all reach a node that started: before, one that is killed may be the
second that somebody cannot reach."""


class Away(NamedTuple):
    """A node that was killed, or whose disk was lost."""

    url: str
    from_s: float
    to_s: float
    """Since when every node, itself too, reached a quorum of every key again; or all copies were
    where they belong."""

    def explains(self, failure: Failure) -> bool:
        """Whether its own clients were answered nothing."""
        return self.url == failure.url and self.was_near(failure, within_s=0)

    def was_near(self, failure: Failure, *, within_s: float) -> bool:
        """Whether the request was under way meanwhile, or so soon after."""
        return failure.asked_s <= self.to_s + within_s and self.from_s <= failure.at_s


class Growth:
    """A cluster of three that grows and shrinks, and what was done to it."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self._cluster = cluster
        self._directory = directory
        self._founders = list(cluster.nodes)
        self._chosen = random.Random(7)
        self._pause = threading.Event()
        self.rounds = 0
        self.kills: list[Away] = []
        self.lost_disks: list[Away] = []
        self.acknowledged: dict[str, str] = {}
        """Keys that were written once, of all rounds."""
        self.failures: list[Failure] = []
        self.judged = 0
        """Operations that the checkers saw."""
        self.counted: list[Counting] = []
        """By round, each with keys of its own."""
        self.takings: list[Taking] = []
        """Of the lock."""

    def go_round(self) -> None:
        """Grow and shrink under load, and judge what clients saw."""
        self.rounds += 1
        name, urls = f"round-{self.rounds}", self._cluster.urls
        with (
            chaos_on(self._cluster, name, clients=RECORDED, patience_s=PATIENCE_S) as chaos,
            Load(urls, writers=WRITERS, name=f"{name}-load") as load,
            Counting(urls, writers=2, keys=[f"{name}-{key}" for key in COUNTERS]) as counting,
            Holders(urls, 2) as holders,
        ):
            chaos.moves = True
            self._grow_and_shrink(chaos)
        self.counted.append(counting)
        self.takings += holders.takings
        self.acknowledged |= load.acknowledged
        self.failures += [*load.failures, *chaos.recorder.failures()]
        self.judged += len(chaos.recorder.history.operations)

    def unexplained(self) -> list[Failure]:
        """What failed though its node lived, and no two others were away or without their disk."""
        return [each for each in self.failures if not self._is_explained(each)]

    def _is_explained(self, failure: Failure) -> bool:
        spans = [*self.kills, *self.lost_disks]
        near = {each.url for each in spans if each.was_near(failure, within_s=LINKED_S)}
        return len(near) > 1 or any(each.explains(failure) for each in self.kills)

    def _grow_and_shrink(self, chaos: Chaos) -> None:
        first, second, third = self._founders
        ids = {id_of(node) for node in self._founders}
        joined = [one_more(self._cluster, self._directory) for _ in range(JOINING)]
        for node in joined:
            assert ask(first, "/join", {"url": node.url})[0] == 200
            ids.add(id_of(node))
        self._killed_until_settled(ids)
        if ROUNDS:
            ids.remove(id_of(third))
            chaos.loses_a_disk()
            from_s = time.monotonic()
            self._kill(third, with_disk=True)
            ids.add(id_of(third))
            self._killed_until_settled(ids)
            self.lost_disks.append(Away(third.url, from_s, time.monotonic()))
        for node in joined:
            ids.remove(id_of(node))
            _leave(second, id_of(node))
            self._killed_until_settled(ids)
        assert {each["id"] for each in topology(first)["members"]} == ids
        for node in joined:
            node.stop()
            self._cluster.nodes.remove(node)

    def _killed_until_settled(self, ids: set[str]) -> None:
        """Kill one node after another, each at some moment, until all is where it belongs."""
        for _ in range(KILLS):
            node = self._chosen.choice(self._cluster.nodes)
            self._pause.wait(self._chosen.random() * 0.8)
            self._kill(node)
        settles(self._cluster, ids)

    def _kill(self, node: NodeProcess, *, with_disk: bool = False) -> None:
        """A crash, and a start some moments later; or at once, with an empty disk."""
        from_s = time.monotonic()
        node.kill()
        if with_disk:
            shutil.rmtree(node.data)
        else:
            self._pause.wait(self._chosen.random() * 0.5)
        node.start()
        self._cluster.wait_ready()
        self.kills.append(Away(node.url, from_s, time.monotonic()))


@pytest.mark.skipif(
    quorate.core.node.__file__.endswith(".py") and not ROUNDS,
    reason="takes long, and runs on the compiled modules; `scripts/growth` runs it on these",
)
def test_no_acknowledged_write_is_missing_however_the_cluster_changes(tmp_path: Path) -> None:
    with Cluster(tmp_path, *FLAGS) as cluster:
        growth = Growth(cluster, tmp_path)
        while growth.rounds < max(ROUNDS, 1) or len(growth.acknowledged) < WRITES:
            growth.go_round()
            print(_told(growth))
        lost = [missing(url, growth.acknowledged) for url in cluster.urls]
        wrong = [each for counting in growth.counted for each in counting.wrong(cluster.urls[1])]
    print(f"{len({key for each in lost for key in each})} acknowledged writes lost")
    assert lost == [[], [], []]
    assert wrong == []
    assert all(counting.count for counting in growth.counted)
    assert faults(growth.takings) == []
    assert len({each.holder for each in growth.takings}) == 2
    assert growth.unexplained() == []


def _told(growth: Growth) -> str:
    """What there was so far, in a line."""
    codes = Counter(each.error.code for each in growth.failures)
    return (
        f"round {growth.rounds}: in all {len(growth.kills)} kills, {len(growth.acknowledged)} "
        f"writes acknowledged; {growth.judged} operations judged by the checkers; "
        f"{sum(each.count for each in growth.counted)} increments, the lock {len(growth.takings)} "
        "times held; "
        f"failed: {', '.join(f'{count} {code}' for code, count in sorted(codes.items())) or 0}"
    )


def _leave(at: NodeProcess, node_id: str) -> None:
    """Ask until a majority of the voters was there to decide it."""
    answers = [ask(at, "/leave", {"node": node_id})[0]]
    while answers[-1] != 200 and len(answers) < 5:
        answers.append(ask(at, "/leave", {"node": node_id})[0])
    assert answers[-1] == 200, answers
