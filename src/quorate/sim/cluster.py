# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of real nodes in virtual time: same seed, same run.

Real are `core.node.Node`, the codecs of frames, greetings and records, and the cache; modelled are
links (`network`), disks (`disk`), clocks (`clock`) and the process around the node (`machine`).
Faults are methods here or attributes of links, disks and clocks; the recorder counts each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from quorate.config import Config
from quorate.core.topology.layout import Layout, Member, decode_layout, first_layout, unmet_id
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.topology.steps import bound
from quorate.core.values.events import Batch, Effects, Event
from quorate.core.values.settings import NODE_ID_MAX, Settings, majority
from quorate.core.values.slots import partition_of, row_of
from quorate.host.system import Dialled, Timer
from quorate.settings import core_settings
from quorate.sim.dial import Dial
from quorate.sim.disk import Disk
from quorate.sim.machine import Image, Machine, machine_of
from quorate.sim.network import Wire
from quorate.sim.trace import Recorder, Trace
from quorate.sim.world import UpTo, World


def id_of(index: int) -> int:
    """The id of the disk that machine `index` begins with."""
    return index + 1


def url_of(index: int) -> str:
    """The URL of machine `index`."""
    return f"http://n{index}:8000"


_decoded = functools.lru_cache(maxsize=100)(decode_layout)


@functools.cache
def founded(members: tuple[tuple[str, int], ...], replication: int) -> Layout:
    """The layout in which all members, each a URL and an id, are bound: a cluster's second."""
    first = first_layout([url for url, _ in members], replication=replication)
    return bound_to(first, dict(members), drawn=b"quorate!")


def bound_to(layout: Layout, ids: Mapping[str, int], *, drawn: bytes) -> Layout:
    """The next layout, in which the founders at these URLs are the disks of these ids."""
    met = {url: Member(node_id, url) for url, node_id in ids.items()}
    return bound(layout, met, drawn=drawn)


def settings_of(index: int, nodes: Iterable[int], **changes: Any) -> Settings:
    """Settings of node `index`: the product's defaults, but for `changes`."""
    listed = tuple(url_of(i) for i in nodes)
    defaults = core_settings(Config(), url=url_of(index), nodes=listed, node_id=id_of(index))
    return msgspec.structs.replace(defaults, **changes)


class Observer(Protocol):
    """Who looks at every step; `checkers` has some."""

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """A step was taken on `machine.events`, and its batch given to the disk, which may have
        ended the process; nothing was sent yet."""


class SimCluster:
    """`count` machines in one world, all started, and linked by the time the constructor returns.

    `nodes` gives machines another `-nodes` list than all of them. Disks are then blank; else they
    hold the layout of a cluster that has found together. The last `spares` are in nobody's list,
    and begin with blank disks: they coordinate, and hold nothing until they become members. A node
    that breaks (raises in a step, answers twice) ends; it is noted in `broken`, and raised again
    unless `is_tolerant`.
    """

    def __init__(  # noqa: PLR0913 - what a world is made of; nobody names all of it
        self,
        seed: int = 0,
        count: int = 3,
        *,
        nodes: dict[int, Sequence[int]] | None = None,
        spares: int = 0,
        latency_ms: UpTo = (1.0,),
        cache_entries: int = 0,
        needs_sync: bool = True,
        is_tolerant: bool = False,
        trace: Trace | None = None,
        **settings: Any,
    ) -> None:
        self.world = World(seed)
        self.recorder = Recorder(self.world, trace)
        self.latency_ms = latency_ms
        self.observers: list[Observer] = []
        self.broken: list[str] = []
        """What nodes did that no node may do: when, who, what."""
        self._is_tolerant = is_tolerant
        self.wires: dict[tuple[Machine, Machine], Wire] = {}
        """All that were used so far, by source and target."""
        self.leads: dict[tuple[Machine, str], Machine] = {}
        """By machine and URL: where the URL leads this machine, if that is not where it leads all
        others."""
        self.machines: list[Machine] = []
        founders = range(count - spares)
        for index in range(count):
            listed = founders if nodes is None else nodes.get(index, founders)
            durability = "sync" if needs_sync else "os"
            chosen = settings_of(index, listed, **{"durability": durability, **settings})
            disk = Disk(needs_sync=needs_sync)
            self.machines.append(Machine(self.world, self.recorder, chosen, self, disk))
        self._by_url = {machine.url: machine for machine in self.machines}
        for machine in self.machines:
            machine.cache_entries = cache_entries
            if nodes is None and machine.url in machine.settings.nodes:
                self._format(machine)
            machine.start()
        if nodes is None:
            self.run_until(self.is_connected, 1_000)

    # --- time ------------------------------------------------------------------------------

    def run(self, ms: float) -> None:
        """Let `ms` milliseconds pass."""
        self.world.run_to(self.world.now + ms)

    def run_until(self, condition: Callable[[], object], deadline_ms: float = 60_000) -> None:
        """Go on until the condition holds; AssertionError if it does not in time."""
        met = self.world.run_until(condition, self.world.now + deadline_ms)
        assert met, f"seed {self.world.seed}: still waiting after {deadline_ms} ms"

    # --- faults of machines ----------------------------------------------------------------

    def kill(self, index: int, *, is_silent: bool = False, is_power_cut: bool = True) -> None:
        """End a process at once. A power cut loses what was not synced; kill -9 does not, as the
        kernel has it. Peers are told by their links; if `is_silent` only after a long time without
        any sign, or when the machine is back."""
        machine = self.machines[index]
        self._fault(index, "power cut" if is_power_cut else "kill")
        machine.crash(is_power_cut=is_power_cut, is_silent=is_silent)

    def restart(
        self,
        index: int,
        *,
        is_empty: bool = False,
        image: Image | None = None,
        accepts_old: bool = False,
    ) -> None:
        """Start a killed node again: on its disk, on an empty one, or on an image of an old one;
        one that `accepts_old` goes on though it is found out."""
        machine = self.machines[index]
        old_disk = "accept" if accepts_old else "refuse"
        machine.settings = msgspec.structs.replace(machine.settings, old_disk=old_disk)
        if image is not None:
            self._fault(index, "old disk", f"as of {image.taken_ms:.3f} ms")
            machine.replace_disk(image)
        self._fault(index, "restart empty" if is_empty else "restart")
        if is_empty:
            self._wipe(machine)
        machine.start()
        for (_, target), wire in self.wires.items():
            # To what comes on a connection that this kernel does not know it says so at once.
            if target is machine:
                wire.found_out()

    def _wipe(self, machine: Machine) -> None:
        """Give a machine that is down an empty disk."""
        node_id = self.world.generator(f"{machine.url} id {machine.life}").randint(1, NODE_ID_MAX)
        disk = Disk(needs_sync=machine.disk.needs_sync)
        machine.replace_disk(Image(disk, node_id, self.world.now))

    def pause(self, index: int) -> None:
        """Stop a process without ending it (SIGSTOP)."""
        self._fault(index, "pause")
        self.machines[index].pause()

    def resume(self, index: int) -> None:
        """Let a paused process go on (SIGCONT)."""
        machine = self.machines[index]
        self.recorder.say(machine.name, "resume", "")
        machine.resume()

    def rot(self, index: int, key: bytes) -> bool:
        """Flip a bit of what a disk holds of a key; whether it holds any."""
        self._fault(index, "rot", key.hex())
        return self.machines[index].disk.rot(row_of(key), self.world.generator(f"rot {key.hex()}"))

    def rot_votes(self, index: int, key: bytes) -> bool:
        """Flip a bit of what a disk remembers of its votes on a key; whether it remembers any."""
        random = self.world.generator(f"rot votes {key.hex()}")
        has_any = self.machines[index].disk.rot_votes(row_of(key), random)
        if has_any:
            self._fault(index, "rot", f"votes on {key.hex()}")
        return has_any

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
        self.recorder.say(self.machines[source].name, "mend", f"to n{target}")
        self.wire(source, target).heal()

    def reset(self, source: int, target: int) -> None:
        """Break a connection: an unknown end of what was under way is lost."""
        self._fault(source, "reset", f"of the link to n{target}")
        self.wire(source, target).reset()

    def _fault(self, index: int, name: str, why: str = "") -> None:
        self.recorder.fault(self.machines[index].name, name, why)

    # --- looking ---------------------------------------------------------------------------

    def wire(self, source: int, target: int) -> Wire:
        """The wire from one machine to another."""
        return self.wire_between(self.machines[source], self.machines[target])

    def wire_between(self, source: Machine, target: Machine) -> Wire:
        """The wire from one machine to another, of which either may be a twin."""
        wire = self.wires.get((source, target))
        if wire is None:
            wire, back = self._make_wire(source, target), self._make_wire(target, source)
            wire.back, back.back = back, wire
        return wire

    def _make_wire(self, source: Machine, target: Machine) -> Wire:
        wire = Wire(self.world, self.recorder, source, target, self.latency_ms)
        self.wires[source, target] = wire
        return wire

    def machine_at(self, source: Machine, url: str) -> Machine | None:
        """Where a URL leads a machine."""
        return self.leads.get((source, url)) or self._by_url.get(url)

    def running(self, index: int) -> int | None:
        """The first machine at or after `index`, round and round, on which a node runs."""
        count = len(self.machines)
        around = ((index + step) % count for step in range(count))
        return next((each for each in around if self.machines[each].is_running), None)

    def is_running(self) -> bool:
        """Whether every machine runs a node."""
        return all(machine.is_running for machine in self.machines)

    def is_connected(self) -> bool:
        """Whether every running node can ask every other that runs."""
        running = {machine.url: machine.node for machine in self.machines if machine.is_running}
        return all(
            (peer := node.membership.roster.at(url)) is not None and peer.is_reachable
            for own_url, node in running.items()
            for url in running
            if url != own_url
        )

    def names(self, index: int) -> set[int]:
        """What a layout may call a machine: the id of its disk, and the number of its URL."""
        machine = self.machines[index]
        return {machine.settings.node_id, unmet_id(machine.url)}

    def can_bind_without(self, lost: Collection[int]) -> bool:
        """Whether all founders are bound but those that are lost, or those who are left can bind
        them. `lost`: names of machines (`names`). A lost id alone is a lost disk: its machine is
        left at its URL."""
        left = set().union(*map(self.names, range(len(self.machines)))).difference(lost)
        stored = [
            machine.disk.get_meta(LAYOUT_META)
            for machine in self.machines
            if machine.settings.node_id in left
        ]
        layouts = [decode_layout(data) for data in set(stored) if data is not None]
        if not layouts:
            return len(stored) >= majority(len(self.machines))
        newest = max(layouts, key=lambda layout: layout.epoch)
        unbound = [each for each in newest.members if not each.is_bound and each.id in left]
        return not unbound or len(left.intersection(newest.voters)) >= majority(len(newest.voters))

    def lost_ids(self) -> set[int]:
        """Of disks that were lost: no machine is called so any more."""
        return {each for machine in self.machines for each in machine.ids} - {
            machine.settings.node_id for machine in self.machines
        }

    def layout(self) -> Layout:
        """The newest layout that any machine has, on its disk or in its process."""
        newest: Layout | None = None
        for machine in self.machines:
            layout = machine.node.membership.layout if machine.is_running else None
            if layout is None:
                stored = machine.disk.get_meta(LAYOUT_META)
                layout = None if stored is None else _decoded(stored)
            if layout is not None and (newest is None or layout.epoch > newest.epoch):
                newest = layout
        assert newest is not None, "no machine has a layout"
        return newest

    def replicas(self, key: bytes) -> list[int]:
        """The machines that hold a key, in order of preference."""
        members = self.layout().replicas(partition_of(row_of(key)))
        return [self.machines.index(machine_of(self.machines, each)) for each in members]

    # --- what machines ask for (`machine.Cluster`) -------------------------------------------

    def dial(self, machine: Machine, url: str, connection: Dialled) -> Timer:
        """Part of `machine.Cluster`."""
        target = self.machine_at(machine, url)
        if target is None:
            return machine.later(0.0, functools.partial(connection.dial_failed, ""))
        return Dial(self.wire_between(machine, target), connection)

    def on_step(self, machine: Machine, events: Sequence[Event], effects: Effects) -> None:
        """Part of `machine.Cluster`."""
        self.recorder.step(machine.name, events, effects)
        # Nobody observes twins: what they do is not to be believed.
        if self._by_url[machine.url] is machine:
            for observer in self.observers:
                observer.after_step(machine, effects)

    def on_broken(self, machine: Machine, error: BaseException) -> None:
        """Part of `machine.Cluster`."""
        self.broken.append(f"{self.world.now:.3f} ms {machine.name}: {error!r}")
        if not self._is_tolerant:
            raise error

    def _format(self, machine: Machine) -> None:
        founders = [each for each in self.machines if each.url in machine.settings.nodes]
        members = tuple([(each.url, each.ids[0]) for each in founders])
        layout = founded(members, machine.settings.replication).encode()
        machine.disk.format(Batch([], [], [(LAYOUT_META, layout)]))
