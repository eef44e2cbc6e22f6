# SPDX-License-Identifier: GPL-3.0-or-later
"""RENAME, RENAMENX, COPY: what is at one key is written to another.

Two keys are two writes, and nothing makes one of them. So the order is that which loses nothing:
the other key is written first, and the first key is deleted then if it still has the version that
was written; if not, what it has by now is written over. Whoever looks meanwhile sees both keys, and
so does everybody if the node fails in between.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.values.events import (
    Edited,
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Update,
    UpdateResult,
)
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT
from quorate.doors.access import Role
from quorate.doors.limits import checked_key
from quorate.doors.redis.command import (
    Access,
    Command,
    KeyPositions,
    first_key,
    integer_argument,
)
from quorate.doors.redis.one_key import note_update, permit_reading
from quorate.doors.redis.session import CommandError, Pending, PendingRead, Session, told, visible
from quorate.errors import Conflict, InvalidRequest, Outcome, QuorateError
from quorate.wire import resp

TRIES_MAX: Final = 8
"""How often RENAME copies a key that is written all the time."""
_NO_KEY: Final = resp.error("ERR no such key")


class _Copy(Pending):
    """Writes to `target` what is at `source`, if anything is."""

    __slots__ = ("_copied", "_replaces", "_source", "_target", "_written", "_wrote")

    def __init__(self, session: Session, source: bytes, target: bytes, *, replaces: bool) -> None:
        super().__init__(session)
        self._source = source
        self._target = target
        self._replaces = replaces
        self._copied = ABSENT
        """The version at `source` that was copied."""
        self._written = ABSENT
        """The version that it has at `target`."""
        self._wrote = False
        try:
            checked_key(source)
            checked_key(target)
        except InvalidRequest as error:
            self.fail(error)
        else:
            self.read()

    def read(self) -> None:
        """Begin, or begin anew."""
        self.session.store.submit(Get(self, self._source))

    def done(self, result: Result) -> None:
        """Take the result of the read, then of the write."""
        if isinstance(result, QuorateError):
            self.fail(result)
        elif isinstance(result, GetResult):
            self._write(visible(result, self.session))
        elif isinstance(result, UpdateResult):
            note_update(self.session, result)
            if result.after is None:
                self.resolve(resp.integer(0))
            else:
                self._has_written(result.after.version)
        else:
            assert isinstance(result, PutResult)
            self.session.acks_min = min(self.session.acks_min, result.acks)
            self._has_written(result.version)

    def _write(self, record: Record | None) -> None:
        if record is None:
            self.missing()
            return
        self._copied = record.version
        written = self._written
        value, expires = record.value, record.expires_ms
        if self._replaces:
            self.overwrite(self._target, value, expires)
            return

        def edit(there: Record | None) -> Edited | None:
            is_ours = there is not None and there.version == written
            return Edited(value, expires) if there is None or is_ours else None

        size = len(value or b"")
        self.session.store.submit(Update(self, self._target, edit, size=size))

    def overwrite(self, target: bytes, value: bytes | None, expires_ms: int) -> None:
        """Write the copy, whatever is there."""
        self.session.store.submit(Put(self, target, value, expires_ms))

    def _has_written(self, version: bytes) -> None:
        self._wrote = True
        self._written = version
        self.copied()

    def missing(self) -> None:
        """Nothing is at `source`."""
        self.resolve(resp.integer(0))

    def copied(self) -> None:
        """The copy is written."""
        self.resolve(resp.integer(1))

    def fail(self, error: QuorateError) -> None:
        """Say what became of all of it."""
        outcome = Outcome.UNKNOWN if self._wrote else error.outcome or Outcome.NOT_APPLIED
        self.outcome = outcome.value
        self.resolve(told(error, outcome))


class _Rename(_Copy):
    """A copy, and then the original goes."""

    __slots__ = ("_deletes", "_tries")

    def __init__(self, session: Session, source: bytes, target: bytes, *, replaces: bool) -> None:
        self._deletes = False
        self._tries = 0
        super().__init__(session, source, target, replaces=replaces)

    def done(self, result: Result) -> None:
        if not self._deletes or not isinstance(result, UpdateResult):
            super().done(result)
            return
        note_update(self.session, result)
        self._deletes = False
        if result.after is not None or result.before is None:
            self._finish()
        elif self._tries < TRIES_MAX:
            self.read()
        else:
            self.fail(Conflict("the key is written all the time: it was copied and is still there"))

    def overwrite(self, target: bytes, value: bytes | None, expires_ms: int) -> None:
        # Not plainly: where nothing can be deleted in the end (W is below a majority, say), nothing
        # shall be copied before.
        edited = Edited(value, expires_ms)
        size = len(value or b"")
        self.session.store.submit(Update(self, target, lambda _: edited, size=size))

    def _finish(self) -> None:
        self.resolve(resp.OK if self._replaces else resp.integer(1))

    def missing(self) -> None:
        if self._wrote:
            # Another deleted it after it was copied.
            self._finish()
        else:
            self.outcome = Outcome.NOT_APPLIED.value
            self.resolve(_NO_KEY)

    def copied(self) -> None:
        copied = self._copied
        self._tries += 1
        self._deletes = True

        def edit(record: Record | None) -> Edited | None:
            return Edited(None) if record is not None and record.version == copied else None

        self.session.store.submit(Update(self, self._source, edit))


def _rename(session: Session, args: list[bytes], *, replaces: bool) -> None:
    source, target = args[1], args[2]
    permit_reading(session, [source], "rename" if replaces else "renamenx")
    if source == target:
        same = resp.OK if replaces else resp.integer(0)
        PendingRead(session, source, lambda record: _NO_KEY if record is None else same)
    else:
        _Rename(session, source, target, replaces=replaces)


def _copy(session: Session, args: list[bytes]) -> None:
    source, target = args[1], args[2]
    permit_reading(session, [source], "copy")
    replaces, rest = False, args[3:]
    while rest:
        word = rest.pop(0).upper()
        if word == b"REPLACE":
            replaces = True
        elif word != b"DB" or not rest:
            raise CommandError("ERR syntax error")
        elif integer_argument(rest.pop(0)):
            raise CommandError("ERR DB index is out of range")
    if source == target:
        raise CommandError("ERR source and destination objects are the same")
    _Copy(session, source, target, replaces=replaces)


_two_keys = partial(
    Command,
    group="generic",
    role=Role.WRITE,
    access=Access.WRITE_MANY,
    keys=KeyPositions(1, 2, 1),
    shown=first_key,
)

COMMANDS: Final = (
    _two_keys("rename", 3, partial(_rename, replaces=True), "Copy a key, then delete it"),
    _two_keys(
        *("renamenx", 3, partial(_rename, replaces=False)),
        "Copy a key to one that does not exist, then delete it",
    ),
    _two_keys("copy", -3, _copy, "Copy a key", "6.2.0"),
)
