# SPDX-License-Identifier: GPL-3.0-or-later
"""A hint is forgotten once its replica holds what it says, or when its loss was counted (I13).

A hint is forgotten when it is deleted, and when another takes its name. One that its replica cannot
take yet is not: the step that deletes it keeps it once more, behind the others. What a restart
changes is not held against the node: a crash may lose a hint that was not durable yet, and bring
back one whose deletion was not; and hints that are damaged are never found again if no other
follows them. What is for nobody that the layout names, or for a disk that it says is lost, is not
judged: its successor pulls that. With an old disk the hints of then come back, and those since are
lost without being counted, as the node cannot know of them.
"""

from __future__ import annotations

from quorate.core.exchanges.hints import peer_of
from quorate.core.topology.layout import unmet_id
from quorate.sim.checkers.watch import Gift, Judge, Machines, Place, Step
from quorate.sim.disk import Disk

_Hints = dict[bytes, tuple[Gift, Place]]
"""By name: the hint, and the copy of its replica when it was stored, or found."""


class Handoff(Judge):
    """Remembers every hint, and looks at its replica's disk when it is forgotten."""

    def __init__(self, machines: Machines) -> None:
        super().__init__()
        self._machines = machines
        self._hints: dict[str, _Hints] = {url: {} for url in machines.by_url}
        """By node."""
        self._lives: dict[str, int] = {}
        self._disks: dict[str, Disk] = {}
        """By node: the disk that it had when it was last looked at."""
        self._counted: dict[str, int] = {}
        """By node: how many hints it has counted as lost in this life."""

    def look(self, step: Step) -> None:
        """Judge what a step forgot."""
        machine = step.machine
        hints = self._hints[machine.url]
        if step.node is not None and self._lives.get(machine.url) != machine.life:
            self._lives[machine.url] = machine.life
            self._counted[machine.url] = 0
            hints = self._hints[machine.url] = self._kept(step, hints)
        forgotten = step.forgotten
        for start, end in step.dropped_hints:
            forgotten = [*forgotten, *(name for name in hints if start <= name < end)]
        counted = self._newly_counted(step, len(forgotten))
        if forgotten or step.hinted:
            names = [*forgotten, *(name for name, _ in step.hinted)]
            gone = [(name, hints.pop(name)) for name in names if name in hints]
            meant = [
                each
                for name, each in gone
                if not _is_for_nobody(step, name) and not _goes_behind(step, name, each[0])
            ]
            self._judge(step, meant, counted)
        for name, given in step.hinted:
            hints[name] = given, Place(self._machines.by_url[given.url], given.row)

    def _kept(self, step: Step, before: _Hints) -> _Hints:
        """The hints that a new life of a node finds on its disk."""
        disk, url = step.machine.disk, step.machine.url
        if self._disks.setdefault(url, disk) is disk:
            return {name: hint for name, hint in before.items() if disk.hint(name) is not None}
        self._disks[url] = disk
        kept: _Hints = {}
        fresh = [name for name, _ in step.hinted]
        for name in disk.hint_names():
            blob = disk.hint(name)
            if blob is not None and name not in fresh:
                given = self._machines.hinted(name, blob)
                kept[name] = given, Place(self._machines.by_url[given.url], given.row)
        return kept

    def _judge(self, step: Step, forgotten: list[tuple[Gift, Place]], counted: int) -> None:
        undelivered = [
            given
            for given, place in forgotten
            if not place.may_hold(given.row, given.record.version)
        ]
        # What is dropped while the disk takes nothing was never stored, and is counted too.
        if len(undelivered) > counted:
            told = f"{step.machine.url} forgot hints that were not delivered: {undelivered}"
            self.blame("I13", told, undelivered[0].row)

    def _newly_counted(self, step: Step, forgotten: int) -> int:
        """Hints that the step dropped, or that were refused in it; all that were forgotten if the
        node ended in it."""
        if step.node is None:
            return forgotten
        counters = step.node.parts.turn.counters
        # Not by index, which calls back into Python for a counter that is not there yet.
        counted = counters.get("hints_dropped", 0) + counters.get("hints_refused", 0)
        before = self._counted[step.machine.url]
        self._counted[step.machine.url] = counted
        return counted - before


def _is_for_nobody(step: Step, name: bytes) -> bool:
    """Whether a hint is for nobody that the layout of its node names, or for who is lost by it: a
    founder that never came is lost under the name of its URL."""
    layout = None if step.node is None else step.node.membership.layout
    if layout is None:
        return False
    peer, urls = peer_of(name), layout.urls()
    return not any(
        peer == each.id or (peer == unmet_id(each.url) and urls.count(each.url) == 1)
        for each in layout.members
        if each.id not in layout.lost
    )


def _goes_behind(step: Step, name: bytes, hint: Gift) -> bool:
    """Whether a step keeps what the hint of this name says once more, under a later name."""
    return any(
        later > name
        and (given.url, given.row) == (hint.url, hint.row)
        and given.record == hint.record
        for later, given in step.hinted
    )
