# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a fixed number of connections busy and notes how long each batch of requests takes.

Closed loop: a connection sends its next batch when the last reply of the one before is in, so a
slow server is asked less, as by as many patient users. Open loop: batches are due at fixed times,
whoever is free sends the one that is longest due, and latency counts from when it was due, so that
a pause shows in every request that it delayed (Tene, "How NOT to Measure Latency": coordinated
omission).

A lost connection is counted with all its unanswered requests and opened again. Bounded in time:
past its end the load waits `DRAIN_SECONDS` for the last replies, so that the slowest are counted
too, and then counts what is missing. Throughput is of what was answered before the end.
"""

from __future__ import annotations

import math
import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from quorate.bench.protocols import Codec, ProtocolFault, Tally
from quorate.bench.result import Slice

if TYPE_CHECKING:
    import ssl

    from quorate.client.tls import TlsConnection

DRAIN_SECONDS: Final = 2.0
_CATCH_UP_SECONDS: Final = 1.0
_TURN_SECONDS: Final = 0.05
_RETRY_SECONDS: Final = 0.1
_SLIVER_SECONDS: Final = 1e-6
"""No slice, but a rounding error."""
_READ_BYTES: Final = 64 << 10
_READ_WRITE: Final = selectors.EVENT_READ | selectors.EVENT_WRITE
CONNECT_SECONDS: Final = 2.0
_NONE: Final = socket.socket()
"""Stands for the socket of a connection that has none yet. It may be closed again."""
_NONE.close()


class RequestBatch(NamedTuple):
    """Requests that are sent together, all reads or all writes."""

    payload: bytes
    requests: int
    replies: int
    is_read: bool
    then: RequestBatch | None = None
    """What this connection sends next: the writes of a read-modify-write."""


class TargetConnection:
    """A socket that never blocks, once it is open."""

    __slots__ = (
        "_address",
        "_context",
        "_family",
        "_skip",
        "_unread",
        "batch",
        "begun",
        "codec",
        "is_open",
        "missing",
        "secured",
        "socket",
        "target",
        "unsent",
    )

    def __init__(
        self, target: tuple[str, int], codec: Codec, context: ssl.SSLContext | None = None
    ) -> None:
        self._context = context
        self.secured: TlsConnection | None = None
        """What stands between the codec and the socket, from the handshake on; None: nothing."""
        self.target = target
        self.codec = codec
        self.socket = _NONE
        self.is_open = False
        self.batch: RequestBatch | None = None
        self.begun = 0.0
        """When the batch was sent, or due."""
        self.missing = 0
        """Replies of the batch still to come."""
        self.unsent: bytes | memoryview = b""
        self._unread = b""
        """The beginning of a reply."""
        self._skip = 0
        """Bytes of a reply still to come that need not be looked at."""

    def open(self) -> None:
        """Connect, waiting for it; raises OSError."""
        self.socket = socket.create_connection(self.target, CONNECT_SECONDS)
        self._family, self._address = self.socket.family, self.socket.getpeername()
        is_greeted = self.greet()
        while not is_greeted:
            is_greeted = self.greet(self.socket.recv(_READ_BYTES))
        self._settle()
        self.is_open = True

    def reopen(self) -> None:
        """Begin to connect again to where it was. It is writable when that is done: see
        `has_failed`."""
        self.socket = socket.socket(self._family)
        self._settle()
        self.socket.connect_ex(self._address)

    def greet(self, data: bytes | None = None) -> bool:
        """Go on with the handshake, where there is one, by what came: whether it is done. OSError
        where there is no agreement."""
        if self._context is None:
            return True
        if self.secured is None:
            from quorate.client.tls import TlsConnection  # Late: most measure without.

            self.secured = TlsConnection(self.socket, self._context, self.target[0])
        reply, is_done = self.secured.shake(data)
        if reply:
            # A kilobyte or so, into an empty buffer.
            self.socket.send(reply)
        return is_done

    def has_failed(self) -> bool:
        """Whether connecting failed."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def take(self, data: bytes, tally: Tally) -> int:
        """The number of replies that end in `data`, which is what came next."""
        skipped = 0
        if self._skip:
            # Large values are let go as they come: no copy of what is there already.
            if len(data) < self._skip:
                self._skip -= len(data)
                return 0
            data, skipped = data[self._skip :], 1
        elif self._unread:
            data = self._unread + data
        count, self._unread, self._skip = self.codec.take(data, tally)
        return count + skipped

    def close(self) -> None:
        """Be closed; what was half sent or half read is forgotten."""
        self.socket.close()
        self.is_open = False
        self.secured = None
        self.unsent = self._unread = b""
        self._skip = 0

    def _settle(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)


Source = Callable[[TargetConnection], RequestBatch | None]
"""Gives a connection its next batch; None when there is nothing left to do."""


class Pace(NamedTuple):
    """When the batches of an open loop are due."""

    interval: float
    """Seconds from one to the next."""
    offset: float
    """When the first is due, from the beginning."""


class Load:
    """One run over some connections."""

    def __init__(
        self,
        connections: list[TargetConnection],
        source: Source,
        *,
        pace: Pace | None = None,
        slice_seconds: float = 0.1,
        tell: Callable[[Slice], None] = lambda _: None,
    ) -> None:
        self.tally = Tally()
        self.read_counts: dict[int, int] = {}
        """Answered reads by latency in microseconds."""
        self.write_counts: dict[int, int] = {}
        self.reads_in_time = 0
        """Those that were answered before the end."""
        self.writes_in_time = 0
        self.seconds = 0.0
        self.overdue = 0
        """Batches that were due before the end and not sent by then."""
        self._connections = connections
        self._source = source
        self._pace = pace
        self._due = math.inf
        """When the next batch of the open loop is due: never, once that is past the end."""
        self._free: deque[TargetConnection] = deque()
        """Connections that wait for it."""
        self._selector = selectors.DefaultSelector()
        self._busy = 0
        """Connections with a batch under way."""
        self._away = 0
        """Connections that are lost or being opened again."""
        self._lost: list[TargetConnection] = []
        self._retry_at = 0.0
        self._end = math.inf
        self._slices = _Slices(self.tally, slice_seconds, tell)

    def open(self) -> None:
        """Connect them all; raises OSError if a target refuses."""
        for connection in self._connections:
            connection.open()
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)

    def run(self, *, seconds: float) -> None:
        """Work until the source is empty, at most for `seconds`."""
        begun = now = time.perf_counter()
        self._end = min(self._end, begun + seconds)
        if self._pace is not None:
            self._due = begun + self._pace.offset
        self._slices.begin(begun)
        for connection in self._connections:
            self._begin(connection, begun)
        while now < self._end and (self._busy or self._away or self._free):
            now = self._turn(now)
        self._slices.close(min(now, self._end))
        self.seconds = max(0.0, min(now, self._end) - begun)
        self.reads_in_time = sum(self.read_counts.values())
        self.writes_in_time = sum(self.write_counts.values())
        if self._pace is not None and self._due < self._end:
            self.overdue = math.ceil((self._end - self._due) / self._pace.interval)
        while now < self._end + DRAIN_SECONDS and (self._busy or self._is_due(now)):
            now = self._turn(now)
        unanswered = sum(c.batch.requests for c in self._connections if c.batch is not None)
        if unanswered:
            self.tally.fail("no answer", unanswered)

    def stop(self) -> None:
        """End before the time is up. A handler of a signal may call it."""
        self._end = min(self._end, time.perf_counter())

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections:
            connection.close()
        self._selector.close()

    # --- time ------------------------------------------------------------------------------

    def _turn(self, now: float) -> float:
        """Do what can be done, or wait for it; what time it is then."""
        while self._free and self._is_due(now):
            self._begin(self._free.popleft(), now)
        ready = self._selector.select(self._wait())
        now = time.perf_counter()
        # Before what came is counted: it came after the wait.
        if self._slices.end <= now < self._end:
            self._slices.finish(now)
        for key, mask in ready:
            connection = key.data
            if mask & selectors.EVENT_WRITE:
                self._on_writable(connection)
            # What failed took the connection away.
            if mask & selectors.EVENT_READ and connection.is_open:
                self._receive(connection)
            elif mask & selectors.EVENT_READ and connection.secured is not None:
                self._greet(connection)
        now = time.perf_counter()
        if self._lost and now > self._retry_at:
            self._reconnect()
        return now

    def _wait(self) -> float:
        """How long the selector may wait. It rounds up to milliseconds, and a request that is sent
        late looks like a slow answer: what is shorter is waited for here."""
        if not self._free or self._due >= self._end:
            return _TURN_SECONDS
        wait = self._due - time.perf_counter()
        if wait <= 0:
            return 0.0
        if wait > _TURN_SECONDS or not hasattr(self._selector, "fileno"):
            return min(wait, _TURN_SECONDS)
        select.select([self._selector], [], [], wait)
        return 0.0

    def _is_due(self, now: float) -> bool:
        """Whether a batch of the open loop is to be sent. One that was due before the end is sent
        even after it, up to `_CATCH_UP_SECONDS`, so that its answer can still be waited for."""
        due = self._due
        return due <= now and due < self._end and now < self._end + _CATCH_UP_SECONDS

    # --- a batch's way ---------------------------------------------------------------------

    def _begin(self, connection: TargetConnection, now: float) -> None:
        """Send what is due; if nothing is, the connection waits."""
        begun = now
        if self._pace is not None:
            if not self._is_due(now):
                self._free.append(connection)
                return
            begun = self._due
            self._due += self._pace.interval
        elif now >= self._end:
            return
        batch = self._source(connection)
        if batch is not None:
            self._start(connection, batch, begun)

    def _start(self, connection: TargetConnection, batch: RequestBatch, begun: float) -> None:
        self._busy += 1
        connection.batch = batch
        connection.begun = begun
        connection.missing = batch.replies
        connection.unsent = batch.payload
        if connection.secured is not None:
            try:
                connection.unsent = connection.secured.sealed(batch.payload)
            except OSError as fault:
                self._lose(connection, fault)
                return
        self._send(connection)

    def _send(self, connection: TargetConnection) -> None:
        unsent = connection.unsent
        try:
            sent = connection.socket.send(unsent)
        except BlockingIOError:
            sent = 0
        except OSError as fault:
            self._lose(connection, fault)
            return
        if sent == len(unsent):
            connection.unsent = b""
            return
        connection.unsent = memoryview(unsent)[sent:]
        self._selector.modify(connection.socket, _READ_WRITE, connection)

    def _on_writable(self, connection: TargetConnection) -> None:
        if not connection.is_open:
            self._on_connected(connection)
            return
        self._send(connection)
        if connection.is_open and not connection.unsent:
            self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _receive(self, connection: TargetConnection) -> None:
        try:
            data: bytes | None = connection.socket.recv(_READ_BYTES)
            if connection.secured is not None:
                data = connection.secured.opened(data or b"")
                if data is None:
                    return
            if not data:
                raise ConnectionResetError("connection closed")
            count = connection.take(data, self.tally)
        except BlockingIOError:
            return
        except (OSError, ProtocolFault) as fault:
            self._lose(connection, fault)
            return
        connection.missing -= count
        if connection.missing <= 0:
            self._finish(connection)

    def _finish(self, connection: TargetConnection) -> None:
        batch = connection.batch
        if batch is None or connection.missing < 0:
            self._lose(connection, ProtocolFault("a reply to nothing"))
            return
        now = time.perf_counter()
        microseconds = int((now - connection.begun) * 1e6)
        counts = self.read_counts if batch.is_read else self.write_counts
        counts[microseconds] = counts.get(microseconds, 0) + batch.requests
        slices = self._slices
        slices.ended += batch.requests
        if microseconds > slices.worst:
            slices.worst = microseconds
        self._busy -= 1
        connection.batch = None
        if batch.then is not None and now < self._end:
            self._follow(connection, batch.then, now)
        else:
            self._begin(connection, now)

    def _follow(self, connection: TargetConnection, batch: RequestBatch, now: float) -> None:
        """Send what had to wait for the batch before it. It was not due before now, and takes the
        place of another in an open loop, so that the rate stays."""
        if self._pace is not None:
            self._due += self._pace.interval
        self._start(connection, batch, now)

    # --- lost connections ------------------------------------------------------------------

    def _lose(self, connection: TargetConnection, fault: Exception) -> None:
        """Count what was under way as failed, and try to connect again a little later."""
        if connection.is_open:
            self._away += 1
        self._selector.unregister(connection.socket)
        connection.close()
        batch = connection.batch
        if batch is not None:
            self.tally.fail(getattr(fault, "strerror", None) or str(fault), batch.requests)
            self._slices.ended += batch.requests
            connection.batch = None
            self._busy -= 1
        elif self._pace is not None and connection in self._free:
            self._free.remove(connection)
        self._lost.append(connection)
        self._retry_at = time.perf_counter() + _RETRY_SECONDS

    def _reconnect(self) -> None:
        lost, self._lost = self._lost, []
        for connection in lost:
            connection.reopen()
            self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)

    def _on_connected(self, connection: TargetConnection) -> None:
        if connection.has_failed():
            self._lose(connection, ConnectionRefusedError())
            return
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
        self._greet(connection, is_first=True)

    def _greet(self, connection: TargetConnection, *, is_first: bool = False) -> None:
        """Go on with the handshake, where there is one; then there is work again."""
        try:
            data = None if is_first else connection.socket.recv(_READ_BYTES)
            is_greeted = connection.greet(data)
        except OSError as fault:
            self._lose(connection, fault)
            return
        if is_greeted:
            connection.is_open = True
            self._away -= 1
            self._begin(connection, time.perf_counter())


class _Slices:
    """Adds up what ends, and tells of it slice by slice."""

    def __init__(self, tally: Tally, seconds: float, tell: Callable[[Slice], None]) -> None:
        self.ended = 0
        """Requests answered or lost in this slice."""
        self.worst = 0
        """The longest latency in this slice, in microseconds."""
        self.end = 0.0
        self._tally = tally
        self._failed_before = 0
        self._seconds = seconds
        self._tell = tell

    def begin(self, now: float) -> None:
        """The first slice begins."""
        self.end = now + self._seconds

    def finish(self, now: float) -> None:
        """Tell of the slice that is over by `now`, and of those since in which nothing ended."""
        failed = self._tally.failed - self._failed_before
        self._failed_before = self._tally.failed
        # A request whose WAIT failed too has two errors.
        self._tell(Slice(max(0, self.ended - failed), failed, self.worst / 1000))
        self.ended = self.worst = 0
        self.end += self._seconds
        while self.end <= now:
            self._tell(Slice())
            self.end += self._seconds

    def close(self, now: float) -> None:
        """Tell of what is over and was not told of: the last slice, or also those before it in
        which there was no turn."""
        while now - (self.end - self._seconds) > _SLIVER_SECONDS:
            self.finish(now)
