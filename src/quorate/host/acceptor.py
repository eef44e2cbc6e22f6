# SPDX-License-Identifier: GPL-3.0-or-later
"""Incoming links: peers that dialled us, handed over by the port once it saw the magic.

We hear their frames here and answer on our own link to them; the only thing ever written on an
incoming link is the greeting. Invariants: no frame is delivered before the greetings agreed; one
link per peer, the newest, for a peer dials again only when it gave up the one before, which may
look alive to us (half-open); none of another process than our own link to that peer leads to, while
that is up; a fault in the bytes ends the connection, and nothing of the piece that holds the fault
is delivered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.values.messages import Frame, Greeting
from quorate.errors import PeerProtocolError
from quorate.host.journal import LinkJournal
from quorate.host.links import HANDSHAKE_MS
from quorate.host.system import Channel, System, Timer
from quorate.wire.frames import FrameParser, GreetingParser, encode_greeting


class Acceptor:
    """The incoming links of a node.

    `judge` is given a stranger's greeting and returns ours, with `refusal` set if we refuse.
    `on_frames` gets a peer's id and frames, in order. `on_accepted` is given the greeting of each
    new link's peer.
    """

    def __init__(
        self,
        system: System,
        *,
        judge: Callable[[Greeting], Greeting],
        on_frames: Callable[[int, list[Frame]], None],
        on_accepted: Callable[[Greeting], None],
        journal: LinkJournal,
    ) -> None:
        self.system: Final = system
        self.judge: Final = judge
        self.on_frames: Final = on_frames
        self.on_accepted: Final = on_accepted
        self.journal: Final = journal
        self._connections: dict[Incoming, None] = {}
        self._by_peer: dict[int, Incoming] = {}

    def connection(self) -> Incoming:
        """One incoming connection: the factory to give to whoever listens."""
        return Incoming(self)

    def close(self) -> None:
        """End all incoming links."""
        for connection in list(self._connections):
            connection.abort()

    # --- for Incoming --------------------------------------------------------------------------

    def add(self, connection: Incoming) -> None:
        """Know a connection, from its beginning."""
        self._connections[connection] = None

    def accept(self, connection: Incoming, theirs: Greeting) -> None:
        """Make it the link of its peer, in place of an older one."""
        for each in self._of(theirs):
            each.abort()
        self._by_peer[theirs.node_id] = connection
        self.journal.agreed(theirs.url)
        self.on_accepted(theirs)

    def keep_only(self, theirs: Greeting) -> None:
        """Our own link to this peer came up: end those of other processes with its URL or id."""
        for each in self._of(theirs):
            if each.process != theirs.process:
                each.abort()

    def _of(self, theirs: Greeting) -> list[Incoming]:
        """The links of who has this id or this URL."""
        links = self._by_peer.values()
        return [each for each in links if theirs.node_id == each.peer or theirs.url == each.url]

    def forget(self, connection: Incoming) -> None:
        """Drop a connection that ended."""
        self._connections.pop(connection, None)
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]


class Incoming:
    """One incoming connection. (`system.Connection`)

    Needs nothing read before: the magic is the first thing it is fed. To hand a connection over,
    call `connection_made(channel)`, then `data_received(bytes_read_so_far)`.
    """

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._greeting = GreetingParser()
        self._frames = FrameParser()
        self._channel: Channel | None = None
        self._deadline: Timer | None = None
        self.peer = 0
        """The peer's id, once accepted; so are these:"""
        self.url = ""
        self.process = 0
        self._is_over = False

    def abort(self) -> None:
        """End it now; nothing more of it is delivered."""
        self._is_over = True
        if self._channel is not None:
            self._channel.abort()

    def connection_made(self, channel: Channel) -> None:
        self._channel = channel
        self._acceptor.system.tune(channel)
        self._deadline = self._acceptor.system.later(HANDSHAKE_MS, self.abort)
        self._acceptor.add(self)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        journal = self._acceptor.journal
        try:
            if not self.peer:
                data = self._greet(data)
            journal.bytes_received += len(data)
            frames = self._frames.feed(data)
        except PeerProtocolError as error:
            journal.broke_protocol(self.url or self._host(), error)
            self.abort()
            return
        if frames:
            journal.frames_received += len(frames)
            self._acceptor.on_frames(self.peer, frames)

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, _: Exception | None) -> None:
        self._is_over = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._acceptor.forget(self)

    def pause_writing(self) -> None:
        """Nothing but a greeting is ever written."""

    def resume_writing(self) -> None:
        """Likewise."""

    def _greet(self, data: bytes) -> bytes:
        """What came behind the greeting; nothing before it is whole and we agreed."""
        theirs = self._greeting.feed(data)
        return self._greeting.rest if theirs is not None and self._agree(theirs) else b""

    def _agree(self, theirs: Greeting) -> bool:
        """Answer the greeting; whether the peer may go on."""
        assert self._channel is not None
        assert self._deadline is not None
        mine = self._acceptor.judge(theirs)
        self._channel.write(encode_greeting(mine))
        if mine.refusal:
            # The deadline stays, for a peer that does not even read its refusal.
            self._is_over = True
            self._channel.close()
            self._acceptor.journal.refused(theirs.url or self._host(), mine.refusal, by="us")
            return False
        self._deadline.cancel()
        self.peer, self.url, self.process = theirs.node_id, theirs.url, theirs.process
        self._acceptor.accept(self, theirs)
        return True

    def _host(self) -> str:
        """Where a peer without a URL is; its port changes with every try and tells nothing."""
        assert self._channel is not None
        peername: tuple[str | int, ...] | None = self._channel.get_extra_info("peername")
        return str(peername[0]) if peername else "unknown"
