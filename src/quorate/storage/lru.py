# SPDX-License-Identifier: GPL-3.0-or-later
"""The read cache: records by row, least recently used out first, bounded by entries and by bytes.

Both bounds hold after every call. A record that is larger than the whole cache is not kept, and
takes the row's older record with it: the cache never holds anything but the newest it was given.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from quorate.core.record import Record

ENTRY_BYTES: Final = 400
"""What an entry costs beside its row and its value: the objects and their place in the order."""


def cost_of(row: bytes, record: Record) -> int:
    """Bytes that an entry counts for, about what it takes of memory."""
    value = record.value
    return ENTRY_BYTES + len(row) + (0 if value is None else len(value))


class Lru:
    """A bounded map from row to record; every call is O(1) but for the evictions it causes."""

    def __init__(self, *, entries_max: int, bytes_max: int) -> None:
        self._entries: OrderedDict[bytes, tuple[Record, int]] = OrderedDict()
        """Each with its cost, so that it need not be worked out again to take it back."""
        self._entries_max: Final = entries_max
        self._bytes_max: Final = bytes_max
        self.bytes_used = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, row: bytes) -> Record | None:
        """The record of a row, which becomes the most recently used, or None; counts either."""
        entry = self._entries.get(row)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(row)
        return entry[0]

    def put(self, records: Iterable[tuple[bytes, Record]]) -> None:
        """Keep records as the most recently used, in place of their rows' older ones.

        One call for a whole batch: this is on every write's way.
        """
        entries = self._entries
        used = self.bytes_used
        for row, record in records:
            cost = cost_of(row, record)
            if cost > self._bytes_max:
                used -= entries.pop(row, (None, 0))[1]
                continue
            old = entries.get(row)
            if old is not None:
                used -= old[1]
                # Taking it out and putting it in again would use up the table's room, and when that
                # is gone every entry is hashed anew: a pause of 30 ms with 100,000 of them.
                entries.move_to_end(row)
            entries[row] = record, cost
            used += cost
        while used > self._bytes_max or len(entries) > self._entries_max:
            used -= entries.popitem(last=False)[1][1]
        self.bytes_used = used
