# SPDX-License-Identifier: GPL-3.0-or-later
"""One outgoing connection, over a transport that is a list."""

from __future__ import annotations

import asyncio

import pytest

from quorate.core.values.messages import PROTOCOL_VERSION, Greeting
from quorate.errors import PeerProtocolError
from quorate.transport.outgoing import Outgoing
from quorate.wire.frames import encode_greeting
from tests.unit.transport.conftest import Run

ANSWER = Greeting(PROTOCOL_VERSION, "c", "http://127.0.0.1:1", 1, 1, b"", "test")


class Wire(asyncio.Transport):
    """Keeps what is written; ends as soon as it is asked to."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.protocol = protocol
        self.is_ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_ended
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.is_ended

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def close(self) -> None:
        if not self.is_ended:
            self.is_ended = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close


def connected() -> tuple[Outgoing, Wire]:
    connection = Outgoing(b"hello")
    wire = Wire(connection)
    connection.connection_made(wire)
    return connection, wire


def test_it_greets_at_once_and_hears_the_answer_in_pieces(run: Run) -> None:
    async def main() -> None:
        connection, wire = connected()
        for byte in encode_greeting(ANSWER):
            connection.data_received(bytes([byte]))
        assert await connection.answer() == ANSWER
        assert wire.written == [b"hello"]
        assert connection.transport is wire
        await connection.close()
        assert wire.is_ended

    run(main())


def test_an_end_before_the_answer_is_a_connection_error(run: Run) -> None:
    async def main() -> None:
        connection, wire = connected()
        wire.close()
        with pytest.raises(ConnectionResetError):
            await connection.answer()
        await connection.lost()

    run(main())


def test_a_wrong_answer_is_the_peers_fault_and_ends_it(run: Run) -> None:
    async def main() -> None:
        connection, wire = connected()
        connection.data_received(b"HTTP/1.1 200 OK")
        assert wire.is_ended
        with pytest.raises(PeerProtocolError):
            await connection.answer()

    run(main())


def test_close_gives_up_after_a_while_if_the_loop_never_tells_the_end(run: Run) -> None:
    class Mute(Wire):
        def close(self) -> None:
            self.is_ended = True

        abort = close

    async def main() -> None:
        connection = Outgoing(b"hello")
        connection.connection_made(Mute(connection))
        await asyncio.wait_for(connection.close(), 5)

    run(main())
