# SPDX-License-Identifier: GPL-3.0-or-later
"""Outgoing links: one connection to each peer, dialled for ever, carrying our frames only.

Answers of a peer come on the link that it dials to us (`acceptor`), so either direction fails and
recovers by itself. Invariants: LinkUp only after both greetings were found good; LinkUp and
LinkDown of a peer alternate; what waits for a peer to read it is bounded by `outbox_bytes_max` and
one turn's frame, then the link is given up and the peer counts as not answering. A frame without a
link is dropped: the core knows from LinkDown, and nothing here sends again, for an old frame is of
no use.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Final

from quorate.core.topology.greeting import TWIN_MS, is_other_reached, judge
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import Frame, Greeting
from quorate.errors import PeerProtocolError
from quorate.transport.backoff import LONGEST_MS, Backoff
from quorate.transport.journal import Journal
from quorate.transport.outgoing import Outgoing
from quorate.transport.resolve import NotDialled, resolve
from quorate.wire.frames import FrameTooLarge, encode_frame, encode_greeting

OUTBOX_BYTES_MAX: Final = 64 << 20
"""As much as the core leaves unanswered at one peer (`core.exchanges.outbox`): more waits only for
a peer that does not read."""
CONNECT_S: Final = 2.0
HANDSHAKE_S: Final = 5.0
_STEADY_S: Final = LONGEST_MS / 1000
"""A link that lived so long was a success; one that did not is tried again with longer waits."""


class PeerLinks:
    """The outgoing links of a node. All methods belong to the event loop's thread.

    `greeting` is asked anew for every handshake. `on_welcome` gets a peer's good answer, just
    before its LinkUp. `on_twin` is told when a peer keeps reaching another process at our URL.
    None of the three is ever called from inside a method of this class.
    """

    def __init__(
        self,
        *,
        greeting: Callable[[], Greeting],
        on_event: Callable[[LinkUp | LinkDown], None],
        on_welcome: Callable[[Greeting], None],
        on_twin: Callable[[], None],
        rng: random.Random,
        journal: Journal,
        outbox_bytes_max: int = OUTBOX_BYTES_MAX,
        handshake_s: float = HANDSHAKE_S,
    ) -> None:
        self.greeting: Final = greeting
        self.on_event: Final = on_event
        self.on_welcome: Final = on_welcome
        self.on_twin: Final = on_twin
        self.rng: Final = rng
        self.journal: Final = journal
        self.outbox_bytes_max: Final = outbox_bytes_max
        self.handshake_s: Final = handshake_s
        self._peers: dict[str, _Peer] = {}

    def set_peers(self, urls: Iterable[str]) -> None:
        """Keep links to exactly these peers: dial the new, close those not named (LinkDown)."""
        wanted = set(urls)
        for url in self._peers.keys() - wanted:
            self._peers.pop(url).retire()
        for url in sorted(wanted - self._peers.keys()):
            self._peers[url] = _Peer(self, url)

    def hurry(self, url: str) -> None:
        """Dial `url` now if it waits for its next try: it is there, for it has just dialled us."""
        peer = self._peers.get(url)
        if peer is not None:
            peer.hurry()

    def send(self, url: str, frame: Frame) -> None:
        """Write the frame at once, or drop it if there is no link or the peer does not read."""
        peer = self._peers.get(url)
        if peer is None or not peer.send(frame):
            self.journal.frames_dropped += 1

    def process(self, url: str) -> int:
        """The process that our link to `url` leads to; 0 while it is down."""
        peer = self._peers.get(url)
        return 0 if peer is None else peer.process

    def queued_bytes(self, url: str) -> int:
        """Bytes sent to `url` that the operating system has not taken yet."""
        peer = self._peers.get(url)
        return 0 if peer is None else peer.queued_bytes()

    async def close(self) -> None:
        """End all links; what was sent gets a second to leave. LinkDown is told as ever."""
        peers = list(self._peers.values())
        self._peers.clear()
        tasks = [peer.retire() for peer in peers]
        if tasks:
            await asyncio.wait(tasks)


class _Peer:
    """One peer and the task that keeps its link."""

    __slots__ = (
        "_backoff",
        "_connection",
        "_hurried",
        "_links",
        "_task",
        "_twin_since_s",
        "_url",
        "process",
    )

    def __init__(self, links: PeerLinks, url: str) -> None:
        self._links = links
        self._url = url
        self._backoff = Backoff(links.rng)
        self._hurried = asyncio.Event()
        self._connection: Outgoing | None = None
        """Set from LinkUp to LinkDown."""
        self.process = 0
        """At the other end of `_connection`."""
        self._twin_since_s: float | None = None
        """Since when every try was refused because the peer reaches another process at our URL."""
        self._task = asyncio.get_running_loop().create_task(self._keep())
        self._task.add_done_callback(_report)

    def hurry(self) -> None:
        self._hurried.set()

    def retire(self) -> asyncio.Task[None]:
        """Begin to end the link; the task is done when nothing of it is left."""
        self._task.cancel()
        return self._task

    def queued_bytes(self) -> int:
        connection = self._connection
        return 0 if connection is None else connection.transport.get_write_buffer_size()

    def send(self, frame: Frame) -> bool:
        """Whether it was written."""
        connection = self._connection
        if connection is None or (transport := connection.transport).is_closing():
            return False
        queued = transport.get_write_buffer_size()
        if queued > self._links.outbox_bytes_max:
            self._links.journal.overflowed(self._url, queued)
            connection.abort()
            return False
        return self._write(transport, frame)

    def _write(self, transport: asyncio.Transport, frame: Frame) -> bool:
        """Write it as one frame; as two or more, each whole, where one would be too large."""
        journal = self._links.journal
        try:
            data = encode_frame(frame)
        except FrameTooLarge as error:
            half = len(frame.messages) // 2
            if not half:
                journal.too_large(self._url, error)
                return False
            first = Frame(frame.epoch, frame.clock, frame.messages[:half])
            second = Frame(frame.epoch, frame.clock, frame.messages[half:])
            return all([self._write(transport, first), self._write(transport, second)])
        transport.write(data)
        journal.frames_sent += 1
        journal.bytes_sent += len(data)
        return True

    async def _keep(self) -> None:
        while True:
            try:
                await self._try()
            except PeerProtocolError as error:
                self._links.journal.broke_protocol(self._url, error)
            except NotDialled as error:
                self._links.journal.refused(self._url, str(error), by="us")
            except OSError:
                # Not there, too slow, or gone: the usual case, and what LinkDown is for.
                pass
            await self._pause()

    async def _try(self) -> None:
        """One connection, from dialling to its loss."""
        twin_since_s, self._twin_since_s = self._twin_since_s, None
        connection = await self._dial()
        try:
            async with asyncio.timeout(self._links.handshake_s):
                theirs = await connection.answer()
            if self._agrees(theirs):
                await self._use(connection, theirs)
            elif is_other_reached(theirs, self._links.greeting()):
                self._note_twin(twin_since_s)
        finally:
            await connection.close()

    async def _dial(self) -> Outgoing:
        mine = self._links.greeting()
        greeting = encode_greeting(mine)
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        async with asyncio.timeout(CONNECT_S):
            for host, port in await resolve(self._url, own_url=mine.url):
                try:
                    _, made = await loop.create_connection(lambda: Outgoing(greeting), host, port)
                except OSError as error:
                    failure = error
                else:
                    return made
        assert failure is not None, "resolve gives at least one address"
        raise failure

    def _agrees(self, theirs: Greeting) -> bool:
        journal = self._links.journal
        # What they say first: a refusal need not give away who they are.
        if theirs.refusal:
            journal.refused(self._url, theirs.refusal, by="them")
            return False
        refusal = judge(self._links.greeting(), theirs)
        if not refusal and theirs.url != self._url:
            # Two names of one node would be counted as two replicas.
            refusal = f"the node at {self._url} calls itself {theirs.url[:80]!r}"
        if refusal:
            journal.refused(self._url, refusal, by="us")
            return False
        journal.agreed(self._url)
        return True

    def _note_twin(self, since_s: float | None) -> None:
        now_s = asyncio.get_running_loop().time()
        self._twin_since_s = now_s if since_s is None else since_s
        if now_s - self._twin_since_s >= TWIN_MS / 1000:
            self._links.on_twin()

    async def _use(self, connection: Outgoing, theirs: Greeting) -> None:
        links = self._links
        loop = asyncio.get_running_loop()
        up_s = loop.time()
        links.on_welcome(theirs)
        self._connection, self.process = connection, theirs.process
        links.on_event(LinkUp(self._url, theirs.version))
        try:
            await connection.lost()
        finally:
            self._connection, self.process = None, 0
            links.on_event(LinkDown(self._url))
            if loop.time() - up_s > _STEADY_S:
                self._backoff.reset()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.next_ms() / 1000):
                await self._hurried.wait()
        self._hurried.clear()


def _report(task: asyncio.Task[None]) -> None:
    """A link task only ends when cancelled; anything else is a fault that must be heard."""
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler(
            {"message": "a peer link failed", "exception": task.exception(), "task": task}
        )
