# SPDX-License-Identifier: GPL-3.0-or-later
"""What is further ahead than clocks may differ is believed by nobody (I8).

A stamp past the guard that is stored all the same wins over every later write until clocks reach
it; a clock that follows one hands it on to all others. `stamps` judges what a node gives out
itself, this module what it takes from others.
"""

from __future__ import annotations

from quorate.core.node import Node
from quorate.core.values.versions import made_of, ms_of, stamp_of
from quorate.sim.checkers.watch import Judge, Step


class Guard(Judge):
    """Looks at the hybrid clock of a node, and at the stamps of what it stores."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[Node, int] = {}
        """What the clock of each node came to in its last step."""

    def measure(self, node: Node) -> None:
        """Judge how far the clock of a node went in a step."""
        clock, turn = node.parts.clock, node.parts.turn
        # A new process begins at its ceiling, however far its wall clock was stepped back.
        last = clock.last
        before = self._last.get(node, last)
        self._last[node] = last
        if last > before:
            ahead_ms = ms_of(last) - turn.wall_ms - node.settings.max_clock_skew_ms
            if ahead_ms > 0:
                url = node.settings.url
                self.blame("I8", f"the clock of {url} went {ahead_ms} ms past its guard")

    def look(self, step: Step) -> None:
        """Judge what a step stored."""
        if not step.stored:
            return
        machine = step.machine
        limit_ms = machine.now().wall_ms + machine.settings.max_clock_skew_ms
        own = machine.process.to_bytes(6, "big")
        for given in step.stored:
            version = given.record.version
            # Its own write, begun anew under another layout, keeps its stamp, though the clock that
            # made it was set back since.
            if version.endswith(own):
                continue
            ahead_ms = ms_of(max(stamp_of(version), made_of(version))) - limit_ms
            if ahead_ms > 0:
                told = f"{machine.url} took a stamp {ahead_ms} ms past its guard"
                self.blame("I8", told, given.row)
