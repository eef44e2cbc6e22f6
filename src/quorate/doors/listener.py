# SPDX-License-Identifier: GPL-3.0-or-later
"""One port for everything: the first bytes of a connection decide who it talks to.

Invariants: a connection is handed over exactly once, with every byte it has sent, and from then on
its transport's protocol is the door's own; nothing is answered before that, so a stranger learns
nothing. The number of open connections is read off the transports themselves and not kept by
counting up and down: no protocol, however it ends, can make it drift.

A peer that stops reading is the kernel's to end (TCP_USER_TIMEOUT), for all doors alike; doors only
bound what they keep for it.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable
from typing import Final, cast

from quorate.wire.frames import MAGIC

UNDECIDED_SECONDS: Final = 10.0
STALL_SECONDS: Final = 60
"""How long bytes sent to a client may stay unread."""
_SWEEP_SECONDS: Final = 2.0
_TLS_HANDSHAKE: Final = 0x16
_TARGETS: Final = (b"/", b"*", b"http://", b"https://")
# GET is the one word that is both an HTTP method and a Redis command. The others are HTTP whatever
# follows them; PRI is how HTTP/2 begins, which the HTTP door refuses.
_METHODS: Final = tuple(
    method + b" " for method in b"HEAD PUT DELETE POST OPTIONS PATCH TRACE CONNECT PRI".split()
)

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Speech(enum.Enum):
    """What a connection's first bytes are the beginning of."""

    HTTP = enum.auto()
    RESP = enum.auto()
    PEER = enum.auto()
    TLS = enum.auto()


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
    ) -> None:
        self._factories = {Speech.HTTP: http, Speech.RESP: resp, Speech.PEER: peer}
        self._connections_max = connections_max
        self._open: dict[asyncio.Transport, None] = {}
        self._undecided: dict[asyncio.Transport, float] = {}
        """Deadlines of connections that have not said what they are, in order."""
        self._sweeping: asyncio.TimerHandle | None = None
        self.accepted = 0
        self.refused = 0
        """Connections closed at once because there were `connections_max`."""

    def __call__(self) -> asyncio.Protocol:
        return _Newcomer(self)

    @property
    def connections(self) -> int:
        """Connections open now."""
        self._forget_closed()
        return len(self._open)

    def close(self) -> None:
        """Close every connection once what was written to it is sent."""
        for transport in self._open:
            transport.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def admit(self, transport: asyncio.Transport) -> bool:
        """Take a new connection in, unless there are too many."""
        if len(self._open) >= self._connections_max and self.connections >= self._connections_max:
            self.refused += 1
            return False
        self.accepted += 1
        loop = asyncio.get_running_loop()
        self._open[transport] = None
        self._undecided[transport] = loop.time() + UNDECIDED_SECONDS
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep)
        _tune(transport)
        return True

    def decided(self, transport: asyncio.Transport, speech: Speech) -> asyncio.Protocol | None:
        """The protocol that takes the connection over; None if nobody here speaks that."""
        self._undecided.pop(transport, None)
        factory = self._factories.get(speech)
        # TLS: nobody yet. Its place is here: start_tls, then recognise what it carries.
        return cast(asyncio.Protocol, factory()) if factory is not None else None

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for transport, deadline in list(self._undecided.items()):
            if deadline > now:
                break
            del self._undecided[transport]
            transport.abort()
        self._forget_closed()
        again = bool(self._open)
        self._sweeping = loop.call_later(_SWEEP_SECONDS, self._sweep) if again else None

    def _forget_closed(self) -> None:
        for transport in [each for each in self._open if _is_gone(each)]:
            del self._open[transport]
            self._undecided.pop(transport, None)


def _is_gone(transport: asyncio.Transport) -> bool:
    # A closing transport with bytes to send still has its file descriptor.
    return transport.is_closing() and transport.get_write_buffer_size() == 0


def _tune(transport: asyncio.Transport) -> None:
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)


class _Newcomer(asyncio.Protocol):
    """A connection that has not said what it speaks."""

    __slots__ = ("_head", "_listener", "_transport")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = cast(asyncio.Transport, transport)
        if self._listener.admit(connection):
            self._transport = connection
            return
        connection.write(b"-ERR max number of clients reached\r\n")
        connection.close()

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        self._head += data
        speech = recognise(self._head)
        if speech is None:
            return
        transport, self._transport = self._transport, None
        protocol = self._listener.decided(transport, speech)
        if protocol is None:
            transport.abort()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._head)
