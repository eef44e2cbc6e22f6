# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: the role that each command and each route asks for, who has which, and which
Host a browser may have come by.

The table of commands (`redis.table`) and the table of routes (`http.door`) state one role for
each entry: `GET k` and `GET /kv?key=k` ask for READ, `POST /join` for ADMIN. Whoever executes an
entry looks first whether the principal has its role. There is one principal today, ANYBODY, who has
all of them, so that nothing is refused; the look costs a set's membership, and no call.

A node on loopback is protected by nothing but the fact that strangers cannot connect. A web page
can, once its name is made to resolve to 127.0.0.1 (DNS rebinding); its Host header gives it away.
A node on a network is reached by names it does not know, so there every Host is taken.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from quorate.notation import is_loopback, split_url

_KNOWN_MAX: Final = 100
_PORT: Final = re.compile(r":[0-9]{0,5}\Z")


class Role(enum.StrEnum):
    """What an entry of a table asks of whoever uses it."""

    STRANGER = enum.auto()
    """Nothing: it is there for those who have yet to log in (AUTH, `/healthz`)."""
    USER = enum.auto()
    """To be somebody, whatever else they may (PING, `/nodes`)."""
    READ = enum.auto()
    WRITE = enum.auto()
    ADMIN = enum.auto()
    """To change or see the node itself (CONFIG, `/join`), or all data at once (FLUSHALL)."""
    PEER = enum.auto()
    """To be another node of the cluster (`/internal/replicate`)."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks."""

    name: str
    roles: frozenset[Role]


ANYBODY: Final = Principal("default", frozenset(Role))
"""Who every client is while no users are configured."""


class Hosts:
    """The names of one node."""

    __slots__ = ("_own", "known")

    def __init__(self, *, is_on_loopback: bool, own_url: str) -> None:
        self._own = split_url(own_url)[0] if is_on_loopback else None
        self.known: set[bytes] = set()
        """Hosts found welcome: clients say the same few with every request."""

    def welcome(self, host: bytes) -> bool:
        """Whether a request with this Host is for us."""
        if host in self.known:
            return True
        if self._own is not None:
            name = _PORT.sub("", host.decode("latin-1")).lower().strip("[]")
            if name != self._own and not is_loopback(name):
                return False
        if len(self.known) < _KNOWN_MAX:
            self.known.add(host)
        return True
