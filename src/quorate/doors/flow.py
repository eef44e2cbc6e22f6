# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a client's connection: one state machine, the same behind every door.

A door turns bytes into requests and results into answers. Its `Flow` decides the rest: whether the
transport reads, whether what it reads is looked at, which deadline runs, and when the connection
closes. The door tells it what happened (`go`), and the flow moves as MOVES says, like h11's
`_state`. Example: a client sends half a command (PART: READING to ARRIVING, and a deadline runs),
then the rest of it and QUIT (LEAVE: LEAVING, what follows is dropped), and once QUIT is answered
(ANSWERED: CLOSING) the transport is closed.

Beside the state stands one fact about the other direction: `is_choked`, the client does not take
its answers. Nothing begins and nothing is read until it does.

Invariants. Reading is paused in WAITING and nowhere else. At most one deadline runs, and one does
wherever the client is waited for: ARRIVING (the rest of a request), LINGERING (its end), CLOSING or
choked (that it takes its answers); READING has the door's limit for idle clients, if it has one.
What was charged to the budgets is given back once, in CLOSED at the latest. Nothing leaves CLOSED.

Two budgets are shared with all connections: one for what arrives (`charge`), one for what waits to
leave (`has_room`): values that reads brought, replies whose turn has not come, and bytes that the
kernel has not taken. Of the latter a connection has FREE_REPLY_BYTES in its queue and as many in
its transport for nothing, so small replies always get through. Who takes them too slowly while
others find no room in a budget that it holds much of is let go (`too_slow`).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, cast

from quorate.doors.answered import WaitingLine
from quorate.doors.limits import (
    FREE_BYTES,
    LINGER_SECONDS,
    REQUEST_SECONDS,
    ByteBudget,
    Deadlines,
    IdleLimit,
    Timers,
    too_slow,
)

WRITE_BYTES_LARGE: Final = 1 << 20
"""Answers written at once above this make the window smaller, below it larger."""
VALUE_BYTES_LARGE: Final = 64 * 1024
"""Values from here on are read one at a time."""
FREE_REPLY_BYTES: Final = 64 * 1024
SMALL_REPLY_BYTES: Final = 1024
"""Replies up to here are never refused; those of a whole window are a megabyte."""
REPLY_BYTES_MAX: Final = 8 << 20
"""Nothing begins on a connection while more than these wait in line to be written."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where a connection is in its life."""

    name: str
    takes: bool
    """Whether its door looks at what comes."""


READING: Final = State("READING", takes=True)
"""Reads; no request is half here."""
ARRIVING: Final = State("ARRIVING", takes=True)
"""Reads; a request is half here."""
WAITING: Final = State("WAITING", takes=True)
"""Does not read: answers must leave before more requests may begin."""
ENDING: Final = State("ENDING", takes=False)
"""Takes no more bytes, and still serves the requests that came whole."""
REFUSING: Final = State("REFUSING", takes=False)
"""Begins nothing any more; answers what it began, last the refusal of what the client sends."""
LINGERING: Final = State("LINGERING", takes=False)
"""All is answered. Reads on and drops, as a client that still sends would see a reset instead of
the refusal (RFC 9112, 9.6)."""
LEAVING: Final = State("LEAVING", takes=False)
"""Begins nothing any more; answers what it began."""
CLOSING: Final = State("CLOSING", takes=False)
"""All is answered, and the transport closes once the client has taken it."""
CLOSED: Final = State("CLOSED", takes=False)
"""The connection is lost, or another protocol has it."""


class Input(enum.IntEnum):
    """What can happen to a connection."""

    PART = enum.auto()  # A request is half here.
    PROGRESS = enum.auto()  # So much more of it that the client earns new time, or the next began.
    WHOLE = enum.auto()  # No request is half here.
    FULL = enum.auto()  # No more requests may begin before answers leave.
    CHOKED = enum.auto()  # The client does not take its answers.
    END = enum.auto()  # The client sends no more, or nothing after this can be read.
    REFUSE = enum.auto()  # The client is told to stop in the midst of a request.
    LEAVE = enum.auto()  # The client asked to be let go, or its last request has begun.
    ANSWERED = enum.auto()  # All that was begun is answered, and nothing more may begin.
    LATE = enum.auto()  # The deadline is over.
    GIVEN = enum.auto()  # Another protocol takes the connection over.
    LOST = enum.auto()  # The transport is gone.


_OPEN: Final = {
    Input.REFUSE: REFUSING,
    Input.LEAVE: LEAVING,
    Input.GIVEN: CLOSED,
    Input.LOST: CLOSED,
}
_TAKING: Final = {
    **_OPEN,
    Input.FULL: WAITING,
    Input.CHOKED: WAITING,
    Input.END: ENDING,
}
MOVES: Final[dict[State, dict[Input, State]]] = {
    READING: {**_TAKING, Input.PART: ARRIVING, Input.LATE: CLOSING},
    ARRIVING: {**_TAKING, Input.PROGRESS: ARRIVING, Input.WHOLE: READING, Input.LATE: ENDING},
    WAITING: {**_TAKING, Input.PART: ARRIVING, Input.WHOLE: READING},
    ENDING: {**_OPEN, Input.ANSWERED: CLOSING},
    REFUSING: {Input.END: LEAVING, Input.ANSWERED: LINGERING, Input.LOST: CLOSED},
    LINGERING: {Input.END: CLOSING, Input.LATE: CLOSING, Input.LOST: CLOSED},
    LEAVING: {Input.ANSWERED: CLOSING, Input.LOST: CLOSED},
    CLOSING: {Input.LOST: CLOSED},
    CLOSED: {},
}
"""From a state and an input to the next state; an input that a row does not name changes nothing.
"""


class Limits:
    """What all connections of a door share: its limits."""

    def __init__(
        self,
        bodies: ByteBudget,
        replies: ByteBudget,
        timers: Timers,
        *,
        window_first: int,
        window_max: int,
        idle_seconds: float = 0.0,
    ) -> None:
        self.bodies = bodies
        """Bytes of requests that are still arriving, over all connections of all doors."""
        self.replies = replies
        """Bytes of replies that are not yet with the kernel, likewise."""
        self.timers = timers
        self.deadlines = Deadlines(timers, REQUEST_SECONDS)
        self.lingering = Deadlines(timers, LINGER_SECONDS)
        self.idle_limit = IdleLimit(timers, idle_seconds) if idle_seconds else None
        self.window_first = window_first
        self.window_max = window_max

    def close(self) -> None:
        """Let no connection run into a limit any more."""
        self.deadlines.close()
        self.lingering.close()
        if self.idle_limit is not None:
            self.idle_limit.close()


class Owner(Protocol):
    """The door's side of a connection."""

    def late(self) -> None:
        """The rest of a request did not come in time; nothing more is taken (ENDING)."""


class Flow:
    """The state of one connection, and all that follows from it."""

    __slots__ = (
        "_deadline",
        "_held_bytes",
        "_is_closing",
        "_limits",
        "_line",
        "_owner",
        "_refused_before",
        "_taken_bytes",
        "_write",
        "_written_bytes",
        "charged_bytes",
        "is_choked",
        "reply_bytes",
        "saw_large",
        "silent_sweeps",
        "state",
        "transport",
        "window",
    )

    def __init__(self, owner: Owner, line: WaitingLine, limits: Limits) -> None:
        self._owner: Owner | None = owner
        self._line = line
        self._limits = limits
        self.state = READING
        self.transport: asyncio.Transport | None = None
        """None before the beginning and in CLOSED."""
        self._write: Callable[[bytes], object] | None = None
        self._is_closing: Callable[[], bool] | None = None
        """The transport's, looked up once: each answer needs both."""
        self.is_choked = False
        self.window = limits.window_first
        """Requests that may be under way at once. It follows the size of answers, because what a
        read will answer is not known before."""
        self.saw_large = False
        """Whether a large value was read since the last write."""
        self.charged_bytes = 0
        """Bytes of a half request that the shared budget is charged for."""
        self.reply_bytes = 0
        """Values that reads brought and replies that are made, not yet written."""
        self._held_bytes = 0
        """What this connection uses of the shared budget for replies."""
        self.silent_sweeps = 0
        """For `IdleLimit`; a door that has one sets it to 0 with whatever comes."""
        self._deadline: Deadlines | None = None
        """Where this connection is watched now."""
        self._written_bytes = 0
        self._taken_bytes = 0
        """Of those written, how many the system had taken when the deadline began."""
        self._refused_before = 0, 0
        """How many replies, and how many requests, of any client, had found no room by then."""

    def open(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = opened = cast(asyncio.Transport, transport)
        self._write, self._is_closing = opened.write, opened.is_closing
        if self._limits.idle_limit is not None:
            self._limits.idle_limit.add(self)

    @property
    def can_half_close(self) -> bool:
        """Whether who sends no more can still be answered: not inside TLS, which ends whole."""
        return self.transport is not None and self.transport.can_write_eof()

    def go(self, event: Input) -> None:
        """Move as MOVES says, and do what follows: pause or resume, watch, close, give back."""
        before = self.state
        after = MOVES[before].get(event, before)
        if self.is_choked and (after is READING or after is ARRIVING):
            after = WAITING
        if after is before and (event != Input.PROGRESS or after is not ARRIVING):
            return
        self.state = after
        transport = self.transport
        if transport is not None and not transport.is_closing():
            if after is WAITING:
                transport.pause_reading()
            elif before is WAITING:
                transport.resume_reading()
            if after is CLOSING:
                transport.close()
        if after is CLOSED:
            self.transport = self._owner = self._write = self._is_closing = None
            self.charge(0)
            self._limits.replies.give_back(self._held_bytes)
            self._held_bytes = 0
            if self._limits.idle_limit is not None:
                self._limits.idle_limit.discard(self)
        self._watch(anew=True)

    def choke(self) -> None:
        """Begin and read nothing: the client does not take its answers."""
        self.is_choked = True
        self.go(Input.CHOKED)
        self._watch(anew=False)

    def unchoke(self) -> None:
        """The client takes them again. Reading goes on when the door says PART or WHOLE."""
        self.is_choked = False
        self._hold_what_is_there()
        self._watch(anew=False)

    @property
    def has_written(self) -> bool:
        """Whether anything was answered yet."""
        return self._written_bytes > 0

    def give_away(self) -> asyncio.Transport:
        """The transport, reading, for another protocol; this connection is over."""
        transport = self.transport
        assert transport is not None
        self.go(Input.GIVEN)
        return transport

    def abort(self) -> None:
        """Drop the client: its connection cannot be trusted to answer in order any more."""
        if self.transport is not None:
            self.transport.abort()

    def write(self, answers: bytes) -> None:
        """Write answers that were counted in `reply_bytes`, and fit the window to them."""
        size = len(answers)
        self.reply_bytes -= size
        write, is_closing = self._write, self._is_closing
        # uvloop raises on a write after close.
        if write is None or is_closing is None or is_closing():
            return
        self._written_bytes += size
        if self.saw_large:
            self.saw_large = False
            self.window = 1
        elif size > WRITE_BYTES_LARGE:
            self.window = max(self.window // 4, 1)
        elif self.window < self._limits.window_max:
            self.window *= 2
        write(answers)
        if self._held_bytes or size > FREE_REPLY_BYTES:
            self._hold_what_is_there()

    def has_room(self, size: int) -> bool:
        """Whether a reply of `size` bytes more may be kept. What is asked for here is charged: add
        it to `reply_bytes`. False once the client is gone."""
        waiting = self.reply_bytes + size
        if waiting <= FREE_REPLY_BYTES and not self._held_bytes:
            return True
        transport = self.transport
        if transport is None:
            return False
        count = max(waiting + transport.get_write_buffer_size() - FREE_REPLY_BYTES, 0)
        more = count - self._held_bytes
        if more > 0 and not self._limits.replies.take(more):
            return False
        self._held_bytes += max(more, 0)
        return True

    def _hold_what_is_there(self) -> None:
        """Charge exactly what waits now: what the kernel took is given back."""
        transport = self.transport
        if transport is not None:
            waiting = self.reply_bytes + transport.get_write_buffer_size()
            count = max(waiting - FREE_REPLY_BYTES, 0)
            self._limits.replies.add(count - self._held_bytes)
            self._held_bytes = count

    def charge(self, count: int) -> bool:
        """Charge the shared budget for a half request of `count` bytes, in place of what it was
        charged for before. False, and nothing changed, where it has not so many."""
        if not self._limits.bodies.charge(count, before=self.charged_bytes):
            return False
        self.charged_bytes = count
        return True

    # --- deadlines --------------------------------------------------------------------------------

    def expired(self) -> None:
        """The deadline is over (`Deadlines`)."""
        self._deadline = None
        state = self.state
        if state is not ARRIVING and state is not LINGERING:
            taken = self._count_taken() - self._taken_bytes
            replies_before, bodies_before = self._refused_before
            limits, charged = self._limits, max(self.charged_bytes - FREE_BYTES, 0)
            # Half a request that nobody reads on holds of the other budget as long.
            if too_slow(
                taken, held=self._held_bytes, was_short=limits.replies.refused != replies_before
            ) or too_slow(taken, held=charged, was_short=limits.bodies.refused != bodies_before):
                self.abort()
            else:
                self._hold_what_is_there()
                self._watch(anew=True)
            return
        self.go(Input.LATE)
        if state is ARRIVING and self._owner is not None:
            self._owner.late()

    def idled(self) -> None:
        """Nothing came for long (`IdleLimit`). A client that waits for answers is not idle, and one
        that is slow with a request has a deadline."""
        if self.state is READING and self._line.first is None:
            self.go(Input.LATE)

    def _watch(self, *, anew: bool) -> None:
        """Let the deadline run that the state asks for, and no other; `anew`: from now on."""
        wanted: Deadlines | None = None
        state = self.state
        if state is LINGERING:
            wanted = self._limits.lingering
        elif state is ARRIVING or state is CLOSING or (self.is_choked and state is not CLOSED):
            wanted = self._limits.deadlines
        if wanted is self._deadline and not anew:
            return
        if self._deadline is not None:
            self._deadline.forget(self)
        self._deadline = wanted
        if wanted is not None:
            self._taken_bytes = self._count_taken()
            self._refused_before = self._limits.replies.refused, self._limits.bodies.refused
            wanted.watch(self)

    def _count_taken(self) -> int:
        transport = self.transport
        return self._written_bytes - (transport.get_write_buffer_size() if transport else 0)
