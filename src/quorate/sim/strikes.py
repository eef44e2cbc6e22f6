# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that wait for copies to move, and strike when that is open to harm.

It is so for some milliseconds of a world: when the last page of a pull is on its way to the disk,
or the next layout is known to some nodes alone. Chance hits these once in thousands of worlds.
Example: what a node has pulled must be on its disk before it says so. That shows only in a power
cut within one sync after it said so.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec

from quorate.core.exchanges.pulls import PULL_META
from quorate.core.topology.layout import Layout
from quorate.core.values.events import Effects
from quorate.core.values.slots import partition_bounds
from quorate.core.values.wish import Wish
from quorate.sim.acts import Acts, Spell, Undo, in_turn
from quorate.sim.changes import wish_for
from quorate.sim.machine import Machine
from quorate.sim.plan import Fault

DIES_WITHIN_MS: Final = 10.0
"""How soon a node dies after it noted what it has pulled: the sync of that may be under way."""
SLOW_SYNC_MS: Final = 300.0
STALLS_MS_MAX: Final = 5_000.0
"""For which a disk stands at most, unless the node notes more."""


def gainer(acts: Acts, fault: Fault) -> Undo:
    """A node dies when it has pulled a partition in which there is something. Or, if the fault has
    an amount, no sync of its disk ends from the first records on until it has pulled all, and so
    many milliseconds later it dies."""
    return _Gainer(acts, fault.amount).wait()


def handover(acts: Acts, fault: Fault) -> Undo:
    """Where copies move, who hears first of the next layout, and who gains by it, are cut off from
    all others, who go on by the one before."""
    del fault
    return _Handover(acts).wait()


def recall(acts: Acts, fault: Fault) -> Undo:
    """When a node has pulled something, an operator calls the move off, and as many milliseconds
    later as the fault's amount has it go on. Meanwhile that node's disk is slow: what it gives up
    may be there still when it is to pull it again."""
    return _Recall(acts, fault).wait()


def behind(acts: Acts, fault: Fault) -> Undo:
    """Until copies move a machine is cut off from all others, and no hint survives that: it lacks
    what was written meanwhile, and where W is 1 it alone has what it took."""
    for pair in acts.around(fault.nodes):
        acts.cluster.reset(*pair)
    mend = acts.cut(acts.across(fault.nodes))

    def undo() -> None:
        for machine in acts.cluster.machines:
            for name in machine.disk.hint_names():
                machine.disk.rot_hint(name)
        mend()

    return undo


class _Strike:
    """Watches all steps (`cluster.Observer`), and strikes once."""

    def __init__(self, acts: Acts) -> None:
        self.acts = acts
        self.spell = Spell(acts.cluster.world)
        self.is_waiting = True
        self.undo = in_turn()

    def wait(self) -> Undo:
        """Begin to; returns what ends it, and what came of it."""
        observers = self.acts.cluster.observers
        observers.append(self)
        return in_turn(partial(observers.remove, self), self.end)

    def end(self) -> None:
        """Strike no more, and undo it."""
        self.spell.end()
        self.undo()

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Strike, if it is time."""
        raise NotImplementedError


class _Pulled:
    """What of the partitions that are pulled has anything in it: its records come first, and the
    note that it is complete some steps later, when its votes are here too."""

    def __init__(self) -> None:
        self._held: set[tuple[Machine, int]] = set()
        """Who has written records of which partition while it pulled that."""

    def has_records(self, machine: Machine, effects: Effects) -> bool:
        """Whether a step writes records of the partition under way. Each step is asked for."""
        left, batch = machine.node.pulls.left, effects.batch
        if not left or batch is None:
            return False
        first, past = partition_bounds(left[0])
        has_records = any(first <= row < past for row, _ in batch.records)
        if has_records:
            self._held.add((machine, left[0]))
        return has_records

    def is_complete(self, machine: Machine, effects: Effects) -> bool:
        """Whether a step notes that one of these is complete."""
        noted = effects.batch and dict(effects.batch.meta).get(PULL_META)
        if not noted:
            return False
        _, complete = msgspec.msgpack.decode(noted, type=tuple[int, list[int]])
        return any((machine, partition) in self._held for partition in complete)


class _Gainer(_Strike):
    """Kills one that pulls."""

    def __init__(self, acts: Acts, stalls_ms: float) -> None:
        super().__init__(acts)
        self._stalls_ms = stalls_ms
        self._stalled: Machine | None = None
        self._pulled = _Pulled()

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Part of `cluster.Observer`."""
        if not self.is_waiting or not machine.is_running:
            return
        has_records = self._pulled.has_records(machine, effects)
        if not self._stalls_ms:
            if self._pulled.is_complete(machine, effects):
                self._strike(machine, self.acts.random.uniform(0, DIES_WITHIN_MS))
            return
        if self._stalled is None and has_records:
            self._stalled = machine
        if machine is not self._stalled or effects.batch is None:
            return
        if has_records or PULL_META in dict(effects.batch.meta):
            machine.stall(STALLS_MS_MAX)
            if not machine.node.pulls.left:
                self._strike(machine, self._stalls_ms)

    def _strike(self, machine: Machine, after_ms: float) -> None:
        self.is_waiting = False
        index = self.acts.cluster.machines.index(machine)
        self.spell.after(after_ms, partial(self._kill, index))

    def _kill(self, index: int) -> None:
        self._stalled = None
        self.acts.cluster.machines[index].go_on()
        self.undo = self.acts.down([index])

    def end(self) -> None:
        """Part of `_Strike`."""
        if self._stalled is not None:
            # No sync that is under way would end for long, and no kill that is due comes any more.
            self._kill(self.acts.cluster.machines.index(self._stalled))
        super().end()


class _Recall(_Strike):
    """Has operators change their minds."""

    def __init__(self, acts: Acts, fault: Fault) -> None:
        super().__init__(acts)
        self._node = fault.nodes[0]
        self._after_ms = fault.amount
        self._is_recalled = False
        self._pulled = _Pulled()

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Part of `cluster.Observer`."""
        if not self.is_waiting or not machine.is_running:
            return
        self._pulled.has_records(machine, effects)
        layout = machine.node.membership.layout
        if self._is_recalled:
            if layout is not None and not layout.moves:
                self.is_waiting = False
                self._wish(self._after_ms, Wish())
        elif self._pulled.is_complete(machine, effects):
            self._is_recalled = True
            self.undo = self.acts.drag(self.acts.cluster.machines.index(machine), SLOW_SYNC_MS)
            self._wish(0.0, Wish(stops=True))

    def _wish(self, after_ms: float, wish: Wish) -> None:
        self.spell.after(after_ms, partial(wish_for, self.acts, self._node, wish))


class _Handover(_Strike):
    """Splits the nodes by the layout that they know."""

    def __init__(self, acts: Acts) -> None:
        super().__init__(acts)
        self._before: Layout = acts.cluster.layout()

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Part of `cluster.Observer`."""
        del effects
        layout = machine.node.membership.layout if machine.is_running else None
        if not self.is_waiting or layout is None or layout.epoch <= self._before.epoch:
            return
        gainers = layout.gainers() | self._before.gainers()
        self._before = layout
        if gainers:
            self.is_waiting = False
            machines = self.acts.cluster.machines
            side = [i for i, each in enumerate(machines) if each.settings.node_id in gainers]
            side.append(machines.index(machine))
            self.undo = self.acts.cut(self.acts.across(set(side)))
