# SPDX-License-Identifier: GPL-3.0-or-later
"""A node reduced to its links, and a peer that speaks raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from types import TracebackType

import msgspec

from quorate.core.topology.greeting import judge
from quorate.core.values.events import LinkDown, LinkUp
from quorate.core.values.messages import PROTOCOL_VERSION, Frame, Greeting, Pong
from quorate.transport.acceptor import Acceptor
from quorate.transport.journal import Journal
from quorate.transport.links import OUTBOX_BYTES_MAX, PeerLinks

_DEADLINE_S = 10.0


async def accepted() -> None:
    """Return when connections that a listener took in until now have met their protocol.

    The loops hand a connection over in a task and a callback: a few turns, however slow each is.
    """
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    """Return as soon as `condition()` is true."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"still waiting for {what}")
        await asyncio.sleep(0.002)


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def frame(number: int) -> Frame:
    return Frame(1, 1, [Pong(number)])


class Node:
    """Links of one node and everything they told it."""

    def __init__(
        self,
        port: int,
        *,
        node_id: int = 0,
        cluster: str = "c",
        layout_hash: bytes = b"h" * 16,
        outbox_bytes_max: int = OUTBOX_BYTES_MAX,
        handshake_s: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        self.port = port
        self.url = url_of(port)
        self.greeting = Greeting(
            PROTOCOL_VERSION,
            cluster,
            self.url,
            node_id or port,
            1,
            layout_hash,
            "test",
            process=port,
        )
        self.events: list[LinkUp | LinkDown] = []
        self.welcomes: list[Greeting] = []
        self.twins = 0
        """How often it was told that another process has its URL."""
        self.frames: list[tuple[str, Frame]] = []
        self.journal = Journal()
        self.links = PeerLinks(
            greeting=lambda: self.greeting,
            on_event=self.events.append,
            on_welcome=self._welcome,
            on_twin=self._note_twin,
            rng=rng or random.Random(port),
            journal=self.journal,
            outbox_bytes_max=outbox_bytes_max,
            handshake_s=handshake_s,
        )
        self.acceptor = Acceptor(
            judge=self._judge,
            on_frames=lambda url, frames: self.frames.extend((url, each) for each in frames),
            on_accepted=self.links.hurry,
            journal=self.journal,
            handshake_s=handshake_s,
        )
        self._server: asyncio.Server | None = None

    def _judge(self, theirs: Greeting) -> Greeting:
        reached = self.links.process(theirs.url)
        mine = msgspec.structs.replace(self.greeting, reached=reached)
        return msgspec.structs.replace(mine, refusal=judge(mine, theirs))

    def _welcome(self, theirs: Greeting) -> None:
        self.acceptor.keep_only(theirs.url, theirs.process)
        self.welcomes.append(theirs)

    def _note_twin(self) -> None:
        self.twins += 1

    async def __aenter__(self) -> Node:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.links.close()
        await self.stop_listening()

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.acceptor.connection, "127.0.0.1", self.port)

    async def stop_listening(self) -> None:
        """As a killed process does: the port is closed and all incoming links are gone."""
        if self._server is not None:
            self._server.close()
            await accepted()
            self.acceptor.close()
            await until(lambda: not self.acceptor._connections, "incoming links to end")
            await self._server.wait_closed()
            self._server = None

    def numbers(self) -> list[int]:
        """The numbers of the `frame`s that arrived."""
        return [m.batch for _, f in self.frames for m in f.messages if isinstance(m, Pong)]

    def is_up(self, peer: str) -> bool:
        """Whether the last event about `peer` is a LinkUp."""
        kinds = [type(event) for event in self.events if event.peer == peer]
        return bool(kinds) and kinds[-1] is LinkUp


class RawPeer:
    """The dialler's side of a connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, port: int) -> RawPeer:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def write(self, data: bytes | bytearray) -> None:
        self.writer.write(data)

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
