# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands on whole values: GET, SET and their kin.

SET and MSET without conditions are plain writes; what looks at the value that was there is a
read-modify-write. MSET is not atomic, unlike Redis's: each key is a write of its own, and a failure
says so by `outcome=unknown`. MSETNX of several keys could not even be undone, so it is refused.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.core.values.events import Edit, Edited, Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record, has_expired
from quorate.doors.limits import checked_value, no_room_for_reply
from quorate.doors.redis.command import (
    KEY_VALUE_PAIRS,
    Command,
    first_key,
    on_key,
    reads_key,
    reads_keys,
    writes_key,
    writes_keys,
)
from quorate.doors.redis.expiry import (
    MILLISECONDS,
    SECONDS,
    UNIT_OF_OPTION,
    Unit,
    expires_ms,
    expiry_option,
    options_of,
)
from quorate.doors.redis.gather import Gather, Part
from quorate.doors.redis.one_key import begin, permit_reading
from quorate.doors.redis.plans import CommandPlan, Depends, KeyCommand, kept_expiry, value_of
from quorate.doors.redis.session import CommandError, PendingGet, PendingPut, Session, visible
from quorate.errors import InvalidRequest, QuorateError
from quorate.wire import resp

MGET_BYTES_MAX: Final = 64 << 20
"""Values in one MGET reply together (or one value, if that may be larger)."""


def _get(session: Session, args: list[bytes]) -> None:
    session.store.submit(Get(PendingGet(session), args[1]))


def _plan_get(session: Session, args: list[bytes]) -> CommandPlan:
    def reply(before: Record | None, _after: Record | None) -> bytes:
        return bulk_or_null(session, before)

    return CommandPlan([(args[1], KeyCommand(reply, shows=True))])


def _set(session: Session, args: list[bytes]) -> None:
    if len(args) == 3:
        session.store.submit(Put(PendingPut(session), args[1], args[2]))
        return
    permit_reading(session, _shown_by_set(args), "set")
    options = _set_options(args)
    if options.keys() <= UNIT_OF_OPTION.keys():
        expires = expiry_option(session, options, command="set")
        session.store.submit(Put(PendingPut(session), args[1], args[2], expires))
    else:
        begin(session, args[1], _set_command(session, args[2], options), size=len(args[2]))


def _plan_set(session: Session, args: list[bytes]) -> CommandPlan:
    return CommandPlan([(args[1], _set_command(session, args[2], _set_options(args)))])


def _shown_by_set(args: list[bytes]) -> list[bytes]:
    return args[1:2] if b"GET" in map(bytes.upper, args[3:]) else []


def _set_options(args: list[bytes]) -> dict[bytes, bytes]:
    options = options_of(args[3:], flags=(b"KEEPTTL", b"GET", b"NX", b"XX"), rest=(b"KEEPTTL",))
    if b"NX" in options and b"XX" in options:
        raise CommandError("ERR syntax error")
    return options


def _set_command(session: Session, value: bytes, options: dict[bytes, bytes]) -> KeyCommand:
    expires = expiry_option(session, options, command="set")
    if options.keys() <= UNIT_OF_OPTION.keys():
        return _put(session, value, expires)
    keeps = b"KEEPTTL" in options

    def edit(record: Record | None) -> Edited | None:
        if (b"NX" in options and record is not None) or (b"XX" in options and record is None):
            return None
        return Edited(value, kept_expiry(record) if keeps else expires)

    if b"GET" in options:
        return KeyCommand(lambda before, _after: bulk_or_null(session, before), edit, shows=True)
    return KeyCommand(lambda _before, after: resp.OK if after else session.null, edit)


def _put(session: Session, value: bytes, expires: int = 0) -> KeyCommand:
    """A write whatever is there. ValueTooLarge."""
    checked_value(value, bytes_max=session.store.config.value_bytes_max)
    return KeyCommand(
        lambda _before, _after: resp.OK, lambda _: Edited(value, expires), depends=Depends.NOTHING
    )


def _if_absent(value: bytes) -> Edit:
    return lambda record: Edited(value) if record is None else None


def _has_set(_before: Record | None, after: Record | None) -> bytes:
    return resp.integer(int(after is not None))


def _setnx(_session: Session, args: list[bytes]) -> KeyCommand:
    return KeyCommand(_has_set, _if_absent(args[2]))


def _getset(session: Session, args: list[bytes]) -> KeyCommand:
    return KeyCommand(
        lambda before, _after: bulk_or_null(session, before),
        lambda _: Edited(args[2]),
        shows=True,
    )


def _msetnx(session: Session, args: list[bytes]) -> None:
    begin(session, args[1], _msetnx_command(args), size=sum(map(len, args)))


def _plan_msetnx(_session: Session, args: list[bytes]) -> CommandPlan:
    return CommandPlan([(args[1], _msetnx_command(args))])


def _msetnx_command(args: list[bytes]) -> KeyCommand:
    pairs = _pairs(args, name="msetnx")
    if len(pairs) > 1:
        raise CommandError(
            "CROSSKEY MSETNX takes one key here: several are not written as one step"
            " (outcome=not_applied)"
        )
    return KeyCommand(_has_set, _if_absent(args[-1]))


def _setex(session: Session, args: list[bytes], *, unit: Unit, name: str) -> None:
    expires = expires_ms(session, args[2], unit, command=name)
    session.store.submit(Put(PendingPut(session), args[1], args[3], expires))


def _plan_setex(session: Session, args: list[bytes], *, unit: Unit, name: str) -> CommandPlan:
    expires = expires_ms(session, args[2], unit, command=name)
    return CommandPlan([(args[1], _put(session, args[3], expires))])


def _getex(session: Session, args: list[bytes]) -> KeyCommand:
    options = options_of(args[2:], flags=(b"PERSIST",), rest=(b"PERSIST",))
    expires = expiry_option(session, options, command="getex")
    is_over = has_expired(expires, wall_ms=session.store.wall_ms())

    def reply(before: Record | None, _after: Record | None) -> bytes:
        return bulk_or_null(session, before)

    def edit(record: Record | None) -> Edited | None:
        if record is None or record.expires_ms == expires:
            return None
        return Edited(None) if is_over else Edited(record.value, expires)

    return KeyCommand(reply, edit if options else None, shows=True)


def _getdel(session: Session, _args: list[bytes]) -> KeyCommand:
    return KeyCommand(
        lambda before, _after: bulk_or_null(session, before),
        lambda record: None if record is None else Edited(None),
        shows=True,
    )


def bulk_or_null(session: Session, record: Record | None) -> bytes:
    """The value of a live record, as a reply."""
    value = value_of(record)
    return session.null if value is None else resp.bulk(value)


def _plan_mget(session: Session, args: list[bytes]) -> CommandPlan:
    command = KeyCommand(lambda before, _after: bulk_or_null(session, before), shows=True)
    return CommandPlan([(key, command) for key in args[1:]], resp.array)


def _plan_mset(session: Session, args: list[bytes]) -> CommandPlan:
    pairs = _pairs(args, name="mset")
    return CommandPlan(
        [(key, _put(session, value)) for key, value in pairs.items()], lambda _: resp.OK
    )


def _pairs(args: list[bytes], *, name: str) -> dict[bytes, bytes]:
    """Values by key: of a key given twice the last counts."""
    if len(args) % 2 == 0:
        raise CommandError(f"ERR wrong number of arguments for '{name}' command")
    return dict(zip(args[1::2], args[2::2], strict=True))


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
        value = value_of(visible(result, self.session))
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
        pairs = _pairs(args, name="mset")
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


def _setex_command(name: str, unit: Unit, summary: str) -> Command:
    run, plan = (partial(each, unit=unit, name=name) for each in (_setex, _plan_setex))
    return _write(name, 4, run, summary, "2.0.0" if unit is SECONDS else "2.6.0", plan=plan)


COMMANDS: Final = (
    _read("get", 2, _get, "Get the value of a key", plan=_plan_get),
    _write("set", -3, _set, "Set the value of a key", plan=_plan_set, shown=_shown_by_set),
    _setex_command("setex", SECONDS, "Set a value that expires after seconds"),
    _setex_command("psetex", MILLISECONDS, "Set a value that expires after milliseconds"),
    on_key(_write, "setnx", 3, _setnx, "Set a key only if it does not exist"),
    on_key(_write, "getset", 3, _getset, "Set a key and get its old value", shown=first_key),
    on_key(
        *(_write, "getex", -2, _getex, "Get a value and set when it expires"),
        since="6.2.0",
        shown=first_key,
    ),
    on_key(
        *(_write, "getdel", 2, _getdel, "Get a value and delete its key"),
        since="6.2.0",
        shown=first_key,
    ),
    _read_many("mget", -2, _Mget, "Get the values of many keys", plan=_plan_mget),
    _write_pairs("mset", -3, _Mset, "Set many keys, each by itself", "1.0.1", plan=_plan_mset),
    _write_pairs(
        *("msetnx", -3, _msetnx, "Set a key only if it does not exist", "1.0.1"),
        plan=_plan_msetnx,
    ),
)
