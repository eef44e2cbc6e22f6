# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions about what Redis has and Quorate does not, where "none" is the honest answer.

Set-ups of test suites flush functions and scripts, and tools that watch a server ask for its slow
log and modules; an error would end them. There are no functions, so FUNCTION FLUSH has done its
work; what would make one (FUNCTION LOAD) is unknown.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from quorate.doors.access import Role
from quorate.doors.redis.command import Command, container
from quorate.doors.redis.session import Session
from quorate.wire import resp


def _ok(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.OK)


def _zero(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.integer(0))


def _nothing(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.array([]))


def _zeros(session: Session, args: list[bytes]) -> None:
    session.answer(resp.array([resp.integer(0)] * (len(args) - 2)))


_user = partial(Command, role=Role.USER)
_server = partial(_user, group="server")
_script = partial(_user, group="scripting")


COMMANDS: Final = (
    container(
        "function",
        summary="Commands about functions, of which there are none",
        group="scripting",
        subcommands=(
            _script("function|flush", -2, _ok, "Delete all functions: there are none", "7.0.0"),
            _script("function|list", -2, _nothing, "List functions: there are none", "7.0.0"),
        ),
    ),
    container(
        "script",
        summary="Commands about scripts, of which there are none",
        group="scripting",
        subcommands=(
            _script("script|flush", -2, _ok, "Forget all scripts: there are none", "2.6.0"),
            _script("script|exists", -3, _zeros, "Ask for scripts: there are none", "2.6.0"),
        ),
    ),
    container(
        "slowlog",
        summary="Commands about slow commands, which are not kept",
        group="server",
        subcommands=(
            _server("slowlog|get", -2, _nothing, "List slow commands: none are kept", "2.2.12"),
            _server("slowlog|len", 2, _zero, "Count slow commands: none are kept", "2.2.12"),
            _server("slowlog|reset", 2, _ok, "Forget slow commands: none are kept", "2.2.12"),
        ),
    ),
    container(
        "latency",
        summary="Commands about latency events, which are not kept",
        group="server",
        subcommands=(
            _server("latency|latest", 2, _nothing, "List events: none are kept", "2.8.13"),
            _server("latency|reset", -2, _zero, "Forget events: none are kept", "2.8.13"),
        ),
    ),
    container(
        "module",
        summary="Commands about modules, of which there are none",
        group="server",
        subcommands=(_server("module|list", 2, _nothing, "List modules: there are none", "4.0.0"),),
    ),
)
