# SPDX-License-Identifier: GPL-3.0-or-later
"""What faults do to a cluster, and undo, counted as they overlap.

A link is whole again when the last fault that cut it is over; a machine starts again when the last
that keeps it down is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from statistics import fmean
from typing import Final

from quorate.host.links import OUTBOX_BYTES_MAX
from quorate.sim.checkers import Violation
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.history import Kind
from quorate.sim.machine import Image
from quorate.sim.noise import Noise
from quorate.sim.plan import Plan, Request
from quorate.sim.workload import Clients

OUTBOX_BYTES: Final = 500
"""Of links over a thin line, or to who does not read: a few frames."""
STUCK_TOLD_MS: Final = 500.0
"""Longer than a slow clock needs to notice that a sync takes too long."""
Pair = tuple[int, int]
"""Source and target."""

CLOCK_MS_MAX: Final = 4_000
"""Clocks of a wide guard are wrong by shares of this: nobody waits hours for them to catch up."""
STRANGER: Final = 900
"""The client that asks what a fault needs to be asked: a number that no client of a plan has."""
SILENT_SHARE: Final = 0.2
"""Of the deaths of machines: nobody tells the peers."""
PROCESS_SHARE: Final = 0.3
"""Of the deaths: the process alone dies, and the kernel keeps what it had written."""


class Acts:
    """The acts on one cluster."""

    def __init__(self, cluster: SimCluster, plan: Plan, copies: Copies, clients: Clients) -> None:
        self._clients = clients
        self._asked = 0
        self.cluster = cluster
        self.plan = plan
        self.copies = copies
        self.random = cluster.world.generator("nemesis")
        self.clock_ms = min(plan.settings["max_clock_skew_ms"], CLOCK_MS_MAX)
        """The unit of clock errors."""
        self._cuts: Counter[Pair] = Counter()
        self._downs: Counter[int] = Counter()
        self._pauses: Counter[int] = Counter()
        self._fulls: Counter[int] = Counter()
        self._jams: Counter[int] = Counter()
        self._breaks: Counter[int] = Counter()
        self._flags: Counter[tuple[int, str]] = Counter()
        self.found: list[Violation] = []
        """What was seen while faults were on."""
        self._thin: Counter[int] = Counter()
        self._losses: dict[int, Callable[[], None]] = {}
        """How machines that lost a disk are started again."""
        self._delays: dict[Pair, list[float]] = {}
        self._grays: dict[int, list[float]] = {}
        self._noises: dict[Pair, list[Noise]] = {}

    # --- machines --------------------------------------------------------------------------

    def down(self, index: int) -> None:
        """Kill the process of a machine, and keep it from starting."""
        self._downs[index] += 1
        if self.cluster.machines[index].is_running:
            is_power_cut = self.random.random() >= PROCESS_SHARE
            is_silent = is_power_cut and self.random.random() < SILENT_SHARE
            self.cluster.kill(index, is_silent=is_silent, is_power_cut=is_power_cut)

    def up(self, index: int) -> None:
        """Undo `down`."""
        self._downs[index] -= 1
        self.start(index)

    def start(self, index: int) -> None:
        """Start a machine unless it runs or something keeps it down. A process that was told to end
        and takes its time is told twice, which ends it at once."""
        if self.cluster.machines[index].is_stopping and not self._downs[index]:
            self.cluster.kill(index, is_power_cut=False)
        if self._downs[index] or self.cluster.machines[index].is_running:
            return
        loss = self._losses.pop(index, None)
        if loss is None:
            self.cluster.restart(index)
        else:
            # Only now: what is off the air misleads nobody.
            before = self.copies.held(index)
            loss()
            self.copies.judge(index, before)
        self._set_disk(index)

    def start_all(self) -> None:
        """Start every machine that nothing keeps down."""
        for index in range(self.plan.nodes):
            self.start(index)

    def lose_disk(self, index: int) -> None:
        """Have a machine that is down come back with an empty disk."""
        self._losses[index] = partial(self.cluster.restart, index, is_empty=True)

    def put_back(self, index: int, image: Image) -> None:
        """Have a machine that is down come back with an old disk."""
        self._losses[index] = partial(self.cluster.restart, index, image=image)

    def pause(self, index: int) -> None:
        """Stop a process without ending it."""
        self._pauses[index] += 1
        if self.cluster.machines[index].is_running:
            self.cluster.pause(index)

    def resume(self, index: int) -> None:
        """Undo `pause`."""
        self._pauses[index] -= 1
        if not self._pauses[index]:
            self.cluster.resume(index)

    def leave(self, index: int) -> None:
        """Tell a process to end, and keep the machine from starting it."""
        self._downs[index] += 1
        self.cluster.stop(index)

    def fill(self, index: int) -> None:
        """Let a disk take no more."""
        self._fulls[index] += 1
        self.cluster.set_disk_full(index, is_full=True)

    def free(self, index: int) -> None:
        """Undo `fill`."""
        self._fulls[index] -= 1
        if not self._fulls[index]:
            self.cluster.set_disk_full(index, is_full=False)

    def fill_and_break(self, index: int) -> None:
        """Let a disk take no more, and a write that meets that break the log."""
        self._breaks[index] += 1
        self.fill(index)
        self._set_disk(index)

    def free_and_mend(self, index: int) -> None:
        """Undo `fill_and_break`. A log that is broken by then stays so until the next sync."""
        self._breaks[index] -= 1
        self.free(index)
        self._set_disk(index)

    def raise_flag(self, nodes: Iterable[int], name: str) -> None:
        """Set an attribute of machines."""
        for index in nodes:
            self._flags[index, name] += 1
            setattr(self.cluster.machines[index], name, True)

    def lower_flag(self, nodes: Iterable[int], name: str) -> list[int]:
        """Undo `raise_flag`; the machines of which it is not set any more."""
        lowered = []
        for index in nodes:
            self._flags[index, name] -= 1
            if not self._flags[index, name]:
                setattr(self.cluster.machines[index], name, False)
                lowered.append(index)
        return lowered

    def told_stuck_within_ms(self) -> float:
        """Within which a node says that its disk does not confirm a sync."""
        return self.plan.settings["timeout_ms"] + STUCK_TOLD_MS

    def must_not_be_ready(self, index: int) -> None:
        """Note it if a node says that it is ready."""
        machine = self.cluster.machines[index]
        if machine.is_reading and machine.driver.status().ready:
            told = f"{machine.name} says that it is ready, and its disk confirms nothing"
            self.found.append(Violation("I33", b"", told))

    def jam(self, index: int) -> None:
        """Let a disk take nothing for the moment, as in a write stall."""
        self._jams[index] += 1
        self._set_disk(index)

    def clear(self, index: int) -> None:
        """Undo `jam`."""
        self._jams[index] -= 1
        self._set_disk(index)

    def drag(self, index: int, ms: float) -> None:
        """Let syncs take `ms` and up to twice as long."""
        self._grays.setdefault(index, []).append(ms)
        self._set_syncs(index)

    def hurry(self, index: int, ms: float) -> None:
        """Undo `drag`."""
        self._grays[index].remove(ms)
        self._set_syncs(index)

    def _set_syncs(self, index: int) -> None:
        slowest_ms = max(self._grays[index], default=0.0)
        usual = self.plan.syncs_ms[index]
        machine = self.cluster.machines[index]
        machine.sync_ms = (slowest_ms, 2 * slowest_ms) if slowest_ms else usual

    def rot_hints(self, index: int, count: int) -> None:
        """Damage some of the hints of a machine."""
        disk = self.cluster.machines[index].disk
        names = disk.hint_names()
        for name in self.random.sample(names, min(count, len(names))):
            disk.rot_hint(name)

    def _set_disk(self, index: int) -> None:
        disk = self.cluster.machines[index].disk
        disk.is_full = self._fulls[index] > 0
        disk.is_busy = self._jams[index] > 0
        disk.log_breaks = self._breaks[index] > 0

    # --- clocks ----------------------------------------------------------------------------

    def step_clock(self, index: int, share: float) -> None:
        """Put a wall clock forward, or back."""
        self.cluster.step_clock(index, round(share * self.clock_ms))

    def correct_clocks(self) -> None:
        """Set all clocks right."""
        for machine in self.cluster.machines:
            machine.clock.rate = 1.0
            machine.clock.offset_ms -= round(machine.clock.error_ms)

    # --- links -----------------------------------------------------------------------------

    def cut(self, pairs: Iterable[Pair]) -> None:
        """Let nothing through."""
        for pair in pairs:
            self._cuts[pair] += 1
            self.cluster.cut(*pair)

    def mend(self, pairs: Iterable[Pair]) -> None:
        """Undo `cut`."""
        for pair in pairs:
            self._cuts[pair] -= 1
            if not self._cuts[pair]:
                self.cluster.mend(*pair)

    def break_links(self, pairs: Iterable[Pair]) -> None:
        """Break links: their sources know."""
        for pair in pairs:
            self.cluster.reset(*pair)

    def slow(self, pairs: Iterable[Pair], ms: float) -> None:
        """Let frames take up to `ms`."""
        for pair in pairs:
            self._delays.setdefault(pair, []).append(ms)
            self._set_latency(pair)

    def quicken(self, pairs: Iterable[Pair], ms: float) -> None:
        """Undo `slow`."""
        for pair in pairs:
            self._delays[pair].remove(ms)
            self._set_latency(pair)

    def _set_latency(self, pair: Pair) -> None:
        delays = self._delays[pair]
        usual = self.plan.latencies_ms[pair[0] * self.plan.nodes + pair[1]]
        self.cluster.wire(*pair).latency_ms = (max(delays),) if delays else usual

    def shrink_outboxes(self, nodes: Iterable[int]) -> None:
        """Have links give up where more than a few frames wait."""
        for index in nodes:
            self._thin[index] += 1
            self.cluster.machines[index].limit_outboxes(OUTBOX_BYTES)

    def widen_outboxes(self, nodes: Iterable[int]) -> None:
        """Undo `shrink_outboxes`."""
        for index in nodes:
            self._thin[index] -= 1
            if not self._thin[index]:
                self.cluster.machines[index].limit_outboxes(OUTBOX_BYTES_MAX)

    def disturb(self, pairs: Iterable[Pair], noise: Noise) -> None:
        """Add noise to links."""
        for pair in pairs:
            self._noises.setdefault(pair, []).append(noise)
            self.cluster.wire(*pair).noise = _mixed(self._noises[pair])

    def calm(self, pairs: Iterable[Pair], noise: Noise) -> None:
        """Undo `disturb`."""
        for pair in pairs:
            self._noises[pair].remove(noise)
            self.cluster.wire(*pair).noise = _mixed(self._noises[pair])

    def ask(self, node: int, kind: Kind, key: bytes) -> None:
        """Have a client of its own ask a node, if it runs."""
        if self.cluster.machines[node].is_running:
            self._asked += 1
            self._clients.ask(STRANGER, node, Request(self._asked, kind, key))

    def hot_key(self) -> bytes:
        """One of the keys that clients touch most."""
        scripts = self.plan.scripts
        touched = Counter(r.key for script in scripts for visit in script for r in visit.requests)
        return self.random.choice([key for key, _ in touched.most_common(2)])

    def round_trip_ms(self) -> float:
        """How long a write takes here, about."""
        latency_ms = fmean(fmean(limits) for limits in self.plan.latencies_ms)
        return latency_ms + fmean(fmean(span) for span in self.plan.syncs_ms) + 1.0

    def across(self, side: Iterable[int]) -> list[Pair]:
        """The directions between these machines and all others."""
        inside = list(side)
        outside = [index for index in range(self.plan.nodes) if index not in inside]
        return [pair for a in inside for b in outside for pair in ((a, b), (b, a))]

    def around(self, nodes: Iterable[int]) -> list[Pair]:
        """All directions from and to these machines."""
        touched = list(nodes)
        every = range(self.plan.nodes)
        return [(a, b) for a in every for b in every if a != b and (a in touched or b in touched)]


def _mixed(noises: list[Noise]) -> Noise | None:
    """The worst of each."""
    if not noises:
        return None
    return Noise(
        loss=max(noise.loss for noise in noises),
        duplicate=max(noise.duplicate for noise in noises),
        reorder=max(noise.reorder for noise in noises),
        late=max(noise.late for noise in noises),
        damage=max(noise.damage for noise in noises),
        pieces=max(noise.pieces for noise in noises),
        late_ms=noises[0].late_ms,
    )
