# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a fixed number of connections busy and notes how long each batch of requests takes.

Closed loop: a connection sends its next batch when the last reply of the one before is in, so a
slow server is asked less, as by as many patient users. A lost connection is counted with all its
unanswered requests and opened again. Bounded in time: past its end the load waits `DRAIN_SECONDS`
for the last replies and counts what is missing then.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from quorate.bench.protocols import Codec, ProtocolFault, Tally

CONNECT_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 0.1
_READ_BYTES: Final = 64 << 10
_READ_WRITE: Final = selectors.EVENT_READ | selectors.EVENT_WRITE


class Batch(NamedTuple):
    """Requests that are sent together, all reads or all writes."""

    payload: bytes
    requests: int
    replies: int
    is_read: bool


class Connection:
    """One connection to one target, and the batch that it has under way."""

    def __init__(self, target: tuple[str, int], codec: Codec) -> None:
        self.target = target
        self.codec = codec
        self.socket: socket.socket | None = None
        self.batch: Batch | None = None
        self.begun = 0.0
        self.missing = 0
        """Replies of the batch still to come."""
        self.unsent = b""
        self.unread = b""
        """The beginning of a reply."""

    def open(self) -> None:
        """Connect, waiting for it; raises OSError."""
        self.socket = socket.create_connection(self.target, CONNECT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = self.unread = b""


Source = Callable[[Connection], Batch | None]
"""Gives a connection its next batch; None when there is nothing left to do."""


class Load:
    """One run over some connections."""

    def __init__(self, connections: list[Connection], source: Source) -> None:
        self.tally = Tally()
        self.read_counts: dict[int, int] = {}
        """Answered reads by latency in microseconds."""
        self.write_counts: dict[int, int] = {}
        self.seconds = 0.0
        self._connections = connections
        self._source = source
        self._selector = selectors.DefaultSelector()
        self._busy = 0
        """Connections with a batch under way."""
        self._lost: list[Connection] = []
        self._retry_at = 0.0
        self._end = 0.0

    def run(self, *, seconds: float) -> None:
        """Work until the source is empty, at most for `seconds`. OSError if a target refuses the
        first connection."""
        for connection in self._connections:
            self._connect(connection)
        begun = time.perf_counter()
        self._end = begun + seconds
        for connection in self._connections:
            self._begin(connection, begun)
        while (self._busy or self._lost) and time.perf_counter() < self._end:
            self._turn()
        self.seconds = min(time.perf_counter(), self._end) - begun
        while self._busy and time.perf_counter() < self._end + DRAIN_SECONDS:
            self._turn()
        unanswered = sum(c.batch.requests for c in self._connections if c.batch is not None)
        if unanswered:
            self.tally.errors["no answer"] += unanswered

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            if connection.socket is not None:
                connection.socket.close()
        self._selector.close()

    def _turn(self) -> None:
        for key, mask in self._selector.select(_RETRY_SECONDS):
            if mask & selectors.EVENT_WRITE:
                self._send(key.data)
            # A failed send took the connection away.
            if mask & selectors.EVENT_READ and key.data.socket is not None:
                self._receive(key.data)
        if self._lost and time.perf_counter() > self._retry_at:
            self._reconnect()

    def _begin(self, connection: Connection, now: float) -> None:
        batch = self._source(connection) if now < self._end else None
        connection.batch = batch
        if batch is None:
            return
        self._busy += 1
        connection.begun = now
        connection.missing = batch.replies
        connection.unsent = batch.payload
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        assert connection.socket is not None
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            sent = 0
        except OSError as fault:
            self._lose(connection, fault)
            return
        if sent == len(connection.unsent):
            connection.unsent = b""
            return
        connection.unsent = connection.unsent[sent:]
        self._selector.modify(connection.socket, _READ_WRITE, connection)

    def _receive(self, connection: Connection) -> None:
        assert connection.socket is not None
        try:
            data = connection.socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("connection closed")
            count, connection.unread = connection.codec.take(connection.unread + data, self.tally)
        except BlockingIOError:
            return
        except (OSError, ProtocolFault) as fault:
            self._lose(connection, fault)
            return
        connection.missing -= count
        if connection.missing == 0:
            self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        batch = connection.batch
        assert batch is not None
        now = time.perf_counter()
        if now < self._end:
            counts = self.read_counts if batch.is_read else self.write_counts
            microseconds = int((now - connection.begun) * 1e6)
            counts[microseconds] = counts.get(microseconds, 0) + batch.requests
        self._busy -= 1
        self._begin(connection, now)

    def _connect(self, connection: Connection) -> None:
        connection.open()
        assert connection.socket is not None
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def _lose(self, connection: Connection, fault: Exception) -> None:
        """Count what was under way as failed, and try to connect again a little later."""
        assert connection.socket is not None
        self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.socket = None
        if connection.batch is not None:
            self.tally.errors[getattr(fault, "strerror", None) or str(fault)] += (
                connection.batch.requests
            )
            connection.batch = None
            self._busy -= 1
        self._lost.append(connection)
        self._retry_at = time.perf_counter() + _RETRY_SECONDS

    def _reconnect(self) -> None:
        lost, self._lost = self._lost, []
        for connection in lost:
            try:
                self._connect(connection)
            except OSError:
                self._lost.append(connection)
                self._retry_at = time.perf_counter() + _RETRY_SECONDS
            else:
                self._begin(connection, time.perf_counter())
