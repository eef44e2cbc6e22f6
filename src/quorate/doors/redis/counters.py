# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that are numbers: INCR and its kin.

INCRBYFLOAT adds decimal fractions exactly, as many digits as they have, and writes 17 places after
the point at most, without zeros at the end. Redis writes the same of what it keeps exactly; the
64 or 113 bits that it has, by the processor, show where it does not (3.0e15 and 0.1).
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import partial
from typing import Final

from quorate.core.values.events import Edited
from quorate.core.values.record import Record
from quorate.doors.redis.command import first_key, integer_argument, on_key, writes_key
from quorate.doors.redis.plans import KeyCommand, RedisRefusal, kept_expiry, value_of
from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp

_NO_INTEGER: Final = "value is not an integer or out of range"
_NO_FLOAT: Final = "value is not a valid float"
_FLOAT_BYTES_MAX: Final = 5 * 1024
_FLOAT: Final = re.compile(rb"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_INFINITY: Final = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_LARGEST: Final = Decimal("1.18973149535723176502e4932")
"""And the smallest: what a long double of x86-64 holds."""
_SMALLEST: Final = Decimal("3.6e-4951")
_PLACES: Final = Decimal(1).scaleb(-17)
_DIGIT_WEIGHT: Final = 32
"""Of a digit that is read, added and written (`KeyCommand.weight`): a number may have 5,000, and a
transaction 10,000 such additions."""
_EXACT: Final = Context(prec=12_000, rounding=ROUND_HALF_EVEN)
"""Digits enough for the sum of any two numbers that can be."""


def _adding(amount: int) -> KeyCommand:
    def edit(record: Record | None) -> Edited:
        value = value_of(record)
        number = 0 if value is None else resp.parse_integer(value)
        if number is None:
            raise RedisRefusal(_NO_INTEGER)
        if number + amount not in resp.INT64:
            raise RedisRefusal("increment or decrement would overflow")
        return Edited(b"%d" % (number + amount), kept_expiry(record))

    return KeyCommand(lambda _before, after: b":%b\r\n" % (value_of(after) or b""), edit)


def _incr(_session: Session, _args: list[bytes]) -> KeyCommand:
    return _adding(1)


def _decr(_session: Session, _args: list[bytes]) -> KeyCommand:
    return _adding(-1)


def _incrby(_session: Session, args: list[bytes]) -> KeyCommand:
    return _adding(integer_argument(args[2]))


def _decrby(_session: Session, args: list[bytes]) -> KeyCommand:
    amount = integer_argument(args[2])
    if -amount not in resp.INT64:
        raise CommandError("ERR decrement would overflow")
    return _adding(-amount)


def _incrbyfloat(_session: Session, args: list[bytes]) -> KeyCommand:
    amount = parse_float(args[2])
    if amount is None:
        raise CommandError(f"ERR {_NO_FLOAT}")

    def edit(record: Record | None) -> Edited:
        value = value_of(record)
        number = Decimal(0) if value is None else parse_float(value)
        if number is None:
            raise RedisRefusal(_NO_FLOAT)
        if number.is_infinite() or amount.is_infinite():
            raise RedisRefusal("increment would produce NaN or Infinity")
        total = _EXACT.add(number, amount)
        if total.copy_abs() > _LARGEST:
            raise RedisRefusal("increment would produce NaN or Infinity")
        return Edited(format_float(total), kept_expiry(record))

    return KeyCommand(
        lambda _before, after: resp.bulk(value_of(after) or b""),
        edit,
        work=_DIGIT_WEIGHT * len(args[2]),
        weight=_DIGIT_WEIGHT,
    )


def parse_float(data: bytes) -> Decimal | None:
    """The number that Redis would read, perhaps infinite; None if it is none, or too large or too
    small for Redis."""
    if len(data) >= _FLOAT_BYTES_MAX:
        return None
    if _INFINITY.fullmatch(data):
        return Decimal(data.decode())
    if _FLOAT.fullmatch(data) is None:
        return None
    number = Decimal(data.decode())
    is_kept = not number or _SMALLEST <= number.copy_abs() <= _LARGEST
    return number if is_kept else None


def format_float(number: Decimal) -> bytes:
    """A finite number as Redis writes it: no exponent, and no zeros at the end of a fraction."""
    text = format(number.quantize(_PLACES, context=_EXACT), "f")
    text = text.rstrip("0").rstrip(".")
    return b"0" if text == "-0" else text.encode()


_write = partial(writes_key, group="string")

COMMANDS: Final = (
    on_key(_write, "incr", 2, _incr, "Add one to a number", shown=first_key),
    on_key(_write, "decr", 2, _decr, "Subtract one from a number", shown=first_key),
    on_key(_write, "incrby", 3, _incrby, "Add to a number", shown=first_key),
    on_key(_write, "decrby", 3, _decrby, "Subtract from a number", shown=first_key),
    on_key(
        *(_write, "incrbyfloat", 3, _incrbyfloat, "Add to a number with a fraction"),
        since="2.6.0",
        shown=first_key,
    ),
)
