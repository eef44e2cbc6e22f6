# SPDX-License-Identifier: GPL-3.0-or-later
"""Dropping tombstones and expired records for good: lock, then drop.

A tombstone can go when nothing older can win any more, at any replica, whoever sends it and however
late. No waiting time makes sure of that. So the replicas of a partition promise it:

1. *Lock.* All of them told the same digest at a boundary (`agreement`), under one layout in which
   the partition stays where it is; this node told no later boundary, and its digest there is still
   what it told. If there is garbage, or one of the others has locked it, the boundary is *locked*:
   from now on nothing below it may win here (`horizons`). When that is durable it is told.
2. *Drop.* All have told that they locked this boundary on the ground of one digest; or one tells
   that it has dropped what is below. So all hold the same there, and promised to keep it: the
   boundary is the *horizon*, and garbage below it goes.
3. *Unlock.* One of them tells a later boundary, and another lock. It never locks a boundary behind
   the one that it told last, so it never will, and nobody will drop.

For example: A, B and C hold a tombstone of 12:00:20. At 12:02 all tell one digest at 12:01. Each
locks 12:01, and tells it; each hears that both others did, and drops the tombstone. A hint of
11:59 with a value of the key comes to B at last: nothing is held that it would have to beat, and it
is refused for ever. Had C been away, there would be no agreement, and the tombstone would stay, for
a month if need be.

While the copies of a partition move nothing is locked or dropped. Who gains a copy takes on the
highest horizon of those from whom it gets it, and the lock that all of them have (`pulls`).

Garbage is found by going through the partition, some rows in a step. So it is locked only where
that is worth it: many tombstones for its size, or some time since the last time. What is below the
horizon and not dropped yet is found again after a restart; until all of it is gone no digest of the
partition is told.

Source: checked in a model of the protocol, with each of these conditions left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from quorate.core.exchanges.counting import REST_BUSY_MS, REST_MS, ROWS_PER_STEP
from quorate.core.exchanges.open_votes import OpenVotes
from quorate.core.replica import NEVER_MS
from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import Fencing
from quorate.core.values.slots import PARTITION_COUNT, partition_bounds
from quorate.core.values.versions import ms_of, stamp_of
from quorate.errors import StorageError

UNREADABLE_MS: Final = 5_000
"""Until a partition is gone through again of which a row cannot be read."""
WORTH_SHARE: Final = 16
"""So many rows are gone through at once for a tombstone, about."""
WORTH_SLICES: Final = 10
"""After so long a few are enough."""

_Report = tuple[int, int, int, int]
"""The boundary that a peer told last, its lock, its horizon, and the ground of its lock."""


class Collection:
    """What this node and others locked and dropped of the partitions that they share."""

    __slots__ = (
        "_alarm",
        "_counters",
        "_fences",
        "_floor",
        "_fresh",
        "_moving",
        "_open_votes",
        "_parts",
        "_replica",
        "_reports",
        "_rows",
        "_slice_ms",
        "_sweeping",
        "_swept_ms",
        "_tell",
        "_telling",
        "_to_sweep",
        "_turn",
    )

    def __init__(
        self,
        parts: Parts,
        tell: Callable[[list[int]], None],
        open_votes: OpenVotes,
    ) -> None:
        """`tell` has others told of the locks and horizons of partitions."""
        self._open_votes = open_votes
        self._parts = parts
        self._turn = parts.turn
        self._counters = parts.turn.counters
        self._replica = parts.replica
        self._fences = parts.replica.fences
        self._slice_ms = parts.settings.slice_ms
        self._tell = tell
        self._alarm = Alarm(parts.turn, self._sweep_some)
        self._telling = Alarm(parts.turn, self._tell_fresh)
        self._fresh: dict[int, None] = {}
        """Partitions of which others have yet to be told."""
        self._reports: dict[Peer, dict[int, _Report]] = {}
        """What peers told under the present layout, of partitions that they or this node had
        locked."""
        self._rows: dict[int, tuple[int, ...]] = {}
        self._moving: frozenset[int] = frozenset()
        self._floor = max(parts.turn.wall_ms, ms_of(parts.clock.last)) // self._slice_ms
        """No boundary up to it is locked: this node, or the process before, may have told later
        ones."""
        self._swept_ms = [0] * PARTITION_COUNT
        self._to_sweep: dict[int, None] = {}
        self._sweeping: tuple[int, bytes] | None = None
        """What is being gone through, and from where on."""

    def adopted(self, rows: dict[int, tuple[int, ...]], moving: frozenset[int]) -> None:
        """Another layout is in force: these partitions are this node's."""
        self._rows, self._moving = rows, moving
        self._reports = {}
        for partition in self._fences.unswept():
            self._to_sweep[partition] = None
        self._alarm.soon()

    def set_back(self, boundary: int) -> None:
        """This node's clock was set back, and it told such a boundary before."""
        self._floor = max(self._floor, boundary)

    # --- telling and hearing -----------------------------------------------------------------

    def told(self, partitions: list[int], *, without: bool = False) -> list[Fencing]:
        """What to tell of these partitions: of those that have a lock, or also of those `without`,
        so that others who have one hear how far this node is."""
        found: list[Fencing] = []
        for partition in partitions:
            fence = self._fences.of(partition)
            if fence is not None:
                found.append((partition, fence.lock, fence.digest, fence.horizon))
            elif without:
                found.append((partition, 0, 0, 0))
        return found

    def fenced(self, peer: Peer, partitions: Iterable[int]) -> list[int]:
        """Those of these partitions that have a lock or a horizon here, or had one at the peer: of
        the others there is nothing to hear where the peer told none."""
        reports = self._reports.get(peer, {})
        return [each for each in partitions if each in reports or self._fences.of(each) is not None]

    def hear(self, peer: Peer, others: tuple[Peer, ...], boundary: int, fencing: Fencing) -> bool:
        """A peer told, at a boundary, of its lock and horizon. True if its horizon moved on."""
        partition, lock, digest, horizon = fencing
        reports = self._reports.setdefault(peer, {})
        before = reports.get(partition)
        report = boundary, lock, horizon, digest
        if before is not None and report[:3] < before[:3]:
            return False
        fence = self._fences.of(partition)
        is_open = fence is not None and fence.lock > fence.horizon
        if lock or is_open or before is not None:
            reports[partition] = report
        if fence is not None and is_open:
            self._look_at_locked(partition, fence.lock, fence.digest, others)
            # One that has dropped it is looked at before.
            passed = self._passed(partition, fence.lock, others)
            is_passed = bool(passed & peer.bit) and fence.lock > fence.horizon
            if is_passed and not self._open_votes.hold_up_unlock(partition, passed):
                self._counters["partitions_unlocked"] += 1
                self._fences.unlock(partition)
        return horizon > (0 if before is None else before[2])

    def _passed(self, partition: int, lock: int, others: tuple[Peer, ...]) -> int:
        """The bits of those that told a boundary past a lock of this node, and did not have it."""
        found = 0
        for peer in others:
            report = self._reports.get(peer, {}).get(partition)
            if report is not None and report[0] > lock != report[1]:
                found |= peer.bit
        return found

    def is_comparable(self, peer: Peer, partition: int) -> bool:
        """Whether a peer has dropped what this node has."""
        report = self._reports.get(peer, {}).get(partition)
        return (0 if report is None else report[2]) == self._fences.horizon(partition)

    def _tell_fresh(self) -> None:
        fresh, self._fresh = list(self._fresh), {}
        self._tell(fresh)

    # --- lock, then drop ---------------------------------------------------------------------

    def agreed(self, partition: int, others: tuple[Peer, ...], boundary: int, digest: int) -> None:
        """All told this digest at this boundary, which is the last that this node told."""
        fence = self._fences.of(partition)
        if boundary <= self._floor or (fence is not None and boundary <= fence.lock):
            return
        if not self._is_worth_it(partition, boundary):
            reports = [self._reports.get(peer, {}).get(partition) for peer in others]
            if not any([each is not None and each[1] == boundary for each in reports]):
                return
        digests = self._replica.digests
        if not digests.advance(boundary) or digests.total(partition) != digest:
            return
        if self._open_votes.hold_up_lock(partition, boundary):
            return
        self._counters["partitions_locked"] += 1
        self._fences.lock(partition, boundary, digest)
        self._parts.clock.observe(stamp_of(self._fences.highest))
        self._note(partition)
        self._look_at_locked(partition, boundary, digest, others)

    def _is_worth_it(self, partition: int, boundary: int) -> bool:
        """Whether to go through a partition for the garbage that may be there."""
        tombstones = self._replica.tombstones[partition]
        if not tombstones and self._replica.expiries_ms[partition] > boundary * self._slice_ms:
            return False
        mean_rows = self._replica.keys // max(len(self._rows), 1)
        if tombstones * WORTH_SHARE >= mean_rows:
            return True
        return self._turn.mono_ms >= self._swept_ms[partition] + WORTH_SLICES * self._slice_ms

    def _look_at_locked(
        self, partition: int, lock: int, digest: int, others: tuple[Peer, ...]
    ) -> None:
        """Drop what is below a lock if all have it, or one has done so."""
        reports = [self._reports.get(peer, {}).get(partition) for peer in others]
        if any([each is not None and each[2] >= lock for each in reports]) or all(
            [each is not None and each[1] == lock and each[3] == digest for each in reports]
        ):
            self._counters["partitions_collected"] += 1
            self._fences.advance(partition, lock)
            self._note(partition)
            self.sweep(partition)

    def _note(self, partition: int) -> None:
        self._fresh[partition] = None
        self._telling.soon()

    # --- dropping ----------------------------------------------------------------------------

    def sweep(self, partition: int) -> None:
        """Have the garbage below the partition's horizon dropped."""
        if self._sweeping is not None and self._sweeping[0] == partition:
            self._sweeping = None
        self._to_sweep[partition] = None
        self._alarm.soon()

    def _sweep_some(self) -> None:
        """Go through some rows."""
        room, rest_ms = ROWS_PER_STEP, REST_MS
        if self._replica.trouble.code:
            self._alarm.at(self._turn.mono_ms + UNREADABLE_MS)
            return
        while room > 0 and (self._sweeping is not None or self._to_sweep):
            looked = self._sweep_page(room)
            if looked < 0:
                rest_ms = UNREADABLE_MS
                break
            room -= looked + 1
        if self._sweeping is not None or self._to_sweep:
            if self._parts.requests.count:
                rest_ms = max(rest_ms, REST_BUSY_MS)
            self._alarm.at(self._turn.mono_ms + rest_ms)

    def _sweep_page(self, limit: int) -> int:
        """Go through a page of rows; returns how many, -1 if that cannot be now."""
        replica, fences = self._replica, self._fences
        if self._sweeping is None:
            partition = next(iter(self._to_sweep))
            del self._to_sweep[partition]
            if fences.is_swept(partition):
                return 0
            replica.expiries_ms[partition] = NEVER_MS
            self._sweeping = partition, partition_bounds(partition)[0]
        partition, start = self._sweeping
        self._sweeping = None
        fence = fences.of(partition)
        if fence is None:
            return 0  # The copy is given up.
        end = partition_bounds(partition)[1]
        try:
            found, past = replica.newest(start, end, limit=limit)
        except StorageError:
            self._to_sweep[partition] = None
            return -1
        for row, record in found.items():
            if not fences.is_garbage(record, fence.horizon):
                replica.note_expiry(row, record)
                continue
            is_tombstone = record.is_tombstone
            self._counters["collected_tombstones" if is_tombstone else "collected_expired"] += 1
            replica.collect(row, record)
        try:
            self._parts.votes.forget(start, past, limit=limit)
        except StorageError:
            self._counters["copies_damaged"] += 1
        if past < end:
            self._sweeping = partition, past
        else:
            fences.swept(partition)
            self._swept_ms[partition] = self._turn.mono_ms
        return len(found)
