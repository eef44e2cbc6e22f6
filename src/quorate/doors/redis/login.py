# SPDX-License-Identifier: GPL-3.0-or-later
"""Logging in: AUTH, HELLO, RESET; and what ACL tells of users, who are changed in their file alone.

A password takes a while to check, so AUTH and HELLO run alone, and what is pipelined behind them
waits. While no users are configured any password of `default` will do, as in Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from quorate.doors.access import ANYBODY, NOBODY, Principal, Role
from quorate.doors.flow import CLOSED
from quorate.doors.principals import Answer
from quorate.doors.redis.clients import REDIS_VERSION, checked_name
from quorate.doors.redis.command import Access, Command, container, quote
from quorate.doors.redis.session import CommandError, Pending, Session
from quorate.errors import Outcome, Unauthenticated
from quorate.security.users import User
from quorate.wire import resp

NO_PASSWORD: Final = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
WRONGPASS: Final = "WRONGPASS invalid username-password pair or user is disabled."
HELLO_FIRST: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto>"
    " AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol"
    " version at the same time"
)


class _Login(Pending):
    """Waits for the word on a password, and then answers what `succeed` makes."""

    __slots__ = ("_succeed",)

    def __init__(
        self, session: Session, name: bytes, password: bytes, succeed: Callable[[], bytes]
    ) -> None:
        super().__init__(session)
        self._succeed = succeed
        session.door.principals.log_in(name, password, session.source, self)

    @property
    def is_gone(self) -> bool:
        """Part of `Applicant`."""
        return self.session.flow.state is CLOSED

    def logged_in(self, answer: Answer) -> None:
        """Part of `Applicant`."""
        if isinstance(answer, Principal):
            _become(self.session, answer)
            self.resolve(self._succeed())
        elif isinstance(answer, Unauthenticated):
            self.outcome = Outcome.NOT_APPLIED.value
            self.resolve(resp.error(WRONGPASS))
        else:
            self.resolve_failed(answer)


def _become(session: Session, principal: Principal) -> None:
    session.principal = principal
    if session.flow.transport is not None:
        session.door.principals.guests.judge(session.flow.transport, principal)


def _log_in(session: Session, name: bytes, password: bytes, succeed: Callable[[], bytes]) -> None:
    if session.door.principals.asks:
        _Login(session, name, password, succeed)
        return
    if name != b"default" or not session.principal.name:
        session.door.principals.audit.login_refused(who="", source=session.source, door="redis")
        raise CommandError(WRONGPASS)
    session.answer(succeed())


def _auth(session: Session, args: list[bytes]) -> None:
    if len(args) > 3:
        raise CommandError("ERR syntax error")
    is_named = len(args) == 3
    if not is_named and not session.door.principals.asks and session.principal is not NOBODY:
        raise CommandError(NO_PASSWORD)
    _log_in(session, args[1] if is_named else b"default", args[-1], lambda: resp.OK)


def _hello(session: Session, args: list[bytes]) -> None:
    version = session.protocol
    if len(args) > 1:
        wanted = resp.parse_integer(args[1])
        if wanted is None:
            raise CommandError("ERR Protocol version is not an integer or out of range")
        if wanted not in (2, 3):
            raise CommandError("NOPROTO unsupported protocol version")
        version = wanted
    login, name = _hello_options(args[2:])

    def greet() -> bytes:
        # Nothing changes unless all of it is accepted.
        session.use_protocol(version)
        session.name = session.name if name is None else name
        return resp.encode(_greeting(session), version)

    if login is not None:
        _log_in(session, *login, greet)
    elif not session.principal.name:
        raise CommandError(HELLO_FIRST)
    else:
        session.answer(greet())


def _greeting(session: Session) -> dict[str, object]:
    return {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": session.protocol,
        "id": session.id,
        # Not "cluster": that would make clients route who were not asked to.
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }


def _hello_options(options: list[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    """User and password, and the client's name, as far as they are given."""
    login = name = None
    while options:
        word = options[0].upper()
        if word == b"AUTH" and len(options) > 2:
            login = options[1], options[2]
            options = options[3:]
            continue
        if word != b"SETNAME" or len(options) < 2:
            raise CommandError(f"ERR Syntax error in HELLO option '{quote(options[0])}'")
        name = checked_name(options[1], what="Client names")
        options = options[2:]
    return login, name


def _reset(session: Session, _args: list[bytes]) -> None:
    session.reset()
    transport = session.flow.transport
    if transport is not None:
        _become(session, session.door.principals.at(transport))
    session.answer(resp.simple("RESET"))


# --- ACL -----------------------------------------------------------------------------------------


def _whoami(session: Session, _args: list[bytes]) -> None:
    session.answer(resp.bulk(session.principal.name.encode()))


def _users(session: Session, _args: list[bytes]) -> None:
    session.answer_value(session.door.principals.user_names())


def _list(session: Session, _args: list[bytes]) -> None:
    principals = session.door.principals
    if not principals.asks:
        session.answer_value([f"user {ANYBODY.name} on nopass ~* &* +@all"])
        return
    found = [principals.user(name) for name in principals.user_names()]
    session.answer_value(
        [f"user {user.name} on {_keys(user)} {_commands(user)}" for user in found if user]
    )


def _getuser(session: Session, args: list[bytes]) -> None:
    principals, name = session.door.principals, quote(args[2])
    user = principals.user(name)
    if not principals.asks and name == ANYBODY.name:
        flags, commands, keys = ["on", "nopass"], "+@all", "~*"
    elif user is not None:
        flags, commands, keys = ["on"], _commands(user), _keys(user)
    else:
        session.answer(session.null)
        return
    session.answer_value(
        {
            "flags": flags,
            # The hashes are in the file, and nobody is shown them.
            "passwords": [],
            "commands": commands,
            "keys": keys,
            "channels": "",
            "selectors": [],
        }
    )


def _keys(user: User) -> str:
    """The keys of a user in the words of Redis's rules."""
    return "~*" if user.keys is None else " ".join(f"~{pattern}" for pattern in user.keys)


def _commands(user: User) -> str:
    """The roles of a user as categories of commands, which is what they are here."""
    return " ".join(["-@all", "+@user", *(f"+@{role}" for role in user.roles)])


_login = partial(Command, group="connection", role=Role.STRANGER, access=Access.ALONE)
_admin = partial(Command, group="server", role=Role.ADMIN)

COMMANDS: Final = (
    # Replies of commands before these must still be encoded as the old protocol has them.
    _login("hello", -1, _hello, "Choose the protocol version, and log in", "6.0.0"),
    _login("reset", 1, _reset, "Make the connection as new", "6.2.0"),
    _login("auth", -2, _auth, "Log in"),
)


def acl(cat: Command) -> Command:
    """The container of ACL's commands. `cat` knows the table that this is a row of."""
    return container(
        "acl",
        summary="Commands about users",
        group="server",
        subcommands=(
            Command(
                *("acl|whoami", 2, _whoami, "Get the user's name", "6.0.0"),
                group="server",
                role=Role.USER,
            ),
            cat,
            _admin("acl|list", 2, _list, "List users with their rights", "6.0.0"),
            _admin("acl|users", 2, _users, "List users", "6.0.0"),
            _admin("acl|getuser", 3, _getuser, "Get a user's rights", "6.0.0"),
        ),
    )
