# SPDX-License-Identifier: GPL-3.0-or-later
"""When keys end: expiry arguments, and the commands that read and change expiry.

Records carry absolute milliseconds, so relative times are fixed here, once, by this node's clock.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

from quorate.core.values.events import Edited
from quorate.core.values.record import EXPIRES_MS_MAX, Record
from quorate.doors.redis.command import (
    Command,
    integer_argument,
    on_key,
    quote,
    reads_key,
    writes_key,
)
from quorate.doors.redis.plans import KeyCommand
from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp


class Unit(NamedTuple):
    """How a number says when: its milliseconds, and whether from now on or since 1970."""

    milliseconds: int
    relative: bool


SECONDS: Final = Unit(1000, relative=True)
MILLISECONDS: Final = Unit(1, relative=True)
SECONDS_AT: Final = Unit(1000, relative=False)
MILLISECONDS_AT: Final = Unit(1, relative=False)
UNIT_OF_OPTION: Final = {
    b"EX": SECONDS,
    b"PX": MILLISECONDS,
    b"EXAT": SECONDS_AT,
    b"PXAT": MILLISECONDS_AT,
}


def moment_ms(session: Session, argument: bytes, unit: Unit, *, command: str) -> int:
    """The absolute milliseconds that an argument means; may be in the past, even negative."""
    count = integer_argument(argument)
    moment = count * unit.milliseconds + (session.store.wall_ms() if unit.relative else 0)
    if abs(count * unit.milliseconds) > EXPIRES_MS_MAX or moment > EXPIRES_MS_MAX:
        raise CommandError(f"ERR invalid expire time in '{command}' command")
    return moment


def expires_ms(session: Session, argument: bytes, unit: Unit, *, command: str) -> int:
    """`moment_ms` for commands that store a value: the number must be positive."""
    if integer_argument(argument) <= 0:
        raise CommandError(f"ERR invalid expire time in '{command}' command")
    return moment_ms(session, argument, unit, command=command)


def options_of(
    words: list[bytes], *, flags: tuple[bytes, ...], rest: tuple[bytes, ...]
) -> dict[bytes, bytes]:
    """Options by name, expiry units with their argument. `rest`: flags that set the expiry too.
    CommandError."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(words):
        name = words[at].upper()
        at += 1
        if name in UNIT_OF_OPTION and at < len(words):
            found[name] = words[at]
            at += 1
        elif name in flags:
            found[name] = b""
        else:
            raise CommandError("ERR syntax error")
    if sum(name in UNIT_OF_OPTION or name in rest for name in found) > 1:
        raise CommandError("ERR syntax error")
    return found


def expiry_option(session: Session, options: dict[bytes, bytes], *, command: str) -> int:
    """When what is written expires by its options; 0 never. CommandError."""
    for name, unit in UNIT_OF_OPTION.items():
        if name in options:
            return expires_ms(session, options[name], unit, command=command)
    return 0


class Conditions(NamedTuple):
    """When EXPIRE and its kin do anything."""

    nx: bool
    xx: bool
    gt: bool
    lt: bool

    def hold(self, current_ms: int, moment: int) -> bool:
        """Whether to replace the expiry `current_ms` (0: none, which counts as infinite)."""
        if (self.nx and current_ms) or (self.xx and not current_ms):
            return False
        if self.gt and (not current_ms or moment <= current_ms):
            return False
        return not (self.lt and current_ms and moment >= current_ms)


def _conditions(options: list[bytes]) -> Conditions:
    given = {option.upper() for option in options}
    for option in options:
        if option.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(f"ERR Unsupported option {quote(option)}")
    found = Conditions(b"NX" in given, b"XX" in given, b"GT" in given, b"LT" in given)
    if found.nx and (found.xx or found.gt or found.lt):
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if found.gt and found.lt:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    return found


def _expire(session: Session, args: list[bytes], *, unit: Unit, name: str) -> KeyCommand:
    conditions = _conditions(args[3:])
    moment = moment_ms(session, args[2], unit, command=name)
    is_over = moment <= session.store.wall_ms()

    def edit(record: Record | None) -> Edited | None:
        if record is None or not conditions.hold(record.expires_ms, moment):
            return None
        return Edited(None) if is_over else Edited(record.value, moment)

    return KeyCommand(_has_changed, edit)


def _persist(_session: Session, _args: list[bytes]) -> KeyCommand:
    def edit(record: Record | None) -> Edited | None:
        return Edited(record.value) if record is not None and record.expires_ms else None

    return KeyCommand(_has_changed, edit)


def _has_changed(_before: Record | None, after: Record | None) -> bytes:
    return resp.integer(int(after is not None))


def _ttl(session: Session, _args: list[bytes], *, unit: Unit) -> KeyCommand:
    def render(record: Record | None, _after: Record | None) -> bytes:
        if record is None:
            return resp.integer(-2)
        if not record.expires_ms:
            return resp.integer(-1)
        left = record.expires_ms - (session.store.wall_ms() if unit.relative else 0)
        # Rounded as Redis does, so that a key just set with EX 10 says 10.
        return resp.integer((max(left, 0) + unit.milliseconds // 2) // unit.milliseconds)

    return KeyCommand(render)


_read, _write = partial(reads_key, group="generic"), partial(writes_key, group="generic")


def _expire_command(name: str, unit: Unit, summary: str, since: str) -> Command:
    plan_key = partial(_expire, unit=unit, name=name)
    return on_key(_write, name, -3, plan_key, summary, since=since)


def _ttl_command(name: str, unit: Unit, summary: str, since: str) -> Command:
    return on_key(_read, name, 2, partial(_ttl, unit=unit), summary, since=since)


COMMANDS: Final = (
    _expire_command("expire", SECONDS, "Set the seconds until a key expires", "1.0.0"),
    _expire_command("pexpire", MILLISECONDS, "Set the milliseconds until a key expires", "2.6.0"),
    _expire_command("expireat", SECONDS_AT, "Set the Unix time a key expires at", "1.2.0"),
    _expire_command("pexpireat", MILLISECONDS_AT, "Set the Unix ms a key expires at", "2.6.0"),
    _ttl_command("ttl", SECONDS, "Get the seconds until a key expires", "1.0.0"),
    _ttl_command("pttl", MILLISECONDS, "Get the milliseconds until a key expires", "2.6.0"),
    _ttl_command("expiretime", SECONDS_AT, "Get the Unix time a key expires at", "7.0.0"),
    _ttl_command("pexpiretime", MILLISECONDS_AT, "Get the Unix ms a key expires at", "7.0.0"),
    on_key(_write, "persist", 2, _persist, "Make a key never expire", since="2.2.0"),
)
