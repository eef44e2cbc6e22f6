# SPDX-License-Identifier: GPL-3.0-or-later
"""One outgoing connection: says its greeting, hears the answer, and only writes from then on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, cast

from quorate.core.values.messages import Greeting
from quorate.errors import PeerProtocolError
from quorate.transport.sockets import tune
from quorate.wire.frames import GreetingParser

_FLUSH_S: Final = 1.0
"""How long `close` lets written bytes leave before it gives them up."""


class Outgoing(asyncio.Protocol):
    """The dialler's end of a link, to be used once its connecting succeeded.

    If connecting fails or is cancelled, the loop that dialled cleans up. (uvloop then may have
    called `connection_made` and never calls `connection_lost`: nothing must wait for it.)
    """

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._parser = GreetingParser()
        self._answer: asyncio.Future[Greeting | None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport
        """Set once connected. Frames are written to it directly: two calls less for each. uvloop
        raises on a write to a closing one."""
        self._error: PeerProtocolError | None = None
        self._lost = asyncio.Event()

    async def answer(self) -> Greeting:
        """The peer's greeting. PeerProtocolError or ConnectionError if none can come any more."""
        answer = await self._answer
        if answer is None:
            raise self._error or ConnectionResetError("closed during the handshake")
        return answer

    async def lost(self) -> None:
        """Return when the connection is gone. PeerProtocolError if the peer is to blame."""
        await self._lost.wait()
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        """Take no more, let what was written leave, but not for ever; return when it is gone."""
        self.transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self._lost.wait()
        self.abort()

    def abort(self) -> None:
        """End it now; what was written and not sent is lost."""
        # asyncio raises on a transport that flushed, ended and then is aborted.
        if not self._lost.is_set():
            self.transport.abort()

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        tune(transport)
        self.transport.write(self._greeting)

    def data_received(self, data: bytes) -> None:
        try:
            self._hear(data)
        except PeerProtocolError as error:
            self._error = error
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 (asyncio's name)
        self._lost.set()
        if not self._answer.done():
            self._answer.set_result(None)

    def _hear(self, data: bytes) -> None:
        if self._answer.done():
            raise PeerProtocolError("the acceptor spoke on a link that is ours to speak on")
        answer = self._parser.feed(data)
        if answer is None:
            return
        if self._parser.rest:
            raise PeerProtocolError("bytes behind the acceptor's greeting")
        self._answer.set_result(answer)
