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

from quorate.core.node import Node
from quorate.core.parts import NODE_ID_MAX, Settings
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
from quorate.core.values.messages import Frame
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_of, row_of
from quorate.sim.disk import Disk
from quorate.sim.machine import Image, Machine
from quorate.sim.network import Link, Noise
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
    defaults = Settings(
        url=url_of(index),
        node_id=index + 1,
        version="0.0.0",
        cluster="quorate",
        nodes=tuple(url_of(i) for i in nodes),
        replication=3,
        w=0,
        r=0,
        timeout_ms=5_000,
        write_wait_ms=3_000,
        heartbeat_ms=2_000,
        down_after=3,
        max_clock_skew_ms=1_000,
        hint_bytes_max=256 << 20,
        inflight_max=50_000,
        inflight_bytes_max=256 << 20,
        value_bytes_max=8 << 20,
        key_bytes_max=1024,
    )
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
        self._links: dict[tuple[str, str], Link] = {}
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
        machine.crash(is_power_cut=is_power_cut)
        self._unlink(machine, is_silent=is_silent)

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
        for link in self._links_to(machine):
            # To what comes on a link that this kernel does not know it says so at once.
            link.found_out()

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
        for link in self._links_to(machine):
            link.resume()

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
        self.machines[index].set_disk_full(is_full)

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
        """Break a link: an unknown end of what was under way is lost."""
        self._fault(source, "reset", f"of the link to n{target}")
        self.wire(source, target).reset()

    def forget(self, source: int, target: int) -> None:
        """Leave a link half-open: its source goes on believing in it."""
        self._fault(source, "half-open", f"to n{target}")
        self.wire(source, target).forget()

    def reset_cut_links(self) -> None:
        """Break the links that are cut, as time-outs do: both sides know, and cannot dial."""
        for link in self._links.values():
            if link.is_cut:
                link.reset()

    def heal(self) -> None:
        """End all cuts."""
        for link in self._links.values():
            link.heal()

    def set_noise(self, noise: Noise | None, indices: Iterable[int] | None = None) -> None:
        """What becomes of single frames from now on, on all links from or to these machines."""
        chosen = range(len(self.machines)) if indices is None else list(indices)
        urls = [url_of(index) for index in chosen]
        for source in self.machines:
            for target in self.machines:
                if source is not target and (source.url in urls or target.url in urls):
                    self.link(source.url, target.url).noise = noise

    def _pairs(self, sides: Sequence[Sequence[int]]) -> Iterable[tuple[int, int, bool]]:
        side_of = {index: number for number, side in enumerate(sides) for index in side}
        for source in side_of:
            for target in side_of:
                yield source, target, side_of[source] != side_of[target]

    def _links_to(self, machine: Machine) -> list[Link]:
        return [link for (_, target), link in self._links.items() if target == machine.url]

    def _unlink(self, machine: Machine, *, is_silent: bool) -> None:
        for (source, target), link in self._links.items():
            if source == machine.url:
                link.hang_up()
            elif target == machine.url and is_silent:
                link.forget()
            elif target == machine.url:
                link.reset(is_target_dead=True)

    def _fault(self, index: int, name: str, why: str = "") -> None:
        self.journal.fault(self.machines[index].name, name, why)

    def _say(self, index: int, what: str, told: str) -> None:
        self.journal.say(self.machines[index].name, what, told)

    # --- looking ---------------------------------------------------------------------------

    def node(self, index: int) -> Node:
        """The node that runs on a machine."""
        return self.machines[index].node

    def link(self, source: str, target: str) -> Link:
        """The link from one URL to another."""
        link = self._links.get((source, target))
        if link is None:
            link = self._make_link(source, target)
            link.back = self._make_link(target, source)
            link.back.back = link
        return link

    def _make_link(self, source: str, target: str) -> Link:
        ends = self._by_url[source], self._by_url[target]
        link = Link(self.world, self.journal, *ends, self.latency_ms)
        self._links[source, target] = link
        return link

    def wire(self, source: int, target: int) -> Link:
        """The link from one machine to another."""
        return self.link(url_of(source), url_of(target))

    def machine_at(self, url: str) -> Machine:
        """The machine that is reached at a URL."""
        return self._by_url[url]

    def links(self) -> list[Link]:
        """All links there are."""
        return list(self._links.values())

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
        return self.machines[index].disk.get(row_of(key))

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

    def tell(self, machine: Machine, effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        for waiter, result in effects.answers:
            try:
                waiter.done(result)
            except AssertionError as error:
                self.on_broken(machine, error)
        for url in effects.peers or ():
            if url in self._by_url:
                self.link(machine.url, url).dial()

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        self.journal.step(machine.name, events, effects)
        for observer in self.observers:
            observer.after_step(machine, effects)

    def send(self, machine: Machine, node: Node, effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        epoch, clock = node.frame_header()
        for url, messages in effects.sends.items():
            self._links[machine.url, url].send(Frame(epoch, clock, messages))

    def on_end(self, machine: Machine, reason: str) -> None:
        """Part of `machine.Cluster`."""
        del reason
        self._unlink(machine, is_silent=False)

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """Part of `machine.Cluster`."""
        self.broken.append(f"{self.world.now:.3f} ms {machine.name}: {error!r}")
        if not self._is_tolerant:
            raise error

    def _format(self, machine: Machine) -> None:
        layout = _encoded_layout(machine.settings.nodes, machine.settings.replication)
        machine.disk.format(Batch([], [], [(LAYOUT_META, layout)]))
