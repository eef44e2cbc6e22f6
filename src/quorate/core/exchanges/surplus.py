# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies that the layout in force does not give this node, or not yet: they go.

Who is in no row of a partition drops its copy at once, and who shall hold it begins with none; so
nobody has to remember what was left where, and an old copy never comes back. That is safe without
asking anyone: a partition moves on only when who gained it has what it needs of those it leaves
(`exchanges.pulls`).

For example: a node holds partition 5, and adopts a layout in which it does not. From that step on
partition 5 is *withheld*: nothing is read or kept there. When all that the node took before is
durable, the rows are counted, a thousand in a step, as the node says how many keys it has; then one
range delete takes them all. A node that starts looks for what is left of partitions that are not
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from quorate.core.replica import Replica
from quorate.core.topology.layout import Layout
from quorate.core.turn import Alarm, Parts
from quorate.core.values.slots import partition_bounds, partition_of
from quorate.errors import StorageError

ROWS_PER_STEP: Final = 1_000
AGAIN_MS: Final = 1_000
"""Between two tries to read a disk that cannot be read at the moment."""


def withheld_of(replica: Replica, rows: Sequence[bytes]) -> list[bytes]:
    """Those of the rows that are withheld for a moment: none while the disk takes nothing, as it
    may be hours then until they are dropped, and whoever waits for that asks again and again."""
    if replica.trouble.code:
        return []
    return [row for row in rows if partition_of(row) in replica.withheld]


class Surplus:
    """What this node has yet to drop."""

    __slots__ = (
        "_alarm",
        "_counted",
        "_dropped",
        "_live",
        "_own_id",
        "_position",
        "_replica",
        "_turn",
        "_undurable",
    )

    def __init__(self, parts: Parts, dropped: Callable[[], None]) -> None:
        """`dropped` is told, in the step that gives them up, that no copies are withheld."""
        self._turn = parts.turn
        self._replica = parts.replica
        self._own_id = parts.settings.node_id
        self._dropped = dropped
        self._alarm = Alarm(parts.turn, self._count_on)
        self._counted: dict[int, int] = {}
        """Live rows of those withheld partitions that are counted."""
        self._live = 0
        """Of the partition that is being counted."""
        self._position = b""
        """Up to where; empty at its beginning."""
        self._undurable = 0
        """How many layouts were adopted before which something was taken that is not durable yet,
        maybe of what they give up."""

    def adopted(self, before: Layout | None, layout: Layout, *, resumed: frozenset[int]) -> None:
        """Another layout is in force, or the node starts (`before` is None). `resumed`: partitions
        of which it has begun to get a copy under this very layout."""
        own_id = self._own_id
        held = {index for index, each in enumerate(layout.members) if each.id == own_id}
        mine = {partition for partition, row in enumerate(layout.table) if not held.isdisjoint(row)}
        withheld = self._replica.withheld
        if before is None:
            fresh = self._replica.partitions() - mine - resumed
        else:
            fresh = _touched(before, own_id) - mine
        fresh -= withheld
        if fresh:
            withheld |= fresh
            self._undurable += 1
            self._replica.when_durable(self._begin)

    def _begin(self) -> None:
        self._undurable -= 1
        self._alarm.soon()

    def _count_on(self) -> None:
        """Count some rows; drop all that is withheld once all of it is counted."""
        if self._undurable:
            return
        withheld = self._replica.withheld
        partition = min(withheld - self._counted.keys(), default=None)
        if self._position:
            # To its end first, though one before it was given up meanwhile.
            partition = partition_of(self._position)
        if partition is None:
            for each, live in sorted(self._counted.items()):
                self._replica.drop(each, live)
            self._turn.counters["copies_dropped"] += len(self._counted)
            self._counted = {}
            withheld.clear()
            self._dropped()
            return
        start, end = partition_bounds(partition)
        if self._position:
            start = self._position + b"\0"
        try:
            live, self._position = self._replica.count(start, end, limit=ROWS_PER_STEP)
        except StorageError:
            self._alarm.at(self._turn.mono_ms + AGAIN_MS)
            return
        self._live += live
        if not self._position:
            self._counted[partition] = self._live
            self._live = 0
        self._alarm.soon()


def _touched(layout: Layout, own_id: int) -> set[int]:
    """The partitions of which a member has, or was getting, a copy."""
    index = next((i for i, each in enumerate(layout.members) if each.id == own_id), -1)
    found = {partition for partition, row in enumerate(layout.table) if index in row}
    found.update([partition for partition, row in layout.moves if index in row])
    return found
