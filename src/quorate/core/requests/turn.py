# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a node share during one step: the time, and what the step has to say."""

from __future__ import annotations

from collections import Counter
from typing import Final

from quorate.core.values.events import Note, Result, Waiter
from quorate.core.values.versions import ABSENT, TIE_MAX, pack_version

NOTE_AGAIN_MS: Final = 10_000


class Turn:
    """One object for the life of a node; `begin` at the start of each step."""

    __slots__ = (
        "_due_ms",
        "_stamp_max",
        "answers",
        "counters",
        "mono_ms",
        "notes",
        "version_max",
        "wake_ms",
        "wall_ms",
    )

    def __init__(self) -> None:
        self.mono_ms = 0
        self.wall_ms = 0
        self.version_max = ABSENT
        """The highest version to take from a peer: clocks that differ more are not trusted."""
        self._stamp_max = 0
        self.answers: list[tuple[Waiter, Result]] = []
        self.notes: list[Note] = []
        self.wake_ms: int | None = None
        self.counters: Counter[str] = Counter()
        self._due_ms: dict[tuple[str, str], int] = {}
        """When `note_rarely` may note an event of a peer again."""

    def begin(self, mono_ms: int, wall_ms: int, *, stamp_max: int) -> None:
        """Start a step: fresh lists, the time as given."""
        self.mono_ms = mono_ms
        self.wall_ms = wall_ms
        if stamp_max != self._stamp_max:
            self._stamp_max = stamp_max
            self.version_max = pack_version(stamp_max, TIE_MAX)
        self.answers = []
        self.notes = []
        self.wake_ms = None

    def wake_at(self, mono_ms: int) -> None:
        """Have `step` called by then."""
        if self.wake_ms is None or mono_ms < self.wake_ms:
            self.wake_ms = mono_ms

    def note(self, level: str, event: str, **facts: int | str) -> None:
        """Tell the operator."""
        self.notes.append(Note(level, event, facts))

    def note_rarely(self, level: str, event: str, *, peer: str, **facts: int | str) -> None:
        """Tell the operator of what may happen with every message of a peer: once in a while."""
        if self._due_ms.get((event, peer), self.mono_ms) <= self.mono_ms:
            self._due_ms[event, peer] = self.mono_ms + NOTE_AGAIN_MS
            self.note(level, event, peer=peer, **facts)
