# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a node share during one step: the time, what is due, what the step has to say.

All that a node does because of the time is in one heap of deadlines. A part that waits for a time
has an `Alarm`: a call, and when to make it. Where there is much of a kind (requests of one timeout,
messages to one peer) only the oldest has an alarm, which is set again for the next when it rings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

from quorate.core.values.events import Note, Result, Waiter
from quorate.core.values.versions import ABSENT, TIE_MAX, pack_version

NOTE_AGAIN_MS: Final = 10_000
NEVER_MS: Final = 1 << 60


class Turn:
    """One object for the life of a node; `begin` at the start of each step."""

    __slots__ = (
        "_entered",
        "_heap",
        "_note_ms",
        "_stamp_max",
        "answers",
        "counters",
        "mono_ms",
        "notes",
        "version_max",
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
        self.counters: Counter[str] = Counter()
        self._note_ms: dict[tuple[str, str], int] = {}
        """When `note_rarely` may note an event of a peer again."""
        self._heap: list[tuple[int, int, Alarm]] = []
        """Time, number of the entry, and whose it is; void if the alarm's time is another."""
        self._entered = 0

    def begin(self, mono_ms: int, wall_ms: int, *, stamp_max: int) -> None:
        """Start a step: fresh lists, the time as given."""
        self.mono_ms = mono_ms
        self.wall_ms = wall_ms
        if stamp_max != self._stamp_max:
            self._stamp_max = stamp_max
            self.version_max = pack_version(stamp_max, TIE_MAX)
        self.answers = []
        self.notes = []

    # --- deadlines ---------------------------------------------------------------------------

    def enter(self, mono_ms: int, alarm: Alarm) -> None:
        """Put an alarm's time into the heap."""
        self._entered += 1
        heappush(self._heap, (mono_ms, self._entered, alarm))

    def ring(self) -> None:
        """Make the calls that are due, in order of time, then of entry.

        What these calls enter for now rings in the next step, which `wake_ms` asks for at once: so
        nothing can go round and round within a step.
        """
        heap, now = self._heap, self.mono_ms
        if not heap or heap[0][0] > now:
            return
        last = self._entered
        fresh: list[tuple[int, int, Alarm]] = []
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            if entry[1] > last:
                fresh.append(entry)
            else:
                entry[2].ring(entry[0])
        for entry in fresh:
            heappush(heap, entry)

    def wake_ms(self) -> int | None:
        """When the next call is due; None if none is."""
        heap = self._heap
        while heap and heap[0][2].due_ms != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    # --- notes -------------------------------------------------------------------------------

    def note(self, level: str, event: str, **facts: int | str) -> None:
        """Tell the operator."""
        self.notes.append(Note(level, event, facts))

    def note_rarely(self, level: str, event: str, *, peer: str, **facts: int | str) -> None:
        """Tell the operator of what may happen with every message of a peer: once in a while."""
        if self._note_ms.get((event, peer), self.mono_ms) <= self.mono_ms:
            self._note_ms[event, peer] = self.mono_ms + NOTE_AGAIN_MS
            self.note(level, event, peer=peer, **facts)


class Alarm:
    """A call that is made once its time has come; then it has none until it is set again."""

    __slots__ = ("_call", "_turn", "due_ms")

    def __init__(self, turn: Turn, call: Callable[[], None]) -> None:
        self._turn = turn
        self._call = call
        self.due_ms = NEVER_MS

    def at(self, mono_ms: int) -> None:
        """Make the call by `mono_ms`: then, unless an earlier time is set."""
        if mono_ms < self.due_ms:
            self.due_ms = mono_ms
            self._turn.enter(mono_ms, self)

    def soon(self) -> None:
        """Make the call in this step, or in the next if this one is past its events."""
        self.at(self._turn.mono_ms)

    def ring(self, mono_ms: int) -> None:
        """Make the call if it is set for this very time."""
        if mono_ms == self.due_ms:
            self.due_ms = NEVER_MS
            self._call()
