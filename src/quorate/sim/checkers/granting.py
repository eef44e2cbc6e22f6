# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks for fewer copies of each key is refused where some node was started with a W or R that
these could never answer (I25), and is told of such a node only if there is one (P3)."""

from __future__ import annotations

from quorate.core.values.events import Change, Waiter
from quorate.sim.checkers.watch import Judge, Step


class Granting(Judge):
    """Looks at what operators ask for, which every node answers by what all were started with."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[Waiter, int] = {}
        """How many copies, by who waits for the answer."""
        self._epoch = 0
        """Of the newest layout that was judged."""

    def look(self, step: Step) -> None:
        """Judge the refusals of a step, and the layout that it adopted."""
        machine = step.machine
        for event in machine.events:
            if isinstance(event, Change) and event.wish.replication:
                self._asked[event.waiter] = event.wish.replication
        most = max(machine.settings.w, machine.settings.r)
        for waiter, error in step.refused:
            copies = self._asked.pop(waiter, 0)
            if copies >= max(most, 1) and "was started with -" in str(error):
                self.blame("P3", f"{machine.url} refused {copies} copies of each key: {error}", b"")
        layout = None if step.node is None else step.node.membership.layout
        if layout is None or layout.epoch <= self._epoch:
            return
        self._epoch = layout.epoch
        if layout.replication < most:
            told = f"{machine.url} needs {most} copies of each key, and there are to be"
            self.blame("I25", f"{told} {layout.replication}", b"")
