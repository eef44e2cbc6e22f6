# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that are known, and refused because doing them here would be a lie.

Commands that read and write as one step, such as INCR, need an atomic read-modify-write, which this
release does not have. Transactions: MULTI opens a block in which every command is refused and EXEC
aborts. Refusing MULTI itself would let the rest of a pipelined transaction run without it, after
its client was told that it failed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.doors.access import Role
from quorate.doors.redis.command import (
    KEY_VALUE_PAIRS,
    Access,
    Command,
    writes_key,
    writes_keys,
)
from quorate.doors.redis.session import CommandError, Pending, Session
from quorate.errors import NeedsReadModifyWrite, Outcome
from quorate.wire import resp

ALLOWED_IN_MULTI: Final = frozenset({"exec", "discard", "multi", "reset", "quit"})
NOT_YET: Final = "ERR MULTI is not supported yet, so this command was not run"


def refuse_read_modify_write(session: Session, what: str) -> None:
    """Answer that `what` would need an atomic read-modify-write, and that nothing was done."""
    detail = f"'{what}' needs an atomic read-modify-write, which this release does not have"
    error = NeedsReadModifyWrite(detail, outcome=Outcome.NOT_APPLIED)
    Pending(session).resolve_failed(error)


def _read_modify_write(
    name: str, arity: int, summary: str, kind: Callable[..., Command] = writes_key
) -> Command:
    def refuse(session: Session, _args: list[bytes]) -> None:
        refuse_read_modify_write(session, name)

    group = "string" if name != "watch" else "transactions"
    told = f"{summary} (refused: needs an atomic read-modify-write)"
    return kind(name, arity, refuse, told, group=group)


def _multi(session: Session, _args: list[bytes]) -> None:
    if session.in_multi:
        raise CommandError("ERR MULTI calls can not be nested")
    session.in_multi = True
    session.answer(resp.OK)


def _exec(session: Session, _args: list[bytes]) -> None:
    if not session.in_multi:
        raise CommandError("ERR EXEC without MULTI")
    session.in_multi = False
    raise CommandError("EXECABORT Transaction discarded: MULTI is not supported yet")


def _discard(session: Session, _args: list[bytes]) -> None:
    if not session.in_multi:
        raise CommandError("ERR DISCARD without MULTI")
    session.in_multi = False
    session.answer(resp.OK)


_transaction = partial(
    Command, since="1.2.0", group="transactions", role=Role.USER, access=Access.ALONE
)
_write_pairs = partial(writes_keys, keys=KEY_VALUE_PAIRS)

COMMANDS: Final = (
    _read_modify_write("setnx", 3, "Set a key only if it does not exist"),
    _read_modify_write("getset", 3, "Set a key and get its old value"),
    _read_modify_write("incr", 2, "Add one to a number"),
    _read_modify_write("incrby", 3, "Add to a number"),
    _read_modify_write("incrbyfloat", 3, "Add to a floating-point number"),
    _read_modify_write("decr", 2, "Subtract one from a number"),
    _read_modify_write("decrby", 3, "Subtract from a number"),
    _read_modify_write("append", 3, "Append to a value"),
    _read_modify_write("setrange", 4, "Overwrite part of a value"),
    _read_modify_write("msetnx", -3, "Set keys only if none exists", _write_pairs),
    _read_modify_write("watch", -2, "Watch keys for a transaction", writes_keys),
    _transaction("multi", 1, _multi, "Begin a transaction (refused at EXEC for now)"),
    _transaction("exec", 1, _exec, "Run a transaction (refused for now)"),
    _transaction("discard", 1, _discard, "Leave a transaction"),
)
