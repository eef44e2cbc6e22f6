# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that make a link quick and a dead peer noticed."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from typing import cast

import pytest

from quorate.host.system import Channel
from quorate.runtime.sockets import SILENCE_S, tune
from tests.unit.conftest import Run


@pytest.mark.skipif(sys.platform != "linux", reason="the options are named by Linux")
def test_a_link_sends_at_once_and_gives_a_silent_host_up(run: Run, ports: Iterator[int]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        port = next(ports)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", port)
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        tune(transport)
        sock: socket.socket = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SILENCE_S * 1000
        probes = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        every_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        after_s = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert after_s + probes * every_s == SILENCE_S
        transport.abort()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_connection_that_died_meanwhile_is_left_alone() -> None:
    class Dead(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            assert (name, default) == ("socket", None)
            sock = socket.socket()
            sock.close()
            return sock

    tune(cast(Channel, Dead()))
    tune(cast(Channel, asyncio.BaseTransport()))
