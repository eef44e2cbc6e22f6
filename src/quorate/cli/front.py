# SPDX-License-Identifier: GPL-3.0-or-later
"""All commands: which one is meant, and the nearest valid name for mistakes."""

from __future__ import annotations

import importlib
from typing import Final

from quorate.cli.arguments import CommandLine, Given, UsageError, needed
from quorate.cli.commands import BY_NAME
from quorate.cli.output import complain
from quorate.config import SETTINGS, ConfigError
from quorate.files import IS_POSIX
from quorate.notation import nearest

_ON_POSIX: Final = frozenset({"serve", "dev", "bench", "backup"})
"""What needs signals, locks of files and descriptors as POSIX has them; all else only asks."""


def run(line: CommandLine) -> int:
    """Run `line`; UsageError for a mistake in it."""
    line = _with_command(line)
    if line.has("help"):
        from quorate.cli.help import show_help  # Late: click takes longer than asking the cluster.

        show_help(line.command)
        return 0
    command = BY_NAME[line.command]
    if command.name in _ON_POSIX and not IS_POSIX:
        text = f"{command.name}: it needs Linux or macOS, as every node does; on Windows: WSL"
        return complain(text, code="platform", is_json=line.has("json"))
    given = _settings_given(line) if command.name == "serve" else line.given(command)
    module = importlib.import_module(f"quorate.cli.{command.module}")
    try:
        code: int = getattr(module, f"run_{command.name}")(given)
    except ConfigError as fault:
        return complain(str(fault), code="settings", is_json="json" in given)
    return code


def _with_command(line: CommandLine) -> CommandLine:
    """`line` with its command in its main name; bare flags mean serve, nothing means help."""
    if line.command == "help":
        names = [name for name in line.positionals if name != "help"]
        line = CommandLine("".join(names[:1]), [("help", None)], [])
    if line.command:
        command = BY_NAME.get(line.command)
        if command is None:
            hint = nearest(line.command, [*BY_NAME, "help"]) or "; see quorate --help"
            raise UsageError(f"no such command: {line.command}{hint}")
        return line._replace(command=command.name)
    if line.has("version"):
        return CommandLine("version", [flag for flag in line.flags if flag[0] != "version"], [])
    if not line.flags or line.has("help"):
        return CommandLine("", [("help", None)], [])
    return line._replace(command="serve")


def _settings_given(line: CommandLine) -> Given:
    """What is given to serve. Unknown flags too, as typed: the settings name all their faults at
    once."""
    BY_NAME["serve"].settle({}, line.positionals)
    names = {name for each in SETTINGS for name in (each.name, *each.aliases)}
    given: Given = {}
    for name, text in line.flags:
        dashes = line.dashes.get(name, "-")
        if name in names:
            given[name] = needed(name, text, dashes=dashes)
        else:
            given[name if name == "json" else f"{dashes}{name}"] = text or "true"
    return given
