# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands about the connection itself: PING, SELECT, CLIENT and their kin."""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from quorate.doors.access import Role
from quorate.doors.flow import Input
from quorate.doors.limits import no_room_for_reply
from quorate.doors.redis.command import Access, Command, container, integer_argument, quote
from quorate.doors.redis.plans import CommandPlan, answers
from quorate.doors.redis.session import Collecting, CommandError, Session
from quorate.wire import resp

REDIS_VERSION: Final = "7.2.0"
"""The Redis whose commands and texts these are; clients decide by it what to send."""
_DESCRIBE_STEPS: Final = 800
"""What a line of CLIENT LIST costs (`work`)."""
_NAME: Final = re.compile(rb"[!-~]{0,256}")


def _ping(session: Session, args: list[bytes]) -> None:
    session.answer(_pong(args))


def _pong(args: list[bytes]) -> bytes:
    if len(args) > 2:
        raise CommandError("ERR wrong number of arguments for 'ping' command")
    return b"+PONG\r\n" if len(args) == 1 else resp.bulk(args[1])


def _plan_ping(_session: Session, args: list[bytes]) -> CommandPlan:
    return answers(_pong(args))


def _echo(session: Session, args: list[bytes]) -> None:
    session.answer(resp.bulk(args[1]))


def _plan_echo(_session: Session, args: list[bytes]) -> CommandPlan:
    return answers(resp.bulk(args[1]))


def _ok(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.OK)


def _quit(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.OK)
    session.flow.go(Input.LEAVE)


def _select(session: Session, args: list[bytes]) -> None:
    if integer_argument(args[1]):
        raise CommandError("ERR DB index is out of range")
    session.answer(resp.OK)


def checked_name(name: bytes, *, what: str) -> bytes:
    """A name that a client gives itself. CommandError."""
    if _NAME.fullmatch(name) is None:
        raise CommandError(f"ERR {what} cannot contain spaces, newlines or special characters.")
    return name


def _client_id(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.integer(session.id))


def _client_getname(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.bulk(session.name) if session.name else session.null)


def _client_setname(session: Session, args: list[bytes]) -> None:
    session.name = checked_name(args[2], what="Client names")
    session.answer(resp.OK)


def _client_setinfo(session: Session, args: list[bytes]) -> None:
    option = args[2].lower()
    if option == b"lib-name":
        session.lib_name = checked_name(args[3], what="lib-name")
    elif option == b"lib-ver":
        session.lib_version = checked_name(args[3], what="lib-ver")
    else:
        raise CommandError(f"ERR Unrecognized option '{quote(args[2])}'")
    session.answer(resp.OK)


def _client_info(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.bulk(_describe(session).encode()))


def _client_list(session: Session, args: list[bytes]) -> None:
    sessions = session.door.sessions
    chosen = list(sessions.values())
    if len(args) > 3 and args[2].upper() == b"ID":
        ids = [integer_argument(argument) for argument in args[3:]]
        chosen = [sessions[id_] for id_ in ids if id_ in sessions]
    elif len(args) == 4 and args[2].upper() == b"TYPE":
        chosen = chosen if args[3].lower() == b"normal" else []
    elif len(args) > 2:
        raise CommandError("ERR syntax error")
    _Descriptions(session, chosen)


class _Descriptions(Collecting):
    """CLIENT LIST: some of ten thousand clients in each turn."""

    __slots__ = ("_at", "_chosen", "_lines")

    def __init__(self, session: Session, chosen: list[Session]) -> None:
        super().__init__(session)
        self._chosen = chosen
        self._at = 0
        self._lines: list[bytes] = []
        session.door.work.add(self)

    def work(self, steps: int) -> int:
        """Part of `Job`."""
        count = steps // _DESCRIBE_STEPS + 1
        lines = [_describe(each).encode() for each in self._chosen[self._at : self._at + count]]
        self._at += count
        self._lines += lines
        if not self.hold(sum(map(len, lines))):
            self.resolve_failed(no_room_for_reply())
        elif self._at < len(self._chosen):
            return 0
        else:
            self.resolve(resp.bulk(b"".join(self._lines)))
        return max(steps - _DESCRIBE_STEPS * len(lines), 1)


def _describe(session: Session) -> str:
    age = (session.store.wall_ms() - session.created_ms) // 1000
    block = session.block
    return (
        f"id={session.id} addr={session.peer} laddr={session.laddr}"
        f" name={session.name.decode()} age={max(age, 0)} flags={'N' if block is None else 'x'}"
        f" db=0 sub=0 psub=0 ssub=0 multi={-1 if block is None else len(block.lines)}"
        f" oll={session.queue.count} user={session.principal.name}"
        f" lib-name={session.lib_name.decode()} lib-ver={session.lib_version.decode()}"
        f" resp={session.protocol}\n"
    )


def _client_switch(session: Session, args: list[bytes]) -> None:
    # NO-EVICT and NO-TOUCH: nothing is ever evicted here, and touching keeps nothing alive.
    if args[2].upper() not in (b"ON", b"OFF"):
        raise CommandError("ERR syntax error")
    session.answer(resp.OK)


_anyone = partial(Command, group="connection", role=Role.STRANGER)
_user = partial(Command, group="connection", role=Role.USER)
_admin = partial(Command, group="connection", role=Role.ADMIN)

COMMANDS: Final = (
    _user("ping", -1, _ping, "Get PONG, or the argument, back", plan=_plan_ping),
    _user("echo", 2, _echo, "Get the argument back", plan=_plan_echo),
    _anyone("quit", -1, _quit, "Close the connection"),
    _user("select", 2, _select, "Choose the database, of which there is only 0"),
    _user("readonly", 1, _ok, "Accepted: any node serves any key", "3.0.0"),
    _user("readwrite", 1, _ok, "Accepted: any node serves any key", "3.0.0"),
    container(
        "client",
        summary="Commands about connections",
        group="connection",
        subcommands=(
            _user("client|id", 2, _client_id, "Get this connection's number", "5.0.0"),
            _user("client|getname", 2, _client_getname, "Get this connection's name", "2.6.9"),
            _user("client|setname", 3, _client_setname, "Name this connection", "2.6.9"),
            _user("client|setinfo", 4, _client_setinfo, "Tell the client's library", "7.2.0"),
            _user("client|info", 2, _client_info, "Describe this connection", "6.2.0"),
            _admin(
                "client|list",
                -2,
                _client_list,
                "Describe all connections",
                "2.4.0",
                access=Access.ALONE,
            ),
            _user("client|no-evict", 3, _client_switch, "Accepted, no effect", "7.0.0"),
            _user("client|no-touch", 3, _client_switch, "Accepted, no effect", "7.2.0"),
        ),
    ),
)
