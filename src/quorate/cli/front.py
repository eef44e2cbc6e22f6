# SPDX-License-Identifier: GPL-3.0-or-later
"""All commands through click: help, and mistakes with the nearest valid name."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any, Final

import click

from quorate.cli.arguments import SWITCHES, Command, Flag, Given, Line, UsageError
from quorate.cli.commands import BY_NAME, COMMANDS
from quorate.cli.failures import report
from quorate.config import FLAGS, ConfigError
from quorate.errors import QuorateError

_HELP: Final = """A leaderless, replicated, durable key-value store.

Flags take one or two dashes, `=` or a space, and stand before or after the command. Flags without a
command start a node, as `serve` does."""


def run(line: Line) -> int:
    """Run `line`; prints what is wrong with it, one line for each fault."""
    asked = _asked(_with_command(line))
    if asked is None:
        return 0
    command, given = asked
    module = importlib.import_module(f"quorate.cli.{command.module}")
    try:
        code: int = getattr(module, f"run_{command.name}")(given)
    except ConfigError as fault:
        for text in fault.faults:
            print(f"quorate: {text}", file=sys.stderr)
        return 2
    except QuorateError as error:
        return report(error)
    return code


def _asked(line: Line) -> tuple[Command, Given] | None:
    """What to run, with what; None if help was all that was asked for, and has been shown.

    click reads and explains, but runs nothing: it has ways of its own with Ctrl-C and closed pipes.
    """
    if line.command == "serve" and "help" not in dict(line.flags):
        # Past click, which stops at the first unknown flag: the settings name all faults at once.
        flags = {name: "true" if text is None else text for name, text in line.flags}
        serve = BY_NAME["serve"]
        serve.settle({}, line.positionals)
        return serve, flags
    try:
        result = _group().main(line.canonical(), prog_name="quorate", standalone_mode=False)
    except click.UsageError as fault:
        raise UsageError(fault.format_message().replace("\n", " ")) from None
    return result if isinstance(result, tuple) else None


def _with_command(line: Line) -> Line:
    """`line` with its command in its main name; bare flags mean serve."""
    if line.command:
        command = BY_NAME.get(line.command)
        if command is None:
            near = difflib.get_close_matches(line.command, list(BY_NAME), n=1)
            hint = f"did you mean {near[0]}?" if near else "see quorate --help"
            raise UsageError(f"no such command: {line.command}; {hint}")
        return line._replace(command=command.name)
    names = {name for name, _ in line.flags}
    if "version" in names:
        return Line("version", [flag for flag in line.flags if flag[0] != "version"], [])
    if not names or "help" in names:
        return Line("", [("help", None)], [])
    return line._replace(command="serve")


def _group() -> click.Group:
    group = click.Group("quorate", help=_HELP, context_settings={"max_content_width": 100})
    for command in COMMANDS:
        group.add_command(_click_command(command))
    return group


def _click_command(command: Command) -> click.Command:
    flags = _settings() if command.name == "serve" else command.flags
    parameters: list[click.Parameter] = [_option(flag) for flag in flags]
    if command.positionals:
        shown = " ".join(f"[{name.upper()}]" for name in command.positionals)
        parameters.append(click.Argument(["positionals"], nargs=-1, metavar=shown))

    def callback(positionals: tuple[str, ...] = (), **values: Any) -> tuple[Command, Given]:
        given = {flag.name: _text(values[_variable(flag)]) for flag in flags}
        flat = {name: text for name, text in given.items() if text is not None}
        return command, command.settle(flat, positionals)

    also = f" Also called {', '.join(command.aliases)}." if command.aliases else ""
    return click.Command(
        command.name,
        params=parameters,
        callback=callback,
        help=command.help + also,
        short_help=command.help,
        context_settings={"max_content_width": 100},
    )


def _settings() -> tuple[Flag, ...]:
    return tuple(Flag(flag.name, flag.help, flag.default, flag.aliases) for flag in FLAGS)


def _option(flag: Flag) -> click.Option:
    names = [_variable(flag), *(f"--{name}" for name in (flag.name, *flag.aliases))]
    text = f"{flag.help}  [default: {flag.default}]" if flag.default else flag.help
    if flag.name not in SWITCHES:
        return click.Option(names, help=text, metavar="...")
    if flag.default:
        # A setting that is on or off: the bare flag means true.
        return click.Option(names, help=text, is_flag=False, flag_value="true", metavar="[=false]")
    return click.Option(names, help=text, is_flag=True)


def _variable(flag: Flag) -> str:
    return flag.name.replace("-", "_")


def _text(value: str | bool | None) -> str | None:
    if value is True:
        return "true"
    return value if isinstance(value, str) else None
