# SPDX-License-Identifier: GPL-3.0-or-later
"""What people type: flags with one or two dashes, `=` or a space, before or after the command.

`read` sorts an argument list out without knowing what each command takes; `Subcommand` says that,
and finds the mistakes. `quorate get` imports this, so it imports only what takes next to no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from quorate.notation import nearest

_FLAG: Final = re.compile(r"(--?)([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?", re.DOTALL)
SWITCHES: Final = frozenset(
    {
        "allow-flush",
        "dry-run",
        "force",
        "grow",
        "help",
        "if-absent",
        "insecure",
        "json",
        "no-password",
        "once",
        "shrink",
        "trace",
        "version",
        "yes",
    }
)
"""Flags that mean something without a value, and take none."""
OPTIONAL: Final = {"dev": "3", "timeline": "100ms"}
"""Flags that take a value only behind `=`, and mean this without one. Every other flag takes the
next argument."""

_MAY_BE_EMPTY: Final = frozenset({"key", "prefix", "value"})
"""Flags whose value is the user's bytes."""

Given = dict[str, str]
"""Flag values by the flag's main name; `true` for a switch."""


class UsageError(Exception):
    """The arguments make no sense; one line that says what to write."""


class Flag(NamedTuple):
    """A flag of a command."""

    name: str
    help: str
    default: str = ""
    """As help shows it; empty for a flag that has none."""
    aliases: tuple[str, ...] = ()
    remedy: str = ""
    """What to write where it is missing; empty: the command's form."""


class Subcommand(NamedTuple):
    """A command: what it takes, and where it lives. `module` has a function `run_<name>`."""

    name: str
    help: str
    module: str
    flags: tuple[Flag, ...] = ()
    positionals: tuple[str, ...] = ()
    """Flags that may be given by position instead, in this order."""
    required: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    notes: str = ""
    """What its help says besides."""

    def settle(self, flags: Mapping[str, str], positionals: Iterable[str]) -> Given:
        """Everything given, by main names. UsageError if something is missing or too much."""
        given = dict(flags)
        open_places = [name for name in self.positionals if name not in given]
        for value in positionals:
            if not self.positionals:
                raise UsageError(f"{self.name}: it takes flags alone, and {value!r} is no flag")
            if not open_places:
                raise UsageError(
                    f"{self.name}: one argument too many: {value!r}; quote what has spaces"
                )
            given[open_places.pop(0)] = value
        for name in self.required:
            if name not in given:
                remedies = (flag.remedy for flag in self.flags if flag.name == name and flag.remedy)
                places = " ".join(map(str.upper, self.required))
                remedy = next(remedies, f"write quorate {self.name} {places}")
                raise UsageError(f"{self.name}: no {name}: {remedy}")
        return given


class CommandLine(NamedTuple):
    """An argument list, sorted out."""

    command: str
    """Empty if there is none."""
    flags: list[tuple[str, str | None]]
    """Names as typed, without dashes; None where no value follows."""
    positionals: list[str]
    dashes: Mapping[str, str] = MappingProxyType({})
    """One or two, by name, as typed: so a mistake is shown, and what was meant."""

    def has(self, name: str) -> bool:
        """Whether a flag is there, with a value or without."""
        return any(flag == name for flag, _ in self.flags)

    def given(self, command: Subcommand) -> Given:
        """What is given to `command`. UsageError for the first mistake there is."""
        names = {name: flag.name for flag in command.flags for name in (flag.name, *flag.aliases)}
        flags: Given = {}
        for name, value in self.flags:
            dashes = self.dashes.get(name, "--")
            if name not in names:
                hint = nearest(name, names, dashes=dashes) or f"; see quorate {command.name} --help"
                raise UsageError(f"no such option: {dashes}{name}{hint}")
            if name in SWITCHES and value is not None:
                raise UsageError(f"{dashes}{name} takes no value")
            flags[names[name]] = needed(name, value, dashes=dashes)
        return command.settle(flags, self.positionals)


def needed(name: str, value: str | None, *, dashes: str) -> str:
    """The value of a flag, or what it means without one; UsageError if it should have one.

    An empty one is mostly a shell's variable that is not set. What it would mean, as "no other
    nodes", is not what was meant.
    """
    if value == "" and name not in _MAY_BE_EMPTY:
        raise UsageError(f"{dashes}{name}: it is empty: give it a value, or leave it out")
    if value is not None:
        return value
    if name in OPTIONAL:
        return OPTIONAL[name]
    if name not in SWITCHES:
        raise UsageError(f"{dashes}{name} needs a value: write {dashes}{name}=...")
    return "true"


def read(arguments: list[str]) -> CommandLine:
    """Sort `arguments` out. The first that is neither a flag nor a flag's value is the command."""
    flags: list[tuple[str, str | None]] = []
    words: list[str] = []
    dashes: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            words.extend(rest)
            break
        match = _FLAG.fullmatch(argument)
        if match is None:
            words.append(argument)
            continue
        name, value = ("help" if match[2] == "h" else match[2]), match[3]
        dashes[name] = match[1]
        if value is None and name not in SWITCHES and name not in OPTIONAL:
            value = next(rest, None)
        flags.append((name, value))
    return CommandLine(words[0] if words else "", flags, words[1:], dashes)
