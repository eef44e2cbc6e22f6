# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of commands: dispatch, arity, roles, COMMAND replies and tests come from it."""

from __future__ import annotations

from typing import Final

from quorate.doors.redis import clients, cluster, expiry, keys, refused, scan, server, strings
from quorate.doors.redis.command import Command, quote
from quorate.doors.redis.introspection import command_command
from quorate.doors.redis.session import CommandError
from quorate.wire.resp import ARGS_MAX

COMMANDS: Final[dict[bytes, Command]] = {
    command.name.upper().encode(): command
    for module in (strings, keys, expiry, scan, clients, server, cluster, refused)
    for command in module.COMMANDS
}
"""Every command by its name in upper case."""
COMMANDS[b"COMMAND"] = command_command(COMMANDS)

SPELLED: Final = {
    spelling: command
    for name, command in COMMANDS.items()
    if not command.subcommands
    for spelling in (name, name.lower(), name.capitalize())
}
"""The same under the spellings that clients use, so that most need no conversion; commands with
subcommands are for `find`."""
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
