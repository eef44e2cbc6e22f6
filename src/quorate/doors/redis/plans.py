# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands do to their keys, said before anything is done.

A `KeyCommand` is one command and one of its keys: what it makes of the live record there, and what
it answers then. Both are pure, so one command is one read-modify-write, and the commands of a
transaction on one key, played one after the other, are one as well (`play`).

Example: of INCR, `edit` makes `Edited(b"8")` of a record with `b"7"`, and `reply` then says `:8`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from quorate.core.values.events import Edit, Edited
from quorate.core.values.record import Record, is_live
from quorate.core.values.versions import ABSENT
from quorate.doors.limits import checked_value
from quorate.errors import InvalidRequest, QuorateError

LOOKED_BYTES_MAX: Final = 64 << 20
"""Bytes of values that the commands of a transaction look at, or make if that is more, so that
10,000 APPENDs to 8 MiB do not copy 80 GB in one turn."""


class RedisRefusal(InvalidRequest):
    """What is there is not what the command is for. The reply is the text as Redis has it."""


class Depends(enum.Enum):
    """What of a command depends on what is there before."""

    NOTHING = enum.auto()
    """SET."""
    REPLY = enum.auto()
    """DEL: whatever was there, it is gone, and only the answer tells whether it was."""
    ALL = enum.auto()
    """INCR."""


MakeReply = Callable[[Record | None, Record | None], bytes]
"""From the live record, None if there is none, and what `edit` made of it, None if nothing."""


class KeyCommand(NamedTuple):
    """One command and one key."""

    reply: MakeReply
    edit: Edit | None = None
    """None: it only reads. It may refuse by a RedisRefusal, as INCR does what is no number."""
    shows: bool = False
    """Whether the reply holds the value that was there, which may be large."""
    depends: Depends = Depends.ALL
    work: int = 0
    """What it is beside looking at the value, in bytes that could be looked at meanwhile."""
    weight: int = 1
    """How many bytes could be looked at while it works on one of the value."""


def _alone(replies: Sequence[bytes]) -> bytes:
    return replies[0]


class CommandPlan(NamedTuple):
    """One command and all its keys."""

    parts: Sequence[tuple[bytes, KeyCommand]]
    """With its key; none of a command without keys."""
    join: Callable[[Sequence[bytes]], bytes] = _alone
    """Makes one reply of those of the parts."""


def answers(reply: bytes) -> CommandPlan:
    """Of a command without keys, whose answer is known."""
    return CommandPlan((), lambda _: reply)


def checked_edit(edit: Edit, record: Record | None, *, bytes_max: int) -> Edited | None:
    """What `edit` makes of the record. ValueTooLarge, or as `edit` refuses."""
    edited = edit(record)
    if edited is not None and edited.value is not None:
        checked_value(edited.value, bytes_max=bytes_max)
    return edited


def kept_expiry(record: Record | None) -> int:
    """When what takes the place of a record expires, if it keeps that."""
    return record.expires_ms if record is not None else 0


def value_of(record: Record | None) -> bytes | None:
    """The value of a live record."""
    return record.value if record is not None else None


def size_of(record: Record | None) -> int:
    """The bytes of the value of a live record; 0 if there is none."""
    return record.size if record is not None else 0


def version_of(record: Record | None) -> bytes:
    """The version of a live record; ABSENT if there is none."""
    return record.version if record is not None else ABSENT


def checked_work(work: int) -> int:
    """`work`, if a transaction may be so much. InvalidRequest."""
    if work > LOOKED_BYTES_MAX:
        raise InvalidRequest(
            f"the transaction looks at or makes more than {LOOKED_BYTES_MAX} bytes of values"
        )
    return work


# --- several commands, one after the other -------------------------------------------------------


class Played(NamedTuple):
    """A command of several on one key, and what came of it."""

    command: KeyCommand
    before: Record | None
    after: Record | None
    """None if it left the key as it was."""
    refusal: QuorateError | None


def play(
    commands: Sequence[KeyCommand], record: Record | None, *, wall_ms: int, bytes_max: int
) -> Iterator[Played]:
    """Each command on what those before it made of the live `record`. One that refuses changes
    nothing, and those after it go on, as in Redis. InvalidRequest if they look at too much."""
    looked = 0
    version = version_of(record)
    for command in commands:
        before = record if is_live(record, wall_ms=wall_ms) else None
        edited, refusal = _tried(command, before, bytes_max=bytes_max)
        after = None
        if edited is not None:
            record = after = Record(version, edited.value, edited.expires_ms)
        if command.depends is Depends.ALL:
            size = max(size_of(before), size_of(after))
            looked = checked_work(looked + command.weight * size + command.work)
        yield Played(command, before, after, refusal)


def _tried(
    command: KeyCommand, before: Record | None, *, bytes_max: int
) -> tuple[Edited | None, QuorateError | None]:
    if command.edit is None:
        return None, None
    try:
        return checked_edit(command.edit, before, bytes_max=bytes_max), None
    except QuorateError as refusal:
        return None, refusal
