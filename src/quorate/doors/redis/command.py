# SPDX-License-Identifier: GPL-3.0-or-later
"""What the table knows of a command; everything said about commands is derived from it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from quorate.doors.access import ROLE_BITS, Role
from quorate.doors.answered import Operation
from quorate.doors.audit import BEGUN
from quorate.doors.redis.glob import PATTERN_BYTES_MAX
from quorate.doors.redis.one_key import begin, permit_reading
from quorate.doors.redis.plans import CommandPlan, KeyCommand
from quorate.doors.redis.session import CommandError, Session
from quorate.wire import resp

RunCommand = Callable[[Session, list[bytes]], object]
"""Begins a command: makes exactly one Pending, or raises CommandError having made none. May be the
class of that Pending."""

PlanCommand = Callable[[Session, list[bytes]], CommandPlan]
"""Says what a command does, and does nothing. CommandError if its arguments cannot be."""
PlanKey = Callable[[Session, list[bytes]], KeyCommand]
"""The same of a command on the key at position 1."""
ShownKeys = Callable[[list[bytes]], list[bytes]]
"""Of a command that writes: the keys whose values its answer shows."""


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
class KeyPositions:
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


NO_KEYS: Final = KeyPositions(0, 0, 0)
ONE_KEY: Final = KeyPositions(1, 1, 1)
ALL_KEYS: Final = KeyPositions(1, -1, 1)
KEY_VALUE_PAIRS: Final = KeyPositions(1, -1, 2)

_WRITES: Final = (Access.WRITE, Access.WRITE_MANY)
_READS: Final = (Access.READ, Access.READ_MANY)


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the table. `arity` counts the name; negative: at least that many."""

    name: str
    """Lower case; a subcommand is `container|name`."""
    arity: int
    run: RunCommand
    summary: str
    since: str = "1.0.0"
    """The Redis version that brought it."""
    group: str = field(kw_only=True)
    role: Role = field(kw_only=True)
    access: Access = field(default=Access.NONE, kw_only=True)
    keys: KeyPositions = field(default=NO_KEYS, kw_only=True)
    subcommands: Mapping[bytes, Command] = field(default_factory=dict, kw_only=True)
    plan: PlanCommand | None = field(default=None, kw_only=True)
    """What it does as part of a transaction; None: it cannot be a part of one."""
    shown: ShownKeys | None = field(default=None, kw_only=True)
    """Who runs it must be allowed to read these keys, too."""

    def takes(self, args: list[bytes]) -> bool:
        """Whether the number of arguments is right."""
        return len(args) == self.arity or len(args) >= -self.arity > 0

    @property
    def flags(self) -> frozenset[str]:
        """Redis's names for what the command does."""
        if self.access in _WRITES:
            return frozenset({"write"})
        return frozenset({"readonly"} if self.access in _READS else {"fast"})


class CountedCommand:
    """A command at one door, and what is asked of it each time it comes."""

    __slots__ = ("command", "operation", "role_bit")

    def __init__(self, command: Command, operation: Operation) -> None:
        self.command = command
        self.operation = operation
        """What its answers are counted as."""
        self.role_bit = ROLE_BITS[command.role]


reads_key = partial(Command, role=Role.READ, access=Access.READ, keys=ONE_KEY)
reads_keys = partial(Command, role=Role.READ, access=Access.READ_MANY, keys=ALL_KEYS)
writes_key = partial(Command, role=Role.WRITE, access=Access.WRITE, keys=ONE_KEY)
writes_keys = partial(Command, role=Role.WRITE, access=Access.WRITE_MANY, keys=ALL_KEYS)


def first_key(args: list[bytes]) -> list[bytes]:
    """The key at position 1."""
    return args[1:2]


def on_key(
    kind: Callable[..., Command],
    name: str,
    arity: int,
    plan_key: PlanKey,
    summary: str,
    *,
    since: str = "1.0.0",
    shown: ShownKeys | None = None,
) -> Command:
    """The row of a command on the key at position 1, which `kind` makes."""

    def run(session: Session, args: list[bytes]) -> None:
        if shown is not None:
            permit_reading(session, shown(args), name)
        begin(session, args[1], plan_key(session, args), size=sum(map(len, args)))

    def plan(session: Session, args: list[bytes]) -> CommandPlan:
        return CommandPlan([(args[1], plan_key(session, args))])

    return kind(name, arity, run, summary, since, plan=plan, shown=shown)


def audited(run: RunCommand, name: str) -> RunCommand:
    """`run` of a command that changes the node, or all data at once; the log tells who ran it."""

    def act(session: Session, args: list[bytes]) -> None:
        outcome = "refused"
        try:
            run(session, args)
            outcome = BEGUN
        finally:
            session.door.principals.audit.admin_act(
                who=session.principal.name, source=session.source, what=name, outcome=outcome
            )

    return act


def container(name: str, *, summary: str, group: str, subcommands: Iterable[Command]) -> Command:
    """A command whose first argument picks one of `subcommands` (`table.find`), or HELP."""
    table = {sub.name.partition("|")[2].upper().encode(): sub for sub in subcommands}

    def run(session: Session, args: list[bytes]) -> None:
        if args[1].upper() != b"HELP":
            raise CommandError(
                f"ERR unknown subcommand '{quote(args[1])}'. Try {name.upper()} HELP."
            )
        session.answer(_help(name, table))

    return Command(name, -2, run, summary, group=group, role=Role.USER, subcommands=table)


def _help(name: str, table: Mapping[bytes, Command]) -> bytes:
    lines = [f"{name.upper()} <subcommand> [<arg> ...]. Subcommands are:"]
    for word, sub in table.items():
        lines += [word.decode(), f"    {sub.summary}."]
    return resp.array([resp.simple(line) for line in lines])


def quote(argument: bytes) -> str:
    """Up to 128 bytes of a client's argument, for an error text."""
    return argument[:128].decode("utf-8", "replace")


def pattern_argument(argument: bytes, *, bytes_max: int = PATTERN_BYTES_MAX) -> bytes:
    """A glob pattern. CommandError if it is too long."""
    if len(argument) > bytes_max:
        raise CommandError("ERR pattern too long")
    return argument


def integer_argument(argument: bytes) -> int:
    """A 64-bit integer argument. CommandError if it is none."""
    value = resp.parse_integer(argument)
    if value is None:
        raise CommandError("ERR value is not an integer or out of range")
    return value
