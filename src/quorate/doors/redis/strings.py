# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on values: GET, SET and their kin.

MSET is not atomic, unlike Redis's: each key is a write of its own, and a failure says so by
`outcome=unknown`.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.values.events import Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record, has_expired
from quorate.doors.access import Role
from quorate.doors.limits import no_room_for_reply
from quorate.doors.redis.command import (
    KEY_VALUE_PAIRS,
    integer_argument,
    reads_key,
    reads_keys,
    writes_key,
    writes_keys,
)
from quorate.doors.redis.expiry import MILLISECONDS, SECONDS, UNIT_OF_OPTION, expires_ms
from quorate.doors.redis.gather import Gather, Part
from quorate.doors.redis.refused import refuse_read_modify_write
from quorate.doors.redis.session import (
    CommandError,
    PendingGet,
    PendingPut,
    PendingRead,
    PendingUpdate,
    Rewrite,
    Session,
    visible,
)
from quorate.errors import InvalidRequest, QuorateError
from quorate.wire import resp

MGET_BYTES_MAX: Final = 64 << 20
"""Values in one MGET reply together (or one value, if that may be larger)."""


def _get(session: Session, args: list[bytes]) -> None:
    session.store.submit(Get(PendingGet(session), args[1]))


def _set(session: Session, args: list[bytes]) -> None:
    if len(args) == 3:
        session.store.submit(Put(PendingPut(session), args[1], args[2]))
    else:
        _set_with_options(session, args)


def _set_with_options(session: Session, args: list[bytes]) -> None:
    key, value = args[1], args[2]
    options = _options(args[3:], flags=(b"KEEPTTL", b"GET", b"NX", b"XX"), rest=(b"KEEPTTL",))
    if b"NX" in options and b"XX" in options:
        raise CommandError("ERR syntax error")
    expires = _expiry_option(session, options, command="set")
    if b"NX" in options or b"XX" in options:
        refuse_read_modify_write(session, "set with NX or XX")
        return
    if b"GET" in options:
        _permit_reading(session, key, "set")
    elif b"KEEPTTL" not in options:
        session.store.submit(Put(PendingPut(session), key, value, expires))
        return

    def plan(record: Record | None) -> tuple[bytes, Rewrite | None]:
        reply = _bulk_or_null(session, record) if b"GET" in options else resp.OK
        kept = record.expires_ms if record is not None and b"KEEPTTL" in options else expires
        return reply, Rewrite(value, kept)

    PendingUpdate(session, key, plan)


def _options(
    words: list[bytes], *, flags: tuple[bytes, ...], rest: tuple[bytes, ...]
) -> dict[bytes, bytes]:
    """Options by name, expiry units with their argument. `rest`: flags that set the expiry too."""
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


def _expiry_option(session: Session, options: dict[bytes, bytes], *, command: str) -> int:
    for name, unit in UNIT_OF_OPTION.items():
        if name in options:
            return expires_ms(session, options[name], unit, command=command)
    return 0


def _setex(session: Session, args: list[bytes]) -> None:
    expires = expires_ms(session, args[2], SECONDS, command="setex")
    session.store.submit(Put(PendingPut(session), args[1], args[3], expires))


def _psetex(session: Session, args: list[bytes]) -> None:
    expires = expires_ms(session, args[2], MILLISECONDS, command="psetex")
    session.store.submit(Put(PendingPut(session), args[1], args[3], expires))


def _getex(session: Session, args: list[bytes]) -> None:
    _permit_reading(session, args[1], "getex")
    options = _options(args[2:], flags=(b"PERSIST",), rest=(b"PERSIST",))
    expires = _expiry_option(session, options, command="getex")

    def plan(record: Record | None) -> tuple[bytes, Rewrite | None]:
        reply = _bulk_or_null(session, record)
        if record is None or not options or record.expires_ms == expires:
            return reply, None
        if has_expired(expires, wall_ms=session.store.wall_ms()):
            return reply, Rewrite(None, derived=True)
        return reply, Rewrite(record.value, expires, derived=True)

    PendingUpdate(session, args[1], plan)


def _getdel(session: Session, args: list[bytes]) -> None:
    _permit_reading(session, args[1], "getdel")

    def plan(record: Record | None) -> tuple[bytes, Rewrite | None]:
        change = Rewrite(None, derived=True) if record is not None else None
        return _bulk_or_null(session, record), change

    PendingUpdate(session, args[1], plan)


def _permit_reading(session: Session, key: bytes, name: str) -> None:
    """CommandError if who may write must not see the value, which the answer shows."""
    if Role.READ not in session.principal.roles:
        session.permit(Role.READ, [key], name=name)


def _bulk_or_null(session: Session, record: Record | None) -> bytes:
    value = _value(record)
    return session.null if value is None else resp.bulk(value)


def _value(record: Record | None) -> bytes | None:
    return record.value if record is not None else None


def _strlen(session: Session, args: list[bytes]) -> None:
    PendingRead(session, args[1], lambda record: resp.integer(len(_value(record) or b"")))


def _getrange(session: Session, args: list[bytes]) -> None:
    start, end = integer_argument(args[2]), integer_argument(args[3])

    def render(record: Record | None) -> bytes:
        value = _value(record) or b""
        first = max(start + len(value), 0) if start < 0 else start
        last = end + len(value) if end < 0 else end
        # A negative end before the beginning is the first byte, if the start was not after it.
        if start < 0 and end < 0 and start > end:
            return resp.bulk(b"")
        # Not before `first`: compiled, a slice of bytes that ends before it begins is a fault.
        return resp.bulk(value[first : max(last + 1, 1, first)])

    PendingRead(session, args[1], render)


class _Mget(Gather):
    __slots__ = ("_bytes_left", "_values")

    def __init__(self, session: Session, args: list[bytes]) -> None:
        self._values: list[bytes] = [session.null] * (len(args) - 1)
        self._bytes_left = max(MGET_BYTES_MAX, session.store.config.value_bytes_max)
        super().__init__(session, args[1:])

    def ask(self, part: Part) -> None:
        self.session.store.submit(Get(part, part.key))

    def take(self, part: Part, result: Result) -> bool:
        assert isinstance(result, GetResult)
        value = _value(visible(result, self.session))
        if value is not None:
            self._bytes_left -= len(value)
            if self._bytes_left < 0:
                self.fail(InvalidRequest(f"the values are over {MGET_BYTES_MAX} bytes together"))
            elif not self.hold(len(value)):
                self.fail(no_room_for_reply())
            else:
                self._values[part.index] = resp.bulk(value)
        return True

    def fail(self, error: QuorateError) -> None:
        self._values.clear()
        super().fail(error)

    def conclude(self) -> bytes:
        return resp.array(self._values)


class _Mset(Gather):
    __slots__ = ("_values",)

    def __init__(self, session: Session, args: list[bytes]) -> None:
        if len(args) % 2 == 0:
            raise CommandError("ERR wrong number of arguments for 'mset' command")
        # Of a key given twice the last value counts.
        pairs = dict(zip(args[1::2], args[2::2], strict=True))
        self._values = list(pairs.values())
        super().__init__(session, list(pairs), self._values)

    def ask(self, part: Part) -> None:
        self.session.store.submit(Put(part, part.key, self._values[part.index]))

    def take(self, part: Part, result: Result) -> bool:  # noqa: ARG002
        assert isinstance(result, PutResult)
        self.note_write(result)
        return True

    def conclude(self) -> bytes:
        return resp.OK


_read, _write = partial(reads_key, group="string"), partial(writes_key, group="string")
_read_many = partial(reads_keys, group="string")
_write_pairs = partial(writes_keys, group="string", keys=KEY_VALUE_PAIRS)

COMMANDS: Final = (
    _read("get", 2, _get, "Get the value of a key"),
    _write("set", -3, _set, "Set the value of a key"),
    _write("setex", 4, _setex, "Set a value that expires after seconds", "2.0.0"),
    _write("psetex", 4, _psetex, "Set a value that expires after milliseconds", "2.6.0"),
    _write("getex", -2, _getex, "Get a value and set when it expires", "6.2.0"),
    _write("getdel", 2, _getdel, "Get a value and delete its key", "6.2.0"),
    _read("strlen", 2, _strlen, "Get the length of a value", "2.2.0"),
    _read("getrange", 4, _getrange, "Get part of a value", "2.4.0"),
    _read("substr", 4, _getrange, "Get part of a value (old name of GETRANGE)"),
    _read_many("mget", -2, _Mget, "Get the values of many keys"),
    _write_pairs("mset", -3, _Mset, "Set many keys, each by itself", "1.0.1"),
)
