# SPDX-License-Identifier: GPL-3.0-or-later
"""What both clients ask of sockets, and which idle ones they keep."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import Generic, TypeVar

Turns = TypeVar("Turns")
"""A semaphore of threading or of asyncio."""


class Pool(Generic[Turns]):
    """Idle connections of one owner, by endpoint, and the turns of those who may have one.

    Without a lock, which a fork could copy while another thread holds it: `pop` and `append` of
    several threads to one list happen one after the other.
    """

    def __init__(self, endpoints: Iterable[object], *, owner: object, turns: Turns) -> None:
        self.owner = owner
        self.turns = turns
        self._idle: dict[object, list[socket.socket]] = {each: [] for each in endpoints}

    def take(self, endpoint: object) -> socket.socket | None:
        """The connection that was used last of those that are still good, if there is one."""
        while (idle := _last_of(self._idle[endpoint])) is not None:
            if not is_stale(idle):
                return idle
            idle.close()
        return None

    def give(self, endpoint: object, connection: socket.socket) -> None:
        """Keep a connection whose answer was read to the end. No more are kept than have turns."""
        self._idle[endpoint].append(connection)

    def close(self) -> None:
        """Close what is idle: this process's ends, where a fork shares them."""
        for all_idle in self._idle.values():
            while (idle := _last_of(all_idle)) is not None:
                idle.close()


def _last_of(idle: list[socket.socket]) -> socket.socket | None:
    try:
        return idle.pop()
    except IndexError:
        return None


def seconds_left(until: float) -> float:
    """More than 0; TimeoutError if nothing is left."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def is_stale(idle: socket.socket) -> bool:
    """Whether the other side closed an idle connection, or sent what nobody asked for.

    Asked before it is used again: a write that is sent into a closed one is UNKNOWN. Leaves the
    socket non-blocking.
    """
    try:
        idle.setblocking(False)
        idle.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def reason_of(fault: OSError) -> str:
    """A connection's failure in a few words, the same from every library."""
    if isinstance(fault, TimeoutError):
        return "no answer in time"
    # A failed look-up has a negative number of its own, and a text.
    if fault.errno is not None and fault.errno > 0:
        return os.strerror(fault.errno)
    return fault.strerror or str(fault)
