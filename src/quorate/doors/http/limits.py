# SPDX-License-Identifier: GPL-3.0-or-later
"""What slow and greedy clients run into: time to finish a request, memory for unfinished bodies."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

REQUEST_SECONDS: Final = 30.0
"""How long a request's head may take, and each further `PROGRESS_BYTES` of its body."""
PROGRESS_BYTES: Final = 64 << 10


class Closable(Protocol):
    """What can be given up on."""

    def expired(self) -> None:
        """The time is over."""


class Deadlines:
    """Gives up on whatever is watched for longer than `seconds`.

    All wait equally long, so they expire in the order they came and one timer serves them all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Closable, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, what: Closable) -> None:
        """Start, or start again, the time of `what`."""
        loop = asyncio.get_running_loop()
        self._due.pop(what, None)
        self._due[what] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._expire)

    def forget(self, what: Closable) -> None:
        """It finished, or is gone."""
        self._due.pop(what, None)

    def close(self) -> None:
        """Watch nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for what, due in list(self._due.items()):
            if due > loop.time():
                self._timer = loop.call_at(due, self._expire)
                break
            del self._due[what]
            what.expired()


class BodyBudget:
    """Bytes of request bodies that are still arriving, over all connections together."""

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
