# SPDX-License-Identifier: GPL-3.0-or-later
"""How a client waits for sockets in ordinary code. `async_sockets` has the same names for asyncio.

Whatever waits ends by `until`, a time of `time.monotonic`: TimeoutError, an OSError, after that.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

from quorate.client.sockets import seconds_left


def owner() -> object:
    """Whose connections these are: of two processes that a fork made of one, each has its own."""
    return os.getpid()


def acquire(turns: threading.Semaphore, *, until: float) -> None:
    """Wait for a turn."""
    if not turns.acquire(timeout=seconds_left(until)):
        raise TimeoutError


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def look_up(host: str, port: int, *, until: float) -> list[Any]:
    """What `socket.getaddrinfo` finds. It is bounded by the system's resolver, not by `until`."""
    del until
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def dial(socket_: socket.socket, address: Any, *, until: float) -> None:
    """Connect."""
    socket_.settimeout(seconds_left(until))
    socket_.connect(address)
    socket_.setblocking(False)


def send_all(socket_: socket.socket, data: memoryview, *, until: float) -> None:
    """Send all of `data`."""
    while data:
        socket_.settimeout(seconds_left(until))
        data = data[socket_.send(data) :]


def receive(socket_: socket.socket, size: int, *, until: float) -> bytes:
    """The next bytes, at most `size`; none at the end."""
    socket_.settimeout(seconds_left(until))
    return socket_.recv(size)
