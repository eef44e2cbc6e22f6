# SPDX-License-Identifier: GPL-3.0-or-later
"""What the table knows of a command; everything said about commands is derived from it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp

Run = Callable[[Session, list[bytes]], None]
"""Begins a command: makes exactly one Pending, or raises CommandError having made none."""


class Access(enum.Enum):
    """What a command touches, so that pipelined commands act as if run one after the other."""

    NONE = enum.auto()
    """No keys: may run beside anything."""
    READ = enum.auto()
    """Reads the key at position 1."""
    WRITE = enum.auto()
    """Reads or writes the key at position 1."""
    READ_MANY = enum.auto()
    """Reads the keys at the command's key positions."""
    WRITE_MANY = enum.auto()
    """Reads or writes the keys at the command's key positions."""
    ALONE = enum.auto()
    """Any key, or the session's own state: runs when all before is answered, and before all else.
    """


@dataclass(frozen=True, slots=True)
class Keys:
    """Positions of keys among the arguments; `last` counts from the end when negative."""

    first: int
    last: int
    step: int

    def of(self, args: list[bytes]) -> list[bytes]:
        """The keys of a command with these arguments."""
        if not self.first:
            return []
        last = self.last if self.last >= 0 else len(args) + self.last
        return args[self.first : last + 1 : self.step]


NO_KEYS: Final = Keys(0, 0, 0)
ONE_KEY: Final = Keys(1, 1, 1)
ALL_KEYS: Final = Keys(1, -1, 1)
KEY_VALUE_PAIRS: Final = Keys(1, -1, 2)

_WRITES: Final = (Access.WRITE, Access.WRITE_MANY)
_READS: Final = (Access.READ, Access.READ_MANY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A row of the table. `arity` counts the name; negative: at least that many."""

    name: str
    """Lower case; a subcommand is `container|name`."""
    arity: int
    run: Run
    summary: str
    group: str
    since: str = "1.0.0"
    """The Redis version that brought it."""
    access: Access = Access.NONE
    keys: Keys = NO_KEYS
    subcommands: Mapping[bytes, Command] = field(default_factory=dict)

    def check_arity(self, args: list[bytes]) -> None:
        """CommandError if the number of arguments is wrong."""
        if len(args) != self.arity and (self.arity > 0 or len(args) < -self.arity):
            raise CommandError(f"ERR wrong number of arguments for '{self.name}' command")

    @property
    def flags(self) -> frozenset[str]:
        """Redis's names for what the command does."""
        if self.access in _WRITES:
            return frozenset({"write"})
        return frozenset({"readonly"} if self.access in _READS else {"fast"})


def container(name: str, *, summary: str, group: str, subcommands: Iterable[Command]) -> Command:
    """A command whose first argument picks one of `subcommands`, or HELP."""
    table = {sub.name.partition("|")[2].upper().encode(): sub for sub in subcommands}

    def run(session: Session, args: list[bytes]) -> None:
        found = table.get(args[1].upper())
        if found is not None:
            found.check_arity(args)
            found.run(session, args)
        elif args[1].upper() == b"HELP":
            session.answer(_help(name, table))
        else:
            raise CommandError(
                f"ERR unknown subcommand '{quote(args[1])}'. Try {name.upper()} HELP."
            )

    return Command(name=name, arity=-2, run=run, summary=summary, group=group, subcommands=table)


def _help(name: str, table: Mapping[bytes, Command]) -> bytes:
    lines = [f"{name.upper()} <subcommand> [<arg> ...]. Subcommands are:"]
    for word, sub in table.items():
        lines += [word.decode(), f"    {sub.summary}."]
    return resp.array([resp.simple(line) for line in lines])


def quote(argument: bytes) -> str:
    """Up to 128 bytes of a client's argument, for an error text."""
    return argument[:128].decode("utf-8", "replace")


def integer_argument(argument: bytes) -> int:
    """A 64-bit integer argument. CommandError if it is none."""
    value = resp.parse_integer(argument)
    if value is None:
        raise CommandError("ERR value is not an integer or out of range")
    return value
