# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits for a command of many keys: some requests at a time, and one reply for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quorate.core.values.events import GetResult, PutResult, Result, UpdateResult
from quorate.doors.limits import checked_key, checked_value, no_room_for_reply
from quorate.doors.redis.session import Collecting, Session, is_large
from quorate.errors import InvalidRequest, Outcome, QuorateError

PARTS_FIRST: Final = 16
PARTS_MAX: Final = 128
"""Requests that one command with many keys has under way at once: it begins with few and follows
the size of what is read."""

_GRAVITY: Final = {None: 0, Outcome.NOT_APPLIED: 1, Outcome.UNKNOWN: 2}


class PartsTally:
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


class Gather(Collecting):
    """One request or more for each of many keys, at most PARTS_MAX keys at a time.

    All keys, and the `values` to write to them, are checked before anything is asked: of `MSET a 1
    <a key of 2 kB> 2` nothing is written. A failure starts no more, and the gravest is the reply
    once what is under way has ended.
    """

    __slots__ = ("_next", "_running", "_tally", "_width", "keys")

    def __init__(
        self,
        session: Session,
        keys: list[bytes],
        values: Sequence[bytes] = (),
        *,
        room: int = 0,
    ) -> None:
        """`room`: what the reply takes, which must be free before anything is asked."""
        super().__init__(session)
        self.keys = keys
        self._tally = PartsTally()
        self._next = 0
        self._running = 0
        self._width = min(PARTS_FIRST, session.flow.window)
        """How many parts may be under way: one more after each small result, 1 after a large. A
        client that was just sent large values has a small window, and begins with few."""
        try:
            for key in keys:
                checked_key(key)
            for value in values:
                checked_value(value, bytes_max=session.store.config.value_bytes_max)
        except InvalidRequest as error:
            self.fail(error)
        if not self.hold(room):
            self.fail(no_room_for_reply())
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

    def finish(self) -> None:
        """All parts are done: answer, or begin what takes longer."""
        self.resolve(self.conclude())

    def fail(self, error: QuorateError) -> None:
        """Start no more parts and answer with `error`."""
        self._tally.failed(error)

    def on_part(self, part: Part, result: Result) -> None:
        """Called by each part with each of its results."""
        if isinstance(result, QuorateError):
            self.fail(result)
        elif not self.take(part, result):
            return
        was_large = type(result) is GetResult and is_large(result.record)
        self._width = 1 if was_large else min(self._width + 1, PARTS_MAX)
        self._running -= 1
        self._start()

    def _start(self) -> None:
        error = self._tally.error
        while self._running < self._width and self._next < len(self.keys) and error is None:
            self._running += 1
            self._next += 1
            self.ask(Part(self, self._next - 1))
        if not self._running:
            if error is None:
                self.finish()
            else:
                self.resolve_failed(error, wrote=self._tally.wrote)

    def note_write(self, result: PutResult | UpdateResult) -> None:
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
