# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layout each node of a world had, and when.

What a request needs, and what its answer may say, follows from the layouts that its coordinator had
while the request went on; there may be several, and each node adopts them in its own time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from quorate.core.topology.layout import Layout
from quorate.core.values.events import Effects
from quorate.core.values.settings import majority
from quorate.core.values.slots import partition_of
from quorate.core.values.versions import ABSENT
from quorate.errors import Corrupt
from quorate.sim.machine import Machine


class Holders(NamedTuple):
    """Who holds a partition by a layout, or shall hold it."""

    ids: tuple[int, ...]
    """In order of preference."""
    gaining: frozenset[int] = frozenset()
    """Of those that shall: who has yet to get it."""
    lost: frozenset[int] = frozenset()
    """Of all: whose disk the layout says is lost."""

    @property
    def majority(self) -> int:
        """Of all, be they lost or not."""
        return majority(len(self.ids))

    def renamed(self, names: Mapping[int, int]) -> Holders:
        """The same under other names; who has none gets a negative one."""

        def name(each: int) -> int:
            return names.get(each, -each)

        return Holders(tuple(map(name, self.ids)), *[frozenset(map(name, s)) for s in self[1:]])


def rows_of(layout: Layout, row: bytes) -> list[Holders]:
    """Who holds a row; and if its partition moves, who shall."""
    partition = partition_of(row)
    held = layout.table[partition]
    lost = frozenset(layout.lost)
    found = [Holders(tuple(layout.ids(held)), lost=lost.intersection(layout.ids(held)))]
    for moving, shall in layout.moves:
        if moving == partition:
            ids = tuple(layout.ids(shall))
            gaining = ids if len(shall) < len(held) else set(ids).difference(found[0].ids)
            found.append(Holders(ids, frozenset(gaining), lost.intersection(ids)))
    return found


def moved(old: Layout, new: Layout) -> list[int]:
    """The partitions that moved in one layout, and have in the one after it."""
    return [each for each, row in old.moves if set(new.replicas(each)) == set(old.ids(row))]


class Sole(NamedTuple):
    """What only one replica of a row has, which is to leave that row."""

    epoch: int
    partition: int
    version: bytes
    since_ms: float


class Layouts:
    """Watches who adopts what."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = machines
        self._urls = [machine.url for machine in machines]
        self.known: dict[int, Layout] = {}
        """By epoch, of which each has one table (I17)."""
        self._had: dict[str, list[tuple[float, int]]] = {url: [] for url in self._urls}
        """By URL: since when, and which epoch."""
        self.taken: list[tuple[float, Layout]] = []
        """Every layout, and when it was first seen."""
        self.sole: list[Sole] = []
        """What had a single copy, on its way elsewhere, when copies began to move."""

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Part of `cluster.Observer`."""
        del effects
        layout = machine.node.membership.layout if machine.is_running else None
        if layout is None:
            return
        had = self._had[machine.url]
        if not had or had[-1][1] != layout.epoch:
            if layout.epoch not in self.known:
                self.known[layout.epoch] = layout
                self.taken.append((machine.world.now, layout))
                self._look_for_sole(layout, machine.world.now)
            had.append((machine.world.now, layout.epoch))

    def sizes(self) -> frozenset[int]:
        """How many copies a key had, or was to have, at any time."""
        return frozenset(
            len(row)
            for _, layout in self.taken
            for row in {*layout.table, *(shall for _, shall in layout.moves)}
        )

    def _look_for_sole(self, layout: Layout, now: float) -> None:
        """Note what only who leaves a row has of it."""
        if not layout.moves:
            return
        moves = dict(layout.moves)
        machines = {each.settings.node_id: each for each in self._machines}
        for node_id, machine in machines.items():
            for row in machine.disk.rows():
                partition = partition_of(row)
                replicas = layout.replicas(partition)
                stays = node_id in layout.ids(moves.get(partition, ()))
                if partition not in moves or node_id not in replicas or stays:
                    continue
                version = _durable(machine, row)
                others = [_durable(machines[i], row) for i in replicas if i in machines]
                if version and sum(other >= version for other in others) == 1:
                    self.sole.append(Sole(layout.epoch, partition, version, now))

    def between(self, index: int, begin_ms: float, end_ms: float) -> list[Layout]:
        """Those that a node had at any time of a span."""
        had = self._had[self._urls[index]]
        found = []
        for place, (since_ms, epoch) in enumerate(had):
            until_ms = had[place + 1][0] if place + 1 < len(had) else end_ms
            if since_ms <= end_ms and begin_ms <= until_ms:
                found.append(self.known[epoch])
        return found


def _durable(machine: Machine, row: bytes) -> bytes:
    """The version of a row that a power cut would leave; empty for none, and for damaged bytes."""
    try:
        record = machine.disk.durable(row)
    except Corrupt:
        return ABSENT
    return ABSENT if record is None else record.version
