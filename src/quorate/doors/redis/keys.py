# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on keys whatever their value: DEL, EXISTS, TYPE and their kin.

DEL writes a tombstone also for a key that the read did not find: with small R or W the read may
have missed it. Two clients that delete one key at once may both be told that it was there.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.values.events import Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record
from quorate.doors.redis.command import reads_key, reads_keys, writes_keys
from quorate.doors.redis.session import Gather, Part, PendingRead, Session, visible
from quorate.wire import resp


class _CountKeys(Gather):
    """Counts the keys that are there, one given twice twice."""

    __slots__ = ("_count",)

    def __init__(self, session: Session, args: list[bytes]) -> None:
        self._count = 0
        super().__init__(session, args[1:])

    def ask(self, part: Part) -> None:
        self.session.store.submit(Get(part, part.key))

    def take(self, part: Part, result: Result) -> bool:  # noqa: ARG002
        assert isinstance(result, GetResult)
        self._count += visible(result, self.session) is not None
        return True

    def conclude(self) -> bytes:
        return resp.integer(self._count)


class _DeleteKeys(_CountKeys):
    """Deletes the keys and counts those that were there."""

    __slots__ = ()

    def __init__(self, session: Session, args: list[bytes]) -> None:
        super().__init__(session, [args[0], *dict.fromkeys(args[1:])])

    def take(self, part: Part, result: Result) -> bool:
        if isinstance(result, PutResult):
            self.note_write(result)
            return True
        super().take(part, result)
        self.session.store.submit(Put(part, part.key, None))
        return False


def _type(session: Session, args: list[bytes]) -> None:
    def render(record: Record | None) -> bytes:
        return resp.simple("none" if record is None else "string")

    PendingRead(session, args[1], render)


_read_many = partial(reads_keys, group="generic")
_write_many = partial(writes_keys, group="generic")

COMMANDS: Final = (
    _write_many("del", -2, _DeleteKeys, "Delete keys"),
    _write_many("unlink", -2, _DeleteKeys, "Delete keys", "4.0.0"),
    _read_many("exists", -2, _CountKeys, "Count keys that exist"),
    _read_many("touch", -2, _CountKeys, "Count keys that exist", "3.2.1"),
    reads_key("type", 2, _type, "Get the type of a key, which is `string`", group="generic"),
)
