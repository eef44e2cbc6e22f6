# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a node share during one step: the time, and what the step has to say."""

from __future__ import annotations

from collections import Counter

from quorate.core.events import Note, Result, Waiter


class Turn:
    """One object for the life of a node; `begin` at the start of each step."""

    __slots__ = ("answers", "counters", "mono_ms", "notes", "wake_ms", "wall_ms")

    def __init__(self) -> None:
        self.mono_ms = 0
        self.wall_ms = 0
        self.answers: list[tuple[Waiter, Result]] = []
        self.notes: list[Note] = []
        self.wake_ms: int | None = None
        self.counters: Counter[str] = Counter()

    def begin(self, mono_ms: int, wall_ms: int) -> None:
        """Start a step: fresh lists, the time as given."""
        self.mono_ms = mono_ms
        self.wall_ms = wall_ms
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
