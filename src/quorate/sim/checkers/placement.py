# SPDX-License-Identifier: GPL-3.0-or-later
"""Liveness is not placement (P4): who is down changes where requests go, never where keys belong.

Nodes agree on one table of an epoch, and it never changes; records are given only to the replicas
that it lists; and a write is given to all of them, be it as a hint, unless hints had to be dropped
or the disk takes nothing.
"""

from __future__ import annotations

from quorate.core.node import Node
from quorate.core.topology.layout import Layout
from quorate.core.values.slots import key_of, partition_of
from quorate.core.values.versions import stamp_of
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Given, Step
from quorate.sim.machine import Machine

_HINTS_DROPPED = "hints_dropped"


class _Table:
    """A node's layout, and what it says of rows: most are asked for again and again."""

    __slots__ = ("_lists", "layout")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._lists: dict[bytes, list[str]] = {}

    def replicas(self, row: bytes) -> list[str]:
        """The URLs of those that hold a row."""
        urls = self._lists.get(row)
        if urls is None:
            urls = self._lists[row] = self.layout.replicas(partition_of(row))
        return urls


class Placing:
    """Looks at the table, and at who is given what."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self._first: dict[int, bytes] = {}
        """By epoch: the hash of the first table that was seen."""
        self._known: dict[str, _Table] = {}
        """By node: its table, when it was last looked at."""
        self._made: dict[bytes, None] = {}
        """Versions that were given to replicas before."""
        self._dropped: dict[tuple[str, int], int] = {}

    def look(self, step: Step) -> None:
        """Judge the table of a node, and what a step gave to whom."""
        node = step.node
        if node is None or node.membership.layout is None:
            return
        layout, url = node.membership.layout, step.machine.url
        table = self._known.get(url)
        if table is None or table.layout is not layout:
            table = self._known[url] = _Table(layout)
            self._compare(url, layout)
        if step.given:
            self._judge(step, node, table)

    def _compare(self, url: str, layout: Layout) -> None:
        first = self._first.setdefault(layout.epoch, layout.hash())
        if layout.hash() != first:
            told = f"{url} has another table of epoch {layout.epoch} than was seen first"
            self.found.append(Violation("P4", b"", told))

    def _judge(self, step: Step, node: Node, table: _Table) -> None:
        given_to: dict[bytes, list[Given]] = {}
        for given in step.given:
            if given.url not in table.replicas(given.row):
                told = f"{given.url} is given {given.record}, of which it is no replica"
                self.found.append(Violation("P4", key_of(given.row), told))
            given_to.setdefault(given.record.version, []).append(given)
        # A disk in trouble takes no copy of a second stamp, and no hints.
        is_excused = self._has_dropped(step, node) or bool(node.parts.replica.trouble.code)
        tie = step.machine.process.to_bytes(6, "big")
        for version, gifts in given_to.items():
            if version.endswith(tie) and version not in self._made:
                self._made[version] = None
                if not is_excused:
                    self._find_left_out(step.machine, table, gifts)

    def _find_left_out(self, machine: Machine, table: _Table, gifts: list[Given]) -> None:
        """Replicas that a new write was not given to."""
        first, url = gifts[0], machine.url
        reached = {given.url for given in gifts}
        left_out = [
            each
            for each in table.replicas(first.row)
            if each not in reached and not (each == url and _holds_newer(machine, first))
        ]
        if left_out:
            stamp = stamp_of(first.record.version)
            told = f"{url} neither sent nor hinted {left_out} its write of stamp {stamp}"
            self.found.append(Violation("P4", key_of(first.row), told))

    def _has_dropped(self, step: Step, node: Node) -> bool:
        """Whether a hint was dropped since the last look at this life of the node."""
        life = step.machine.url, step.machine.life
        before = self._dropped.get(life, 0)
        dropped = self._dropped[life] = node.parts.turn.counters.get(_HINTS_DROPPED, 0)
        return dropped > before


def _holds_newer(machine: Machine, given: Given) -> bool:
    """Whether a second stamp comes too late for the node's own copy."""
    held = machine.latest(given.row)
    return held is not None and held.version > given.record.version
