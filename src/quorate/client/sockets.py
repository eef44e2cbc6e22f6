# SPDX-License-Identifier: GPL-3.0-or-later
"""What both clients ask of sockets, and which idle ones they keep."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

_LAST_BYTES: Final = 4096
_TLS_ALERT: Final = b"\x15\x03"
"""What a server that speaks TLS says to plain HTTP (RFC 8446, 5.1)."""
Turns = TypeVar("Turns")
"""A semaphore of threading or of asyncio."""


class TlsFault(OSError):
    """The two ends do not agree about TLS. Nothing was asked; the text says what to do."""


class NodeConnection:
    """A socket that is connected, and what goes over it."""

    __slots__ = ("_is_new", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._is_new = True
        """Whether nothing has come yet."""

    def sealed(self, data: bytes) -> bytes:
        """`data` as it goes over the socket."""
        return data

    def opened(self, data: bytes) -> bytes | None:
        """What `data`, which came over the socket, brings; None: nothing whole yet. Nothing: the
        end. TlsFault, ConnectionResetError."""
        if self._is_new and data.startswith(_TLS_ALERT):
            raise TlsFault("it speaks TLS: write https://")
        self._is_new = False
        return data

    def close(self) -> None:
        """Close the socket. TLS is told no end: a fork may share the socket and go on with it."""
        self.socket.close()


class Pool(Generic[Turns]):
    """Idle connections of one owner, by endpoint and what they were used for, and the turns of
    those who may have one.

    Without a lock, which a fork could copy while another thread holds it: `pop` and `append` of
    several threads to one list happen one after the other.
    """

    def __init__(self, uses: Iterable[object], *, owner: object, turns: Turns) -> None:
        self.owner = owner
        self.turns = turns
        self._idle: dict[object, list[NodeConnection]] = {each: [] for each in uses}

    def take(self, use: object) -> NodeConnection | None:
        """The connection that was used last of those that are still good, if there is one."""
        while (idle := _last_of(self._idle[use])) is not None:
            if not is_stale(idle.socket):
                return idle
            idle.close()
        return None

    def give(self, use: object, connection: NodeConnection) -> None:
        """Keep a connection whose answer was read to the end. No more are kept than have turns."""
        self._idle[use].append(connection)

    def close(self) -> None:
        """Close what is idle: this process's ends, where a fork shares them."""
        for all_idle in self._idle.values():
            while (idle := _last_of(all_idle)) is not None:
                idle.close()


def _last_of(idle: list[NodeConnection]) -> NodeConnection | None:
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


def broken(connection: NodeConnection, fault: OSError) -> OSError:
    """Why a connection broke: `fault`, if the other side did not say before that it is TLS.

    Who refuses a handshake often hangs up before it is asked anything: that what is sent then is
    not taken hides what was said.
    """
    if isinstance(fault, ConnectionError):
        try:
            rest = connection.socket.recv(_LAST_BYTES)
        except OSError:
            rest = b""  # Reset: what was said is lost, and the end says something by itself.
        try:
            connection.opened(rest)
        except (TlsFault, ConnectionError) as end:
            return end
        except OSError:
            pass
    return fault


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
