# SPDX-License-Identifier: GPL-3.0-or-later
"""What is further ahead than clocks may differ is believed by nobody (I8).

A stamp past the guard that is stored all the same wins over every later write until clocks reach
it; a clock that follows one hands it on to all others. `stamps` judges what a node gives out
itself, this module what it takes from others. Who gains a copy may take what a majority of those
that had it hold (`core.exchanges.sources`): that wins already.
"""

from __future__ import annotations

from quorate.core.node import Node
from quorate.core.topology.layout import Layout
from quorate.core.values.settings import majority
from quorate.core.values.slots import partition_of
from quorate.core.values.versions import made_of, ms_of, stamp_of
from quorate.sim.checkers.watch import Gift, Judge, Machines, Step, holds
from quorate.sim.machine import Machine


class Guard(Judge):
    """Looks at the hybrid clock of a node, and at the stamps of what it stores."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines
        self._had: dict[str, Layout | None] = {}
        """By URL: the layout that a node had after its last step."""
        self._pulled: dict[str, int] = {}
        """By URL: how many records a process had pulled by then."""
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
        machine = step.machine
        before = self._had.get(machine.url)
        layout = before if step.node is None else step.node.membership.layout
        self._had[machine.url] = layout
        pulled = self._pulled_by(step)
        limit_ms = machine.now().wall_ms + machine.settings.max_clock_skew_ms
        own = machine.process.to_bytes(6, "big")
        for given in step.stored:
            version = given.record.version
            # Its own write, begun anew under another layout, keeps its stamp, though the clock that
            # made it was set back since.
            if version.endswith(own):
                continue
            ahead_ms = ms_of(max(stamp_of(version), made_of(version))) - limit_ms
            layouts = [each for each in (before, layout) if each is not None]
            if ahead_ms <= 0:
                continue
            if pulled > 0 and any(self._is_gained(machine, each, given) for each in layouts):
                pulled -= 1
            else:
                told = f"{machine.url} took a stamp {ahead_ms} ms past its guard"
                self.blame("I8", told, given.row)

    def _pulled_by(self, step: Step) -> int:
        """How many records came to a node by pulling copies in a step."""
        url, counters = step.machine.url, step.machine.node.parts.turn.counters
        before, self._pulled[url] = self._pulled.get(url, 0), counters["pulled_records"]
        # A process counts from 0.
        return self._pulled[url] - (before if before <= self._pulled[url] else 0)

    def _is_gained(self, machine: Machine, layout: Layout, given: Gift) -> bool:
        """Whether it is gaining a copy, and a majority of those that had it before hold this, or
        something higher by now, on the disk that they have or on one that they lost."""
        partition, own = partition_of(given.row), machine.settings.node_id
        if partition not in layout.gaining(own):
            return False
        row = layout.replicas(partition)
        others = [self._machines.by_url[self._machines.url_of(id)] for id in row if id != own]
        slice_ms = machine.settings.slice_ms
        holders = [
            each
            for each in others
            if any(
                holds(disk, given.row, given.record.version, slice_ms)
                for disk in (*each.lost_disks, each.disk)
            )
        ]
        return len(holders) >= majority(len(row))
