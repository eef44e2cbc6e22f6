# SPDX-License-Identifier: GPL-3.0-or-later
"""How a client waits for sockets under asyncio: the names of `blocking_sockets`, to be awaited.

Plain sockets, not asyncio's streams: a stream belongs to one loop, in the process that opened it,
even when it is only closed; it does not say whether anything was sent before it failed; and what
arrived in this turn of the loop it does not know yet. A plain socket at rest belongs to nobody.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from quorate.client.sockets import seconds_left


def owner() -> object:
    """Whose connections these are: of one event loop in one process."""
    return os.getpid(), asyncio.get_running_loop()


async def acquire(turns: asyncio.Semaphore, *, until: float) -> None:
    """Wait for a turn."""
    async with asyncio.timeout(seconds_left(until)):
        await turns.acquire()


async def pause(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)


async def look_up(host: str, port: int, *, until: float) -> list[Any]:
    """What `socket.getaddrinfo` finds: for an address at once, for a name in a thread."""
    kind, number = socket.SOCK_STREAM, socket.AI_NUMERICHOST
    try:
        return socket.getaddrinfo(host, port, type=kind, flags=number)
    except socket.gaierror:
        async with asyncio.timeout(seconds_left(until)):
            return await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)


async def dial(socket_: socket.socket, address: Any, *, until: float) -> None:
    """Connect."""
    socket_.setblocking(False)
    async with asyncio.timeout(seconds_left(until)):
        await asyncio.get_running_loop().sock_connect(socket_, address)


async def send_all(socket_: socket.socket, data: memoryview, *, until: float) -> None:
    """Send all of `data`."""
    async with asyncio.timeout(seconds_left(until)):
        await asyncio.get_running_loop().sock_sendall(socket_, data)


async def receive(socket_: socket.socket, size: int, *, until: float) -> bytes:
    """The next bytes, at most `size`; none at the end."""
    async with asyncio.timeout(seconds_left(until)):
        return await asyncio.get_running_loop().sock_recv(socket_, size)
