# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks for fewer copies of each key is refused where some node was started with a W or R that
these could never answer (I25), and is told of such a node only if there is one (P3). Nor do rows
become shorter than that, but after a layout that somebody forced, or a recovery."""

from __future__ import annotations

from quorate.core.topology.layout import RECOVERY_EPOCHS, Layout
from quorate.core.values.events import Change, Waiter
from quorate.errors import Outcome
from quorate.sim.checkers.watch import Judge, Step


class Granting(Judge):
    """Looks at what operators ask for, which every node answers by what all were started with."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[Waiter, int] = {}
        """How many copies, by who waits for the answer."""
        self._epoch = 0
        """Of the newest layout that was judged."""
        self._least = 0
        """Nodes that its shortest row had."""
        self._shares: object = None
        """The members by that layout, and how many copies there shall be."""
        self._forced: set[Waiter] = set()
        """Who asked for something by force, and was not refused."""
        self._is_forced = False
        """Whether a layout came of that, or members were given up: then rows may be shorter."""

    def look(self, step: Step) -> None:
        """Judge the refusals of a step, and the layout that it adopted."""
        machine = step.machine
        for event in machine.events:
            if isinstance(event, Change):
                self._note(event)
        most = max(machine.settings.w, machine.settings.r)
        for waiter, error in step.refused:
            copies = self._asked.pop(waiter, 0)
            if error.outcome is Outcome.NOT_APPLIED:
                self._forced.discard(waiter)
            if copies >= max(most, 1) and "was started with -" in str(error):
                self.blame("P3", f"{machine.url} refused {copies} copies of each key: {error}", b"")
        layout = None if step.node is None else step.node.membership.layout
        if layout is None or layout.epoch <= self._epoch:
            return
        shares = layout.members, layout.replication
        self._is_forced |= bool(self._forced) and shares != self._shares
        self._is_forced |= layout.epoch // RECOVERY_EPOCHS > self._epoch // RECOVERY_EPOCHS
        self._epoch, self._shares = layout.epoch, shares
        before, self._least = self._least, _least_of(layout)
        if self._least < min(most, before) and not self._is_forced:
            told = f"{machine.url} needs {most} copies of each key, and some would have"
            self.blame("I25", f"{told} {self._least}", b"")
        if layout.replication < most:
            told = f"{machine.url} needs {most} copies of each key, and there are to be"
            self.blame("I25", f"{told} {layout.replication}", b"")

    def _note(self, event: Change) -> None:
        """Somebody asks for something."""
        wish = event.wish
        if wish.is_forced and not event.is_preview:
            self._forced.add(event.waiter)
        if wish.replication:
            self._asked[event.waiter] = wish.replication


def _least_of(layout: Layout) -> int:
    """How many nodes the shortest row has, of those that are and of those that shall be."""
    return min([len(row) for row in (*layout.table, *[row for _, row in layout.moves])])
