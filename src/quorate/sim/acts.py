# SPDX-License-Identifier: GPL-3.0-or-later
"""What faults do to a cluster: each act returns what undoes it, and acts may overlap.

A link is whole again when the last fault that cut it is over, a machine starts again when the last
that keeps it down is, and of several delays the longest counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean
from typing import Final, Generic, TypeVar

from quorate.core.topology.topology import majority
from quorate.host.links import OUTBOX_BYTES_MAX
from quorate.sim.checkers import Violation
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.history import Kind
from quorate.sim.machine import Image
from quorate.sim.noise import Noise, worst
from quorate.sim.plan import Plan, Request
from quorate.sim.workload import Clients
from quorate.sim.world import World

OUTBOX_BYTES: Final = 500
"""How much a link keeps waiting over a thin line, or for a process that does not read: a few
frames."""
CLOCK_MS_MAX: Final = 4_000
"""Clocks of a wide guard are wrong by shares of this: nobody waits hours for them to catch up."""
STRANGER: Final = 900
"""The client that asks what a fault needs to be asked: a number that no client of a plan has."""
SILENT_SHARE: Final = 0.2
"""So many of the machines that die do so without their peers being told."""
PROCESS_SHARE: Final = 0.3
"""So many of the deaths are of the process alone: the kernel keeps what it had written."""
DISK_FLAGS: Final = ("is_full", "is_busy", "log_breaks")
"""Those of `FLAGS` that are attributes of a disk; the others are of a machine."""
FLAGS: Final = {
    "is_full": "disk full",
    "is_busy": "disk busy",
    "log_breaks": "log breaks",
    "is_log_broken": "log unwritable",
    "is_deaf": "deaf",
    "lacks_files": "files exhausted",
}
"""What may be wrong with a disk or a machine: the attribute, and the words of transcripts."""

Pair = tuple[int, int]
"""Source and target."""
Undo = Callable[[], None]
"""What ends an act, or a fault."""


def in_turn(*undos: Undo) -> Undo:
    """Ends several acts, one after another; without any it ends what was over when it began."""

    def undo() -> None:
        for each in undos:
            each()

    return undo


Subject = TypeVar("Subject")
Wanted = TypeVar("Wanted")


class Spell:
    """Calls that are made while something lasts: what is due later is not made."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_over = False

    def after(self, ms: float, call: Callable[[], None]) -> None:
        """Have a call made in some time, unless all is over by then."""
        self._world.after(ms, lambda: None if self._is_over else call())

    def end(self) -> None:
        """Make none of the calls that are still due."""
        self._is_over = True


class _Overlap(Generic[Subject, Wanted]):
    """What several faults want of one place at a time, and what that comes to."""

    def __init__(self, put: Callable[[Subject, list[Wanted]], None]) -> None:
        """`put` sets a place to what all the values come to that are wanted there."""
        self._put = put
        self.wanted: dict[Subject, list[Wanted]] = {}

    def add(self, places: Iterable[Subject], value: Wanted) -> Undo:
        """Want a value in places until the undo."""
        chosen = list(places)
        for place in chosen:
            values = self.wanted.setdefault(place, [])
            values.append(value)
            self._put(place, values)

        def undo() -> None:
            for place in chosen:
                values = self.wanted[place]
                values.remove(value)
                if value not in values:
                    self._put(place, values)

        return undo


class Acts:
    """The acts on one cluster."""

    def __init__(self, cluster: SimCluster, plan: Plan, copies: Copies, clients: Clients) -> None:
        self.cluster = cluster
        self.plan = plan
        self.copies = copies
        self.random = cluster.world.generator("nemesis")
        self.clock_ms = min(plan.settings["max_clock_skew_ms"], CLOCK_MS_MAX)
        """The unit of clock errors."""
        self.found: list[Violation] = []
        """What was seen while faults were on."""
        self._clients = clients
        self._asked = 0
        self._downs: Counter[int] = Counter()
        self._losses: dict[int, Image | None] = {}
        """By machine that lost its disk: the old one with which it starts again, or None for an
        empty one."""
        self._emptied: set[int] = set()
        """Machines that lost their disk, ever."""
        self._pauses: _Overlap[int, bool] = _Overlap(self._put_pause)
        self._flags: _Overlap[tuple[int, str], bool] = _Overlap(self._put_flag)
        self._syncs: _Overlap[int, float] = _Overlap(self._put_syncs)
        self._outboxes: _Overlap[int, int] = _Overlap(self._put_outboxes)
        self._cuts: _Overlap[Pair, bool] = _Overlap(self._put_cut)
        self._delays: _Overlap[Pair, float] = _Overlap(self._put_latency)
        self._noises: _Overlap[Pair, Noise] = _Overlap(self._put_noise)

    # --- machines --------------------------------------------------------------------------

    def down(self, nodes: Iterable[int]) -> Undo:
        """Kill processes, and keep them from starting."""
        return self._end(nodes, self._kill)

    def _kill(self, index: int) -> None:
        if self.cluster.machines[index].is_running:
            is_power_cut = self.random.random() >= PROCESS_SHARE
            is_silent = is_power_cut and self.random.random() < SILENT_SHARE
            self.cluster.kill(index, is_silent=is_silent, is_power_cut=is_power_cut)

    def leave(self, nodes: Iterable[int]) -> Undo:
        """Tell processes to end, and keep them from starting."""
        return self._end(nodes, lambda index: self.cluster.machines[index].stop())

    def _end(self, nodes: Iterable[int], end: Callable[[int], None]) -> Undo:
        chosen = list(nodes)
        for index in chosen:
            self._downs[index] += 1
            end(index)
        return partial(self._up, chosen)

    def _up(self, nodes: list[int]) -> None:
        for index in nodes:
            self._downs[index] -= 1
            self.start(index)

    def start(self, index: int) -> None:
        """Start a machine unless it runs or something keeps it down. A process that was told to end
        and takes its time is told twice, which ends it at once."""
        if self.cluster.machines[index].is_stopping and not self._downs[index]:
            self.cluster.kill(index, is_power_cut=False)
        if self._downs[index] or self.cluster.machines[index].is_running:
            return
        if index not in self._losses:
            self.cluster.restart(index)
        else:
            # Only now: what is off the air misleads nobody.
            before = self.copies.held(index)
            image = self._losses.pop(index)
            self.cluster.restart(index, is_empty=image is None, image=image)
            self.copies.judge(index, before, is_lost=image is None)
        disk = self.cluster.machines[index].disk
        for name in DISK_FLAGS:
            setattr(disk, name, bool(self._flags.wanted.get((index, name))))

    def start_all(self) -> None:
        """Start every machine that nothing keeps down."""
        for index in range(self.plan.nodes):
            self.start(index)

    def lose_disk(self, index: int, image: Image | None = None) -> None:
        """Have a machine that is down come back with an empty disk, or with an old one of the same
        id. Not if a majority of all would have lost theirs then: these would be a new cluster."""
        if image is not None:
            if image.node_id == self.cluster.machines[index].settings.node_id:
                self._losses[index] = image
            return
        self._emptied.add(index)
        if len(self._emptied) < majority(self.plan.nodes):
            self._losses[index] = None
        else:
            self._emptied.discard(index)

    def pause(self, nodes: Iterable[int]) -> Undo:
        """Stop processes without ending them."""
        return self._pauses.add(nodes, True)

    def _put_pause(self, index: int, wanted: list[bool]) -> None:
        if not wanted:
            self.cluster.resume(index)
        elif self.cluster.machines[index].is_running:
            self.cluster.pause(index)

    def flag(self, nodes: Iterable[int], *names: str) -> Undo:
        """Set attributes of machines, or of their disks: names of `FLAGS`."""
        return self._flags.add([(index, name) for index in nodes for name in names], True)

    def _put_flag(self, place: tuple[int, str], wanted: list[bool]) -> None:
        index, name = place
        machine = self.cluster.machines[index]
        if name in DISK_FLAGS:
            setattr(machine.disk, name, bool(wanted))
        else:
            setattr(machine, name, bool(wanted))
        told = FLAGS[name]
        if wanted:
            self.cluster.recorder.fault(machine.name, told)
        else:
            self.cluster.recorder.say(machine.name, "over", told)

    def drag(self, index: int, ms: float) -> Undo:
        """Let syncs take `ms` and up to twice as long."""
        return self._syncs.add([index], ms)

    def _put_syncs(self, index: int, wanted_ms: list[float]) -> None:
        slowest_ms = max(wanted_ms, default=0.0)
        usual = self.plan.syncs_ms[index]
        machine = self.cluster.machines[index]
        machine.sync_ms = (slowest_ms, 2 * slowest_ms) if wanted_ms else usual

    def shrink_outboxes(self, nodes: Iterable[int]) -> Undo:
        """Have links give up where more than a few frames wait."""
        return self._outboxes.add(nodes, OUTBOX_BYTES)

    def _put_outboxes(self, index: int, wanted: list[int]) -> None:
        self.cluster.machines[index].limit_outboxes(min(wanted, default=OUTBOX_BYTES_MAX))

    # --- clocks ----------------------------------------------------------------------------

    def step_clocks(self, nodes: Iterable[int], share: float) -> Undo:
        """Put wall clocks forward, or back, by a share of the guard."""
        chosen = list(nodes)

        def step(sign: int) -> None:
            for index in chosen:
                self.cluster.step_clock(index, round(sign * share * self.clock_ms))

        step(1)
        return partial(step, -1)

    def correct_clocks(self) -> None:
        """Set all clocks right."""
        for machine in self.cluster.machines:
            machine.clock.rate = 1.0
            machine.clock.offset_ms -= round(machine.clock.error_ms)

    # --- links -----------------------------------------------------------------------------

    def cut(self, pairs: Iterable[Pair]) -> Undo:
        """Let nothing through."""
        return self._cuts.add(pairs, True)

    def _put_cut(self, pair: Pair, wanted: list[bool]) -> None:
        if wanted:
            self.cluster.cut(*pair)
        else:
            self.cluster.mend(*pair)

    def slow(self, pairs: Iterable[Pair], ms: float) -> Undo:
        """Let frames take up to `ms`."""
        return self._delays.add(pairs, ms)

    def _put_latency(self, pair: Pair, wanted_ms: list[float]) -> None:
        usual = self.plan.latency_ms(*pair)
        self.cluster.wire(*pair).latency_ms = (max(wanted_ms),) if wanted_ms else usual

    def disturb(self, pairs: Iterable[Pair], noise: Noise) -> Undo:
        """Add noise to links."""
        return self._noises.add(pairs, noise)

    def _put_noise(self, pair: Pair, wanted: list[Noise]) -> None:
        self.cluster.wire(*pair).noise = worst(wanted) if wanted else None

    # --- what faults ask and are about -----------------------------------------------------

    def ask(self, node: int, kind: Kind, key: bytes) -> None:
        """Have a client of its own ask a node, if it runs."""
        if self.cluster.machines[node].is_running:
            self._asked += 1
            self._clients.ask(STRANGER, node, Request(self._asked, kind, key))

    def hot_key(self) -> bytes:
        """One of the keys that clients touch most."""
        touched = Counter(request.key for request in self.plan.requests())
        return self.random.choice([key for key, _ in touched.most_common(2)])

    def round_trip_ms(self) -> float:
        """How long a write takes here, about."""
        latency_ms = fmean(fmean(limits) for limits in self.plan.latencies_ms)
        return latency_ms + fmean(fmean(span) for span in self.plan.syncs_ms) + 1.0

    def across(self, side: Iterable[int]) -> list[Pair]:
        """The directions between these machines and all others."""
        inside = list(side)
        outside = [index for index in range(self.plan.nodes) if index not in inside]
        return between(inside, outside)

    def around(self, nodes: Iterable[int]) -> list[Pair]:
        """All directions from and to these machines."""
        touched = list(nodes)
        every = range(self.plan.nodes)
        return [(a, b) for a in every for b in every if a != b and (a in touched or b in touched)]


def between(some: Sequence[int], others: Sequence[int]) -> list[Pair]:
    """The directions between the machines of two sides."""
    return [pair for a in some for b in others for pair in ((a, b), (b, a))]
