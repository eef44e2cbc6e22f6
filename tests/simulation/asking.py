# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests do to a simulated cluster: requests whose answers they look at, and whole splits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.steps import changed
from quorate.core.values.events import (
    Edit,
    Event,
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Scan,
    Update,
    Waiter,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.sim.cluster import SimCluster
from quorate.sim.machine import Machine
from quorate.sim.world import World

T = TypeVar("T")


class Handle:
    """A request and what became of it; `result` stays None if its coordinator died."""

    def __init__(self, world: World) -> None:
        self.asked_ms = world.now
        self.done_ms: float | None = None
        self.result: Result | None = None
        self.then: Callable[[], None] | None = None
        """Called with the answer."""
        self._world = world

    def done(self, result: Result) -> None:
        """Take the result; a second one is a fault of the node."""
        assert self.result is None, f"answered twice: {self.result}, then {result}"
        self.result = result
        self.done_ms = self._world.now
        if self.then is not None:
            self.then()

    @property
    def took_ms(self) -> float:
        """From asking to the answer."""
        assert self.done_ms is not None, "not answered"
        return self.done_ms - self.asked_ms

    def of(self, kind: type[T]) -> T:
        """The result, which must be a `kind`."""
        assert isinstance(self.result, kind), f"{self.result!r} where {kind.__name__} belongs"
        return self.result


def ask(cluster: SimCluster, index: int, make: Callable[[Waiter], Event]) -> Handle:
    """Give node `index` the request that `make` builds."""
    handle = Handle(cluster.world)
    cluster.machines[index].receive(make(handle))
    return handle


def put(cluster: SimCluster, index: int, key: bytes, value: bytes | None, **options: Any) -> Handle:
    """Write through node `index`; None deletes."""
    return ask(cluster, index, lambda waiter: Put(waiter, key, value, **options))


def update(cluster: SimCluster, index: int, key: bytes, edit: Edit, **options: Any) -> Handle:
    """Read and write through node `index`."""
    return ask(cluster, index, lambda waiter: Update(waiter, key, edit, **options))


def get(cluster: SimCluster, index: int, key: bytes, **options: Any) -> Handle:
    """Read through node `index`."""
    return ask(cluster, index, lambda waiter: Get(waiter, key, **options))


def scan(cluster: SimCluster, index: int, **options: Any) -> Handle:
    """List through node `index`."""
    return ask(cluster, index, lambda waiter: Scan(waiter, **options))


def finish(cluster: SimCluster, *handles: Handle, deadline_ms: float = 60_000) -> None:
    """Run until all are answered."""
    cluster.run_until(lambda: all(each.result is not None for each in handles), deadline_ms)


def must_put(
    cluster: SimCluster, index: int, key: bytes, value: bytes | None, **options: Any
) -> PutResult:
    """Write, and wait for success."""
    handle = put(cluster, index, key, value, **options)
    finish(cluster, handle)
    return handle.of(PutResult)


def must_get(cluster: SimCluster, index: int, key: bytes, **options: Any) -> GetResult:
    """Read, and wait for success."""
    handle = get(cluster, index, key, **options)
    finish(cluster, handle)
    return handle.of(GetResult)


def value(cluster: SimCluster, index: int, key: bytes, **options: Any) -> bytes | None:
    """What a reader gets; None if there is nothing."""
    record = must_get(cluster, index, key, **options).record
    return None if record is None else record.value


def put_through(twin: Machine, key: bytes, value: bytes, **options: Any) -> Handle:
    """Write through a twin."""
    handle = Handle(twin.world)
    twin.receive(Put(handle, key, value, **options))
    return handle


def lead(cluster: SimCluster, twin: Machine, *sources: int) -> None:
    """Have these reach the twin where they dial its URL. The connections that it led to break."""
    for index in sources:
        source = cluster.machines[index]
        before = cluster.machine_at(source, twin.url)
        cluster.leads[source, twin.url] = twin
        if before is not None:
            cluster.wire_between(source, before).reset()


def split(cluster: SimCluster, *sides: Sequence[int]) -> None:
    """Cut every link between machines of different sides."""
    side_of = {index: number for number, side in enumerate(sides) for index in side}
    for source, target in itertools.product(side_of, repeat=2):
        if side_of[source] != side_of[target]:
            cluster.cut(source, target)


def heal(cluster: SimCluster) -> None:
    """End all cuts."""
    for wire in cluster.wires.values():
        wire.heal()


def held(cluster: SimCluster, index: int, key: bytes) -> Record | None:
    """What a machine's disk holds of a key, durable or not."""
    return cluster.machines[index].disk.held(row_of(key))


def counter(cluster: SimCluster, name: str) -> int:
    """The sum of a counter over all running nodes."""
    running = [each.node for each in cluster.machines if each.is_running]
    return sum(node.parts.turn.counters[name] for node in running)


def newer(layout: Layout) -> Layout:
    """A layout that may come next, and in which every copy stays where it is."""
    members = [msgspec.structs.replace(each, weight=2 * each.weight) for each in layout.members]
    return changed(
        layout, members, replication=layout.replication, lost=layout.lost, course=Course.REST
    )
