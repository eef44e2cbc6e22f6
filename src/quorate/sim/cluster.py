# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of real nodes in virtual time: same seed, same run.

Real are `core.node.Node`, the codecs of frames, greetings and records, and the cache; modelled are
links (`network`), disks (`disk`), clocks (`clock`) and the process around the node (`machine`).
Faults are methods here or attributes of links, disks and clocks; each is counted in `faults`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from quorate.config import Config
from quorate.core.node import Node
from quorate.core.topology.layout import first_layout
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import (
    Batch,
    Effects,
    Event,
    Explain,
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Scan,
    Waiter,
)
from quorate.core.values.record import Record
from quorate.core.values.settings import NODE_ID_MAX, Settings
from quorate.core.values.slots import partition_of, row_of
from quorate.host.system import Dialled, Timer
from quorate.settings import core_settings
from quorate.sim.dial import Dial
from quorate.sim.disk import Disk
from quorate.sim.machine import Image, Machine
from quorate.sim.network import Wire
from quorate.sim.noise import Noise
from quorate.sim.trace import Journal, Trace
from quorate.sim.world import Limits, World

T = TypeVar("T")


def url_of(index: int) -> str:
    """The URL of machine `index`."""
    return f"http://n{index}:1"


@functools.cache
def _encoded_layout(nodes: tuple[str, ...], replication: int) -> bytes:
    return first_layout(nodes, replication=replication).encode()


def settings_of(index: int, nodes: Iterable[int], **changes: Any) -> Settings:
    """Settings of node `index`: the product's defaults, but for `changes`."""
    listed = tuple(url_of(i) for i in nodes)
    defaults = core_settings(Config(), url=url_of(index), nodes=listed, node_id=index + 1)
    return msgspec.structs.replace(defaults, **changes)


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


class Observer(Protocol):
    """Who looks at every step; `checkers` has some."""

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """A step was taken on `machine.events`, and its batch given to the disk, which may have
        ended the process; nothing was sent yet."""


class SimCluster:
    """`count` machines in one world, all started, and linked by the time the constructor returns.

    `nodes` gives machines another `-nodes` list than all of them; disks are then blank, else they
    hold the layout, which saves every node computing it. A node that breaks (raises in a step,
    answers twice) ends; it is noted in `broken`, and raised again unless `is_tolerant`.
    """

    def __init__(
        self,
        seed: int = 0,
        count: int = 3,
        *,
        nodes: dict[int, Sequence[int]] | None = None,
        latency_ms: Limits = (1.0,),
        cache_entries: int = 0,
        needs_sync: bool = True,
        is_tolerant: bool = False,
        trace: Trace | None = None,
        **settings: Any,
    ) -> None:
        self.world = World(seed)
        self.journal = Journal(self.world, trace)
        self.latency_ms = latency_ms
        self.observers: list[Observer] = []
        self.broken: list[str] = []
        """What nodes did that no node may do: when, who, what."""
        self._is_tolerant = is_tolerant
        self._wires: dict[tuple[Machine, Machine], Wire] = {}
        self._leads: dict[tuple[Machine, str], Machine] = {}
        """Where a URL leads one machine, if not where it leads others."""
        self.machines: list[Machine] = []
        for index in range(count):
            listed = range(count) if nodes is None else nodes.get(index, range(count))
            chosen = settings_of(index, listed, **settings)
            disk = Disk(needs_sync=needs_sync)
            self.machines.append(Machine(self.world, self.journal, chosen, self, disk))
        self._by_url = {machine.url: machine for machine in self.machines}
        for machine in self.machines:
            machine.cache_entries = cache_entries
            if nodes is None:
                self._format(machine)
            machine.start()
        if nodes is None:
            self.run_until(self.is_connected, 1_000)

    # --- requests --------------------------------------------------------------------------

    def ask(self, index: int, make: Callable[[Waiter], Event]) -> Handle:
        """Give node `index` the request that `make` builds."""
        handle = Handle(self.world)
        self.machines[index].receive(make(handle))
        return handle

    def put(self, index: int, key: bytes, value: bytes | None, **options: Any) -> Handle:
        """Write through node `index`; None deletes."""
        return self.ask(index, lambda waiter: Put(waiter, key, value, **options))

    def get(self, index: int, key: bytes, **options: Any) -> Handle:
        """Read through node `index`."""
        return self.ask(index, lambda waiter: Get(waiter, key, **options))

    def scan(self, index: int, **options: Any) -> Handle:
        """List through node `index`."""
        return self.ask(index, lambda waiter: Scan(waiter, **options))

    def explain(self, index: int, key: bytes, **options: Any) -> Handle:
        """Ask node `index` about a key."""
        return self.ask(index, lambda waiter: Explain(waiter, key, **options))

    def finish(self, *handles: Handle, deadline_ms: float = 60_000) -> None:
        """Run until all are answered."""
        self.run_until(lambda: all(each.result is not None for each in handles), deadline_ms)

    def must_put(self, index: int, key: bytes, value: bytes | None, **options: Any) -> PutResult:
        """Write, and wait for success."""
        handle = self.put(index, key, value, **options)
        self.finish(handle)
        return handle.of(PutResult)

    def must_get(self, index: int, key: bytes, **options: Any) -> GetResult:
        """Read, and wait for success."""
        handle = self.get(index, key, **options)
        self.finish(handle)
        return handle.of(GetResult)

    def value(self, index: int, key: bytes, **options: Any) -> bytes | None:
        """What a reader gets; None if there is nothing."""
        record = self.must_get(index, key, **options).record
        return None if record is None else record.value

    # --- time ------------------------------------------------------------------------------

    def run(self, ms: float) -> None:
        """Let `ms` milliseconds pass."""
        self.world.run_to(self.world.now + ms)

    def run_until(self, condition: Callable[[], object], deadline_ms: float = 60_000) -> None:
        """Go on until the condition holds; AssertionError if it does not in time."""
        met = self.world.run_until(condition, self.world.now + deadline_ms)
        assert met, f"seed {self.world.seed}: still waiting after {deadline_ms} ms"

    # --- faults of machines ----------------------------------------------------------------

    @property
    def faults(self) -> Counter[str]:
        """How often each fault was injected."""
        return self.journal.faults

    def kill(self, index: int, *, is_silent: bool = False, is_power_cut: bool = True) -> None:
        """End a process at once, as power loss does, or kill -9, after which the kernel still has
        what was written. Peers hear of it by their links; if `is_silent` only when nothing is
        confirmed for long, or it is back."""
        machine = self.machines[index]
        self._fault(index, "power cut" if is_power_cut else "kill")
        machine.crash(is_power_cut=is_power_cut, is_silent=is_silent)

    def stop(self, index: int) -> None:
        """End a process as an operator does: it answers what it has begun, and loses nothing."""
        self._fault(index, "stop")
        self.machines[index].stop()

    def restart(self, index: int, *, is_empty: bool = False, image: Image | None = None) -> None:
        """Start a killed node again: on its disk, on an empty one, or on an image of an old one."""
        machine = self.machines[index]
        if image is not None:
            self._fault(index, "old disk", f"as of {image.taken_ms:.3f} ms")
            machine.replace_disk(image)
        self._fault(index, "restart empty" if is_empty else "restart")
        if is_empty:
            self._wipe(machine)
        machine.start()
        for wire in self._wires_to(machine):
            # To what comes on a connection that this kernel does not know it says so at once.
            wire.found_out()

    def _wipe(self, machine: Machine) -> None:
        """Give a machine that is down an empty disk."""
        node_id = self.world.generator(f"{machine.url} id {machine.life}").randint(1, NODE_ID_MAX)
        disk = Disk(needs_sync=machine.disk.needs_sync)
        machine.replace_disk(Image(disk, node_id, self.world.now))
        self._format(machine)

    def pause(self, index: int) -> None:
        """Stop a process without ending it (SIGSTOP)."""
        self._fault(index, "pause")
        self.machines[index].pause()

    def resume(self, index: int) -> None:
        """Let a paused process go on (SIGCONT)."""
        machine = self.machines[index]
        self.journal.say(machine.name, "resume", "")
        machine.resume()

    def stall(self, index: int, ms: float) -> None:
        """Let no sync of a disk end for so long."""
        self._fault(index, "stall", f"of {ms:.0f} ms")
        self.machines[index].stall(ms)

    def fail_sync(self, index: int) -> None:
        """Let the next sync of a disk fail."""
        self._fault(index, "sync error")
        self.machines[index].fail_sync()

    def set_disk_full(self, index: int, *, is_full: bool) -> None:
        """Let a disk take no more writes, or again."""
        self._fault(index, "disk full" if is_full else "disk freed")
        self.machines[index].disk.is_full = is_full

    def rot(self, index: int, key: bytes) -> bool:
        """Flip a bit of what a disk holds of a key; whether it holds any."""
        self._fault(index, "rot", key.hex())
        return self.machines[index].disk.rot(row_of(key), self.world.generator(f"rot {key.hex()}"))

    def step_clock(self, index: int, ms: int) -> None:
        """Move a wall clock."""
        self._fault(index, "clock step", f"by {ms} ms")
        self.machines[index].clock.offset_ms += ms

    def set_clock_rate(self, index: int, rate: float) -> None:
        """Let a machine's clocks run fast or slow."""
        self._fault(index, "clock rate", f"{rate:g}")
        self.machines[index].clock.rate = rate

    # --- faults of links -------------------------------------------------------------------

    def cut(self, source: int, target: int) -> None:
        """Let nothing through in one direction."""
        self._fault(source, "cut", f"to n{target}")
        self.wire(source, target).cut()

    def mend(self, source: int, target: int) -> None:
        """End a cut in one direction."""
        self._say(source, "mend", f"to n{target}")
        self.wire(source, target).heal()

    def split(self, *sides: Sequence[int]) -> None:
        """Cut every link between machines of different sides."""
        for source, target, is_across in self._pairs(sides):
            if is_across:
                self.cut(source, target)

    def reset(self, source: int, target: int) -> None:
        """Break a connection: an unknown end of what was under way is lost."""
        self._fault(source, "reset", f"of the link to n{target}")
        self.wire(source, target).reset()

    def forget(self, source: int, target: int) -> None:
        """Leave a link half-open: its source goes on believing in it."""
        self._fault(source, "half-open", f"to n{target}")
        self.wire(source, target).forget()

    def reset_cut_links(self) -> None:
        """Break the links that are cut, as time-outs do: both sides know, and cannot dial."""
        for wire in self._wires.values():
            if wire.is_cut:
                wire.reset()

    def heal(self) -> None:
        """End all cuts."""
        for wire in self._wires.values():
            wire.heal()

    def set_noise(self, noise: Noise | None, indices: Iterable[int] | None = None) -> None:
        """What becomes of single frames from now on, on all links from or to these machines."""
        chosen = range(len(self.machines)) if indices is None else list(indices)
        for source in range(len(self.machines)):
            for target in range(len(self.machines)):
                if source != target and (source in chosen or target in chosen):
                    self.wire(source, target).noise = noise

    def _pairs(self, sides: Sequence[Sequence[int]]) -> Iterable[tuple[int, int, bool]]:
        side_of = {index: number for number, side in enumerate(sides) for index in side}
        for source in side_of:
            for target in side_of:
                yield source, target, side_of[source] != side_of[target]

    def _wires_to(self, machine: Machine) -> list[Wire]:
        return [wire for (_, target), wire in self._wires.items() if target is machine]

    def _fault(self, index: int, name: str, why: str = "") -> None:
        self.journal.fault(self.machines[index].name, name, why)

    def _say(self, index: int, what: str, told: str) -> None:
        self.journal.say(self.machines[index].name, what, told)

    # --- looking ---------------------------------------------------------------------------

    def node(self, index: int) -> Node:
        """The node that runs on a machine."""
        return self.machines[index].node

    def wire(self, source: int, target: int) -> Wire:
        """The wire from one machine to another."""
        return self.wire_between(self.machines[source], self.machines[target])

    def wires(self) -> list[Wire]:
        """All wires between machines of which one has asked the other for a connection."""
        return list(self._wires.values())

    def wire_between(self, source: Machine, target: Machine) -> Wire:
        """The wire from one machine to another, of which either may be a twin."""
        wire = self._wires.get((source, target))
        if wire is None:
            wire, back = self._make_wire(source, target), self._make_wire(target, source)
            wire.back, back.back = back, wire
        return wire

    def _make_wire(self, source: Machine, target: Machine) -> Wire:
        wire = Wire(self.world, self.journal, source, target, self.latency_ms)
        self._wires[source, target] = wire
        return wire

    def lead(self, source: Machine, target: Machine) -> None:
        """Have the address of `target` lead there from `source`, not to the machine that it leads
        others to: connections made from now on, as those before break."""
        before = self._machine_at(source, target.url)
        self._leads[source, target.url] = target
        if before is not None:
            self.wire_between(source, before).reset()

    def _machine_at(self, source: Machine, url: str) -> Machine | None:
        return self._leads.get((source, url)) or self._by_url.get(url)

    def is_up(self, source: int, target: int) -> bool:
        """Whether a node's link to another is up, as far as it knows."""
        machine = self.machines[source]
        return machine.is_running and machine.driver.links.process(url_of(target)) != 0

    def is_running(self) -> bool:
        """Whether every machine runs a node."""
        return all(machine.is_running for machine in self.machines)

    def is_connected(self) -> bool:
        """Whether every running node can ask every other that runs."""
        running = {machine.url: machine.node for machine in self.machines if machine.is_running}
        return all(
            node.membership.peers[url].is_reachable
            for own_url, node in running.items()
            for url in running
            if url != own_url
        )

    def replicas(self, key: bytes) -> list[int]:
        """The machines that hold a key, in order of preference."""
        layout = next(
            machine.node.membership.layout for machine in self.machines if machine.is_running
        )
        assert layout is not None
        urls = layout.replicas(partition_of(row_of(key)))
        return [self.machines.index(self._by_url[url]) for url in urls]

    def held(self, index: int, key: bytes) -> Record | None:
        """What a machine's disk holds of a key, durable or not."""
        return self.machines[index].disk.held(row_of(key))

    def counter(self, name: str) -> int:
        """The sum of a counter over all running nodes."""
        return sum(h.node.parts.turn.counters[name] for h in self.machines if h.is_running)

    def worst_clock_ms(self) -> float:
        """The largest error, either way, that any wall clock had."""
        return max(machine.clock.worst_ms for machine in self.machines)

    def digest(self) -> str:
        """A hash of all that every node did so far."""
        return self.journal.digest()

    # --- what machines ask for (`machine.Cluster`) -------------------------------------------

    def dial(self, machine: Machine, url: str, connection: Dialled) -> Timer:
        """Part of `machine.Cluster`."""
        target = self._machine_at(machine, url)
        if target is None:
            return machine.later(0.0, functools.partial(connection.dial_failed, ""))
        return Dial(self.wire_between(machine, target), connection)

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        self.journal.step(machine.name, events, effects)
        for observer in self.observers:
            observer.after_step(machine, effects)

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """Part of `machine.Cluster`."""
        self.broken.append(f"{self.world.now:.3f} ms {machine.name}: {error!r}")
        if not self._is_tolerant:
            raise error

    def _format(self, machine: Machine) -> None:
        layout = _encoded_layout(machine.settings.nodes, machine.settings.replication)
        machine.disk.format(Batch([], [], [(LAYOUT_META, layout)]))
