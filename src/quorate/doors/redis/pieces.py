# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on parts of values: APPEND, GETRANGE, SETRANGE and their kin, and bits.

How long a value becomes is judged before it is made: `SETBIT k 4294967295 1` costs nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.values.events import Edited
from quorate.core.values.record import Record
from quorate.doors.redis.command import (
    first_key,
    integer_argument,
    on_key,
    reads_key,
    writes_key,
)
from quorate.doors.redis.plans import KeyCommand, kept_expiry, size_of, value_of
from quorate.doors.redis.session import CommandError, Session
from quorate.errors import Outcome, ValueTooLarge
from quorate.wire import resp


def _strlen(_session: Session, _args: list[bytes]) -> KeyCommand:
    return KeyCommand(lambda before, _after: resp.integer(size_of(before)))


def _size_after(before: Record | None, after: Record | None) -> bytes:
    return resp.integer(size_of(before if after is None else after))


def _grown(session: Session, count: int) -> int:
    """`count`, if a value may have so many bytes. ValueTooLarge."""
    bytes_max = session.store.config.value_bytes_max
    if count > bytes_max:
        raise ValueTooLarge(
            "string exceeds maximum allowed size (proto-max-bulk-len)",
            outcome=Outcome.NOT_APPLIED,
            bytes=count,
            bytes_max=bytes_max,
        )
    return count


def _append(session: Session, args: list[bytes]) -> KeyCommand:
    tail = args[2]

    def edit(record: Record | None) -> Edited | None:
        if record is not None and not tail:
            return None
        _grown(session, size_of(record) + len(tail))
        return Edited((value_of(record) or b"") + tail, kept_expiry(record))

    return KeyCommand(_size_after, edit)


def _getrange(_session: Session, args: list[bytes]) -> KeyCommand:
    start, end = integer_argument(args[2]), integer_argument(args[3])

    def render(record: Record | None, _after: Record | None) -> bytes:
        value = value_of(record) or b""
        first = max(start + len(value), 0) if start < 0 else start
        last = end + len(value) if end < 0 else end
        # A negative end before the beginning is the first byte, if the start was not after it.
        if start < 0 and end < 0 and start > end:
            return resp.bulk(b"")
        # Not before `first`: compiled, a slice of bytes that ends before it begins is a fault.
        return resp.bulk(value[first : max(last + 1, 1, first)])

    return KeyCommand(render, shows=True)


def _setrange(session: Session, args: list[bytes]) -> KeyCommand:
    offset, piece = integer_argument(args[2]), args[3]
    if offset < 0:
        raise CommandError("ERR offset is out of range")

    def edit(record: Record | None) -> Edited | None:
        if not piece:
            return None
        _grown(session, offset + len(piece))
        value = (value_of(record) or b"").ljust(offset, b"\0")
        changed = b"%b%b%b" % (value[:offset], piece, value[offset + len(piece) :])
        return Edited(changed, kept_expiry(record))

    return KeyCommand(_size_after, edit)


# --- bits: the first is the highest of the first byte --------------------------------------------


def _bit_offset(session: Session, argument: bytes) -> int:
    offset = resp.parse_integer(argument)
    if offset is None or not 0 <= offset >> 3 < session.store.config.value_bytes_max:
        raise CommandError("ERR bit offset is not an integer or out of range")
    return offset


def _bit(value: bytes, offset: int) -> int:
    at = offset >> 3
    return value[at] >> (7 - (offset & 7)) & 1 if at < len(value) else 0


def _bit_reply(record: Record | None, offset: int) -> bytes:
    return resp.integer(_bit(value_of(record) or b"", offset))


def _getbit(session: Session, args: list[bytes]) -> KeyCommand:
    offset = _bit_offset(session, args[2])
    return KeyCommand(lambda before, _after: _bit_reply(before, offset))


def _setbit(session: Session, args: list[bytes]) -> KeyCommand:
    offset = _bit_offset(session, args[2])
    if args[3] not in (b"0", b"1"):
        raise CommandError("ERR bit is not an integer or out of range")
    is_on = args[3] == b"1"

    def edit(record: Record | None) -> Edited | None:
        value = value_of(record) or b""
        at = offset >> 3
        if at < len(value) and _bit(value, offset) == is_on:
            return None
        mask = 0x80 >> (offset & 7)
        byte = value[at] if at < len(value) else 0
        byte = byte | mask if is_on else byte & ~mask
        changed = b"%b%c%b" % (value[:at].ljust(at, b"\0"), byte, value[at + 1 :])
        return Edited(changed, kept_expiry(record))

    return KeyCommand(lambda before, _after: _bit_reply(before, offset), edit)


def _bitcount(_session: Session, args: list[bytes]) -> KeyCommand:
    if len(args) not in (2, 4, 5):
        raise CommandError("ERR syntax error")
    is_whole = len(args) == 2
    start, end = (0, -1) if is_whole else (integer_argument(args[2]), integer_argument(args[3]))
    unit = args[4].upper() if len(args) == 5 else b"BYTE"
    if unit not in (b"BYTE", b"BIT"):
        raise CommandError("ERR syntax error")
    bits_each = 1 if unit == b"BIT" else 8

    def render(record: Record | None, _after: Record | None) -> bytes:
        value = value_of(record) or b""
        count = len(value) * 8 // bits_each
        first = max(start + count, 0) if start < 0 else start
        last = max(end + count, 0) if end < 0 else min(end, count - 1)
        if first > last or not value or (start < 0 and end < 0 and start > end):
            return resp.integer(0)
        return resp.integer(_count_bits(value, first * bits_each, (last + 1) * bits_each))

    return KeyCommand(render)


def _count_bits(value: bytes, start: int, end: int) -> int:
    """Bits that are set among those from `start` to below `end`."""
    first, last = start >> 3, end + 7 >> 3
    bits = int.from_bytes(value[first:last], "big") >> (last * 8 - end)
    return (bits & (1 << end - start) - 1).bit_count()


_read, _write = partial(reads_key, group="string"), partial(writes_key, group="string")
_read_bits, _write_bits = partial(reads_key, group="bitmap"), partial(writes_key, group="bitmap")

COMMANDS: Final = (
    on_key(_read, "strlen", 2, _strlen, "Get the length of a value", since="2.2.0"),
    on_key(_read, "getrange", 4, _getrange, "Get part of a value", since="2.4.0"),
    on_key(_read, "substr", 4, _getrange, "Get part of a value (old name of GETRANGE)"),
    on_key(_write, "append", 3, _append, "Append to a value", since="2.0.0"),
    on_key(_write, "setrange", 4, _setrange, "Overwrite part of a value", since="2.2.0"),
    on_key(_read_bits, "getbit", 3, _getbit, "Get a bit of a value", since="2.2.0"),
    on_key(
        *(_write_bits, "setbit", 4, _setbit, "Set a bit of a value, and get what it was"),
        since="2.2.0",
        shown=first_key,
    ),
    on_key(_read_bits, "bitcount", -2, _bitcount, "Count the bits that are set", since="2.6.0"),
)
