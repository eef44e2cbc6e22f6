# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for ordinary code: safe to share between threads, and to use after a fork.

Each call takes an idle connection or opens one, and gives it back only when the whole answer was
read, so an answer can never reach another call. After a fork the child forgets its parent's
connections: two processes must not read from one.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

from quorate.client import calls
from quorate.client.calls import Call, KeyPage, Raw, Value, Written
from quorate.client.sockets import is_stale, reason_of
from quorate.client.trial import (
    CONNECT_SECONDS,
    GRACE_SECONDS,
    PING,
    Endpoint,
    Lost,
    Route,
    Trial,
    endpoints_of,
)
from quorate.errors import PeerProtocolError, QuorumUnreachable
from quorate.wire.http import Response, ResponseParser

if TYPE_CHECKING:
    from quorate.client.batch import BatchResult, Operation

IDLE_CONNECTIONS_MAX: Final = 64
"""Kept for each node; more are closed after their call."""
_READ_BYTES: Final = 256 << 10


class _Connection:
    """One TCP connection, used by one call at a time."""

    def __init__(self, endpoint: Endpoint, *, until: float) -> None:
        self._endpoint = endpoint
        try:
            seconds = min(CONNECT_SECONDS, _left(until))
            self._socket = socket.create_connection((endpoint.host, endpoint.port), seconds)
        except OSError as fault:
            raise Lost(reason_of(fault), was_sent=False) from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._was_used = False

    def close(self) -> None:
        """Close it, whatever state it is in."""
        self._socket.close()

    def is_stale(self) -> bool:
        """Whether the node closed it, or sent what nobody asked for."""
        self._socket.setblocking(False)
        return is_stale(self._socket)

    def exchange(self, call: Call, *, until: float) -> Response:
        """Send `call` and read its answer; raises Lost."""
        was_sent = False
        try:
            view = memoryview(self._endpoint.request(call))
            while view:
                self._socket.settimeout(_left(until))
                view = view[self._socket.send(view) :]
                was_sent = True
            return self._receive(until)
        except PeerProtocolError as fault:
            raise Lost(str(fault), was_sent=True) from None
        except OSError as fault:
            was_kept = self._was_used and not isinstance(fault, TimeoutError)
            raise Lost(reason_of(fault), was_sent=was_sent, was_kept=was_kept) from None

    def _receive(self, until: float) -> Response:
        parser = ResponseParser()
        while True:
            self._socket.settimeout(_left(until))
            data = self._socket.recv(_READ_BYTES)
            response = parser.feed(data) if data else parser.end()
            if response is not None:
                self._was_used = True
                return response
            if not data:
                raise ConnectionResetError("connection closed before the answer")


class _Pool:
    """Idle connections of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._idle: dict[Endpoint, list[_Connection]] = {}

    def take(self, endpoint: Endpoint, *, until: float) -> _Connection:
        """An idle connection that is still good, or a new one."""
        while True:
            with self._lock:
                idle = self._idle.get(endpoint)
                connection = idle.pop() if idle else None
            if connection is None:
                return _Connection(endpoint, until=until)
            if not connection.is_stale():
                return connection
            connection.close()

    def give(self, endpoint: Endpoint, connection: _Connection) -> None:
        with self._lock:
            idle = self._idle.setdefault(endpoint, [])
            if len(idle) < IDLE_CONNECTIONS_MAX:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def abandon(self) -> None:
        """Close this process's ends of connections that belong to the parent of a fork.

        Without the lock: another thread may have held it when the process was forked.
        """
        for connections in self._idle.values():
            for connection in connections:
                connection.close()


class Client:
    """Talks to a cluster through whichever of `nodes` answers. All times are in seconds.

    `timeout` bounds each call, connecting included. A call's own `timeout` replaces it and is told
    to the node too, whose answer at that deadline is waited for half a second more.
    """

    def __init__(
        self, nodes: str | Sequence[str] = "http://localhost:8000", *, timeout: float = 10.0
    ) -> None:
        self._route = Route(endpoints_of(nodes))
        self._timeout = timeout
        self._pool = _Pool()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections; the client can still be used."""
        self._own_pool().close()

    def get(self, key: Raw, *, r: int | None = None, timeout: float | None = None) -> Value | None:
        """The newest value that `r` replicas know, or None if they say that there is none."""
        call = calls.get_call(key, r=r, timeout=timeout)
        return calls.read_get(self.request(call, timeout=timeout))

    def put(
        self,
        key: Raw,
        value: Raw,
        *,
        w: int | None = None,
        ttl: int | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Write a value that `w` replicas hold when this returns; it expires after `ttl`."""
        call = calls.put_call(key, value, w=w, ttl=ttl, timeout=timeout)
        return calls.read_written(self.request(call, timeout=timeout))

    def delete(self, key: Raw, *, w: int | None = None, timeout: float | None = None) -> Written:
        """Delete a key, whether or not it is there."""
        call = calls.delete_call(key, w=w, timeout=timeout)
        return calls.read_written(self.request(call, timeout=timeout))

    def page(
        self,
        prefix: Raw = b"",
        *,
        cursor: str = "",
        limit: int = 1000,
        r: int | None = None,
        timeout: float | None = None,
    ) -> KeyPage:
        """Up to `limit` keys that begin with `prefix`, from `cursor` on."""
        call = calls.page_call(prefix, cursor=cursor, limit=limit, r=r, timeout=timeout)
        return calls.read_page(self.request(call, timeout=timeout))

    def scan(
        self, prefix: Raw = b"", *, r: int | None = None, timeout: float | None = None
    ) -> Iterator[bytes]:
        """Every key that begins with `prefix`; `timeout` is for each page.

        QuorumUnreachable, after the keys that were found, if some may be missing.
        """
        cursor, complete = "", True
        while True:
            page = self.page(prefix, cursor=cursor, r=r, timeout=timeout)
            yield from page.keys
            complete = complete and page.complete
            cursor = page.cursor
            if not cursor:
                break
        if not complete:
            raise QuorumUnreachable("too few replicas answered: keys may be missing")

    def batch(
        self,
        operations: Sequence[Operation],
        *,
        r: int | None = None,
        w: int | None = None,
        timeout: float | None = None,
    ) -> list[BatchResult]:
        """Do several operations in one request. They run side by side, without a transaction: each
        succeeds or fails for itself, and a read may miss a write that stands above it."""
        from quorate.client.batch import batch_call, read_batch  # Late: it needs json.

        call = batch_call(operations, r=r, w=w, timeout=timeout)
        return read_batch(self.request(call, timeout=timeout), operations)

    def request(self, call: Call, *, timeout: float | None = None) -> Response:
        """Send any request to the first node that answers, and return its answer as it is."""
        seconds = self._timeout if timeout is None else timeout + GRACE_SECONDS
        until = time.monotonic() + seconds
        trial = Trial(call, self._route)
        while True:
            endpoint = trial.next()
            try:
                response = self._attempt(endpoint, call, until=until)
            except Lost as lost:
                trial.lost(endpoint, lost, is_late=time.monotonic() >= until)
                continue
            chosen = trial.answer(endpoint, response)
            if chosen is not None:
                return chosen

    def _attempt(self, endpoint: Endpoint, call: Call, *, until: float) -> Response:
        if self._route.needs_proof(endpoint):
            _prove(endpoint, until=min(until, time.monotonic() + CONNECT_SECONDS))
        pool = self._own_pool()
        connection = pool.take(endpoint, until=until)
        try:
            response = connection.exchange(call, until=until)
        except BaseException:
            connection.close()
            raise
        if response.keeps_alive:
            pool.give(endpoint, connection)
        else:
            connection.close()
        return response

    def _own_pool(self) -> _Pool:
        if self._pool.pid != os.getpid():
            self._pool.abandon()
            self._pool = _Pool()
        return self._pool


def _prove(endpoint: Endpoint, *, until: float) -> None:
    """Raise Lost unless the node answers a ping, if only with a refusal.

    On a connection of its own: pings are served in the slow lane, and a connection that went there
    stays there.
    """
    connection = _Connection(endpoint, until=until)
    try:
        connection.exchange(PING, until=until)
    except Lost as lost:
        raise Lost(lost.reason, was_sent=False) from None
    finally:
        connection.close()


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
