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
from typing import Final, Generic, Protocol, TypeVar

from quorate.core.exchanges.changes import VOTE_META
from quorate.core.exchanges.pulls import PULL_META
from quorate.core.topology.membership import LAYOUT_META
from quorate.core.values.events import Effects, Result
from quorate.host.links import OUTBOX_BYTES_MAX
from quorate.sim.checkers import Violation
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.history import Kind
from quorate.sim.machine import Image, Machine
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
CHANGES: Final = ("join", "leave", "replace", "bury", "weight", "zone", "copies", "cancel", "apply")
"""Faults that operators make; a seed draws them apart from the others."""
STRIKES: Final = ("behind", "gainer", "recall", "handover")
"""Faults that wait for copies to move: a seed draws them with these changes."""
UPGRADES: Final = ("upgrade",)
RUINS: Final = ("ruin",)
LAST: Final = (*RUINS, *UPGRADES)
"""Faults that a seed draws last of all, so that they shift no other."""
MOVING: Final = frozenset(("wipe", *CHANGES, *STRIKES, *LAST))
"""Faults after which copies move, or another layout is in force."""
REFILL_MS: Final = 50.0
"""How long it takes an operator to give up a disk that was found to be old."""
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
    """One undo that calls several, in their order. Without any it does nothing, as an act needs
    that is over at once, such as a crash."""

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


class Asker(Protocol):
    """Who asked for a change of the cluster; `changes` has them."""

    result: Result | None

    def missing(self) -> str:
        """What was asked, if its node lives and has not answered; else nothing."""

    def let_go(self) -> None:
        """Refer to nothing any more."""


class _Overlap(Generic[Subject, Wanted]):
    """Faults that overlap in time and set the same thing: two may slow one disk by 10 and by 50 ms.
    It keeps the values that are wanted for each place."""

    def __init__(self, put: Callable[[Subject, list[Wanted]], None]) -> None:
        """`put` sets a place to what the values come to that are wanted there: their sum, say."""
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


class _OldDisk:
    """What an old disk took the place of."""

    def __init__(self, newest: Image) -> None:
        self.newest = newest
        """The disk with which its machine goes on, should that be found out and none be emptied."""
        self.knowing: list[tuple[Machine, int]] = []
        """The machines that saw more, each with its life, when this one started."""


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
        self.operators: list[Asker] = []
        """Who asked for changes of the cluster."""
        self._clients = clients
        self._asked = 0
        self._downs: Counter[int] = Counter()
        self._losses: dict[int, Image | None] = {}
        """By machine that lost its disk: the old one with which it starts again, or None for an
        empty one."""
        self._old: dict[int, _OldDisk] = {}
        """By machine whose disk is an old one and does not count yet."""
        self.ruined: set[int] = set()
        """Ids of nodes whose disks are lost for good, whatever the cluster can do without."""
        self._comers: list[Undo] = []
        """What has those come that nobody is to meet before faults are over."""
        self._found_out: set[int] = set()
        """Machines whose process ended since they started, as their disk is an old one."""
        cluster.observers.append(self)
        self._pauses: _Overlap[int, bool] = _Overlap(self._put_pause)
        self._flags: _Overlap[tuple[int, str], bool] = _Overlap(self._put_flag)
        self._syncs: _Overlap[int, float] = _Overlap(self._put_syncs)
        self._outboxes: _Overlap[int, int] = _Overlap(self._put_outboxes)
        self._cuts: _Overlap[Pair, bool] = _Overlap(self._put_cut)
        self._delays: _Overlap[Pair, float] = _Overlap(self._put_latency)
        self._noises: _Overlap[Pair, Noise] = _Overlap(self._put_noise)

    # --- machines --------------------------------------------------------------------------

    def boot(self) -> None:
        """Make the machines what the plan says; they are linked already, but for a cluster that has
        yet to find together. Late founders are to `come`."""
        plan, cluster = self.plan, self.cluster
        for index, machine in enumerate(cluster.machines):
            machine.clock.offset_ms = plan.offsets_ms[index]
            machine.sync_ms = plan.syncs_ms[index]
        for source, target in self.around(range(plan.nodes)):
            cluster.wire(source, target).latency_ms = plan.latency_ms(source, target)
        self._comers.append(self.down(plan.late))

    def come(self) -> None:
        """Let those come who are away until operators have dealt with that."""
        while self._comers:
            self._comers.pop()()

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
        # Only now: what is off the air misleads nobody.
        is_lost = index in self._losses
        image = self._losses.pop(index, None)
        if image is not None and self._may_lose(index, image):
            self._start_old(index, image)
        elif is_lost:
            self._start_without(index, is_empty=image is None and self._may_lose(index, None))
        else:
            self.cluster.restart(index)
        disk = self.cluster.machines[index].disk
        self._found_out.discard(index)
        for name in DISK_FLAGS:
            setattr(disk, name, bool(self._flags.wanted.get((index, name))))

    def _start_old(self, index: int, image: Image) -> None:
        """Start a machine with a disk as it was before. It is not known yet whether that is found
        out, and so what it comes to."""
        machine = self.cluster.machines[index]
        self.copies.put_aside(index)
        if index not in self._old:
            newest = Image(machine.disk, image.node_id, self.cluster.world.now)
            self._old[index] = _OldDisk(newest)
        self.cluster.restart(index, image=image)
        self._old[index].knowing[:] = self._who_knows(machine)

    def _start_without(self, index: int, *, is_empty: bool) -> None:
        """Start a machine without its disk. If that may not be lost, with the newest: which is an
        old one for good where a node went on with that before it was found out."""
        self.copies.put_aside(index)
        old = self._old.pop(index, None)
        newest = None if old is None or is_empty else old.newest
        accepts_old = old is None and not is_empty and index in self._found_out
        self.cluster.restart(index, is_empty=is_empty, image=newest, accepts_old=accepts_old)
        self.copies.judge_aside(index)

    def _who_knows(self, machine: Machine) -> list[tuple[Machine, int]]:
        """The machines that saw more of a disk than it has, each with its life."""
        node_id = machine.settings.node_id
        return [
            (each, each.life)
            for each in self.cluster.machines
            if each is not machine
            and each.is_running
            and each.node.membership.marks.of(node_id) > machine.ceiling
        ]

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Be the operator of a machine whose disk is an old one: it is found out, and refilled; or
        it counts, and what it lacks is lost."""
        if effects.end:
            index = self.cluster.machines.index(machine)
            self._losses[index] = None
            self._found_out.add(index)
            self.cluster.world.after(REFILL_MS, partial(self.start, index))
        elif self._old and machine.is_running and machine.node.membership.marks.counts:
            index = self.cluster.machines.index(machine)
            if index in self._old:
                self._blame(machine, self._old[index].knowing)
                self._judge_old(index)

    def _blame(self, machine: Machine, knowing: list[tuple[Machine, int]]) -> None:
        """A disk counts: no member that its node has met may have seen more of it. Who is none, as
        it left, is not believed: a stranger could make any disk look old."""
        membership = machine.node.membership
        layout = membership.layout
        members = set() if layout is None else {each.id for each in layout.members}
        for each, life in knowing:
            peer = membership.roster.by_id.get(each.settings.node_id)
            is_met = peer is not None and peer.is_linked and each.life == life
            if is_met and each.settings.node_id in members and self.plan.needs_sync:
                told = f"{machine.name} counts, with a disk of which {each.name} saw more"
                self.found.append(Violation("P1", b"", told))

    def _judge_old(self, index: int) -> None:
        if self._old.pop(index, None) is not None:
            self.copies.judge_aside(index)

    def start_all(self) -> None:
        """Start every machine that nothing keeps down."""
        for index in range(self.plan.nodes):
            self.start(index)
            if self._downs[index]:
                # It starts once more, and may have to go on with the newest then.
                self.copies.judge_aside(index)

    def lose_disk(self, index: int, image: Image | None = None) -> None:
        """Have a machine that is down come back with an empty disk, or with an old one of the same
        id. Not if the cluster could not do without the disk (`Copies.can_lose`), unless it is
        ruined: then it comes back with an empty one."""
        self._losses[index] = None if self._is_ruined(index) else image

    def ruin(self, nodes: Iterable[int], *, come_last: bool) -> Undo:
        """Kill machines whose disks are lost for good, be they more than the cluster can do
        without. They come back empty, after the undo; or when operators have given them up."""
        chosen = list(nodes)
        for index in chosen:
            node_id = self.cluster.machines[index].settings.node_id
            self.ruined.add(node_id)
            self.copies.given_up.add(node_id)
        up = self.down(chosen)
        for index in chosen:
            self.lose_disk(index)
        if not come_last:
            return up
        self._comers.append(up)
        return in_turn()

    def _is_ruined(self, index: int) -> bool:
        return self.cluster.machines[index].settings.node_id in self.ruined

    def _may_lose(self, index: int, image: Image | None) -> bool:
        machine = self.cluster.machines[index]
        if self._is_ruined(index):
            return True
        if image is None:
            is_needed = not self.cluster.can_bind_without({machine.settings.node_id})
            return not is_needed and self.copies.can_lose(index)
        # Nothing tells yet that a disk is old: with the votes of then it would vote twice.
        return image.node_id == machine.settings.node_id and all(
            image.disk.get_meta(name) == machine.disk.get_meta(name)
            for name in (LAYOUT_META, VOTE_META, PULL_META)
        )

    def has_moves(self) -> bool:
        """Whether copies may move in this world: also to fill a disk that is emptied as it was
        found out to be old."""
        names = {fault.name for fault in self.plan.faults}
        return bool(self.plan.refills) or not names.isdisjoint(("rollback", *MOVING))

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
