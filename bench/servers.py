# SPDX-License-Identifier: GPL-3.0-or-later
"""The least that a server in Python can do: python -m bench.servers resp|http PORT, on uvloop."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, cast

import httptools
import uvloop

_VALUE: Final = b"v" * 64
_RESP: Final = b"$%d\r\n%b\r\n" % (len(_VALUE), _VALUE)
_HTTP: Final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(_VALUE), _VALUE)


class RespProtocol(asyncio.Protocol):
    """Takes whatever comes for a GET, and answers with the same."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class.

    def data_received(self, data: bytes) -> None:
        del data
        self._transport.write(_RESP)


class HttpProtocol(RespProtocol):
    """Parses requests, and answers each with the same."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._transport.write(_HTTP)


async def serve(kind: str, port: int) -> None:
    """Until it is killed."""
    protocol = HttpProtocol if kind == "http" else RespProtocol
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2])))
