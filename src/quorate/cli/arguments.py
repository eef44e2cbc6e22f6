# SPDX-License-Identifier: GPL-3.0-or-later
"""What people type: flags with one or two dashes, `=` or a space, before or after the command.

`read` sorts an argument list out without knowing what each command takes; `Command` says that, once
for the quick path of get, put and delete and for click, which serves all else. Nothing here imports
more than the few milliseconds that `quorate get` can afford.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

_FLAG: Final = re.compile(r"--?([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?", re.DOTALL)
SWITCHES: Final = frozenset({"allow-flush", "help", "json", "once", "version"})
"""Flags that mean something without a value; every other one takes the next argument."""

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


class Command(NamedTuple):
    """A command: what it takes, and where it lives. `module` has a function `run_<name>`."""

    name: str
    help: str
    module: str
    flags: tuple[Flag, ...] = ()
    positionals: tuple[str, ...] = ()
    """Flags that may be given by position instead, in this order."""
    required: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()

    def settle(self, flags: Mapping[str, str], positionals: Iterable[str]) -> Given:
        """Everything given, by main names. UsageError if something is missing or too much."""
        given = dict(flags)
        open_places = [name for name in self.positionals if name not in given]
        for value in positionals:
            if not open_places:
                raise UsageError(f"{self.name}: one argument too many: {value!r}")
            given[open_places.pop(0)] = value
        for name in self.required:
            if name not in given:
                raise UsageError(f"{self.name}: no {name}: see quorate {self.name} --help")
        return given


class Line(NamedTuple):
    """An argument list, sorted out."""

    command: str
    """Empty if there is none."""
    flags: list[tuple[str, str | None]]
    """Names as typed, without dashes; None for a switch without a value."""
    positionals: list[str]

    def canonical(self) -> list[str]:
        """The same list in the one form that click reads as we do."""
        flags = [
            f"--{name}" if value is None else f"--{name}={value}" for name, value in self.flags
        ]
        command = [self.command] if self.command else []
        return [*command, *flags, *(["--", *self.positionals] if self.positionals else [])]

    def given(self, command: Command) -> Given | None:
        """What is given to `command`; None if click should look at it: a flag that it does not
        have, help, or a place that is not filled."""
        names = {name: flag.name for flag in command.flags for name in (flag.name, *flag.aliases)}
        flags: Given = {}
        for name, value in self.flags:
            if name not in names or (value is not None) is (name in SWITCHES):
                return None
            flags[names[name]] = "true" if value is None else value
        try:
            return command.settle(flags, self.positionals)
        except UsageError:
            return None


def read(arguments: list[str]) -> Line:
    """Sort `arguments` out. The first that is neither a flag nor a flag's value is the command."""
    flags: list[tuple[str, str | None]] = []
    words: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            words.extend(rest)
            break
        match = _FLAG.fullmatch(argument)
        if match is None:
            words.append(argument)
            continue
        name, value = ("help" if match[1] == "h" else match[1]), match[2]
        if value is None and name not in SWITCHES:
            value = _value_after(argument, rest)
        flags.append((name, value))
    return Line(words[0] if words else "", flags, words[1:])


def _value_after(flag: str, rest: Iterable[str]) -> str:
    for value in rest:
        return value
    raise UsageError(f"{flag} needs a value: write {flag}=...")
