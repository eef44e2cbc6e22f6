# SPDX-License-Identifier: GPL-3.0-or-later
"""A node reduced to its links on a real loop and real sockets, and peers that speak raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random
from types import TracebackType
from typing import cast

import msgspec

from quorate.core.topology.greeting import answer
from quorate.core.values.events import LinkDown, LinkUp, Note
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Frame, Greeting, Pong
from quorate.host.acceptor import Acceptor
from quorate.host.journal import LinkJournal
from quorate.host.links import PeerLinks
from quorate.host.system import Timer
from quorate.runtime.system import AsyncioSystem
from quorate.wire.frames import GreetingParser, encode_greeting
from tests.unit.runtime.fakes import turns, until


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


class Hasty(AsyncioSystem):
    """For which timers are due many times sooner."""

    haste = 1.0

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        return super().later(ms / self.haste, call)


class Node:
    """Links of one node and everything they told it; a server while it is entered."""

    def __init__(self, port: int, *, random: Random | None = None, haste: float = 1.0) -> None:
        self.port = port
        self.url = url_of(port)
        self.greeting = Greeting(
            PROTOCOL_MIN, PROTOCOL_MAX, "c", self.url, port, 1, b"h" * 16, "test", process=port
        )
        self.events: list[LinkUp | LinkDown] = []
        self.frames: list[tuple[int, Frame]] = []
        self.urls: dict[int, str] = {}
        """Of those that welcomed it, by their ids."""
        self.notes: list[Note] = []
        self.ends: list[str] = []
        self.system = Hasty(own_url=self.url, sync=lambda: None, on_end=self.ends.append)
        self.system.haste = haste
        self.is_broken = False
        """Whether a welcome raises."""
        self.journal = LinkJournal(log=self.notes.append, mono_ms=lambda: self.system.now().mono_ms)
        self.refusals: list[tuple[str, str]] = []
        self.links = PeerLinks(
            self.system,
            greeting=lambda: self.greeting,
            on_event=self.events.append,
            on_refused=lambda url, reason: self.refusals.append((url, reason)),
            on_welcome=self._welcome,
            on_twin=lambda: self.ends.append("twin"),
            random=random or Random(port),
            journal=self.journal,
        )
        self.acceptor = Acceptor(
            self.system,
            judge=self._judge,
            on_frames=self._hear,
            on_accepted=lambda theirs: self.links.hurry(theirs.url),
            journal=self.journal,
        )
        self._server: asyncio.Server | None = None

    def _judge(self, theirs: Greeting) -> Greeting:
        reached = self.links.reached(theirs)
        return answer(self.greeting, theirs, reached=reached)

    def _welcome(self, theirs: Greeting) -> None:
        if self.is_broken:
            raise ZeroDivisionError
        self.acceptor.keep_only(theirs)
        self.urls[theirs.node_id] = theirs.url

    def _hear(self, peer: int, frames: list[Frame]) -> None:
        self.frames += [(peer, each) for each in frames]

    async def __aenter__(self) -> Node:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close_links()
        await self.stop_listening()
        self.system.close()

    async def close_links(self) -> None:
        """Return when they are closed."""
        closed = asyncio.Event()
        self.links.close(closed.set)
        await closed.wait()

    async def listen(self, accept: Callable[[], asyncio.Protocol] | None = None) -> None:
        """Hand who connects to the acceptor, or to something else."""
        make = accept or cast(Callable[[], asyncio.Protocol], self.acceptor.connection)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(make, "127.0.0.1", self.port)

    async def stop_listening(self) -> None:
        """As a killed process does: the port is closed and all incoming links are gone."""
        if self._server is not None:
            await _accept_no_more(self._server)
            self.acceptor.close()
            await until(lambda: not self.acceptor._connections, "incoming links to end")
            await self._server.wait_closed()
            self._server = None

    def numbers(self) -> list[int]:
        """The numbers of the pongs that arrived."""
        return [m.batch for _, f in self.frames for m in f.messages if isinstance(m, Pong)]

    def is_up(self, url: str) -> bool:
        """Whether the last event about who is at `url` is a LinkUp."""
        kinds = [type(event) for event in self.events if self.urls[event.peer] == url]
        return bool(kinds) and kinds[-1] is LinkUp

    def answer(self, port: int) -> bytes:
        """A good greeting of the peer at `port`."""
        theirs = msgspec.structs.replace(
            self.greeting, url=url_of(port), node_id=port, process=port
        )
        return encode_greeting(theirs)


async def _accept_no_more(server: asyncio.Server) -> None:
    """Close the port, when all that it has accepted is handed over, which takes the loops a task
    and a callback. A connection that asyncio has yet to hand over when its server is closed is left
    open, and nobody has it (`Server._attach` of CPython 3.11 fails for it)."""
    loop = asyncio.get_running_loop()
    for listening in server.sockets:
        loop.remove_reader(listening.fileno())
    await turns()
    server.close()
    await turns()


class Deaf(asyncio.Protocol):
    """An acceptor that says `answer` and never reads."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.answer)
        # uvloop begins to read when this callback has returned.
        asyncio.get_running_loop().call_soon(self.stop_reading)

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True

    def stop_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()


@contextlib.asynccontextmanager
async def deaf_peer(port: int, answer: bytes) -> AsyncIterator[list[Deaf]]:
    """A peer that is deaf; yields its connections so far."""
    connections: list[Deaf] = []

    def accept() -> Deaf:
        connections.append(Deaf(answer))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", port)
    try:
        yield connections
    finally:
        await _accept_no_more(server)
        for connection in connections:
            if not connection.is_lost:
                connection.transport.abort()
        await until(lambda: all(connection.is_lost for connection in connections))
        await server.wait_closed()


class RawPeer:
    """The dialler's side of a connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int, says: bytes = b"") -> RawPeer:
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        peer.writer.write(says)
        return peer

    @classmethod
    async def greet(cls, node: Node, port: int) -> RawPeer:
        """One that finished its handshake with `node`."""
        peer = await cls.dial(node.port, node.answer(port))
        parser = GreetingParser()
        while (answer := parser.feed(await peer.reader.read(4096))) is None:
            assert not peer.reader.at_eof()
        assert answer.refusal == ""
        return peer

    async def read_all(self) -> bytes:
        """What comes until the other end closes or resets."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65536):
                received += data
        return bytes(received)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()
