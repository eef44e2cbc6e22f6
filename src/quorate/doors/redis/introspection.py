# SPDX-License-Identifier: GPL-3.0-or-later
"""COMMAND: the table told to clients. It answers from the table that it is itself a row of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from quorate.doors.access import Role
from quorate.doors.redis.command import Command, container, pattern_argument
from quorate.doors.redis.glob import compile_glob
from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp

_sub = partial(Command, since="2.8.13", group="server", role=Role.USER)


def command_command(table: Mapping[bytes, Command]) -> Command:
    """The row for COMMAND, which tells about `table` as it is when asked."""
    told = _Told(table)
    listed = container(
        "command",
        summary="Get facts about commands",
        group="server",
        subcommands=(
            _sub("command|count", 2, told.count, "Count the commands"),
            _sub("command|info", -2, told.info, "Describe commands for programs"),
            _sub("command|docs", -2, told.docs, "Describe commands for people"),
            _sub("command|list", -2, told.names, "List the names of commands"),
            _sub(
                "command|getkeys", -3, told.getkeys, "Get the keys of a command line", since="7.0.0"
            ),
        ),
    )

    def run(session: Session, args: list[bytes]) -> None:
        if len(args) == 1:
            told.info(session, [*args, b"INFO"])
        else:
            listed.run(session, args)

    return replace(listed, arity=-1, run=run, since="2.8.13")


class _Told:
    def __init__(self, table: Mapping[bytes, Command]) -> None:
        self._table = table

    def _chosen(self, names: Iterable[bytes]) -> list[Command | None]:
        wanted = list(names)
        if not wanted:
            return list(self._table.values())
        return [self._find(name) for name in wanted]

    def _find(self, name: bytes) -> Command | None:
        first, _, second = name.upper().partition(b"|")
        command = self._table.get(first)
        return command.subcommands.get(second) if command and second else command

    def count(self, session: Session, _args: list[bytes]) -> None:
        session.answer(resp.integer(len(self._table)))

    def info(self, session: Session, args: list[bytes]) -> None:
        session.answer_value(
            [None if each is None else _entry(each) for each in self._chosen(args[2:])]
        )

    def docs(self, session: Session, args: list[bytes]) -> None:
        chosen = self._chosen(args[2:])
        session.answer_value({each.name: _docs(each) for each in chosen if each is not None})

    def names(self, session: Session, args: list[bytes]) -> None:
        chosen = [each.name for each in self._table.values()]
        if len(args) == 5 and [word.upper() for word in args[2:4]] == [b"FILTERBY", b"PATTERN"]:
            glob = compile_glob(pattern_argument(args[4]).lower())
            chosen = [name for name in chosen if glob.fullmatch(name.encode())]
        elif len(args) > 2:
            raise CommandError("ERR syntax error")
        session.answer_value(chosen)

    def getkeys(self, session: Session, args: list[bytes]) -> None:
        command = self._table.get(args[2].upper())
        if command is None:
            raise CommandError("ERR Invalid command specified")
        line = args[2:]
        if len(line) != command.arity and (command.arity > 0 or len(line) < -command.arity):
            raise CommandError("ERR Invalid number of arguments specified for command")
        if not command.keys.first:
            raise CommandError("ERR The command has no key arguments")
        session.answer_value(command.keys.of(line))


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


def _docs(command: Command) -> dict[str, object]:
    found: dict[str, object] = {
        "summary": command.summary,
        "since": command.since,
        "group": command.group,
    }
    if command.subcommands:
        found["subcommands"] = {sub.name: _docs(sub) for sub in command.subcommands.values()}
    return found
