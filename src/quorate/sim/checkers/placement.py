# SPDX-License-Identifier: GPL-3.0-or-later
"""Liveness is not placement (P4): who is down changes where requests go, never where keys belong.

Nodes agree on one table of an epoch, and it never changes; it is one that may be, and may follow on
the one before (I17). Records are given only to the replicas that it lists; and a write is given to
all of them, be it as a hint, unless hints had to be dropped or the disk takes nothing. A
coordinator that could not read its own copy leaves that as it was, until a read repairs it.
"""

from __future__ import annotations

from quorate.core.node import Node
from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.steps import follows
from quorate.core.values.slots import partition_of
from quorate.core.values.versions import stamp_of
from quorate.sim.checkers.shares import misshaped, uneven
from quorate.sim.checkers.watch import Gift, Judge, Machines, Step
from quorate.sim.machine import Machine

_COUNTS = ("hints_dropped", "own_copies_missed")


class Placing(Judge):
    """Looks at the table, and at who is given what."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines
        self._seen: dict[int, Layout] = {}
        """By epoch: the first layout that was seen."""
        self._known: dict[str, Layout] = {}
        """By node: its table, when it was last looked at."""
        self._made: dict[bytes, None] = {}
        """Versions that were given to replicas before."""
        self._dropped: dict[tuple[str, int], int] = {}
        self._reads_lost: dict[tuple[str, bytes], int] = {}
        """By node and row: how many its disk had lost when that was last given to anyone."""

    def look(self, step: Step) -> None:
        """Judge the table of a node, and what a step gave to whom."""
        node = step.node
        if node is None or node.membership.layout is None:
            self._made.update({given.record.version: None for given in step.given})
            return
        layout, url = node.membership.layout, step.machine.url
        before = self._known.get(url, layout)
        if self._known.get(url) is not layout:
            self._known[url] = layout
            self._compare(url, layout)
        if step.given:
            self._judge(step, node, before, layout)

    def _compare(self, url: str, layout: Layout) -> None:
        epoch = layout.epoch
        if epoch in self._seen:
            if layout.hash() != self._seen[epoch].hash():
                self.blame("I17", f"{url} has another table of epoch {epoch} than was seen first")
            return
        wrong = misshaped(layout)
        if not self._seen and layout.course == Course.REST:
            wrong += uneven(layout)
        for told in wrong:
            self.blame("I17", f"{url} has a layout of epoch {epoch} in which {told}")
        self._seen[epoch] = layout
        for old, new in ((epoch - 1, epoch), (epoch, epoch + 1)):
            if {old, new} <= self._seen.keys() and not follows(self._seen[old], self._seen[new]):
                self.blame("I17", f"{url} has a layout of epoch {new} that may not follow on {old}")

    def _judge(self, step: Step, node: Node, before: Layout, layout: Layout) -> None:
        """`before`: what the node had when the step began; what it gave by that came first."""
        given_to: dict[bytes, list[Gift]] = {}
        for given in step.given:
            is_meant = any(
                given.url in self._machines.replicas(each, given.row) for each in (before, layout)
            )
            # What was hinted under an earlier layout is refused by who is none of them any more.
            if not is_meant and given.record.version not in self._made:
                told = f"{given.url} is given {given.record}, of which it is no replica"
                self.blame("P4", told, given.row)
            given_to.setdefault(given.record.version, []).append(given)
        # A disk in trouble takes no copy of a second stamp, and no hints.
        is_excused = self._has_dropped(step, node) or bool(node.parts.replica.trouble.code)
        tie = step.machine.process.to_bytes(6, "big")
        unread = self._unread_rows(step)
        for version, gifts in given_to.items():
            is_new = version.endswith(tie) and version not in self._made
            self._made[version] = None
            if is_new and not is_excused:
                is_unread = gifts[0].row in unread
                self._find_left_out(step.machine, layout, gifts, is_unread=is_unread)

    def _find_left_out(
        self, machine: Machine, layout: Layout, gifts: list[Gift], *, is_unread: bool
    ) -> None:
        """Replicas that a new write was not given to."""
        first, url = gifts[0], machine.url
        reached = {given.url for given in gifts}
        withheld = machine.node.parts.replica.withheld
        if is_unread or partition_of(first.row) in withheld or _holds_newer(machine, first):
            reached.add(url)
        left_out = [
            each for each in self._machines.replicas(layout, first.row) if each not in reached
        ]
        if left_out:
            stamp = stamp_of(first.record.version)
            told = f"{url} neither sent nor hinted {left_out} its write of stamp {stamp}"
            self.blame("P4", told, first.row)

    def _has_dropped(self, step: Step, node: Node) -> bool:
        """Whether a hint was dropped, or a copy of the node's own left out, since the last look at
        this life of the node."""
        life = step.machine.url, step.machine.life
        before = self._dropped.get(life, 0)
        counters = node.parts.turn.counters
        dropped = self._dropped[life] = sum(counters.get(name, 0) for name in _COUNTS)
        return dropped > before

    def _unread_rows(self, step: Step) -> set[bytes]:
        """The rows of a step of which the disk lost a read since they were last given to anyone."""
        unread = set()
        for row in {given.row for given in step.given}:
            place = step.machine.url, row
            lost = step.machine.disk.reads_lost[row]
            if lost > self._reads_lost.get(place, 0):
                unread.add(row)
            self._reads_lost[place] = lost
        return unread


def _holds_newer(machine: Machine, given: Gift) -> bool:
    """Whether the node's own copy is newer, so that a second stamp comes too late for it."""
    held = machine.latest(given.row)
    return held is not None and held.version > given.record.version
