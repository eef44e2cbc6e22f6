# SPDX-License-Identifier: GPL-3.0-or-later
"""What slow and silent clients run into: time to finish a request, time to begin one."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

REQUEST_SECONDS: Final = 30.0
"""How long a request's head may take, and each further `PROGRESS_BYTES` of its body."""
LINGER_SECONDS: Final = 2.0
"""How long a refused body is read on, so that its sender sees the answer and not a reset."""
PROGRESS_BYTES: Final = 64 << 10
IDLE_SECONDS: Final = 75.0
"""How long a connection may be silent, at least."""
_SWEEPS: Final = 3
"""In that time; a connection is found to be silent up to a third of it later."""


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


class Idle(Protocol):
    """What can be silent."""

    silent_sweeps: int
    """Sweeps since it was last heard; its owner sets it to 0 whenever it hears something."""

    def idled(self) -> None:
        """It was silent for all the time."""


class IdleLimit:
    """Tells connections that were silent for `seconds`.

    One sweep looks at all: a connection pays one assignment for each packet, and has no timer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._all: dict[Idle, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Idle) -> None:
        """Look at it from now on."""
        self._all[connection] = None
        if self._timer is None:
            self._start()

    def discard(self, connection: Idle) -> None:
        """Look at it no more."""
        self._all.pop(connection, None)

    def close(self) -> None:
        """Look at none any more."""
        self._all.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds / _SWEEPS, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        for connection in list(self._all):
            connection.silent_sweeps += 1
            # The first of them may have come right after the last word.
            if connection.silent_sweeps > _SWEEPS:
                connection.idled()
        if self._all:
            self._start()
