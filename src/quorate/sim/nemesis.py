# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault: how it begins and ends on a cluster, and what it costs of the fault budget.

Only a lost disk, one from earlier and damaged bytes cost copies (`copies` says when that is
harmless); no other fault may ever cost an acknowledged write.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from quorate.core.values.events import Effects
from quorate.core.values.messages import Mutate
from quorate.sim import splits
from quorate.sim.acts import Acts
from quorate.sim.machine import Machine
from quorate.sim.noise import Noise
from quorate.sim.plan import Fault
from quorate.sim.splits import Undo
from quorate.sim.twins import Twin

BROKEN_SHARE: Final = 0.5
"""Of connections of a machine that has no file descriptors left: without one nobody would notice.
"""
DIES_WITHIN_MS: Final = 3.0
"""Of sending a write to its replicas, so that some of them may not have got it."""


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
            self._on[number] = NEMESES[fault.name](self._acts, fault)

    def _end(self, number: int) -> None:
        undo = self._on.pop(number, None)
        if undo is not None:
            undo()


# --- the faults --------------------------------------------------------------------------------


def _kill(acts: Acts, fault: Fault) -> Undo:
    """Processes die; they start again on what the disk holds."""
    _for_each(acts.down, fault.nodes)
    return partial(_for_each, acts.up, fault.nodes)


def _for_each(call: Callable[[int], None], nodes: tuple[int, ...]) -> None:
    for index in nodes:
        call(index)


def _coordinator(acts: Acts, fault: Fault) -> Undo:
    """A process dies between the phases of the next write, or write-back, that it coordinates."""
    (index,) = fault.nodes
    trap = _Trap(acts, index)
    acts.cluster.observers.append(trap)

    def undo() -> None:
        acts.cluster.observers.remove(trap)
        trap.take_away()

    return undo


class _Trap:
    """Kills a machine just after it sent records to its peers."""

    def __init__(self, acts: Acts, index: int) -> None:
        self._acts = acts
        self._index = index
        self._is_set = True
        self._is_away = False
        self._has_sprung = False

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Spring if the step sends records."""
        if self._is_set and machine is self._acts.cluster.machines[self._index]:
            messages = (message for sent in effects.sends.values() for message in sent)
            if any(isinstance(message, Mutate) for message in messages):
                self._is_set = False
                delay_ms = self._acts.random.uniform(0, DIES_WITHIN_MS)
                self._acts.cluster.world.after(delay_ms, self._spring)

    def take_away(self) -> None:
        """Kill nobody any more, and start who was killed."""
        self._is_away = True
        if self._has_sprung:
            self._acts.up(self._index)

    def _spring(self) -> None:
        if not self._is_away:
            self._has_sprung = True
            self._acts.down(self._index)


def _echo(acts: Acts, fault: Fault) -> Undo:
    """A process starts, and soon again, and what it was told in between comes once more: answers
    to questions that it never asked, under numbers that it may be using."""
    (index,) = fault.nodes
    third_ms = (fault.end_ms - fault.begin_ms) / 3
    noise = Noise(late=fault.amount, late_ms=(third_ms / 2, 2 * third_ms))
    pairs = [(source, target) for source, target in acts.around(fault.nodes) if target == index]
    is_over = False

    def start_again() -> None:
        if not is_over:
            acts.down(index)
            acts.up(index)

    def undo() -> None:
        nonlocal is_over
        is_over = True
        acts.calm(pairs, noise)

    acts.disturb(pairs, noise)
    start_again()
    acts.cluster.world.after(third_ms, start_again)
    return undo


def _wipe(acts: Acts, fault: Fault) -> Undo:
    """A machine loses its disk: costs a copy of all that it held."""
    (index,) = fault.nodes
    acts.down(index)
    acts.lose_disk(index)
    return partial(acts.up, index)


def _rollback(acts: Acts, fault: Fault) -> Undo:
    """A machine works on, and comes back with the disk that it had when the fault began: with the
    copies, hints, id and clock's ceiling of then. Costs a copy of all that it took since."""
    (index,) = fault.nodes
    image = acts.cluster.machines[index].image()

    def undo() -> None:
        acts.down(index)
        acts.put_back(index, image)
        acts.up(index)

    return undo


def _pause(acts: Acts, fault: Fault) -> Undo:
    """Processes stop and go on, without dying."""
    _for_each(acts.pause, fault.nodes)
    return partial(_for_each, acts.resume, fault.nodes)


# --- links


def _reset(acts: Acts, fault: Fault) -> Undo:
    """Connections break, and lose what was under way."""
    for pair in acts.around(fault.nodes):
        acts.cluster.reset(*pair)
    return _nothing


def _halfopen(acts: Acts, fault: Fault) -> Undo:
    """The other side knows the connections no more, and nobody is told for long."""
    pairs = acts.around(fault.nodes)
    for pair in pairs:
        acts.cluster.forget(*pair)

    def undo() -> None:
        for pair in pairs:
            acts.cluster.wire(*pair).found_out()

    return undo


def _nothing() -> None:
    """What is over when it began."""


def _noise(name: str) -> Callable[[Acts, Fault], Undo]:
    """What TCP never does, with a probability, on the links of the named machines."""

    def begin(acts: Acts, fault: Fault) -> Undo:
        noise = Noise(**{name: fault.amount}, late_ms=(1.0, acts.plan.load_ms))
        pairs = acts.around(fault.nodes)
        acts.disturb(pairs, noise)
        return partial(acts.calm, pairs, noise)

    return begin


def _slow(acts: Acts, fault: Fault) -> Undo:
    """The links from the first machine to the others take long."""
    source, *targets = fault.nodes
    pairs = [(source, target) for target in targets]
    acts.slow(pairs, fault.amount)
    return partial(acts.quicken, pairs, fault.amount)


def _thin(acts: Acts, fault: Fault) -> Undo:
    """A line carries few bytes, and its outbox holds few."""
    pairs = acts.around(fault.nodes)
    wires = [acts.cluster.wire(*pair) for pair in pairs]
    for wire in wires:
        wire.bytes_per_ms = fault.amount
    sources = {source for source, _ in pairs}
    acts.shrink_outboxes(sources)

    def undo() -> None:
        for wire in wires:
            if wire.queued_bytes:
                # What waits in the line, answers to greetings too, would go on at its old pace.
                wire.reset()
                wire.back.reset()
            wire.bytes_per_ms = 0.0
        acts.widen_outboxes(sources)

    return undo


# --- disks


def _gray(acts: Acts, fault: Fault) -> Undo:
    """A machine does everything, but slowly."""
    (index,) = fault.nodes
    pairs = acts.around(fault.nodes)
    acts.slow(pairs, fault.amount)
    acts.drag(index, fault.amount)

    def undo() -> None:
        acts.quicken(pairs, fault.amount)
        acts.hurry(index, fault.amount)

    return undo


def _stall(acts: Acts, fault: Fault) -> Undo:
    """No sync ends for a while."""
    for index in fault.nodes:
        acts.cluster.stall(index, fault.end_ms - fault.begin_ms)
    return _nothing


def _busy(acts: Acts, fault: Fault) -> Undo:
    """Engines take no batch for the moment."""
    _for_each(acts.jam, fault.nodes)
    return partial(_for_each, acts.clear, fault.nodes)


def _full(acts: Acts, fault: Fault) -> Undo:
    """Disks are full."""
    _for_each(acts.fill, fault.nodes)
    return partial(_for_each, acts.free, fault.nodes)


def _syncfail(acts: Acts, fault: Fault) -> Undo:
    """The next sync fails, which ends the process; somebody starts it again."""
    for index in fault.nodes:
        acts.cluster.fail_sync(index)

    def undo() -> None:
        for index in fault.nodes:
            # It may not have come to a sync.
            acts.cluster.machines[index].fail_sync(fails=False)
            acts.start(index)

    return undo


def _rot(acts: Acts, fault: Fault) -> Undo:
    """Bits of some records flip: costs a copy of each. What is still on its way to the disk is
    spared, as it would be written over."""
    (index,) = fault.nodes
    before = acts.copies.held(index)
    keys = [key for key, version in before.items() if version == acts.copies.durable(index, key)]
    for key in acts.random.sample(keys, min(int(fault.amount), len(keys))):
        acts.cluster.rot(index, key)
    acts.copies.judge(index, before)
    return _nothing


def _hintrot(acts: Acts, fault: Fault) -> Undo:
    """Some hints cannot be read: reads must bring what they would have brought."""
    (index,) = fault.nodes
    acts.rot_hints(index, int(fault.amount))
    return _nothing


def _hang(acts: Acts, fault: Fault) -> Undo:
    """A sync never ends, until somebody ends the process. Before that the node says that it is not
    ready, and why (I33)."""
    (index,) = fault.nodes
    machine = acts.cluster.machines[index]
    life = machine.life
    machine.stall(math.inf)

    def undo() -> None:
        if machine.life == life and machine.hangs_for_ms() > acts.told_stuck_within_ms():
            acts.must_not_be_ready(index)
        acts.down(index)
        machine.go_on()
        acts.up(index)

    return undo


def _reopen(acts: Acts, fault: Fault) -> Undo:
    """Disks are full, and a write that meets that breaks the log: when there is room again, the
    database is closed and opened in a sync, in which nothing can be read."""
    _for_each(acts.fill_and_break, fault.nodes)
    return partial(_for_each, acts.free_and_mend, fault.nodes)


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


# --- the process


def _stop(acts: Acts, fault: Fault) -> Undo:
    """Processes are told to end, and started again: what they had begun is answered."""
    _for_each(acts.leave, fault.nodes)
    return partial(_for_each, acts.up, fault.nodes)


def _log(acts: Acts, fault: Fault) -> Undo:
    """No line of the log can be written."""
    return _flag(acts, fault, "is_log_broken", when_over=_nothing_of)


def _deaf(acts: Acts, fault: Fault) -> Undo:
    """Processes do all but read from their connections."""
    sources = {source for source, _ in acts.around(fault.nodes)}
    acts.shrink_outboxes(sources)
    undo = _flag(acts, fault, "is_deaf", when_over=Machine.read)

    def hear() -> None:
        undo()
        acts.widen_outboxes(sources)

    return hear


def _files(acts: Acts, fault: Fault) -> Undo:
    """Processes have no file descriptor left: they cannot dial, nor take who dials them."""
    for pair in acts.around(fault.nodes):
        if acts.random.random() < BROKEN_SHARE:
            acts.cluster.reset(*pair)
    return _flag(acts, fault, "lacks_files", when_over=Machine.read)


def _flag(acts: Acts, fault: Fault, name: str, *, when_over: Callable[[Machine], None]) -> Undo:
    """Something is so on machines, for as long as any fault says that it is."""
    acts.raise_flag(fault.nodes, name)

    def undo() -> None:
        for index in acts.lower_flag(fault.nodes, name):
            when_over(acts.cluster.machines[index])

    return undo


def _nothing_of(_: Machine) -> None:
    """Nothing has to be done when it is over."""


# --- clocks


def _clockstep(acts: Acts, fault: Fault) -> Undo:
    """Wall clocks step; later they step back."""
    for index in fault.nodes:
        acts.step_clock(index, fault.amount)

    def undo() -> None:
        for index in fault.nodes:
            acts.step_clock(index, -fault.amount)

    return undo


def _drift(acts: Acts, fault: Fault) -> Undo:
    """Clocks run fast or slow; what they gained or lost stays."""
    for index in fault.nodes:
        acts.cluster.set_clock_rate(index, 1.0 + fault.amount)

    def undo() -> None:
        for index in fault.nodes:
            acts.cluster.set_clock_rate(index, 1.0)

    return undo


# --- identities


def _twin(acts: Acts, fault: Fault) -> Undo:
    """A process with the URL and node id of a machine, and a copy of its disk, runs beside it. It
    must neither disturb anybody nor have a write of its own believed."""
    (index,) = fault.nodes
    twin = Twin(acts.cluster, index)
    # A twin that nobody has met yet cannot know that its own copy is none.
    if fault.amount and acts.plan.settings["w"] != 1:
        twin.put(acts.hot_key(), b"of the twin")
    return twin.stop


NEMESES: Final[dict[str, Callable[[Acts, Fault], Undo]]] = {
    "kill": _kill,
    "coordinator": _coordinator,
    "echo": _echo,
    "wipe": _wipe,
    "rollback": _rollback,
    "torn": _kill,
    "pause": _pause,
    "split": splits.split,
    "isolate": splits.split,
    "oneway": splits.oneway,
    "bridge": splits.bridge,
    "flap": splits.flap,
    "crossed": splits.crossed,
    "hold": splits.hold,
    "swizzle": splits.swizzle,
    "reset": _reset,
    "halfopen": _halfopen,
    "loss": _noise("loss"),
    "duplicate": _noise("duplicate"),
    "reorder": _noise("reorder"),
    "late": _noise("late"),
    "damage": _noise("damage"),
    "slow": _slow,
    "thin": _thin,
    "gray": _gray,
    "stall": _stall,
    "busy": _busy,
    "full": _full,
    "rot": _rot,
    "hintrot": _hintrot,
    "syncfail": _syncfail,
    "clockstep": _clockstep,
    "drift": _drift,
    "skew": _clockstep,
    "hintoverflow": splits.split,
    "twin": _twin,
    "stop": _stop,
    "hang": _hang,
    "reopen": _reopen,
    "noread": _noread,
    "log": _log,
    "pieces": _noise("pieces"),
    "deaf": _deaf,
    "files": _files,
}
"""By the names of `plan.FAULTS`."""
