# SPDX-License-Identifier: GPL-3.0-or-later
"""Help for one command or all, set by click."""

from __future__ import annotations

from typing import Final

import click

from quorate.cli.arguments import OPTIONAL, SWITCHES, Flag, Subcommand
from quorate.cli.commands import COMMANDS
from quorate.config import SETTINGS

_HELP: Final = """A leaderless, replicated, durable key-value store.

Flags take one or two dashes, `=` or a space, and stand before or after the command. Flags without a
command start a node, as `serve` does. `quorate help COMMAND` shows a command's flags."""

_EXIT_CODES: Final = """\b
Exit codes:
  0  done
  1  the key is not there
  2  no node could be reached, the command line is wrong, or the output cannot be written
  3  the cluster refused; the message says whether a write may survive"""


def show_help(name: str) -> None:
    """Print the help of a command, or for an empty name of all."""
    settings = {"max_content_width": 100}
    aliases = [f"{alias} is {each.name}" for each in COMMANDS for alias in each.aliases]
    epilog = f"Also: {', '.join(aliases)}.\n\n{_EXIT_CODES}"
    group = click.Group("quorate", help=_HELP, epilog=epilog, context_settings=settings)
    for command in COMMANDS:
        group.add_command(_click_command(command))
    try:
        group.main([name, "--help"] if name else ["--help"], "quorate", standalone_mode=False)
    except SystemExit as ended:
        # Whoever reads us has seen enough: 1, which click ends with, is "no such key" here.
        raise BrokenPipeError if ended.code == 1 else ended from None


def _click_command(command: Subcommand) -> click.Command:
    flags = command.flags
    if command.name == "serve":
        flags = tuple(Flag(each.name, each.help, each.default, each.aliases) for each in SETTINGS)
    parameters: list[click.Parameter] = [_option(flag) for flag in flags]
    if command.positionals:
        shown = " ".join(f"[{name.upper()}]" for name in command.positionals)
        parameters.append(click.Argument(["positionals"], nargs=-1, metavar=shown))
    also = f" Also called {', '.join(command.aliases)}." if command.aliases else ""
    return click.Command(
        command.name,
        params=parameters,
        help=f"{command.help}{also}\n\n{command.notes}",
        short_help=command.help,
        context_settings={"max_content_width": 100},
    )


def _option(flag: Flag) -> click.Option:
    names = [flag.name.replace("-", "_"), *(f"--{name}" for name in (flag.name, *flag.aliases))]
    text = f"{flag.help}  [default: {flag.default}]" if flag.default else flag.help
    if flag.name in OPTIONAL:
        bare = OPTIONAL[flag.name]
        return click.Option(names, help=text, is_flag=False, flag_value=bare, metavar=f"[={bare}]")
    if flag.name not in SWITCHES:
        return click.Option(names, help=text, metavar="...")
    if flag.default:
        # A setting that is on or off: the bare flag means true.
        return click.Option(names, help=text, is_flag=False, flag_value="true", metavar="[=false]")
    return click.Option(names, help=text, is_flag=True)
