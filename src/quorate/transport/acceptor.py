# SPDX-License-Identifier: GPL-3.0-or-later
"""Incoming links: peers that dialled us, handed over by the listener once it saw the magic.

We hear their frames here and answer on our own link to them; the only thing ever written on an
incoming link is the greeting. Invariants: no frame is delivered before the greetings agreed; one
link per peer URL, the newest, for a peer dials again only when it gave up the one before, which may
look alive to us (half-open); none of another process than our own link to that URL leads to, while
that is up; a fault in the bytes ends the connection, and nothing of the piece
that holds the fault is delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from quorate.core.values.messages import Frame, Greeting
from quorate.errors import PeerProtocolError
from quorate.transport.journal import Journal
from quorate.transport.links import HANDSHAKE_S
from quorate.transport.sockets import tune
from quorate.wire.frames import FrameParser, GreetingParser, encode_greeting


class Acceptor:
    """The incoming links of a node. All methods belong to the event loop's thread.

    `judge` is given a stranger's greeting and returns ours, with `refusal` set if we refuse.
    `on_frames` gets a peer's frames in order. `on_accepted` is told the URL of each new link's
    peer (`PeerLinks.hurry` is what it is for).
    """

    def __init__(
        self,
        *,
        judge: Callable[[Greeting], Greeting],
        on_frames: Callable[[str, list[Frame]], None],
        on_accepted: Callable[[str], None],
        journal: Journal,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self.judge: Final = judge
        self.on_frames: Final = on_frames
        self.on_accepted: Final = on_accepted
        self.journal: Final = journal
        self.handshake_s: Final = handshake_s
        self._connections: set[PeerConnection] = set()
        self._by_url: dict[str, PeerConnection] = {}

    def connection(self) -> PeerConnection:
        """A protocol for one incoming connection: the factory to give to a listener."""
        return PeerConnection(self)

    def close(self) -> None:
        """End all incoming links."""
        for connection in list(self._connections):
            connection.abort()

    # --- for PeerConnection --------------------------------------------------------------------

    def add(self, connection: PeerConnection) -> None:
        """Know a connection, from its beginning."""
        self._connections.add(connection)

    def accept(self, connection: PeerConnection, url: str) -> None:
        """Make it the link of `url`, in place of an older one."""
        older = self._by_url.get(url)
        self._by_url[url] = connection
        if older is not None:
            older.abort()
        self.journal.agreed(url)
        self.on_accepted(url)

    def keep_only(self, url: str, process: int) -> None:
        """Our own link to `url` came up, and leads to `process`: end a link of any other."""
        connection = self._by_url.get(url)
        if connection is not None and connection.process != process:
            connection.abort()

    def forget(self, connection: PeerConnection, url: str) -> None:
        """Drop a connection that ended."""
        self._connections.discard(connection)
        if self._by_url.get(url) is connection:
            del self._by_url[url]


class PeerConnection(asyncio.Protocol):
    """One incoming connection. Needs nothing read before: the magic is the first thing it is fed.

    To hand a connection over: `transport.set_protocol(p); p.connection_made(transport);
    p.data_received(bytes_read_so_far)`.
    """

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._greeting = GreetingParser()
        self._frames = FrameParser()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._url = ""
        """The peer's, once accepted."""
        self.process = 0
        """The peer's, once accepted."""
        self._is_over = False

    def abort(self) -> None:
        """End it now; nothing more of it is delivered."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        tune(transport)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._acceptor.handshake_s, self.abort)
        self._acceptor.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        journal = self._acceptor.journal
        try:
            if not self._url:
                data = self._greet(data)
            journal.bytes_received += len(data)
            frames = self._frames.feed(data)
        except PeerProtocolError as error:
            journal.broke_protocol(self._url or self._host(), error)
            self.abort()
            return
        if frames:
            journal.frames_received += len(frames)
            self._acceptor.on_frames(self._url, frames)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        self._is_over = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._acceptor.forget(self, self._url)

    def _greet(self, data: bytes) -> bytes:
        """What came behind the greeting; nothing before it is whole and we agreed."""
        theirs = self._greeting.feed(data)
        return self._greeting.rest if theirs is not None and self._agree(theirs) else b""

    def _agree(self, theirs: Greeting) -> bool:
        """Answer the greeting; whether the peer may go on."""
        assert self._transport is not None
        assert self._deadline is not None
        mine = self._acceptor.judge(theirs)
        self._transport.write(encode_greeting(mine))
        if mine.refusal:
            # The deadline stays, for a peer that does not even read its refusal.
            self._is_over = True
            self._transport.close()
            self._acceptor.journal.refused(theirs.url or self._host(), mine.refusal, by="us")
            return False
        self._deadline.cancel()
        self._url, self.process = theirs.url, theirs.process
        self._acceptor.accept(self, self._url)
        return True

    def _host(self) -> str:
        """Where a peer without a URL is; its port changes with every try and tells nothing."""
        assert self._transport is not None
        peername: tuple[str | int, ...] | None = self._transport.get_extra_info("peername")
        return str(peername[0]) if peername else "unknown"
