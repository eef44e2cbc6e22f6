# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions this node held lately and holds no more.

A replica that is ahead of a write may have held it before, and somebody may have read it there. Or
it never did, and then never will: versions of a row only rise. The coordinator needs to know which
(`exchanges.writes`). For example: B held 7, and took 11, when 9 comes. It remembers 7 before 11, so
it tells that it never held 9.

All that was replaced since a while ago is remembered, in memory, in two pages; when one is full the
older is forgotten. Below what was forgotten, or replaced by an earlier process, nothing is known.
"""

from __future__ import annotations

from typing import Final

from quorate.core.values.versions import VERSION_BYTES, chain_of

PAGE_BYTES: Final = 1 << 20
ENTRY_BYTES: Final = 100
"""What an entry takes, about, besides its row and version."""


_HIGHEST: Final = b"\xff" * VERSION_BYTES


class Replaced:
    """The chains of versions that rows had, and have no more."""

    __slots__ = ("_newer", "_older", "_room", "since")

    def __init__(self) -> None:
        self.since = _HIGHEST
        """Of what is not above this version nothing is known."""
        self._newer: set[bytes] = set()
        """Rows with chains behind them."""
        self._older: set[bytes] = set()
        self._room = PAGE_BYTES

    def forget(self) -> None:
        """Something was held of which the version is not known."""
        self.since = _HIGHEST

    def note(self, row: bytes, version: bytes) -> None:
        """A version above `since` is held no more."""
        entry = row + chain_of(version)
        if entry in self._newer:
            return
        self._newer.add(entry)
        self._room -= len(entry) + ENTRY_BYTES
        if self._room < 0:
            forgotten = [each[-VERSION_BYTES:] for each in self._older]
            self.since = max(self.since, max(forgotten, default=self.since))
            self._older, self._newer = self._newer, set()
            self._room = PAGE_BYTES

    def never_was(self, row: bytes, version: bytes) -> bool:
        """Whether it is known that a version lower than what is held, or anything built on it, was
        never held."""
        chain = chain_of(version)
        if chain <= self.since:
            return False
        entry = row + chain
        return entry not in self._newer and entry not in self._older
