# SPDX-License-Identifier: GPL-3.0-or-later
"""Going through what this node holds: to make the digests of partitions, and to check them.

Some rows are counted in a step, and then there is a rest, longer while clients are served. What is
written meanwhile is counted with what was gone through before (`core.digests`).

A *check*, which an operator asks for, counts what is held of every partition once more, beside its
digest. Should the two differ, the digest is made anew, and an error is noted: something was kept
that no digest was told of. A row that cannot be read is found by the way.
"""

from __future__ import annotations

from typing import Final

from quorate.core.digests import Digests
from quorate.core.turn import Alarm, Parts
from quorate.core.values.events import CheckResult
from quorate.core.values.slots import partition_bounds
from quorate.errors import StorageBusy, StorageError

ROWS_PER_STEP: Final = 500
SEEK_ROWS: Final = 50
"""What the beginning of a page costs, in rows: a seek, and a look at what is not durable."""
REST_MS: Final = 5
REST_BUSY_MS: Final = 50
"""Between two steps, and while clients wait for answers."""
TROUBLE_MS: Final = 1_000
"""Between two looks at whether the disk takes writes again."""


class Counting:
    """What is yet to be gone through."""

    __slots__ = (
        "_alarm",
        "_at",
        "_found_differing",
        "_found_unreadable",
        "_is_check",
        "_parts",
        "_replica",
        "_total",
        "_unchecked",
        "_uncounted",
        "unreadable",
    )

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._replica = parts.replica
        self._alarm = Alarm(parts.turn, self._go_on)
        self._uncounted: dict[int, None] = {}
        """Partitions of which there is no digest, in the order in which they are counted."""
        self._unchecked: dict[int, None] = {}
        """Those to be checked after these."""
        self._at: tuple[int, bytes] | None = None
        """The partition that is gone through, and from which row on."""
        self._is_check = False
        """Whether for its check."""
        self.unreadable: dict[int, int] = {}
        """Partitions of which not all could be read, and the boundary at which that was tried."""
        self._total = self._found_differing = self._found_unreadable = 0
        """Of the last check: its partitions, and what came of them."""

    def want(self, partition: int) -> None:
        """A digest is wanting. What could not be read is tried again at the next boundary."""
        if self.unreadable.get(partition) != self._replica.digests.boundary:
            self._uncounted[partition] = None
            self._alarm.soon()

    def check(self, partitions: list[int]) -> None:
        """Check these, unless a check is under way."""
        if not self._left():
            self._total, self._found_differing, self._found_unreadable = len(partitions), 0, 0
            self._unchecked = dict.fromkeys(partitions)
            self._alarm.soon()

    def keep(self, partitions: frozenset[int]) -> None:
        """Go through no others: the layout has changed."""
        self._uncounted = {each: None for each in self._uncounted if each in partitions}
        self._unchecked = {each: None for each in self._unchecked if each in partitions}
        self.unreadable = {}

    def stop(self) -> None:
        """The digests were forgotten, all of them."""
        self._at = None

    def result(self) -> CheckResult:
        """How far the check is, or what came of the last."""
        return CheckResult(self._total, self._left(), self._found_differing, self._found_unreadable)

    def _left(self) -> int:
        return len(self._unchecked) + (self._is_check and self._at is not None)

    def _go_on(self) -> None:
        """Count some rows."""
        if self._replica.trouble.code and self._has_more():
            # What is not durable is looked through for each page, and there may be much of it.
            self._alarm.at(self._parts.turn.mono_ms + TROUBLE_MS)
            return
        room = ROWS_PER_STEP
        while room > 0 and self._has_more():
            room -= self._page(room) + SEEK_ROWS
        if self._has_more():
            rest_ms = REST_BUSY_MS if self._parts.requests.count else REST_MS
            self._alarm.at(self._parts.turn.mono_ms + rest_ms)

    def _has_more(self) -> bool:
        return self._at is not None or bool(self._uncounted or self._unchecked)

    def _page(self, limit: int) -> int:
        """Count a page of rows; returns how many."""
        digests = self._replica.digests
        if self._at is None:
            self._begin(digests)
        if self._at is None:
            return 0
        partition, start = self._at
        end = partition_bounds(partition)[1]
        self._at = None
        try:
            found, past = self._replica.newest(start, end, limit=limit)
        except StorageError as error:
            digests.forget(partition)
            if not isinstance(error, StorageBusy):
                self.unreadable[partition] = digests.boundary
                self._found_unreadable += self._is_check
            return 0
        versions = [(row, record.version) for row, record in found.items()]
        if not digests.scanned(partition, versions, past):
            return len(found)
        if not digests.is_whole(partition):
            self._replica.counted(found)
        if past != end:
            self._at = partition, past
            return len(found)
        self.unreadable.pop(partition, None)
        if not digests.end_scan(partition):
            self._found_differing += 1
            self._parts.turn.note("error", "digest_differed", partition=partition)
        return len(found)

    def _begin(self, digests: Digests) -> None:
        queue = self._uncounted or self._unchecked
        partition = next(iter(queue))
        del queue[partition]
        self._is_check = queue is self._unchecked
        if not digests.is_whole(partition):
            # To be checked, it is as good as that once it is counted.
            digests.begin_scan(partition)
            self._replica.count_anew(partition)
        elif self._is_check:
            digests.begin_check(partition)
        else:
            # It was asked for again while it was counted.
            return
        self._at = partition, partition_bounds(partition)[0]
