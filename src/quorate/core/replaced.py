# SPDX-License-Identifier: GPL-3.0-or-later
"""Which versions this node held lately and holds no more.

A replica that is ahead of a write may have held it before, and somebody may have read it there. Or
it never did, and then never will: versions of a row only rise. The coordinator needs to know which
(`exchanges.writes`). For example: B held 7, and took 11, when 9 comes. It remembers 7 before 11, so
it tells that it never held 9.

All that was replaced since a while ago is remembered, in memory, in two pages; when one is full the
older is forgotten. Below what was forgotten, or replaced by an earlier process, nothing is known:
that was stamped up to the clock's ceiling, or taken above it (`turn.Parts.note_ahead`).
"""

from __future__ import annotations

from typing import Final

from quorate.core.values.versions import VERSION_BYTES, chain_of

GENERATION_BYTES: Final = 1 << 20
"""What either of the two sets of entries takes at most."""
ENTRY_BYTES: Final = 100
"""What an entry takes, about, besides its version."""


_HIGHEST: Final = b"\xff" * VERSION_BYTES


class Replaced:
    """The chains of versions that rows had, and have no more."""

    __slots__ = ("_newer", "_older", "_room", "since")

    def __init__(self) -> None:
        self.since = _HIGHEST
        """Of what is not above this version nothing is known."""
        self._newer: set[bytes] = set()
        """Chains of all rows alike: hardly ever do two rows have one, and then nothing is known of
        it. With its row before it each would be made, and hashed, anew."""
        self._older: set[bytes] = set()
        self._room = GENERATION_BYTES

    def forget(self) -> None:
        """Something was held of which the version is not known."""
        self.since = _HIGHEST

    def note(self, version: bytes) -> None:
        """A version above `since` is held no more."""
        chain = chain_of(version)
        if chain in self._newer:
            return
        self._newer.add(chain)
        self._room -= VERSION_BYTES + ENTRY_BYTES
        if self._room < 0:
            self.since = max(self.since, max(self._older, default=self.since))
            self._older, self._newer = self._newer, set()
            self._room = GENERATION_BYTES

    def never_was(self, version: bytes) -> bool:
        """Whether it is known that a version lower than what is held, or anything built on it, was
        never held."""
        chain = chain_of(version)
        return chain > self.since and chain not in self._newer and chain not in self._older
