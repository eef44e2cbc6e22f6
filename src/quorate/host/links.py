# SPDX-License-Identifier: GPL-3.0-or-later
"""Outgoing links: one connection to each peer, dialled for ever, carrying our frames only.

Answers of a peer come on the link that it dials to us (`acceptor`), so either direction fails and
recovers by itself. Invariants: LinkUp only after both greetings were found good; LinkUp and
LinkDown of a peer alternate; what waits for a peer to read it is bounded by `outbox_bytes_max` and
one turn's frame, then the link is given up and the peer counts as not answering; so it is when all
links hold more than `bytes_max_all`, and this one more than its share of that. A frame without a
link is dropped: the core knows from LinkDown, and nothing here sends again, for an old frame is of
no use.

    state      waits for                    and then
    WAITING    the back-off, or `hurry`     dials
    DIALLING   a connection, 2 s            greets; or waits
    GREETING   the peer's greeting, 5 s     is UP if both agree; or closes
    UP         the loss of the connection   waits
    CLOSING    what was written to leave    waits
    RETIRED    what was written to leave    is forgotten
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from quorate.core.exchanges.outbox import UNANSWERED_BYTES_MAX, UNANSWERED_BYTES_MAX_ALL
from quorate.core.topology.greeting import TWIN_MS, is_other_reached, judge
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Frame, Greeting
from quorate.errors import PeerProtocolError
from quorate.host.backoff import LONGEST_MS, Backoff
from quorate.host.journal import LinkJournal
from quorate.host.system import Channel, Proof, System, Timer
from quorate.notation import is_url, show_text
from quorate.wire.frames import FrameTooLarge, GreetingParser, encode_frame, encode_greeting

if TYPE_CHECKING:
    from random import Random

OUTBOX_BYTES_MAX: Final = UNANSWERED_BYTES_MAX
"""As much as the core leaves unanswered at one peer: more waits only for one that does not read."""
OUTBOX_BYTES_MAX_ALL: Final = UNANSWERED_BYTES_MAX_ALL
"""In the links to all peers: then each may hold a share of it."""
CONNECT_MS: Final = 2_000.0
HANDSHAKE_MS: Final = 5_000.0
FLUSH_MS: Final = 1_000.0
"""How long a connection that we close may take to let go of what was written."""
REFUSAL_CHARS_MAX: Final = 500
"""Of a peer's, kept and shown."""
NO_PROCESS: Final = -1
"""What no process has for its number."""
STEADY_MS: Final = LONGEST_MS
"""A link that lived so long was a success; one that did not is tried again with longer waits."""


class LinkState(enum.Enum):
    """Where a link is in its life: see the table above."""

    WAITING = enum.auto()
    DIALLING = enum.auto()
    GREETING = enum.auto()
    UP = enum.auto()
    CLOSING = enum.auto()
    RETIRED = enum.auto()


class PeerLinks:
    """The outgoing links of a node.

    `greeting` is asked anew for every handshake. `on_welcome` gets a peer's good answer, just
    before its LinkUp. `on_refused` is told the URL and why no link comes to be, whenever the reason
    changes. `on_twin` is told when a peer keeps reaching another process at our URL.
    """

    def __init__(
        self,
        system: System,
        *,
        greeting: Callable[[], Greeting],
        on_event: Callable[[LinkUp | LinkDown], None],
        on_refused: Callable[[str, str], None],
        on_welcome: Callable[[Greeting], None],
        on_twin: Callable[[], None],
        random: Random,
        journal: LinkJournal,
    ) -> None:
        self.system: Final = system
        self.greeting: Final = greeting
        self.on_event: Final = on_event
        self.on_refused: Final = on_refused
        self.on_other_name: Callable[[str, str], bool] = _is_fault
        """Told a URL and what the node there calls itself; whether that is no fault, as nobody
        vouched for the URL."""
        self.on_welcome: Final = on_welcome
        self.on_twin: Final = on_twin
        self.random: Final = random
        self.journal: Final = journal
        self.outbox_bytes_max = OUTBOX_BYTES_MAX
        self.bytes_max_all = OUTBOX_BYTES_MAX_ALL
        self.links: dict[str, Link] = {}
        """By the peer's URL."""
        self._up: dict[int, Link] = {}
        """Those that are up, by the peer's id."""
        self._retired: set[Link] = set()
        self._on_closed: Callable[[], None] | None = None

    def set_peers(self, urls: Iterable[str]) -> None:
        """Keep links to exactly these peers: dial the new, close those not named (LinkDown)."""
        wanted = dict.fromkeys(urls)
        for url in [url for url in self.links if url not in wanted]:
            self._retire(url)
        for url in wanted:
            if url not in self.links:
                self.links[url] = link = Link(self, url)
                link.dial()

    def hurry(self, url: str) -> None:
        """Dial `url` now if it waits for its next try: it is there, for it has just dialled us."""
        link = self.links.get(url)
        if link is not None:
            link.hurry()

    def send(self, peer: int, frame: Frame) -> None:
        """Write the frame at once, or drop it if there is no link or the peer does not read."""
        link = self._up.get(peer)
        if link is None or not link.send(frame):
            self.journal.frames_dropped += 1

    def is_too_much(self, queued: int) -> bool:
        """Whether a link holds more than it may, with so much that its peer has not read."""
        if queued <= self.bytes_max_all // max(len(self._up), 1):
            return queued > self.outbox_bytes_max
        in_all = sum([each.queued_bytes() for each in self._up.values()])
        return queued > self.outbox_bytes_max or in_all > self.bytes_max_all

    def queued_bytes(self, peer: int) -> int:
        """What our link to this peer holds that it has not read; 0 without a link."""
        link = self._up.get(peer)
        return 0 if link is None else link.queued_bytes()

    def reached(self, theirs: Greeting) -> int:
        """The process that our links to a dialler's URL and to who has its id lead to; 0 while both
        are down. If one leads to another than the dialler, that counts: nobody takes the place of a
        node that is there, neither by its URL nor by its id."""
        found = 0
        for link in (self.links.get(theirs.url), self._up.get(theirs.node_id)):
            if link is None or not link.process:
                continue
            if link.process != theirs.process:
                return link.process
            # A process has one id.
            found = found or (link.process if link.peer == theirs.node_id else NO_PROCESS)
        return found

    def is_up(self, peer: int) -> bool:
        """Whether a link leads to this peer."""
        return peer in self._up

    def came_up(self, link: Link) -> None:
        """A link's handshake is done."""
        self._up[link.peer] = link
        self.on_event(LinkUp(link.peer))

    def went_down(self, link: Link) -> None:
        """A link that was up is not any more."""
        del self._up[link.peer]
        self.on_event(LinkDown(link.peer))

    def close(self, done: Callable[[], None]) -> None:
        """End all links (LinkDown), and call `done` when what was sent has left, or had a second
        to."""
        self._on_closed = done
        for url in list(self.links):
            self._retire(url)
        self._look_whether_closed()

    def _retire(self, url: str) -> None:
        link = self.links.pop(url)
        self._retired.add(link)
        link.retire()

    def forget(self, link: Link) -> None:
        """Nothing is left of a retired link."""
        self._retired.discard(link)
        self._look_whether_closed()

    def _look_whether_closed(self) -> None:
        if self._on_closed is not None and not self._retired:
            done, self._on_closed = self._on_closed, None
            self.system.soon(done)


def _is_fault(_url: str, _real: str) -> bool:
    return False


class Link:
    """The link to one peer, over all its connections."""

    def __init__(self, links: PeerLinks, url: str) -> None:
        self.url: Final = url
        self.state = LinkState.WAITING
        self.peer = 0
        """The id of the peer, while UP."""
        self.process = 0
        """Of the peer, while UP."""
        self._links = links
        self._backoff = Backoff(links.random)
        self._connection: _Outgoing | None = None
        """The present one; what others tell is of no interest any more."""
        self._dial: Timer | None = None
        self._due: Timer | None = None
        """Of the present state."""
        self._is_hurried = False
        self._proof = Proof()
        """Of the present connection."""
        self._silent_ends = 0
        """How often in a row the connection ended before the peer greeted."""
        self._refusal = ""
        """Why the last greeting was of no use."""
        self._up_ms = 0
        self._twin_since_ms: int | None = None
        """Since when every try was refused because the peer reaches another process at our URL;
        None if the last one was not."""
        self._twin_before_ms: int | None = None
        """The same as of the try before this one."""

    # --- what is asked of it ---------------------------------------------------------------

    def dial(self) -> None:
        """Begin a try."""
        self._twin_before_ms, self._twin_since_ms = self._twin_since_ms, None
        self._enter(LinkState.DIALLING, CONNECT_MS, self._give_up_dial)
        self._connection = connection = _Outgoing(self)
        self._dial = self._links.system.dial(self.url, connection)

    def hurry(self) -> None:
        """Make the next wait end at once, or the present one."""
        self._is_hurried = True
        if self.state is LinkState.WAITING:
            self._wait()

    def retire(self) -> None:
        """Begin to end it; `PeerLinks.forget` is told when nothing of it is left."""
        if self.state in (LinkState.GREETING, LinkState.UP, LinkState.CLOSING):
            self._close(LinkState.RETIRED)
            return
        if self._dial is not None:
            self._dial.cancel()
        self._connection = None
        self._enter(LinkState.RETIRED)
        self._links.forget(self)

    def send(self, frame: Frame) -> bool:
        """Whether it was written."""
        connection = self._connection
        if self.state is not LinkState.UP or connection is None or connection.channel.is_closing():
            return False
        queued = connection.channel.get_write_buffer_size()
        if queued and self._links.is_too_much(queued):
            self._links.journal.overflowed(self.url, queued)
            connection.channel.abort()
            return False
        return self._write(connection.channel, frame)

    def queued_bytes(self) -> int:
        """What was written and the operating system has not taken."""
        connection = self._connection
        return 0 if connection is None else connection.channel.get_write_buffer_size()

    def _write(self, channel: Channel, frame: Frame) -> bool:
        """Write it as one frame; as two or more, each whole, where one would be too large."""
        journal = self._links.journal
        try:
            data = encode_frame(frame)
        except FrameTooLarge as error:
            half = len(frame.messages) // 2
            if not half:
                journal.too_large(self.url, error)
                return False
            first = Frame(frame.epoch, frame.clock, frame.messages[:half])
            second = Frame(frame.epoch, frame.clock, frame.messages[half:])
            return all([self._write(channel, first), self._write(channel, second)])
        channel.write(data)
        journal.frames_sent += 1
        journal.bytes_sent += len(data)
        return True

    # --- what its connections tell ---------------------------------------------------------

    def on_connected(self, connection: _Outgoing) -> None:
        """The peer's port took the connection."""
        if connection is not self._connection or self.state is not LinkState.DIALLING:
            connection.channel.abort()
            return
        self._dial = None
        self._links.system.tune(connection.channel)
        self._enter(LinkState.GREETING, HANDSHAKE_MS, self._close)
        proof = self._links.system.proof(connection.channel)
        if proof.refusal:
            self._refuse(proof.refusal, by="us")
            self._close()
            return
        self._proof = proof
        connection.channel.write(encode_greeting(self._links.greeting()))

    def on_dial_failed(self, connection: _Outgoing, why_not_tried: str) -> None:
        """Nobody is there, or may be dialled there."""
        if connection is self._connection:
            self._silent_ends = 0
            if why_not_tried:
                self._refuse(why_not_tried, by="us")
            elif self._refusal:
                self._refusal = ""
                self._links.on_refused(self.url, "")
            self._wait()

    def on_answer(self, connection: _Outgoing, theirs: Greeting) -> None:
        """The peer's greeting is whole."""
        if connection is not self._connection or self.state is not LinkState.GREETING:
            return
        self._silent_ends = 0
        links = self._links
        if not self._agrees(theirs):
            if is_other_reached(theirs, links.greeting()):
                self._note_twin()
            self._close()
            return
        # Before it is up: if this raises, the connection ends, and no LinkDown may follow.
        links.on_welcome(theirs)
        self._enter(LinkState.UP)
        self._up_ms = links.system.now().mono_ms
        self.peer, self.process = theirs.node_id, theirs.process
        links.came_up(self)

    def on_broken(self, connection: _Outgoing, error: PeerProtocolError) -> None:
        """The peer sent what it must not."""
        connection.channel.abort()
        if connection is self._connection:
            self._links.journal.broke_protocol(self.url, error)

    def on_lost(self, connection: _Outgoing) -> None:
        """The connection is gone."""
        if connection is self._connection:
            if self.state is LinkState.GREETING and self._proof.silence:
                self._note_silent_end()
            self._part()
            self._end_of_connection()

    # --- states ----------------------------------------------------------------------------

    def _enter(
        self, state: LinkState, ms: float = 0.0, when_due: Callable[[], None] | None = None
    ) -> None:
        if self._due is not None:
            self._due.cancel()
        self.state = state
        self._due = None if when_due is None else self._links.system.later(ms, when_due)

    def _wait(self) -> None:
        """Wait for the next try."""
        self._connection = None
        ms = 0.0 if self._is_hurried else self._backoff.next_ms()
        self._is_hurried = False
        self._enter(LinkState.WAITING, ms, self.dial)

    def _give_up_dial(self) -> None:
        if self._dial is not None:
            self._dial.cancel()
        self._wait()

    def _part(self) -> None:
        """Tell that the link is down, if it was up."""
        if self.state is LinkState.UP:
            links = self._links
            links.went_down(self)
            self.peer = self.process = 0
            if links.system.now().mono_ms - self._up_ms > STEADY_MS:
                self._backoff.reset()

    def _close(self, then: LinkState = LinkState.CLOSING) -> None:
        """Take no more, and let what was written leave, but not for ever."""
        self._part()
        self._enter(then, FLUSH_MS, self._end_of_connection)
        assert self._connection is not None, "only what is connected is closed"
        self._connection.channel.close()

    def _end_of_connection(self) -> None:
        """It is lost; or had its time, and the loop may never tell that it is lost."""
        connection = self._connection
        if connection is not None and not connection.is_lost:
            connection.channel.abort()
        if self.state is LinkState.RETIRED:
            self._enter(LinkState.RETIRED)
            self._connection = None
            self._links.forget(self)
        else:
            self._wait()

    # --- greetings -------------------------------------------------------------------------

    def _agrees(self, theirs: Greeting) -> bool:
        has_other_name = theirs.url != self.url and is_url(theirs.url)
        if has_other_name and self._links.on_other_name(self.url, theirs.url):
            return False
        # What they say first: a refusal need not give away who they are.
        if theirs.refusal:
            self._refuse(theirs.refusal[:REFUSAL_CHARS_MAX], by="them")
            return False
        refusal = judge(self._links.greeting(), theirs)
        if not refusal and theirs.url != self.url:
            # Two names of one node would be counted as two replicas.
            refusal = f"the node at {self.url} calls itself {theirs.url}"
        if not refusal and self._links.is_up(theirs.node_id):
            refusal = f"two nodes with one identity {theirs.node_id:012x}: another link leads to it"
        refusal = refusal or self._proof.contradiction(theirs)
        if refusal:
            self._refuse(refusal, by="us")
            return False
        self._links.journal.agreed(self.url)
        self._refusal = ""
        return True

    def _refuse(self, reason: str, *, by: str) -> None:
        reason = show_text(reason)
        self._links.journal.refused(self.url, reason, by=by)
        if reason != self._refusal:
            self._refusal = reason
            self._links.on_refused(self.url, reason)

    def _note_silent_end(self) -> None:
        """Once, it may just stop. Who refuses strangers does so over and over, without a word."""
        self._silent_ends += 1
        if self._silent_ends > 1:
            self._refuse(self._proof.silence, by="them")

    def _note_twin(self) -> None:
        now_ms = self._links.system.now().mono_ms
        before_ms = self._twin_before_ms
        self._twin_since_ms = now_ms if before_ms is None else before_ms
        if now_ms - self._twin_since_ms >= TWIN_MS:
            self._links.on_twin()


class _Outgoing:
    """One connection of a link: hears one greeting, and nothing else. (`system.Dialled`)"""

    def __init__(self, link: Link) -> None:
        self.channel: Channel
        """Set once connected."""
        self.is_lost = False
        self._link = link
        self._parser = GreetingParser()
        self._is_answered = False

    def dial_failed(self, why_not_tried: str) -> None:
        self._link.on_dial_failed(self, why_not_tried)

    def connection_made(self, channel: Channel) -> None:
        self.channel = channel
        self._link.on_connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._hear(data)
        except PeerProtocolError as error:
            self._link.on_broken(self, error)
            return
        if answer is not None:
            self._link.on_answer(self, answer)

    def _hear(self, data: bytes) -> Greeting | None:
        if self._is_answered:
            raise PeerProtocolError("the acceptor spoke on a link that is ours to speak on")
        answer = self._parser.feed(data)
        if answer is not None:
            self._is_answered = True
            if self._parser.rest:
                raise PeerProtocolError("bytes behind the acceptor's greeting")
        return answer

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True
        self._link.on_lost(self)

    def pause_writing(self) -> None:
        """`Link.send` looks at the queue itself."""

    def resume_writing(self) -> None:
        """Likewise."""
