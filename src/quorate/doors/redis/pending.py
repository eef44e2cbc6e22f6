# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits for a command's results: one write, one read, a read that decides on a write, many.

A write that carries on what was read (EXPIRE, GETDEL ...) says so with `derived_from`, so that it
never overwrites what was written meanwhile.

What a read will answer is not known before, so its size is watched: after a large value fewer reads
are under way at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from quorate.core.values.events import Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record, is_live
from quorate.doors.errors import answer_for
from quorate.doors.flow import VALUE_BYTES_LARGE
from quorate.doors.redis.session import Pending, Session
from quorate.errors import Outcome, QuorateError
from quorate.wire import resp

PARTS_FIRST: Final = 16
PARTS_MAX: Final = 128
"""Requests that one command with many keys has under way at once: it begins with few and follows
the size of what is read."""


def failure(result: Result) -> bytes:
    """The error reply for a failed request."""
    assert isinstance(result, QuorateError), f"unexpected {type(result).__name__}"
    return _told(result, result.outcome)


def _told(error: QuorateError, outcome: Outcome | None) -> bytes:
    facts = [f"outcome={outcome.value}"] if outcome is not None else []
    facts += [f"{name}={value}" for name, value in error.facts.items()]
    text = f"{answer_for(error).prefix} {error.detail}"
    return resp.error(f"{text} ({' '.join(facts)})" if facts else text)


_GRAVITY: Final = {None: 0, Outcome.NOT_APPLIED: 1, Outcome.UNKNOWN: 2}


class Tally:
    """What became of the parts of one command. The whole is NOT_APPLIED only if every part is: MSET
    of two keys, of which one was written and one refused, is UNKNOWN."""

    __slots__ = ("error", "wrote")

    def __init__(self) -> None:
        self.error: QuorateError | None = None
        """The first of the gravest failures."""
        self.wrote = False
        """Whether any part was written."""

    def failed(self, error: QuorateError) -> None:
        """Count a part that failed."""
        if self.error is None or _GRAVITY[error.outcome] > _GRAVITY[self.error.outcome]:
            self.error = error

    def reply(self) -> bytes:
        """The error reply for the whole, of which a part failed."""
        assert self.error is not None
        return _told(self.error, Outcome.UNKNOWN if self.wrote else self.error.outcome)


def visible(result: GetResult, session: Session) -> Record | None:
    """The record of a read if a client may see it, else None. The session notes a large one."""
    record = result.record
    if _is_large(record):
        session.flow.saw_large = True
    return record if is_live(record, wall_ms=session.store.wall_ms()) else None


def _is_large(record: Record | None) -> bool:
    return (
        record is not None and record.value is not None and len(record.value) >= VALUE_BYTES_LARGE
    )


class PendingGet(Pending):
    """A read answered with the value: the hot path of GET."""

    __slots__ = ()

    def done(self, result: Result) -> None:
        """Take the result of a Get."""
        session = self.session
        if type(result) is not GetResult:
            self.resolve(failure(result))
            return
        record = result.record
        if (
            record is None
            or record.value is None
            or (record.expires_ms and not is_live(record, wall_ms=session.store.wall_ms()))
        ):
            self.reply = session.null
        else:
            size = len(record.value)
            if size >= VALUE_BYTES_LARGE:
                session.flow.saw_large = True
            self.reply = b"$%d\r\n%b\r\n" % (size, record.value)
        # `resolve` once more, without the call.
        session.reply_bytes += len(self.reply)
        if not session.flush_asked and session.queue[0] is self:
            session.flush_asked = True
            session.store.flush_soon(session)


class PendingPut(Pending):
    """An ordinary write, answered `+OK`: the hot path of SET."""

    __slots__ = ()

    def done(self, result: Result) -> None:
        """Take the result of a Put."""
        if type(result) is not PutResult:
            self.resolve(failure(result))
            return
        session = self.session
        if result.acks < session.acks_min:
            session.acks_min = result.acks
        self.reply = resp.OK
        session.reply_bytes += len(resp.OK)
        if not session.flush_asked and session.queue[0] is self:
            session.flush_asked = True
            session.store.flush_soon(session)


class PendingRead(Pending):
    """A read answered with something made of the record that clients may see."""

    __slots__ = ("_render",)

    def __init__(self, session: Session, key: bytes, render: Callable[[Record | None], bytes]):
        super().__init__(session)
        self._render = render
        session.store.submit(Get(self, key))

    def done(self, result: Result) -> None:
        """Take the result of the Get."""
        if type(result) is GetResult:
            self.resolve(self._render(visible(result, self.session)))
        else:
            self.resolve(failure(result))


class Change(NamedTuple):
    """What to write after a read. `derived`: it carries on the record that was read."""

    value: bytes | None
    expires_ms: int = 0
    derived: bool = False


Plan = Callable[[Record | None], tuple[bytes, Change | None]]
"""From the record that clients may see to the reply and what to write before it, if anything."""


class PendingUpdate(Pending):
    """A read, then the write it leads to, then the reply."""

    __slots__ = ("_key", "_plan", "_planned")

    def __init__(self, session: Session, key: bytes, plan: Plan):
        super().__init__(session)
        self._key = key
        self._plan = plan
        self._planned = b""
        session.store.submit(Get(self, key))

    def done(self, result: Result) -> None:
        """Take the result of the Get, then that of the Put."""
        session = self.session
        if type(result) is PutResult:
            session.acks_min = min(session.acks_min, result.acks)
            self.resolve(self._planned)
        elif type(result) is GetResult:
            record = visible(result, session)
            self._planned, change = self._plan(record)
            if change is None:
                self.resolve(self._planned)
                return
            derived_from = record.version if record is not None and change.derived else None
            session.store.submit(
                Put(self, self._key, change.value, change.expires_ms, derived_from=derived_from)
            )
        else:
            self.resolve(failure(result))


class Gather(Pending):
    """One request or more for each of many keys, at most PARTS_MAX keys at a time.

    A failure starts no more, and the gravest is the reply once what is under way has ended.
    """

    __slots__ = ("_next", "_running", "_tally", "_width", "keys")

    def __init__(self, session: Session, keys: list[bytes]) -> None:
        super().__init__(session)
        self.keys = keys
        self._tally = Tally()
        self._next = 0
        self._running = 0
        self._width = PARTS_FIRST
        """How many parts may be under way: one more after each small result, 1 after a large."""
        self._start()

    def ask(self, part: Part) -> None:
        """Submit the first request for `part`."""
        raise NotImplementedError

    def take(self, part: Part, result: Result) -> bool:
        """Take a part's result; False if another request was submitted for it. May `fail`."""
        raise NotImplementedError

    def conclude(self) -> bytes:
        """The reply when all parts are done."""
        raise NotImplementedError

    def fail(self, error: QuorateError) -> None:
        """Start no more parts and answer with `error`."""
        self._tally.failed(error)

    def on_part(self, part: Part, result: Result) -> None:
        """Called by each part with each of its results."""
        if isinstance(result, QuorateError):
            self.fail(result)
        elif not self.take(part, result):
            return
        is_large = type(result) is GetResult and _is_large(result.record)
        self._width = 1 if is_large else min(self._width + 1, PARTS_MAX)
        self._running -= 1
        self._start()

    def _start(self) -> None:
        error = self._tally.error
        while self._running < self._width and self._next < len(self.keys) and error is None:
            self._running += 1
            self._next += 1
            self.ask(Part(self, self._next - 1))
        if not self._running:
            self.resolve(self.conclude() if error is None else self._tally.reply())

    def note_write(self, result: PutResult) -> None:
        """Count a write that was done."""
        self._tally.wrote = True
        self.session.acks_min = min(self.session.acks_min, result.acks)


class Part:
    """The waiter for one key of a Gather."""

    __slots__ = ("_gather", "index")

    def __init__(self, gather: Gather, index: int) -> None:
        self._gather = gather
        self.index = index

    @property
    def key(self) -> bytes:
        """The key it is for."""
        return self._gather.keys[self.index]

    def done(self, result: Result) -> None:
        """Pass the result on."""
        self._gather.on_part(self, result)
