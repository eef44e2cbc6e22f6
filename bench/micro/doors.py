# SPDX-License-Identifier: GPL-3.0-or-later
"""Each door alone: a client's bytes in, the bytes of the answer out, and a store that answers at
the end of the turn. What it costs is counted in instructions, which other work on the machine does
not change:

    PYTHONPATH=build/compiled PYTHONHASHSEED=0 valgrind --tool=callgrind \\
        --callgrind-out-file=http-get.4000 .venv/bin/python -m bench.micro.doors http-get 4000

An operation costs what 4,000 of them take beyond what 2,000 take, through 2,000; of that the loop
here and the store (`store`) are no part of the door.

Kinds: `store`, `http-get`, `http-put`, `resp-get` and `resp-set`, where there are no users; each of
these but the first also by a user that the connection is (a certificate's, or one that logged in at
Redis), `-by-roles` for every key or `-by-pattern` for some; and `http-get-by-token`, which is shown
with each request.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from itertools import repeat
from typing import Final, cast

from quorate.config import Config
from quorate.core.values.events import Event, Get, GetResult, PutResult, Result
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.doors.access import Principal
from quorate.doors.answered import Answered
from quorate.doors.http.fast import FastConnection
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.kv import Answers
from quorate.doors.http.lane import FastLane
from quorate.doors.limits import ByteBudget
from quorate.doors.principals import Answer, Principals
from quorate.doors.redis.connection import RespConnection
from quorate.doors.redis.session import RespDoor
from quorate.host.store import Sink, Store
from quorate.security.tokens import Claims, issue
from quorate.security.users import User, Users
from quorate.wire.resp import array, bulk

_VALUE: Final = b"v" * 64
_WALL_MS: Final = 1_700_000_000_000
_VERSION: Final = pack_version(_WALL_MS << 16, 1)
_KEYS: Final = tuple(b"key:%012d" % number for number in range(100))

_ROLES: Final = ("read", "write")
_USERS: Final = Users(
    {
        "roles": User(name="roles", roles=_ROLES, certificate="roles"),
        "pattern": User(name="pattern", roles=_ROLES, keys=("key:*",), certificate="pattern"),
    },
    token_key=bytes(32),
)
_CLUSTER: Final = "quorate"
_PEER: Final = ("127.0.0.1", 40_000)

_HTTPX: Final = (
    b"Host: 127.0.0.1:8000\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
    b"Connection: keep-alive\r\nUser-Agent: python-httpx/0.28.1\r\n"
)
"""What httpx sends with each request."""
_HTTPX_PUT: Final = b"%bContent-Length: %d\r\nContent-Type: application/octet-stream\r\n" % (
    _HTTPX,
    len(_VALUE),
)


_TOKEN: Final = (
    b"Bearer "
    + issue(Claims("roles", _WALL_MS + 3_600_000, _CLUSTER), key=_USERS.token_key).encode()
)


def _requests(kind: str, who: str) -> list[bytes]:
    if kind == "http-get":
        shown = b"Authorization: %b\r\n" % _TOKEN if who == "token" else b""
        line = b"GET /kv?key=%b HTTP/1.1\r\n%b%b\r\n"
        return [line % (key, _HTTPX, shown) for key in _KEYS]
    if kind == "http-put":
        line = b"PUT /kv?key=%b HTTP/1.1\r\n%b\r\n%b"
        return [line % (key, _HTTPX_PUT, _VALUE) for key in _KEYS]
    if kind == "resp-get":
        return [array([bulk(b"GET"), bulk(key)]) for key in _KEYS]
    if kind == "resp-set":
        return [array([bulk(b"SET"), bulk(key), bulk(_VALUE)]) for key in _KEYS]
    return list(_KEYS)


class _Store:
    """Answers each request at the end of its turn, with results made before. Doors call nothing of
    it that is interpreted: the real one is compiled. Its clock stands, as the driver's does within
    a turn, where all answers are made; what the driver pays for that is one look at the system's
    clock for each turn."""

    def __init__(self) -> None:
        self.config = Config()
        self._events: list[Event] = []
        self._sinks: list[Sink] = []
        self._read = GetResult(Record(_VERSION, _VALUE), answers=2)
        self._written = PutResult(_VERSION, acks=2, replicas=3)
        self.submit = self._events.append
        self.flush_soon = self._sinks.append
        self.wall_ms = repeat(_WALL_MS).__next__
        self.topology = repeat(None).__next__

    def turn(self) -> None:
        """Answer, and have the answers written."""
        (event,) = self._events
        event.waiter.done(self._read if type(event) is Get else self._written)  # type: ignore[union-attr]
        self._events.clear()
        for sink in self._sinks:
            sink.flush()
        self._sinks.clear()


class _Transport:
    """Keeps the answer that is written last. The other end shows the certificate of `who`."""

    def __init__(self, who: str) -> None:
        self._who = who
        self.written: deque[bytes] = deque(maxlen=1)
        self.write = self.written.append
        self.is_closing = repeat(False).__next__

    def get_extra_info(self, name: str) -> object:
        if name == "peercert" and self._who:
            return {"subject": ((("commonName", self._who),),)}
        return _PEER if name == "peername" else None


class _NoDoor:
    """Asks for the key that comes, and answers with what is written at other doors too."""

    def __init__(self, store: _Store, transport: _Transport) -> None:
        self._store = store
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._store.submit(Get(self, data))

    def done(self, result: Result) -> None:
        del result
        self._store.flush_soon(self)

    def flush(self) -> None:
        self._transport.write(b"+OK\r\n")

    def abort(self) -> None:
        """Nothing is left to drop."""


class _Applicant:
    """Is told who it is."""

    is_gone = False

    def logged_in(self, answer: Answer) -> None:
        assert isinstance(answer, Principal), "the token is good"


def _principals(store: Store, who: str) -> Principals:
    principals = Principals(
        asyncio.get_running_loop(),
        cluster=_CLUSTER,
        wall_ms=store.wall_ms,
        users=_USERS if who else None,
    )
    if who == "token":
        principals.apply(_TOKEN, _PEER[0], _Applicant())
    return principals


def _http(store: Store, transport: _Transport, who: str) -> FastConnection:
    principals = _principals(store, who)
    lane = FastLane(
        store,
        Answers(store),
        full_service=asyncio.Protocol,
        hosts=HostPolicy(principals, is_on_loopback=True, own_url="http://127.0.0.1:8000"),
        principals=principals,
        bodies=ByteBudget(1 << 30),
        answered=Answered("http"),
        replies=ByteBudget(1 << 30),
    )
    connection = FastConnection(lane)
    connection.connection_made(cast(asyncio.Transport, transport))
    return connection


def _resp(store: Store, transport: _Transport, who: str) -> RespConnection:
    principals = _principals(store, who)
    door = RespDoor(store, ByteBudget(1 << 30), ByteBudget(1 << 30), principals=principals)
    connection = RespConnection(store, door)
    connection.connection_made(cast(asyncio.Transport, transport))
    return connection


async def count(kind: str, operations: int) -> bytes:
    """Have so many operations done, each in a turn of its own. Returns the last answer."""
    kind, _, who = kind.partition("-by-")
    store, transport = _Store(), _Transport(who)
    door: FastConnection | RespConnection | _NoDoor
    if kind.startswith("http"):
        door = _http(cast(Store, store), transport, who)
    elif kind.startswith("resp"):
        door = _resp(cast(Store, store), transport, who)
    else:
        door = _NoDoor(store, transport)
    requests = _requests(kind, who)
    take, turn = door.data_received, store.turn
    for number in range(operations):
        take(requests[number % len(requests)])
        turn()
    return transport.written[0]


if __name__ == "__main__":
    print(asyncio.run(count(sys.argv[1], int(sys.argv[2]))).decode())
