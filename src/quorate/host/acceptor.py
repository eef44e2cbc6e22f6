# SPDX-License-Identifier: GPL-3.0-or-later
"""Incoming links: peers that dialled us, handed over by the port once it saw the magic.

We hear their frames here and answer on our own link to them; the only thing ever written on an
incoming link is the greeting. Invariants: no frame is delivered before the greetings agreed; one
link per peer, the newest, for a peer dials again only when it gave up the one before, which may
look alive to us (half-open); none of another process than our own link to that peer leads to, while
that is up; a fault in the bytes ends the connection, and nothing of the piece that holds the fault
is delivered.

Whoever dials may be a stranger, until our own link reaches the very process at the URL that it
calls its own; then it is *proven*. Of the others there are at most `UNPROVEN_MAX`, of which few
from one address have yet to greet: the oldest gives way to the newest, for a true peer is proven
within moments. They may say no more at once than a greeting; a peer has nothing longer to say
before it hears us, on our own link to it. A frame that was begun must become whole in time, and all
that are begun are bounded together: beyond it the link with the most of them ends.

    state      waits for                       and then
    GREETING   the peer's greeting, 5 s        is STRANGER or PROVEN if both agree; or REFUSED
    STRANGER   frames of a greeting's length   is PROVEN once our own link reaches that process
    PROVEN     frames                          is ENDED with its connection
    REFUSED    the refusal to leave, the 5 s   is ENDED
    ENDED      the loss of the connection      is forgotten; nothing of it is delivered any more
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

import msgspec

from quorate.core.topology.greeting import ASKED, ITSELF
from quorate.core.values.messages import Frame, Greeting
from quorate.errors import PeerProtocolError
from quorate.host.journal import LinkJournal
from quorate.host.links import HANDSHAKE_MS
from quorate.host.system import Channel, Proof, System, Timer
from quorate.notation import one_source
from quorate.wire.frames import (
    FRAME_BYTES_MAX,
    GREETING_BYTES_MAX,
    FrameParser,
    GreetingParser,
    encode_greeting,
)

UNPROVEN_MAX: Final = 64
GREETING_MAX: Final = 8
"""Connections from one address that have yet to greet."""
BEGUN_BYTES_MAX: Final = 512 << 20
"""Of frames of all peers that are begun and not whole."""
FRAME_MS: Final = 30_000.0
"""How long a frame may take to be whole, once or twice over: it has 32 MiB at most."""


class IncomingState(enum.Enum):
    """Where an incoming link is in its life: see the table above."""

    GREETING = enum.auto()
    STRANGER = enum.auto()
    PROVEN = enum.auto()
    REFUSED = enum.auto()
    ENDED = enum.auto()


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
        self.begun_bytes_max = BEGUN_BYTES_MAX
        self.begun_bytes = 0
        """Of frames that are begun, over all connections."""
        self._connections: dict[Incoming, None] = {}
        self._unproven: dict[Incoming, None] = {}
        """Those that may be strangers', oldest first."""
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
        """Know a connection, from its beginning; one that is not proven may give way to it."""
        self._connections[connection] = None
        self._unproven[connection] = None
        source = connection.source
        silent = [each for each in self._unproven if each.is_silent and each.source == source]
        if len(silent) > GREETING_MAX:
            self._give_way(silent[0], "more connections of one address than may be silent")
        elif len(self._unproven) > UNPROVEN_MAX:
            oldest = next(iter(self._unproven))
            self._give_way(oldest, "more connections than may be strangers'")

    def _give_way(self, connection: Incoming, reason: str) -> None:
        self.journal.refused(connection.host, reason, by="us", address=connection.host)
        del self._unproven[connection]
        connection.abort()

    def accept(self, connection: Incoming, mine: Greeting, theirs: Greeting) -> None:
        """Make it the link of its peer, in place of an older one. `mine` is our answer."""
        for each in self._of(theirs):
            each.abort()
        self._by_peer[theirs.node_id] = connection
        if mine.reached:
            self._prove(connection)
        self.journal.agreed(theirs.url)
        self.on_accepted(theirs)

    def keep_only(self, theirs: Greeting) -> None:
        """Our own link to this peer came up: end those of other processes with its URL or id."""
        for each in self._of(theirs):
            if each.process != theirs.process:
                each.abort()
            else:
                self._prove(each)

    def hold(self, connection: Incoming, begun_bytes: int) -> None:
        """A connection holds so much of a frame that is not whole."""
        self.begun_bytes += begun_bytes - connection.begun_bytes
        connection.begun_bytes = begun_bytes
        if self.begun_bytes > self.begun_bytes_max:
            most = max(self._connections, key=_begun_bytes)
            error = PeerProtocolError("too much of frames that are not whole")
            self.journal.broke_protocol(most.url or most.host, error)
            most.abort()
            self.hold(most, 0)

    def _prove(self, connection: Incoming) -> None:
        if connection.state is IncomingState.STRANGER:
            self._unproven.pop(connection, None)
            connection.state = IncomingState.PROVEN
            connection.frames.bytes_max = FRAME_BYTES_MAX

    def _of(self, theirs: Greeting) -> list[Incoming]:
        """The links of who has this id or this URL."""
        links = self._by_peer.values()
        return [each for each in links if theirs.node_id == each.peer or theirs.url == each.url]

    def forget(self, connection: Incoming) -> None:
        """Drop a connection that ended."""
        self.hold(connection, 0)
        self._connections.pop(connection, None)
        self._unproven.pop(connection, None)
        if self._by_peer.get(connection.peer) is connection:
            del self._by_peer[connection.peer]


class Incoming:
    """One incoming connection. (`system.Connection`)

    Needs nothing read before: the magic is the first thing it is fed. To hand a connection over,
    call `connection_made(channel)`, then `data_received(bytes_read_so_far)`.
    """

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self.state = IncomingState.GREETING
        self._greeting = GreetingParser()
        self.frames = FrameParser(bytes_max=GREETING_BYTES_MAX)
        self.begun_bytes = 0
        """Of a frame that is begun."""
        self._patience: Timer | None = None
        """With a frame that is begun."""
        self._has_moved = False
        """Whether a frame became whole since then."""
        self.host = ""
        """Where it comes from; the port changes with every try and tells nothing."""
        self.source = ""
        """What counts as one address with that."""
        self._channel: Channel | None = None
        self._deadline: Timer | None = None
        self.peer = 0
        """The peer's id, once accepted; so are these:"""
        self.url = ""
        self.process = 0
        self._proof = Proof()

    @property
    def is_silent(self) -> bool:
        """Whether it has yet to greet, or its greeting was refused."""
        return self.state is IncomingState.GREETING or self.state is IncomingState.REFUSED

    def abort(self) -> None:
        """End it now; nothing more of it is delivered."""
        self.state = IncomingState.ENDED
        if self._channel is not None:
            self._channel.abort()

    def connection_made(self, channel: Channel) -> None:
        self._channel = channel
        peername: tuple[str | int, ...] | None = channel.get_extra_info("peername")
        self.host = str(peername[0]) if peername else "unknown"
        self.source = one_source(self.host)
        proof = self._acceptor.system.proof(channel)
        if proof.refusal:
            self._end_silently(proof.refusal)
            return
        self._proof = proof
        self._acceptor.system.tune(channel)
        self._deadline = self._acceptor.system.later(HANDSHAKE_MS, self.abort)
        self._acceptor.add(self)

    def _end_silently(self, reason: str) -> None:
        """Say in our log why, and nothing to whoever dialled."""
        host = self.host
        self._acceptor.journal.refused(host, reason, by="us", address=host)
        self.abort()

    def data_received(self, data: bytes) -> None:
        if self.state is IncomingState.ENDED or self.state is IncomingState.REFUSED:
            return
        journal = self._acceptor.journal
        try:
            if self.state is IncomingState.GREETING:
                data = self._greet(data)
            journal.bytes_received += len(data)
            frames = self.frames.feed(data)
        except PeerProtocolError as error:
            journal.broke_protocol(self.url or self.host, error)
            self.abort()
            return
        begun_bytes = self.frames.begun_bytes
        if begun_bytes and self._patience is None:
            self._has_moved = False
            self._patience = self._acceptor.system.later(FRAME_MS, self._look_whether_stalled)
        if begun_bytes != self.begun_bytes:
            self._acceptor.hold(self, begun_bytes)
        if frames:
            self._has_moved = True
            journal.frames_received += len(frames)
            self._acceptor.on_frames(self.peer, frames)

    def _look_whether_stalled(self) -> None:
        self._patience = None
        if not self.frames.begun_bytes:
            return
        if self._has_moved:
            self._has_moved = False
            self._patience = self._acceptor.system.later(FRAME_MS, self._look_whether_stalled)
            return
        error = PeerProtocolError("a frame that was begun did not become whole in time")
        self._acceptor.journal.broke_protocol(self.url, error)
        self.abort()

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, _: Exception | None) -> None:
        self.state = IncomingState.ENDED
        for timer in (self._deadline, self._patience):
            if timer is not None:
                timer.cancel()
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
        contradiction = self._proof.contradiction(theirs)
        if contradiction:
            self._end_silently(contradiction)
            return False
        mine = msgspec.structs.replace(self._acceptor.judge(theirs), seen=self.host)
        self._channel.write(encode_greeting(mine))
        if mine.refusal:
            # The deadline stays, for a peer that does not even read its refusal.
            self.state = IncomingState.REFUSED
            self._channel.close()
            if mine.refusal not in (ASKED, ITSELF):
                host, journal = self.host, self._acceptor.journal
                journal.refused(theirs.url or host, mine.refusal, by="us", address=host)
            return False
        self._deadline.cancel()
        self.peer, self.url, self.process = theirs.node_id, theirs.url, theirs.process
        self.state = IncomingState.STRANGER
        self._acceptor.accept(self, mine, theirs)
        return True


def _begun_bytes(connection: Incoming) -> int:
    return connection.begun_bytes
