# SPDX-License-Identifier: GPL-3.0-or-later
"""Real nodes are watched: healthy ones without a complaint, and broken ones with one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.write import Write
from quorate.core.exchanges.writes import Writes
from quorate.core.replica import Replica
from quorate.core.values.events import Batch
from quorate.core.values.messages import Instance
from quorate.core.values.record import Record, record_of
from quorate.core.values.stored import StoredVotes
from quorate.core.values.versions import pack_version, successor
from quorate.core.votes import encode_votes
from quorate.sim import checkers
from quorate.sim.checkers import Handed, Watch
from quorate.sim.checkers.watch import _moved_alone
from quorate.sim.cluster import SimCluster
from tests.simulation import asking


class World:
    """A cluster of three, watched, in which things go wrong."""

    def __init__(self, seed: int) -> None:
        self.handed = Handed()
        self.cluster = SimCluster(seed, 3, hint_bytes_max=2_000)
        self.watch: Watch = checkers.watch(self.cluster.machines, self.handed)
        self.cluster.observers.append(self.watch)

    def play(self) -> list[str]:
        """Writes and reads through all nodes, while one is down and after it is back."""
        cluster = self.cluster
        self._load(b"a")
        cluster.kill(2)
        cluster.machines[0].clock.offset_ms = -500
        self._load(b"b")
        cluster.restart(2)
        self._load(b"c")
        cluster.kill(1)
        cluster.restart(1, is_empty=True)
        self._load(b"d")
        cluster.run(5_000)
        return sorted({each.invariant for each in self.watch.violations()})

    def _load(self, prefix: bytes) -> None:
        cluster = self.cluster
        for number in range(12):
            index = number % 2
            if cluster.machines[index].is_running:
                asking.put(cluster, index, b"k%d" % (number % 5), prefix + b"%d" % number)
                asking.get(cluster, index, b"k%d" % (number % 3))
        cluster.run(1_500)


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_store_gives_no_cause_for_complaint(seed: int) -> None:
    world = World(seed)
    assert world.play() == []
    assert asking.counter(world.cluster, "hints_stored") > 0
    assert {b"a0", b"b1", b"c11", b"d11"} <= set(world.handed.values)


def _ack_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replica, "when_durable", lambda self, call: self._waiting and call())


def _count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    acked = Writes._acked

    def twice(writes: Writes, done: list[Write], bit: int) -> None:
        acked(writes, done, bit)
        for write in done:
            silent = write.replicas.mask & ~write.acks
            acked(writes, [write], silent & -silent)

    monkeypatch.setattr(Writes, "_acked", twice)


def _keep_no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hints, "add", lambda *_: None)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("plant", "invariant"),
    [
        (_ack_at_once, "I7"),
        (_count_twice, "I7"),
        (_keep_no_hints, "P4"),
    ],
)
def test_a_planted_fault_is_found(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None], invariant: str
) -> None:
    plant(monkeypatch)
    assert invariant in {found for seed in range(4) for found in World(seed).play()}


def test_what_a_node_proposes_to_itself_alone_is_seen() -> None:
    """Seed 306222: its peers were asked forty milliseconds later, after another stamp."""
    machine = World(1).cluster.machines[0]
    own, other = (
        record_of(Record(pack_version(7, process), b"v").body)
        for process in (machine.process, machine.process ^ 1)
    )
    linked = record_of(Record(successor(own.version, 9), b"v").body)
    votes = [
        Instance(bytes(14), (0, 1), (0, 1), own),
        Instance(own.version, (1, 1), (1, 1), linked),
        Instance(linked.version, (0, 2), (0, 2), other),
    ]
    stored = encode_votes(StoredVotes(b"", votes))
    batch = Batch([], [], [], votes=[(b"row", stored), (b"gone", None)])
    assert [(each.row, each.record.version) for each in _moved_alone(machine, batch)] == [
        (b"row", own.version)
    ]
    assert _moved_alone(machine, None) == []
