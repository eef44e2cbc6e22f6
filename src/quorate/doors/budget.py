# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory for requests that are still arriving: one budget, shared by all connections and doors."""

from __future__ import annotations


class ByteBudget:
    """Bytes held for unfinished requests; what does not fit is for the caller to refuse."""

    __slots__ = ("_bytes_max", "used")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.used = 0

    def take(self, count: int) -> bool:
        """Whether there is room for `count` more; they are then used until given back."""
        if self.used + count > self._bytes_max:
            return False
        self.used += count
        return True

    def give_back(self, count: int) -> None:
        """Those bytes are no longer held here."""
        self.used -= count
