# SPDX-License-Identifier: GPL-3.0-or-later
"""What this replica remembers of its votes (`votes`), durable or not.

A vote counts from the step on in which it is given, and is told when that step's batch is durable;
until then the engine may have an older one, or none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from quorate.core.values.slots import ROW_END, partition_bounds, partition_of
from quorate.errors import Corrupt


class VoteReader(Protocol):
    """The reads of an engine that are about votes."""

    def get_votes(self, row: bytes) -> bytes | None:
        """What was voted on a row's successors. Corrupt if damaged."""

    def scan_votes(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same of all rows of [start, end), in order; empty where damaged. Corrupt if they
        cannot be read."""


class KeptVotes:
    """The votes of all rows."""

    __slots__ = (
        "_dropped",
        "_engine",
        "_marks",
        "_on_damage",
        "_undurable",
        "fresh",
        "has_undurable",
    )

    def __init__(self, engine: VoteReader, on_damage: Callable[[Corrupt], None]) -> None:
        """`on_damage` is told of each read that met damaged bytes."""
        self._engine = engine
        self._on_damage = on_damage
        self.fresh: list[tuple[bytes, bytes | None]] = []
        """Of this step: row and votes, None to forget them."""
        self._undurable: dict[bytes, tuple[bytes | None, int]] = {}
        """By row: votes, and the mark of their batch; 0 while that has none."""
        self._marks: deque[tuple[int, list[tuple[bytes, bytes | None]]]] = deque()
        """The batches that are not durable, and what they have."""
        self._dropped: dict[int, int] = {}
        """By partition: the mark of the batch that drops its votes, until that is durable."""
        self.has_undurable = False
        """Whether `on_durable` has anything to do."""

    def get(self, row: bytes) -> bytes | None:
        """What was voted on the successors of a row. Corrupt if that is damaged."""
        entry = self._undurable.get(row)
        if entry is not None:
            return entry[0]
        if self._dropped and partition_of(row) in self._dropped:
            return None
        try:
            return self._engine.get_votes(row)
        except Corrupt as error:
            self._on_damage(error)
            raise

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The same of all rows of [start, end), in no order; of one partition. Empty where damaged.
        Corrupt if they cannot be read."""
        undurable = self._undurable
        for row, (blob, _) in undurable.items():
            if blob is not None and start <= row < end:
                yield row, blob
        if partition_of(start) in self._dropped:
            return
        try:
            for row, blob in self._engine.scan_votes(start, end):
                if row not in undurable:
                    yield row, blob
        except Corrupt as error:
            self._on_damage(error)
            raise

    def page(self, start: bytes, end: bytes, *, limit: int) -> tuple[dict[bytes, bytes], bool]:
        """Those of the first rows of [start, end), of one partition, in order, about `limit`; and
        whether there are more, of which no page is empty."""
        undurable, found = self._undurable, dict[bytes, bytes]()
        past = end
        if partition_of(start) not in self._dropped:
            for row, blob in self._engine.scan_votes(start, end):
                if row in undurable and undurable[row][0] is None:
                    continue
                if len(found) == limit:
                    past = row
                    break
                found[row] = blob
        for row, (fresh, _) in undurable.items():
            if fresh is not None and start <= row < past:
                found[row] = fresh
        return {row: found[row] for row in sorted(found)}, past < end

    def partitions(self) -> set[int]:
        """Those of which any are on disk. StorageError if they cannot be read."""
        found: set[int] = set()
        start = b"\0\0"
        while start < ROW_END:
            first = next(iter(self._engine.scan_votes(start, ROW_END)), None)
            if first is None:
                break
            partition = partition_of(first[0])
            found.add(partition)
            _, start = partition_bounds(partition)
        return found

    def put(self, row: bytes, blob: bytes | None) -> None:
        """Remember what is voted on a row, with this step's batch; None forgets it."""
        self._undurable[row] = blob, 0
        self.fresh.append((row, blob))

    def drop(self, partition: int, mark: int) -> None:
        """Forget those of a partition, whether they were told or not: this node's copy of it is
        given up with the batch of that mark."""
        self._dropped[partition] = mark
        self.has_undurable = True
        for row in [each for each in self._undurable if partition_of(each) == partition]:
            del self._undurable[row]
        self.fresh = [each for each in self.fresh if partition_of(each[0]) != partition]

    def take(self, mark: int) -> list[tuple[bytes, bytes | None]]:
        """What this step's batch, of that mark, is to store."""
        fresh, self.fresh = self.fresh, []
        for row, blob in fresh:
            self._undurable[row] = blob, mark
        self._marks.append((mark, fresh))
        self.has_undurable = True
        return fresh

    def on_durable(self, mark: int) -> None:
        """Everything up to `mark` is durable."""
        if self._dropped:
            self._dropped = {each: at for each, at in self._dropped.items() if at > mark}
        while self._marks and self._marks[0][0] <= mark:
            at, votes = self._marks.popleft()
            for row, _ in votes:
                entry = self._undurable.get(row)
                if entry is not None and entry[1] == at:
                    del self._undurable[row]
        self.has_undurable = bool(self._marks or self._dropped)
