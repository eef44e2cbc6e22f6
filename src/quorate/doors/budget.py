# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that many requests share: a count of bytes with a maximum.

All connections of all doors take from one for the requests that are still arriving, so that a
thousand clients with a half-sent value each hold no more than a few with whole ones.
"""

from __future__ import annotations


class ByteBudget:
    """Bytes in use, at most `bytes_max`. Whoever gets no more refuses its request."""

    __slots__ = ("_bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.used = 0

    def take(self, count: int) -> bool:
        """Use `count` bytes more. False, and nothing taken, where that many are not free."""
        if self.used + count > self._bytes_max:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        """Free `count` bytes that were taken."""
        self.used -= count
