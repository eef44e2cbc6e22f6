# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of commands. Dispatch, arity, roles and tests come from it, and so does all that
COMMAND, a row of it like the others, tells clients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from quorate.doors.access import Role
from quorate.doors.redis import (
    absent,
    clients,
    cluster,
    counters,
    expiry,
    keys,
    lcs,
    login,
    moving,
    own,
    pieces,
    scan,
    server,
    strings,
    transactions,
)
from quorate.doors.redis.command import Command, container, pattern_argument, quote
from quorate.doors.redis.glob import NAME_PATTERN_BYTES_MAX, compile_glob
from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp
from quorate.wire.resp import ARGS_MAX


def _chosen(names: list[bytes]) -> list[Command | None]:
    if not names:
        return list(COMMANDS.values())
    if len(names) > NAMES_MAX:
        raise CommandError(f"ERR at most {NAMES_MAX} names")
    return [_named(name) for name in names]


def _answer(session: Session, kind: str, names: list[bytes], make: Callable[[], object]) -> None:
    """Answer with what `make` makes; what is made of all commands is kept for a while."""
    if names:
        session.answer_value(make())
    else:
        session.answer(session.door.reply(kind, session.protocol, make))


def _named(name: bytes) -> Command | None:
    first, _, second = name.upper().partition(b"|")
    command = COMMANDS.get(first)
    return command.subcommands.get(second) if command and second else command


def _count(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.integer(len(COMMANDS)))


def _info(session: Session, args: list[bytes]) -> None:
    names = args[2:]
    _answer(session, "info", names, lambda: [each and _entry(each) for each in _chosen(names)])


def _docs(session: Session, args: list[bytes]) -> None:
    names = args[2:]
    _answer(
        session, "docs", names, lambda: {each.name: _doc(each) for each in _chosen(names) if each}
    )


def _list(session: Session, args: list[bytes]) -> None:
    chosen = [each.name for each in COMMANDS.values()]
    if len(args) == 5 and [word.upper() for word in args[2:4]] == [b"FILTERBY", b"PATTERN"]:
        glob = compile_glob(pattern_argument(args[4], bytes_max=NAME_PATTERN_BYTES_MAX).lower())
        chosen = [name for name in chosen if glob.fullmatch(name.encode())]
    elif len(args) > 2:
        raise CommandError("ERR syntax error")
    session.answer_value(chosen)


def _getkeys(session: Session, args: list[bytes]) -> None:
    line = args[2:]
    command = COMMANDS.get(line[0].upper())
    if command is None:
        raise CommandError("ERR Invalid command specified")
    command = command.subcommands.get(b"".join(line[1:2]).upper(), command)
    if not command.takes(line):
        raise CommandError("ERR Invalid number of arguments specified for command")
    if not command.keys.first:
        raise CommandError("ERR The command has no key arguments")
    session.answer_value(command.keys.of(line))


def _cat(session: Session, args: list[bytes]) -> None:
    """ACL CAT: the categories are the roles that commands ask for."""
    by_role: dict[str, list[str]] = {}
    for command in COMMANDS.values():
        for each in command.subcommands.values() or (command,):
            by_role.setdefault(each.role.value, []).append(each.name)
    if len(args) > 3:
        raise CommandError("ERR wrong number of arguments for 'acl|cat' command")
    if len(args) == 2:
        session.answer_value(sorted(by_role))
        return
    names = by_role.get(args[2].decode("utf-8", "replace").lower())
    if names is None:
        raise CommandError(f"ERR Unknown category '{quote(args[2])}'")
    session.answer_value(sorted(names))


def _entry(command: Command) -> list[object]:
    """COMMAND INFO's ten elements."""
    keys = command.keys
    categories = {"@read"} if "readonly" in command.flags else set()
    categories |= {"@write"} if "write" in command.flags else set()
    return [
        command.name,
        command.arity,
        command.flags,
        keys.first,
        keys.last,
        keys.step,
        frozenset(categories | {f"@{command.group}"}),
        [],
        [_key_spec(command)] if keys.first else [],
        [_entry(sub) for sub in command.subcommands.values()],
    ]


def _key_spec(command: Command) -> dict[str, object]:
    keys = command.keys
    last = keys.last if keys.last < 0 else keys.last - keys.first
    return {
        "flags": frozenset({"RW" if "write" in command.flags else "RO"}),
        "begin_search": {"type": "index", "spec": {"index": keys.first}},
        "find_keys": {
            "type": "range",
            "spec": {"lastkey": last, "keystep": keys.step, "limit": 0},
        },
    }


def _doc(command: Command) -> dict[str, object]:
    found: dict[str, object] = {
        "summary": command.summary,
        "since": command.since,
        "group": command.group,
    }
    if command.subcommands:
        found["subcommands"] = {sub.name: _doc(sub) for sub in command.subcommands.values()}
    return found


def _command(session: Session, args: list[bytes]) -> None:
    if len(args) == 1:
        _info(session, args)
    else:
        _CONTAINER.run(session, args)


_sub = partial(Command, since="2.8.13", group="server", role=Role.USER)
_CONTAINER: Final = container(
    "command",
    summary="Get facts about commands",
    group="server",
    subcommands=(
        _sub("command|count", 2, _count, "Count the commands"),
        _sub("command|info", -2, _info, "Describe commands for programs"),
        _sub("command|docs", -2, _docs, "Describe commands for people"),
        _sub("command|list", -2, _list, "List the names of commands"),
        _sub("command|getkeys", -3, _getkeys, "Get the keys of a command line", since="7.0.0"),
    ),
)

_MODULES: Final = (
    *(strings, pieces, counters, lcs, keys, moving, expiry, scan, transactions, own),
    *(clients, login, server, absent, cluster),
)
COMMANDS: Final[dict[bytes, Command]] = {
    command.name.upper().encode(): command for module in _MODULES for command in module.COMMANDS
}
"""Every command by its name in upper case."""
COMMANDS[b"ACL"] = login.acl(
    Command(
        *("acl|cat", -2, _cat, "List categories, or the commands of one", "6.0.0"),
        group="server",
        role=Role.USER,
    )
)
COMMANDS[b"COMMAND"] = replace(_CONTAINER, arity=-1, run=_command, since="2.8.13")

SPELLED: Final = {
    spelling: command
    for name, command in COMMANDS.items()
    if not command.subcommands
    for spelling in (name, name.lower(), name.capitalize())
}
"""The same under the spellings that clients use, so that most need no conversion; commands with
subcommands are for `find`."""
NAMES_MAX: Final = 16
"""In one COMMAND INFO or DOCS; a pipeline may have 64 of them in a turn."""
_ARGUMENTS_BYTES: Final = 128


def find(args: list[bytes]) -> Command:
    """The command or subcommand that a client means. CommandError if there is none."""
    if not args:
        raise CommandError(f"ERR a command may have {ARGS_MAX} arguments")
    command = COMMANDS.get(args[0].upper())
    if command is None:
        raise CommandError(_unknown(args))
    if len(args) > 1:
        return command.subcommands.get(args[1].upper(), command)
    return command


def _unknown(args: list[bytes]) -> str:
    shown = ""
    for argument in args[1:]:
        if len(shown) >= _ARGUMENTS_BYTES:
            break
        shown += f"'{quote(argument)[: _ARGUMENTS_BYTES - len(shown)]}' "
    return f"ERR unknown command '{quote(args[0])}', with args beginning with: {shown}"
