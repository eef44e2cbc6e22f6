# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on keys whatever their value: DEL, EXISTS, TYPE and their kin.

DEL writes a tombstone also for a key that the read did not find: with small R or W the read may
have missed it. Two clients that delete one key at once may both be told that it was there.
"""

from __future__ import annotations

from typing import Final

from quorate.core.values.events import Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record
from quorate.doors.redis.command import ALL_KEYS, ONE_KEY, Access, Command, Run
from quorate.doors.redis.pending import Gather, Part, PendingRead, visible
from quorate.doors.redis.session import Session
from quorate.wire import resp


class _Exists(Gather):
    """Counts the keys that are there, one given twice twice."""

    __slots__ = ("_count",)

    def __init__(self, session: Session, keys: list[bytes]) -> None:
        self._count = 0
        super().__init__(session, keys)

    def ask(self, part: Part) -> None:
        self.session.store.submit(Get(part, part.key))

    def take(self, part: Part, result: Result) -> bool:  # noqa: ARG002
        assert isinstance(result, GetResult)
        self._count += visible(result, self.session) is not None
        return True

    def conclude(self) -> bytes:
        return resp.integer(self._count)


class _Delete(_Exists):
    """Deletes the keys and counts those that were there."""

    __slots__ = ()

    def take(self, part: Part, result: Result) -> bool:
        if isinstance(result, PutResult):
            self.note_write(result)
            return True
        super().take(part, result)
        self.session.store.submit(Put(part, part.key, None))
        return False


def _exists(session: Session, args: list[bytes]) -> None:
    _Exists(session, args[1:])


def _delete(session: Session, args: list[bytes]) -> None:
    _Delete(session, list(dict.fromkeys(args[1:])))


def _type(session: Session, args: list[bytes]) -> None:
    def render(record: Record | None) -> bytes:
        return resp.simple("none" if record is None else "string")

    PendingRead(session, args[1], render)


def _many(name: str, run: Run, summary: str, *, since: str, access: Access) -> Command:
    return Command(
        name=name,
        arity=-2,
        run=run,
        summary=summary,
        group="generic",
        since=since,
        access=access,
        keys=ALL_KEYS,
    )


COMMANDS: Final = (
    _many("del", _delete, "Delete keys", since="1.0.0", access=Access.WRITE_MANY),
    _many("unlink", _delete, "Delete keys", since="4.0.0", access=Access.WRITE_MANY),
    _many("exists", _exists, "Count keys that exist", since="1.0.0", access=Access.READ_MANY),
    _many("touch", _exists, "Count keys that exist", since="3.2.1", access=Access.READ_MANY),
    Command(
        name="type",
        arity=2,
        run=_type,
        summary="Get the type of a key, which is `string`",
        group="generic",
        access=Access.READ,
        keys=ONE_KEY,
    ),
)
