# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client has the node keep between its commands: those of a transaction, and watched keys.

The budget of requests is charged for all of it. Up to FREE_BYTES it is kept in any case, so that
small transactions always get through, and until others find no room. What is more may be refused,
and is kept for the time of a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.doors.limits import FREE_BYTES, ByteBudget, Deadlines
from quorate.doors.redis.plans import CommandPlan

_TOO_LATE: Final = "EXECABORT Transaction discarded: EXEC did not come in time"


class Kept:
    """Something of one client that is kept until it says what becomes of it."""

    __slots__ = ("_bodies", "_deadlines", "_refused_before", "bytes")

    def __init__(self, bodies: ByteBudget, deadlines: Deadlines) -> None:
        self._bodies = bodies
        self._deadlines = deadlines
        self._refused_before = 0
        """How many requests, of any client, had found no room when its time began."""
        self.bytes = 0
        """About what it takes, and what the budget is charged."""

    def charge(self, size: int) -> bool:
        """Charge the budget for so many bytes more. False: there is no room."""
        if self.bytes + size <= FREE_BYTES:
            self._bodies.add(size)
        elif not self._bodies.take(size):
            return False
        if self.bytes <= FREE_BYTES < self.bytes + size or not self.bytes:
            self._watch()
        self.bytes += size
        return True

    def let_go(self) -> None:
        """Give back what was charged: nothing is kept any more."""
        self._deadlines.forget(self)
        self._bodies.give_back(self.bytes)
        self.bytes = 0

    def dropped(self) -> None:
        """Its client did not come in time, and it was let go."""
        raise NotImplementedError

    def expired(self) -> None:
        """Let go what others find, or may find, no room for (`Deadlines`)."""
        if self.bytes <= FREE_BYTES and self._bodies.refused == self._refused_before:
            self._watch()
        else:
            self.let_go()
            self.dropped()

    def _watch(self) -> None:
        self._refused_before = self._bodies.refused
        self._deadlines.watch(self)


class Block(Kept):
    """The commands of a transaction, from MULTI to EXEC (`transactions`)."""

    __slots__ = ("compared", "count", "fault", "lines")

    def __init__(self, bodies: ByteBudget, deadlines: Deadlines) -> None:
        super().__init__(bodies, deadlines)
        self.lines: list[Callable[[], CommandPlan]] = []
        """Each tells what its command does, or raises CommandError."""
        self.count = 0
        """How many they are, one of several keys once for each."""
        self.compared = 0
        """Bytes of keys that EXEC compares with the user's patterns, if it has some."""
        self.fault = ""
        """Why EXEC runs none of them; empty if it will."""

    def dropped(self) -> None:
        self.lines = []
        self.fault = _TOO_LATE


class WatchedKeys(Kept):
    """The keys that a client watches."""

    __slots__ = ("is_lost", "versions")

    def __init__(self, bodies: ByteBudget, deadlines: Deadlines) -> None:
        super().__init__(bodies, deadlines)
        self.versions: dict[bytes, bytes] = {}
        """Of each key its version; ABSENT if nothing was there."""
        self.is_lost = False
        """Whether some are forgotten: EXEC then runs nothing."""

    def dropped(self) -> None:
        self.versions = {}
        self.is_lost = True
