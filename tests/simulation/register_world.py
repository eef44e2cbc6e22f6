# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that read and write a few keys of a cluster with wild clocks, slow messages and dying
coordinators, and what they saw: one history per key, for the checker."""

from __future__ import annotations

from random import Random

from quorate.core.values.events import GetResult, PutResult
from quorate.errors import Outcome, QuorateError
from quorate.sim.checkers.register import RegisterOperation, read, unknown_write, write
from quorate.sim.checkers.search import is_linearizable
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.asking import Handle

SKEWS_MS = (0, 0, 5, -5, 40, -40, 5_000, -5_000)
LATENCIES_MS = ((1,), (1, 2, 3, 30), (1, 3, 30, 60), (60,))
SYNCS_MS = ((0.0, 0.1), (0.3, 3.0), (1.0, 30.0))
GUARD_MS = 60_000
TIMEOUT_MS = 400
WRITE_WAIT_MS = 200
ANSWERED_MS = 2 * (TIMEOUT_MS + WRITE_WAIT_MS)
"""By when a request is answered, whatever happens to others than its coordinator."""


class Client:
    """Does one operation after another on one key, through any node that runs."""

    def __init__(self, world: RegisterWorld, key: bytes, operations: int) -> None:
        self.world = world
        self.key = key
        self.left = operations
        self.seen: list[tuple[Handle, bytes | None, bool]] = []
        """Each request, what it writes, and whether it writes."""
        self.think()

    def think(self) -> None:
        """Go on a little later."""
        random = self.world.random
        if self.left:
            self.left -= 1
            pause_ms = random.random() * random.choice((0.1, 3, 20))
            self.world.cluster.world.after(pause_ms, self.operate)

    def operate(self) -> None:
        """Begin one operation."""
        random, cluster = self.world.random, self.world.cluster
        node = random.choice(
            [i for i, machine in enumerate(cluster.machines) if machine.is_running]
        )
        kind = random.random()
        if kind < 0.5:
            handle = asking.get(cluster, node, self.key)
            self.seen.append((handle, None, False))
        else:
            value = None if kind > 0.9 else self.world.fresh_value()
            handle = asking.put(cluster, node, self.key, value)
            self.seen.append((handle, value, True))
        handle.then = self.think
        life = cluster.machines[node].life
        cluster.world.after(ANSWERED_MS, lambda: self.give_up(handle, node, life))

    def give_up(self, handle: Handle, node: int, life: int) -> None:
        """Without an answer the coordinator must have died; go on with another."""
        if handle.result is None:
            assert self.world.cluster.machines[node].life != life, "a living node did not answer"
            self.think()

    def history(self) -> list[RegisterOperation]:
        """What this client knows in the end."""
        return [
            operation
            for handle, value, is_write in self.seen
            for operation in (_written(handle, value) if is_write else _was_read(handle))
        ]


def _written(handle: Handle, value: bytes | None) -> list[RegisterOperation]:
    result = handle.result
    if isinstance(result, PutResult):
        assert handle.done_ms is not None
        return write(handle.asked_ms, handle.done_ms, value, is_moved=result.moved)
    if isinstance(result, QuorateError) and result.outcome is Outcome.NOT_APPLIED:
        return []
    return unknown_write(handle.asked_ms, value)


def _was_read(handle: Handle) -> list[RegisterOperation]:
    if not isinstance(handle.result, GetResult):
        return []
    assert handle.done_ms is not None
    record = handle.result.record
    return [read(handle.asked_ms, handle.done_ms, None if record is None else record.value)]


class RegisterWorld:
    """One seeded run, begun by the constructor."""

    def __init__(self, seed: int, *, keys: int = 3, clients: int = 3, operations: int = 4) -> None:
        # Not the world's generator: what the core draws must not change what clients do.
        self.random = random = Random(f"register {seed}")
        self.cluster = SimCluster(
            seed,
            random.choice((3, 4, 4, 6)),
            replication=random.choice((3, 3, 5)),
            max_clock_skew_ms=GUARD_MS,
            cache_entries=random.choice((0, 2, 1_000)),
            timeout_ms=TIMEOUT_MS,
            write_wait_ms=WRITE_WAIT_MS,
        )
        self._values = 0
        for machine in self.cluster.machines:
            machine.clock.offset_ms = random.choice(SKEWS_MS)
            machine.sync_ms = random.choice(SYNCS_MS)
        for link in self.cluster.wires.values():
            link.latency_ms = random.choice(LATENCIES_MS)
        self.clients = [
            Client(self, b"key%d" % number, operations)
            for number in range(keys)
            for _ in range(clients)
        ]
        self.victim = random.randrange(len(self.cluster.machines))
        if random.random() < 0.7:
            self.cluster.world.after(random.uniform(1, 150), self._kill)

    def run(self) -> RegisterWorld:
        """Play it to the end."""
        self.cluster.run(8 * ANSWERED_MS)
        return self

    def fresh_value(self) -> bytes:
        """A value that nobody wrote before."""
        self._values += 1
        return b"%d" % self._values

    def violations(self) -> dict[bytes, list[RegisterOperation]]:
        """The histories that no order explains, by key."""
        histories: dict[bytes, list[RegisterOperation]] = {}
        for client in self.clients:
            histories.setdefault(client.key, []).extend(client.history())
        return {key: ops for key, ops in histories.items() if not is_linearizable(ops)}

    def _kill(self) -> None:
        self.cluster.kill(self.victim)
        if self.random.random() < 0.5:
            pause_ms = self.random.uniform(0, 200)
            self.cluster.world.after(pause_ms, lambda: self.cluster.restart(self.victim))
