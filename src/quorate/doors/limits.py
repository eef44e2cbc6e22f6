# SPDX-License-Identifier: GPL-3.0-or-later
"""What bounds clients: sizes, memory that they share, time to finish a request and to begin one.

All connections of all doors take from one `ByteBudget` for the requests that are still arriving,
and from another for the replies that are not yet with the kernel. So a thousand clients with a
half-sent value each, or that do not read, hold no more than a few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from quorate.config import KEY_BYTES_MAX
from quorate.errors import KeyMissing, KeyTooLarge, Outcome, Overloaded, too_large_value

REQUEST_SECONDS: Final = 30.0
"""How long a client may take over one request (of an HTTP body: over each `PROGRESS_BYTES`), and
how long it may take its answers too slowly (`too_slow`)."""
LINGER_SECONDS: Final = 2.0
"""How long a refused body is read on, so that its sender sees the answer and not a reset."""
PROGRESS_BYTES: Final = 64 << 10
IDLE_SECONDS: Final = 75.0
"""How long a connection may be silent, at least."""
_SWEEPS: Final = 3
"""How often all are looked at in that time, so that one is found silent after 75 to 100 s."""


FREE_BYTES: Final = 64 << 10
"""A half request up to here costs the budget nothing, so that small ones always get through."""


class Timers(Protocol):
    """What limits of time need of the event loop."""

    def time(self) -> float:
        """Seconds that never step."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call back once after `delay` seconds."""


class Closable(Protocol):
    """What can have a deadline."""

    def expired(self) -> None:
        """The time is over; nothing is watched any more."""


class Deadlines:
    """Gives up on whatever is watched for longer than `seconds`.

    All wait equally long, so they expire in the order they came and one timer serves them all.
    """

    def __init__(self, timers: Timers, seconds: float) -> None:
        self._timers = timers
        self._seconds = seconds
        self._due: dict[Closable, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, what: Closable) -> None:
        """Start, or start again, the time of `what`."""
        self._due.pop(what, None)
        self._due[what] = self._timers.time() + self._seconds
        if self._timer is None:
            self._timer = self._timers.call_later(self._seconds, self._expire)

    def forget(self, what: Closable) -> None:
        """Stop watching `what`: it finished, or is gone."""
        self._due.pop(what, None)

    def close(self) -> None:
        """Watch nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        # `expired` may watch something: `_timer` stays set meanwhile, so that it starts no other.
        left = 0.0
        try:
            while self._due:
                what, due = next(iter(self._due.items()))
                left = due - self._timers.time()
                if left > 0:
                    return
                del self._due[what]
                what.expired()
        finally:
            # Also if one raised, which is the loop's to report: the others still have deadlines.
            wait = max(left, 0.0)
            self._timer = self._timers.call_later(wait, self._expire) if self._due else None


class Idle(Protocol):
    """What can be silent."""

    silent_sweeps: int
    """Sweeps since it was last heard; its owner sets it to 0 whenever it hears something."""

    def idled(self) -> None:
        """It was silent for all the time."""


class IdleLimit:
    """Calls `idled` of each connection that was silent for `seconds`.

    One sweep looks at all: a connection pays one assignment for each packet, and has no timer.
    """

    def __init__(self, timers: Timers, seconds: float) -> None:
        self._timers = timers
        self._seconds = seconds
        self._all: dict[Idle, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Idle) -> None:
        """Look at `connection` from now on."""
        self._all[connection] = None
        if self._timer is None:
            self._timer = self._timers.call_later(self._seconds / _SWEEPS, self._sweep)

    def discard(self, connection: Idle) -> None:
        """Look at `connection` no more."""
        self._all.pop(connection, None)

    def close(self) -> None:
        """Look at none any more."""
        self._all.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        silent = []
        for connection in self._all:
            connection.silent_sweeps += 1
            # The first sweep may have come right after the last packet.
            if connection.silent_sweeps > _SWEEPS:
                silent.append(connection)
        try:
            for connection in silent:
                connection.idled()
        finally:
            # Also if one raised, which is the loop's to report.
            if self._all and self._timer is None:
                self._timer = self._timers.call_later(self._seconds / _SWEEPS, self._sweep)


class ByteBudget:
    """Bytes in use, at most `bytes_max`. Whoever gets no more refuses its request."""

    __slots__ = ("_bytes_max", "refused", "used")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.used = 0
        self.refused = 0
        """How often there was no room."""

    def take(self, count: int) -> bool:
        """Use `count` bytes more. False, and nothing taken, where that many are not free."""
        if self.used + count > self._bytes_max:
            self.refused += 1
            return False
        self.used += count
        return True

    def add(self, count: int) -> None:
        """Use `count` bytes more, free or not: they are there, and cannot be refused any more."""
        self.used += count

    def give_back(self, count: int) -> None:
        """Free `count` bytes that were taken."""
        self.used -= count

    def charge(self, count: int, *, before: int) -> bool:
        """Take what a half request of `count` bytes costs, in place of what it cost when it had
        `before`. False, and nothing changed, where that much is not free."""
        more = max(count - FREE_BYTES, 0) - max(before - FREE_BYTES, 0)
        if more > 0:
            return self.take(more)
        self.give_back(-more)
        return True


SHARE_PARTS: Final = 10
"""See `too_slow`."""


def too_slow(moved: int, *, held: int, was_short: bool) -> bool:
    """Whether to give up on a client of whose reply, or body, so many bytes moved in
    REQUEST_SECONDS: none did; or others were refused meanwhile because the budget was used up
    (`was_short`), and less than a tenth moved of what it holds of that budget. Example: a client
    takes a byte of 8 MiB every 20 s. If nobody else is in need it may; else it goes, and gives them
    back."""
    return moved <= 0 or (was_short and moved * SHARE_PARTS < held)


class Budgets(NamedTuple):
    """What all clients of a node share."""

    bodies: ByteBudget
    """For requests."""
    replies: ByteBudget


class BodyPace:
    """When a body that arrives earns its sender more time."""

    __slots__ = ("_budget", "_bytes_before", "_refused_before")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._bytes_before = 0
        self._refused_before = budget.refused

    def earns(self, size: int) -> bool:
        """Whether it does now that `size` bytes are there. If so its time begins anew."""
        part = size - self._bytes_before
        was_short = self._budget.refused != self._refused_before
        if part < PROGRESS_BYTES or too_slow(part, held=size - FREE_BYTES, was_short=was_short):
            return False
        self._bytes_before = size
        self._refused_before = self._budget.refused
        return True


def no_room_for_reply() -> Overloaded:
    """What a read is refused with whose reply finds no room in the shared budget."""
    return Overloaded(
        "replies that clients have not taken fill the memory for them", outcome=Outcome.NOT_APPLIED
    )


def checked_key(key: bytes) -> bytes:
    """`key`, if it can be one. KeyMissing, KeyTooLarge."""
    if not key:
        raise KeyMissing("a key is needed", outcome=Outcome.NOT_APPLIED)
    if len(key) > KEY_BYTES_MAX:
        raise KeyTooLarge(
            "the key is too large",
            outcome=Outcome.NOT_APPLIED,
            bytes=len(key),
            bytes_max=KEY_BYTES_MAX,
        )
    return key


def checked_value(value: bytes, *, bytes_max: int) -> bytes:
    """`value`, if it is not too large. ValueTooLarge."""
    if len(value) > bytes_max:
        raise too_large_value(value, bytes_max)
    return value
