# SPDX-License-Identifier: GPL-3.0-or-later
"""One port for everything: the first bytes of a connection decide who it talks to.

Invariants: a connection is handed over exactly once, with every byte it has sent, and from then on
its transport's protocol is the door's own; nothing is answered before that, so a stranger learns
nothing. Clients never lock peers out (a peer's answers travel on connections that it opens to us),
nor peers clients: the maximum is for clients alone, peers are bounded by who takes them over
(`host.acceptor`), and a connection that has not said what it speaks gives way to a newer one, as
does one on which nobody logged in (`guests`). The
number of open connections is read off the transports themselves and not kept by counting up and
down: no protocol, however it ends, can make it drift.

A peer that stops reading is the kernel's to end (TCP_USER_TIMEOUT), for all doors alike; doors only
bound what they keep for it.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from quorate.doors.guests import Guests
from quorate.doors.handshakes import Handshakes
from quorate.security.handshake import Handshake
from quorate.wire.frames import MAGIC

UNDECIDED_SECONDS: Final = 10.0
RESERVE: Final = 64
"""Connections above the clients' maximum, for those that may become a peer. With fewer free, the
undecided one that has waited longest is closed for a new one."""
STALL_SECONDS: Final = 60
"""How long bytes sent to a client may stay unread."""
HELLO_BYTES_MAX: Final = (16 << 10) + 5
"""Of a connection that waits for its handshake: one record of TLS, as much as other strangers may
say. As many can wait as there may be connections, and a client's first message has a tenth of it.
"""
_SWEEP_SECONDS: Final = 2.0
_TLS_HANDSHAKE: Final = 0x16
_TARGETS: Final = (b"/", b"http://", b"https://")
# GET is the one word that is both an HTTP method and a Redis command, and `GET *` asks Redis for a
# key: only OPTIONS has that target (RFC 9112, 3.2.4). The others are HTTP whatever follows; PRI
# is how HTTP/2 begins, which the HTTP door refuses.
_METHODS: Final = tuple(
    method + b" " for method in b"HEAD PUT DELETE POST OPTIONS PATCH TRACE CONNECT PRI".split()
)


class Speaker(Protocol):
    """An asyncio.Protocol in all but its base class, which a compiled class cannot have."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection over."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that it ended."""

    def data_received(self, data: bytes) -> None:
        """Take bytes: at first all those that came before the door was known."""

    def eof_received(self) -> bool | None:
        """Hear that the client sends no more; whether to keep the connection for answers."""

    def pause_writing(self) -> None:
        """Hear that the client reads too slowly."""

    def resume_writing(self) -> None:
        """Hear that it has caught up."""


ProtocolFactory = Callable[[], Speaker]


class Speech(enum.Enum):
    """What a connection's first bytes are the beginning of."""

    HTTP = enum.auto()
    RESP = enum.auto()
    PEER = enum.auto()
    TLS = enum.auto()


_PROBLEM: Final = (
    b'{"type":"urn:quorate:overloaded","title":"Overloaded","status":503,'
    b'"detail":"too many clients are connected","code":"overloaded","outcome":"not_applied"}'
)
_TOO_MANY: Final = {
    Speech.RESP: b"-ERR max number of clients reached\r\n",
    Speech.HTTP: b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Cache-Control: no-store\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_PROBLEM), _PROBLEM),
}

_NOT_INSIDE: Final = (
    b'{"type":"urn:quorate:tls_required","title":"TLS required","status":400,'
    b'"detail":"this port takes TLS alone: use https://","code":"tls_required",'
    b'"outcome":"not_applied"}'
)
_PLAIN_REFUSED: Final = {
    Speech.RESP: b"-ERR this port takes TLS alone: use rediss://, or redis-cli --tls\r\n",
    Speech.HTTP: b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n"
    b"Cache-Control: no-store\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_NOT_INSIDE), _NOT_INSIDE),
}


def recognise(head: bytes) -> Speech | None:
    """What begins with `head`, None while more bytes are needed; never more than 12."""
    if not head or _may_become(head, (MAGIC,)):
        return None
    if head.startswith(MAGIC):
        return Speech.PEER
    if head[0] == _TLS_HANDSHAKE:
        return Speech.TLS
    if head.startswith(b"GET "):
        target = head[4:]
        if not target or _may_become(target, _TARGETS):
            return None
        return Speech.HTTP if target.startswith(_TARGETS) else Speech.RESP
    if head.startswith(_METHODS):
        return Speech.HTTP
    return None if _may_become(head, (b"GET ", *_METHODS)) else Speech.RESP


def _may_become(head: bytes, words: tuple[bytes, ...]) -> bool:
    return any(len(head) < len(word) and word.startswith(head) for word in words)


class Listener:
    """The protocol factory of the port: pass it to `loop.create_server`."""

    def __init__(
        self,
        *,
        http: ProtocolFactory,
        resp: ProtocolFactory,
        peer: ProtocolFactory,
        connections_max: int,
        guests: Guests | None = None,
        handshakes: Handshakes | None = None,
        is_plain_refused: bool = False,
        on_tls_refused: Callable[[str], None] | None = None,
    ) -> None:
        """`on_tls_refused` is told the address of who begins TLS where nobody speaks it."""
        self._factories = {Speech.HTTP: http, Speech.RESP: resp, Speech.PEER: peer}
        self._clients_max = connections_max
        self._guests = Guests() if guests is None else guests
        self.handshakes: Final = handshakes
        """None: nobody speaks TLS here."""
        self._is_plain_refused = is_plain_refused
        self._on_tls_refused = on_tls_refused
        self._undecided: dict[asyncio.Transport, float] = {}
        """Deadlines of connections that have not said what they are, in order."""
        # By the TCP transport, which knows best that it is gone; what doors speak through beside.
        self._clients: dict[asyncio.Transport, asyncio.Transport] = {}
        self._peers: dict[asyncio.Transport, asyncio.Transport] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self.accepted = 0
        self.refused = 0
        """Connections closed for want of room."""
        self.refused_plain = 0
        """Clients' that were not inside TLS."""
        self.refused_tls = 0
        """Of those that began TLS where nobody speaks it, clients' or nodes'."""

    def __call__(self) -> asyncio.Protocol:
        return _Newcomer(self)

    @property
    def connections(self) -> int:
        """Connections open now."""
        self._forget_closed()
        return self._count()

    def close(self) -> None:
        """Close every connection once what was written to it is sent."""
        if self.handshakes is not None:
            self.handshakes.close()
        for transport in (*self._undecided, *self._clients.values(), *self._peers.values()):
            transport.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def admit(self, transport: asyncio.Transport) -> None:
        """Take a new connection in, if need be in place of one that is undecided."""
        self._make_room()
        self.accepted += 1
        loop = asyncio.get_running_loop()
        self._undecided[transport] = loop.time() + UNDECIDED_SECONDS
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep)
        _tune(transport)

    def is_inside(self, raw: asyncio.Transport) -> bool:
        """A connection goes on inside TLS: it has its time anew. False if it gave way."""
        if self._undecided.pop(raw, None) is None:
            return False
        self._undecided[raw] = asyncio.get_running_loop().time() + UNDECIDED_SECONDS
        return True

    def decided(
        self, raw: asyncio.Transport, transport: asyncio.Transport, speech: Speech
    ) -> asyncio.Protocol | None:
        """The protocol that takes the connection over, over `transport`; None if nobody here
        speaks that, it has to be inside TLS, or there are too many clients, which then were told.
        """
        # Gone already if it gave way, and its last bytes were still on their way here.
        if self._undecided.pop(raw, None) is None:
            return None
        factory = self._factories.get(speech)
        if factory is None:
            if transport is raw:
                self._refuse_tls(raw)
            return None
        if speech is Speech.PEER:
            self._peers[raw] = transport
        elif self._is_plain_refused and transport is raw:
            self.refused_plain += 1
            transport.write(_PLAIN_REFUSED[speech])
            transport.close()
            return None
        elif self._has_room_for_client():
            self._clients[raw] = transport
        else:
            self.refused += 1
            transport.write(_TOO_MANY[speech])
            transport.close()
            return None
        return cast(asyncio.Protocol, factory())

    def _refuse_tls(self, raw: asyncio.Transport) -> None:
        self.refused_tls += 1
        if self._on_tls_refused is not None:
            peername = raw.get_extra_info("peername")
            self._on_tls_refused(str(peername[0]) if peername else "")

    def _make_room(self) -> None:
        total_max = self._clients_max + RESERVE
        if len(self._undecided) + len(self._clients) >= total_max:
            self._forget_closed()
        if len(self._undecided) + len(self._clients) >= total_max:
            # There is one: clients alone never have the reserve.
            oldest = next(iter(self._undecided))
            del self._undecided[oldest]
            self.refused += 1
            oldest.abort()

    def _has_room_for_client(self) -> bool:
        if len(self._clients) < self._clients_max:
            return True
        guest = self._guests.next_to_leave()
        if guest is None:
            self._forget_closed()
        for raw in [raw for raw, each in self._clients.items() if each is guest]:
            del self._clients[raw]
            self.refused += 1
            raw.abort()
        return len(self._clients) < self._clients_max

    def _count(self) -> int:
        return len(self._undecided) + len(self._clients) + len(self._peers)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        try:
            for transport, deadline in list(self._undecided.items()):
                if deadline > now:
                    break
                del self._undecided[transport]
                transport.abort()
        finally:
            # Also if one raised, which is the loop's to report.
            again = self.connections > 0
            self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep) if again else None

    def _forget_closed(self) -> None:
        kinds: tuple[dict[asyncio.Transport, Any], ...] = (
            self._undecided,
            self._clients,
            self._peers,
        )
        for kind in kinds:
            for transport in [each for each in kind if _is_gone(each)]:
                del kind[transport]
        self._guests.forget(_is_gone)


def _is_gone(transport: asyncio.BaseTransport) -> bool:
    # A closing transport with bytes to send still has its file descriptor.
    connection = cast(asyncio.Transport, transport)
    return connection.is_closing() and connection.get_write_buffer_size() == 0


def _tune(transport: asyncio.Transport) -> None:
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)


class _Newcomer(asyncio.Protocol):
    """A connection that has not said what it speaks."""

    __slots__ = ("_head", "_is_shaking", "_listener", "_raw", "_transport")

    def __init__(self, listener: Listener, raw: asyncio.Transport | None = None) -> None:
        """`raw`: the transport below TLS, of a connection that is inside already."""
        self._listener = listener
        self._head = b""
        self._raw = raw
        self._transport: asyncio.Transport | None = None
        self._is_shaking = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._raw is None:
            self._raw = self._transport
            self._listener.admit(self._transport)

    def data_received(self, data: bytes) -> None:
        transport, raw = self._transport, self._raw
        if transport is None or raw is None:
            return
        self._head += data
        if self._is_shaking:
            self._is_hello(transport)
            return
        speech = recognise(self._head)
        if speech is None:
            return
        handshakes = self._listener.handshakes
        if speech is Speech.TLS and transport is raw and handshakes is not None:
            if self._is_hello(transport):
                self._is_shaking = True
                handshakes.begin(raw, self._taken, self._inside)
            return
        self._transport = None
        protocol = self._listener.decided(raw, transport, speech)
        if protocol is None:
            if not transport.is_closing():
                transport.abort()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._head)

    def connection_lost(self, _: Exception | None) -> None:
        handshakes = self._listener.handshakes
        if self._is_shaking and handshakes is not None and self._raw is not None:
            handshakes.forget(self._raw)

    def _is_hello(self, transport: asyncio.Transport) -> bool:
        """Whether it is no more than a first message, with which whoever waits for its turn has
        said enough. The connection is ended if not."""
        if len(self._head) > HELLO_BYTES_MAX:
            self._head = b""
            transport.abort()
            return False
        return True

    def _taken(self) -> bytes:
        return self._head

    def _inside(self, handshake: Handshake) -> None:
        assert self._raw is not None
        if self._listener.is_inside(self._raw):
            handshake.give(_Newcomer(self._listener, self._raw))
        else:
            self._raw.abort()
