# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on keys whatever their value: DEL, EXISTS, TYPE and their kin.

DEL writes a tombstone also for a key that the read did not find: with small R or W the read may
have missed it. Two clients that delete one key at once may both be told that it was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from quorate.core.values.events import Edited, Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record
from quorate.doors.access import Role
from quorate.doors.redis.command import (
    Access,
    Command,
    KeyPositions,
    container,
    on_key,
    reads_key,
    reads_keys,
    writes_keys,
)
from quorate.doors.redis.gather import Gather, Part
from quorate.doors.redis.plans import CommandPlan, Depends, KeyCommand
from quorate.doors.redis.session import CommandError, PendingRead, Session, visible
from quorate.wire import resp

_RECORD_BYTES: Final = 28
"""What a record has beside key and value: two versions, the expiry, a mark."""
_EMBEDDED_BYTES_MAX: Final = 44
"""Up to here a text is `embstr` in Redis."""


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


_ONE: Final = resp.integer(1)


def _is_there(before: Record | None, _after: Record | None) -> bytes:
    return resp.integer(int(before is not None))


def _count_ones(replies: Sequence[bytes]) -> bytes:
    return resp.integer(sum(reply == _ONE for reply in replies))


def _plan_count(_session: Session, args: list[bytes]) -> CommandPlan:
    return CommandPlan([(key, KeyCommand(_is_there)) for key in args[1:]], _count_ones)


def _plan_delete(_session: Session, args: list[bytes]) -> CommandPlan:
    command = KeyCommand(
        _is_there,
        lambda record: None if record is None else Edited(None),
        depends=Depends.REPLY,
    )
    return CommandPlan([(key, command) for key in dict.fromkeys(args[1:])], _count_ones)


def _type(_session: Session, _args: list[bytes]) -> KeyCommand:
    return KeyCommand(lambda before, _after: resp.simple("none" if before is None else "string"))


def _usage(session: Session, args: list[bytes]) -> None:
    if len(args) not in (3, 5) or (len(args) == 5 and args[3].upper() != b"SAMPLES"):
        raise CommandError("ERR syntax error")

    def render(record: Record | None) -> bytes:
        if record is None or record.is_tombstone:
            return session.null
        return resp.integer(len(args[2]) + record.size + _RECORD_BYTES)

    PendingRead(session, args[2], render)


def _encoding(session: Session, args: list[bytes]) -> None:
    def render(record: Record | None) -> bytes:
        value = None if record is None else record.value
        if value is None:
            return session.null
        if resp.parse_integer(value) is not None:
            return resp.bulk(b"int")
        return resp.bulk(b"embstr" if len(value) <= _EMBEDDED_BYTES_MAX else b"raw")

    PendingRead(session, args[2], render)


def _refcount(session: Session, args: list[bytes]) -> None:
    PendingRead(
        session, args[2], lambda record: session.null if record is None else resp.integer(1)
    )


def _freq(_session: Session, _args: list[bytes]) -> None:
    raise CommandError("ERR An LFU maxmemory policy is not selected, access frequency not tracked.")


def _idletime(_session: Session, _args: list[bytes]) -> None:
    raise CommandError("ERR idle time not tracked.")


_about_key = partial(
    Command,
    group="generic",
    role=Role.READ,
    access=Access.READ_MANY,
    keys=KeyPositions(2, 2, 1),
    since="2.2.3",
)
_read = partial(reads_key, group="generic")
_read_many = partial(reads_keys, group="generic")
_write_many = partial(writes_keys, group="generic")

COMMANDS: Final = (
    _write_many("del", -2, _DeleteKeys, "Delete keys", plan=_plan_delete),
    _write_many("unlink", -2, _DeleteKeys, "Delete keys", "4.0.0", plan=_plan_delete),
    _read_many("exists", -2, _CountKeys, "Count keys that exist", plan=_plan_count),
    _read_many("touch", -2, _CountKeys, "Count keys that exist", "3.2.1", plan=_plan_count),
    container(
        "memory",
        summary="Commands about memory",
        group="server",
        subcommands=(
            _about_key(
                "memory|usage", -3, _usage, "Get about how many bytes a key takes", since="4.0.0"
            ),
        ),
    ),
    container(
        "object",
        summary="Commands about values",
        group="generic",
        subcommands=(
            _about_key("object|encoding", 3, _encoding, "Get how Redis would keep the value"),
            _about_key("object|refcount", 3, _refcount, "Get 1"),
            _about_key("object|freq", 3, _freq, "Refused: not tracked", since="4.0.0"),
            _about_key("object|idletime", 3, _idletime, "Refused: not tracked"),
        ),
    ),
    on_key(_read, "type", 2, _type, "Get the type of a key, which is `string`"),
)
