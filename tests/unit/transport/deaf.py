# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer that says one thing and never reads: stopped, stuck, or no node at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

from tests.unit.transport.node import accepted, until


class Deaf(asyncio.Protocol):
    """An acceptor that says `answer` and never reads."""

    def __init__(self, answer: bytes, *, closes: bool) -> None:
        self.answer = answer
        self.closes = closes
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.answer)
        if self.closes:
            self.transport.close()
        else:
            # uvloop begins to read when this callback has returned.
            asyncio.get_running_loop().call_soon(self.stop_reading)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = exc is None or isinstance(exc, OSError)

    def stop_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()


@contextlib.asynccontextmanager
async def raw_peer(port: int, answer: bytes, *, closes: bool = False) -> AsyncIterator[list[Deaf]]:
    """A peer that is deaf; yields its connections so far."""
    connections: list[Deaf] = []

    def accept() -> Deaf:
        connections.append(Deaf(answer, closes=closes))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", port)
    try:
        yield connections
    finally:
        server.close()
        await accepted()
        for connection in connections:
            if not connection.is_lost:
                connection.transport.abort()
        await until(lambda: all(connection.is_lost for connection in connections))
        await server.wait_closed()
