# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults: what is drawn for each, how it begins, what ends it, and the nemesis that sees to it.

Only a lost disk, one from earlier and damaged bytes cost copies (`copies` says when that is
harmless); no other fault may ever cost an acknowledged write.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

from quorate.core.values.events import Effects, Put, Result
from quorate.core.values.messages import AcceptRows, Mutate, PrepareRows
from quorate.sim import changes, splits, strikes
from quorate.sim.acts import Acts, Spell, Undo, in_turn
from quorate.sim.checkers import Violation
from quorate.sim.machine import Machine
from quorate.sim.noise import Noise
from quorate.sim.plan import Fault
from quorate.sim.twins import twin_of
from quorate.sim.upgrades import upgrade
from quorate.sim.world import UpTo

BROKEN_SHARE: Final = 0.5
"""Of the connections of a machine that has no file descriptors left: only if some break does it
need new ones."""
DIES_WITHIN_MS: Final = 3.0
"""How soon a coordinator dies after it sent a write: some replicas may not have got it yet."""
DIES_AT: Final = ((Mutate,), (AcceptRows, Mutate), (PrepareRows, AcceptRows, Mutate))
"""What it dies with, one of these: a plain write has the last round alone, mostly."""
STUCK_TOLD_MS: Final = 500.0
"""Longer than a slow clock needs to notice that a sync takes too long."""


# --- processes


def _flag(*names: str) -> Callable[[Acts, Fault], Undo]:
    """What sets attributes of the named machines or of their disks: names of `acts.FLAGS`."""
    return lambda acts, fault: acts.flag(fault.nodes, *names)


def _nodes(act: Callable[[Acts, Iterable[int]], Undo]) -> Callable[[Acts, Fault], Undo]:
    """What does one thing to the named machines."""
    return lambda acts, fault: act(acts, fault.nodes)


def _coordinator(acts: Acts, fault: Fault) -> Undo:
    """A process dies between the rounds of the next write, read-modify-write or write-back that it
    coordinates, or with the last of them."""
    trap = _Trap(acts, fault.nodes[0])
    acts.cluster.observers.append(trap)
    return in_turn(partial(acts.cluster.observers.remove, trap), trap.take_away)


class _Trap:
    """Kills a machine just after it asked its peers to take records, or to vote on one."""

    def __init__(self, acts: Acts, index: int) -> None:
        self._acts = acts
        self._index = index
        self._rounds = acts.random.choice(DIES_AT)
        self._spell = Spell(acts.cluster.world)
        self._is_set = True
        self._revive = in_turn()

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Spring if the step begins such a round."""
        if self._is_set and machine is self._acts.cluster.machines[self._index]:
            messages = (message for sent in effects.sends.values() for message in sent)
            if any(isinstance(message, self._rounds) for message in messages):
                self._is_set = False
                self._spell.after(self._acts.random.uniform(0, DIES_WITHIN_MS), self._spring)

    def take_away(self) -> None:
        """Kill nobody any more, and start who was killed."""
        self._spell.end()
        self._revive()

    def _spring(self) -> None:
        self._revive = self._acts.down([self._index])


def _echo(acts: Acts, fault: Fault) -> Undo:
    """A process starts, and soon again, and what it was told in between comes once more: answers
    to questions that it never asked, under numbers that it may be using."""
    third_ms = fault.lasts_ms / 3
    noise = Noise(late=fault.amount, late_ms=(third_ms / 2, 2 * third_ms))
    heard = [pair for pair in acts.around(fault.nodes) if pair[1] in fault.nodes]
    calm = acts.disturb(heard, noise)
    spell = Spell(acts.cluster.world)

    def start_again() -> None:
        acts.down(fault.nodes)()

    start_again()
    spell.after(third_ms, start_again)
    return in_turn(spell.end, calm)


def _wipe(acts: Acts, fault: Fault) -> Undo:
    """A machine loses its disk: costs a copy of all that it held."""
    up = acts.down(fault.nodes)
    acts.lose_disk(fault.nodes[0])
    return up


def _rollback(acts: Acts, fault: Fault) -> Undo:
    """A machine works on, and comes back with the disk that it had when the fault began: with the
    copies, hints, id and clock's ceiling of then. Costs a copy of all that it took since."""
    (index,) = fault.nodes
    image = acts.cluster.machines[index].image()

    def undo() -> None:
        up = acts.down(fault.nodes)
        acts.lose_disk(index, image)
        up()

    return undo


def _deaf(acts: Acts, fault: Fault) -> Undo:
    """Processes do all but read from their connections."""
    widen = acts.shrink_outboxes({source for source, _ in acts.around(fault.nodes)})
    hear = acts.flag(fault.nodes, "is_deaf")
    return in_turn(hear, partial(_read, acts, fault.nodes), widen)


def _files(acts: Acts, fault: Fault) -> Undo:
    """Processes have no file descriptor left: they cannot dial, nor take who dials them."""
    for pair in acts.around(fault.nodes):
        if acts.random.random() < BROKEN_SHARE:
            acts.cluster.reset(*pair)
    return in_turn(acts.flag(fault.nodes, "lacks_files"), partial(_read, acts, fault.nodes))


def _read(acts: Acts, nodes: Iterable[int]) -> None:
    """Have processes take what waits in their kernels, as far as they can."""
    for index in nodes:
        acts.cluster.machines[index].read()


def _twin(acts: Acts, fault: Fault) -> Undo:
    """A process with the URL and node id of a machine, and a copy of its disk, runs beside it. It
    must neither disturb anybody nor have a write of its own believed."""
    twin = twin_of(acts.cluster, fault.nodes[0])
    # A twin that nobody has met yet cannot know that its own copy is none.
    if fault.amount and acts.plan.settings["w"] != 1:
        twin.receive(Put(_Nobody(), acts.hot_key(), b"of the twin"))
    return twin.crash


class _Nobody:
    """Does not care what is answered (`events.Waiter`)."""

    def done(self, result: Result) -> None:
        """Forget it."""


# --- links


def _reset(acts: Acts, fault: Fault) -> Undo:
    """Connections break, and lose what was under way."""
    for pair in acts.around(fault.nodes):
        acts.cluster.reset(*pair)
    return in_turn()


def _halfopen(acts: Acts, fault: Fault) -> Undo:
    """The other side knows the connections no more, and nobody is told for long."""
    pairs = acts.around(fault.nodes)
    for pair in pairs:
        acts.cluster.wire(*pair).forget()

    def undo() -> None:
        for pair in pairs:
            acts.cluster.wire(*pair).found_out()

    return undo


def _noise(acts: Acts, fault: Fault) -> Undo:
    """What TCP never does, with a probability, on all links of the named machines. The fault's name
    is that of the field of `Noise`."""
    noise = Noise(**{fault.name: fault.amount}, late_ms=(1.0, acts.plan.load_ms))
    return acts.disturb(acts.around(fault.nodes), noise)


def _slow(acts: Acts, fault: Fault) -> Undo:
    """The links from the first machine to the others take long."""
    source, *targets = fault.nodes
    return acts.slow([(source, target) for target in targets], fault.amount)


def _thin(acts: Acts, fault: Fault) -> Undo:
    """A line carries few bytes, and its outbox holds few."""
    pairs = acts.around(fault.nodes)
    wires = [acts.cluster.wire(*pair) for pair in pairs]
    for wire in wires:
        wire.bytes_per_ms = fault.amount
    widen = acts.shrink_outboxes({source for source, _ in pairs})

    def undo() -> None:
        for wire in wires:
            if wire.queued_bytes:
                # What waits in the line, answers to greetings too, would go on at its old pace.
                wire.reset()
                wire.back.reset()
            wire.bytes_per_ms = 0.0
        widen()

    return undo


# --- disks


def _gray(acts: Acts, fault: Fault) -> Undo:
    """A machine does everything, but slowly."""
    quicken = acts.slow(acts.around(fault.nodes), fault.amount)
    return in_turn(quicken, acts.drag(fault.nodes[0], fault.amount))


def _stall(acts: Acts, fault: Fault) -> Undo:
    """No sync ends for a while."""
    for index in fault.nodes:
        acts.cluster.machines[index].stall(fault.lasts_ms)
    return in_turn()


def _noread(acts: Acts, fault: Fault) -> Undo:
    """Some reads fail, for want of file descriptors or memory."""
    disks = [acts.cluster.machines[index].disk for index in fault.nodes]
    draw = acts.cluster.world.generator(f"noread {fault.begin_ms}").random
    for disk in disks:
        disk.is_read_lost = lambda: draw() < fault.amount

    def undo() -> None:
        for disk in disks:
            disk.is_read_lost = None

    return undo


def _syncfail(acts: Acts, fault: Fault) -> Undo:
    """The next sync fails, which ends the process; somebody starts it again."""
    for index in fault.nodes:
        acts.cluster.machines[index].fail_sync()

    def undo() -> None:
        for index in fault.nodes:
            # It may not have come to a sync.
            acts.cluster.machines[index].has_sync_error = False
            acts.start(index)

    return undo


def _hang(acts: Acts, fault: Fault) -> Undo:
    """A sync never ends, until somebody ends the process. Before that the node says that it is not
    ready, and why (I33), if writes wait for syncs, and it has had the time to notice."""
    machine = acts.cluster.machines[fault.nodes[0]]
    life = machine.life
    machine.stall(math.inf)

    def undo() -> None:
        told_within_ms = acts.plan.settings["timeout_ms"] + STUCK_TOLD_MS
        is_told = machine.life == life and machine.hangs_for_ms() > told_within_ms
        can_tell = machine.is_reading and machine.resumed_ms < acts.cluster.world.now
        if acts.plan.needs_sync and is_told and can_tell and machine.driver.node.status().ready:
            told = f"{machine.name} says that it is ready, and its disk confirms nothing"
            acts.found.append(Violation("I33", b"", told))
        up = acts.down(fault.nodes)
        machine.go_on()
        up()

    return undo


def _rot(acts: Acts, fault: Fault) -> Undo:
    """Bits of some records flip, and of what was voted on every other one: costs a copy of each.
    What is still on its way to the disk is spared, as it would be written over."""
    (index,) = fault.nodes
    before = acts.copies.held(index)
    keys = [key for key, version in before.items() if version == acts.copies.durable(index, key)]
    if acts.has_moves():
        # What moves waits for sound copies, as many as who gains it has to ask.
        keys = [key for key in keys if acts.copies.has_sources(key, without=index)]
    for number, key in enumerate(acts.random.sample(keys, min(int(fault.amount), len(keys)))):
        acts.cluster.rot(index, key)
        if number % 2 == 0:
            acts.cluster.rot_votes(index, key)
    acts.copies.judge(index, before)
    return in_turn()


def _hintrot(acts: Acts, fault: Fault) -> Undo:
    """Some hints cannot be read: reads must bring what they would have brought."""
    disk = acts.cluster.machines[fault.nodes[0]].disk
    names = disk.hint_names()
    for name in acts.random.sample(names, min(int(fault.amount), len(names))):
        disk.rot_hint(name)
    return in_turn()


# --- clocks


def _clockstep(acts: Acts, fault: Fault) -> Undo:
    """Wall clocks step, by an amount in units of the guard; later they step back."""
    return acts.step_clocks(fault.nodes, fault.amount)


def _drift(acts: Acts, fault: Fault) -> Undo:
    """Clocks run fast or slow, by a rate; what they gained or lost stays."""

    def run(rate: float) -> None:
        for index in fault.nodes:
            acts.cluster.set_clock_rate(index, rate)

    run(1.0 + fault.amount)
    return partial(run, 1.0)


# --- the table


class Harm(enum.Enum):
    """The worst that a fault can do."""

    NONE = enum.auto()
    """No frame is kept from arriving, and no request may fail."""
    SILENCE = enum.auto()
    """Frames do not arrive."""
    ANY = enum.auto()
    """Processes, disks or clocks are in trouble."""


class FaultKind(NamedTuple):
    """What a fault of one name is, and what is drawn for it."""

    begin: Callable[[Acts, Fault], Undo]
    harm: Harm = Harm.ANY
    nodes: tuple[int, ...] = (1,)
    """How many nodes it names; 0 is all."""
    limits_ms: UpTo = (20, 100, 500, 2_000)
    """How long it lasts."""
    amounts: tuple[float, ...] = (0.0,)


_NONE: Final = Harm.NONE
_SILENCE: Final = Harm.SILENCE
_ONE_OR_TWO: Final = (1, 1, 2)
_SOME_OR_ALL: Final = (1, 2, 0)
_SHARES: Final = (0.01, 0.05, 0.2, 0.5)
_STEPS: Final = (-3.0, -1.5, -1.0, -0.9, -0.5, -0.02, 0.02, 0.5, 0.9, 1.0, 1.5, 3.0)

FAULTS: Final[dict[str, FaultKind]] = {
    "kill": FaultKind(_nodes(Acts.down), nodes=_ONE_OR_TWO),
    "coordinator": FaultKind(_coordinator),
    "echo": FaultKind(_echo, limits_ms=(100, 500, 2_000), amounts=(0.2, 1.0)),
    "wipe": FaultKind(_wipe),
    "rollback": FaultKind(_rollback),
    "torn": FaultKind(_nodes(Acts.down), nodes=(2, 3, 0), limits_ms=(20, 100, 500)),
    "pause": FaultKind(_nodes(Acts.pause), _SILENCE, nodes=_ONE_OR_TWO),
    "split": FaultKind(splits.split, _SILENCE, nodes=(2, 2, 3)),
    "isolate": FaultKind(splits.split, _SILENCE),
    "oneway": FaultKind(splits.oneway, _SILENCE, (2, 2, 3, 4), (10, 30, 100, 500)),
    "bridge": FaultKind(splits.bridge, _SILENCE, nodes=(0,)),
    "flap": FaultKind(splits.flap, _SILENCE, nodes=(1, 2), amounts=(5.0, 30.0, 200.0)),
    "crossed": FaultKind(
        splits.crossed, nodes=(0,), limits_ms=(1_000, 4_000), amounts=(4.0, 8.0, 16.0)
    ),
    "hold": FaultKind(splits.hold, _SILENCE, (0,), (500, 2_000, 4_000), (2.0, 4.0, 8.0)),
    "swizzle": FaultKind(splits.swizzle, _SILENCE, (2, 4), (100, 500, 2_000)),
    "reset": FaultKind(_reset, _SILENCE, nodes=_SOME_OR_ALL),
    "halfopen": FaultKind(_halfopen, _SILENCE, nodes=(1, 2), limits_ms=(500, 2_000)),
    "loss": FaultKind(_noise, _SILENCE, nodes=_SOME_OR_ALL, amounts=_SHARES),
    "duplicate": FaultKind(_noise, _SILENCE, nodes=_SOME_OR_ALL, amounts=_SHARES),
    "reorder": FaultKind(_noise, _SILENCE, nodes=_SOME_OR_ALL, amounts=_SHARES),
    "late": FaultKind(_noise, _SILENCE, nodes=_SOME_OR_ALL, amounts=_SHARES),
    "damage": FaultKind(_noise, _SILENCE, nodes=_SOME_OR_ALL, amounts=_SHARES[:3]),
    "slow": FaultKind(_slow, _SILENCE, nodes=(2, 3), amounts=(20.0, 100.0, 500.0)),
    "thin": FaultKind(_thin, _SILENCE, limits_ms=(100, 500), amounts=(1.0, 10.0)),
    "gray": FaultKind(_gray, _SILENCE, amounts=(5.0, 30.0, 200.0)),
    "stall": FaultKind(_stall, nodes=(1, 2)),
    "busy": FaultKind(_flag("is_busy"), nodes=(1, 2), limits_ms=(20, 100)),
    "full": FaultKind(_flag("is_full"), nodes=(1, 2)),
    "rot": FaultKind(_rot, amounts=(1.0, 3.0, 100.0)),
    "hintrot": FaultKind(_hintrot, amounts=(1.0, 100.0)),
    "syncfail": FaultKind(_syncfail, nodes=(1, 2)),
    "clockstep": FaultKind(_clockstep, nodes=_SOME_OR_ALL, amounts=_STEPS),
    "drift": FaultKind(_drift, nodes=(1, 2), amounts=(-0.5, -0.01, 0.01, 0.5)),
    "skew": FaultKind(_clockstep, nodes=(1, 2), limits_ms=(10_000,), amounts=_STEPS),
    "hintoverflow": FaultKind(splits.split, limits_ms=(500, 2_000)),
    "twin": FaultKind(_twin, _NONE, limits_ms=(500, 2_000), amounts=(0.0, 1.0)),
    "stop": FaultKind(_nodes(Acts.leave), nodes=_ONE_OR_TWO),
    "hang": FaultKind(_hang, limits_ms=(3_000, 10_000)),
    "reopen": FaultKind(_flag("is_full", "log_breaks"), nodes=(1, 2), limits_ms=(20, 100, 500)),
    "noread": FaultKind(_noread, nodes=(1, 2), amounts=(0.05, 0.5)),
    "log": FaultKind(_flag("is_log_broken"), _NONE, nodes=(1, 0)),
    "pieces": FaultKind(_noise, _NONE, nodes=_SOME_OR_ALL, amounts=(0.2, 1.0)),
    "deaf": FaultKind(_deaf, _SILENCE, nodes=_ONE_OR_TWO),
    "files": FaultKind(_files, _SILENCE, nodes=(1, 2)),
    "join": FaultKind(changes.join, _NONE, nodes=(2,)),
    "leave": FaultKind(changes.leave, _NONE, nodes=(2,)),
    "replace": FaultKind(changes.replace, _NONE, nodes=(3,)),
    "bury": FaultKind(changes.bury, nodes=(3,), limits_ms=(2_000, 4_000)),
    "weight": FaultKind(changes.weight, _NONE, nodes=(2,), amounts=(1.0, 2.0, 5.0)),
    "zone": FaultKind(changes.zone, _NONE, nodes=(2,), amounts=(0.0, 1.0, 2.0)),
    "copies": FaultKind(changes.copies, _NONE, amounts=(1.0, 2.0, 3.0, 4.0, 5.0)),
    "cancel": FaultKind(changes.cancel, _NONE),
    "apply": FaultKind(changes.apply, _NONE),
    "behind": FaultKind(strikes.behind, limits_ms=(500, 2_000)),
    "gainer": FaultKind(strikes.gainer, limits_ms=(2_000,), amounts=(0.0, 100.0, 500.0)),
    "recall": FaultKind(strikes.recall, limits_ms=(2_000,), amounts=(0.0, 20.0, 500.0)),
    "handover": FaultKind(strikes.handover, _SILENCE, limits_ms=(2_000,)),
    "ruin": FaultKind(changes.ruin, amounts=(0.0, 1.0)),
    "upgrade": FaultKind(upgrade, nodes=(0,), limits_ms=(500, 2_000), amounts=(0.5, 1.0, 1.0)),
}
"""All of them, by name, in the order in which a seed draws them."""

MILD: Final = frozenset(name for name, kind in FAULTS.items() if kind.harm is not Harm.ANY)
"""Faults that keep frames from arriving, and do nothing worse."""


def are_mild(faults: Iterable[Fault]) -> bool:
    """Whether all of them are."""
    return all(fault.name in MILD for fault in faults)


class Nemesis:
    """All that goes wrong in one world."""

    def __init__(self, acts: Acts) -> None:
        self.injected: Counter[str] = Counter()
        """Faults that began, by name."""
        self._acts = acts
        self._on: dict[int, Undo] = {}
        """What ends each fault that is on."""
        self._is_over = False

    def schedule(self, faults: Iterable[Fault]) -> None:
        """Have every fault begin and end in its time, counted from now."""
        world = self._acts.cluster.world
        for number, fault in enumerate(faults):
            world.after(fault.begin_ms, partial(self._begin, number, fault))
            world.after(fault.end_ms, partial(self._end, number))

    def heal(self) -> None:
        """End all faults now; no other begins."""
        self._is_over = True
        for number in list(self._on):
            self._end(number)

    def _begin(self, number: int, fault: Fault) -> None:
        if not self._is_over:
            self.injected[fault.name] += 1
            self._on[number] = FAULTS[fault.name].begin(self._acts, fault)

    def _end(self, number: int) -> None:
        undo = self._on.pop(number, None)
        if undo is not None:
            undo()
