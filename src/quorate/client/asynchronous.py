# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for asyncio: safe to share between tasks of one event loop, and under cancellation.

Each call takes an idle connection or opens one, and gives it back only when the whole answer was
read. A call that is cancelled closes its connection: the answer that is still on its way can never
reach another call. What became of a cancelled write is unknown.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Final

from quorate.client import calls
from quorate.client.batch import BatchResult, Operation, batch_call, read_batch
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

CONNECTIONS_MAX: Final = 64
"""Calls under way at once; more wait for their turn, within their own time."""
_READ_BYTES: Final = 256 << 10


class _Connection:
    """One TCP connection, used by one call at a time."""

    def __init__(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._was_used = False

    @classmethod
    async def open(cls, endpoint: Endpoint) -> _Connection:
        """Connect; raises Lost."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                streams = await asyncio.open_connection(endpoint.host, endpoint.port)
        except OSError as fault:
            raise Lost(reason_of(fault), was_sent=False) from None
        return cls(endpoint, *streams)

    def close(self) -> None:
        """Close it at once, whatever state it is in."""
        self._writer.transport.abort()

    def is_stale(self) -> bool:
        """Whether the node closed it."""
        if self._writer.is_closing() or self._reader.at_eof():
            return True
        # What arrived in this very turn of the loop, the reader has not been told yet.
        try:
            idle = self._writer.get_extra_info("socket").dup()
        except OSError:
            # No descriptor is left; closing this connection gives one back.
            return True
        with idle:
            return is_stale(idle)

    async def exchange(self, call: Call) -> Response:
        """Send `call` and read its answer; raises Lost."""
        try:
            self._writer.write(self._endpoint.request(call))
            await self._writer.drain()
            return await self._receive()
        except PeerProtocolError as fault:
            raise Lost(str(fault), was_sent=True) from None
        except OSError as fault:
            # How much the transport sent before it failed cannot be known: assume some.
            raise Lost(reason_of(fault), was_sent=True, was_kept=self._was_used) from None

    async def _receive(self) -> Response:
        parser = ResponseParser()
        while True:
            data = await self._reader.read(_READ_BYTES)
            response = parser.feed(data) if data else parser.end()
            if response is not None:
                self._was_used = True
                return response
            if not data:
                raise ConnectionResetError("connection closed before the answer")


class _Pool:
    """Idle connections of one event loop in one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = asyncio.get_running_loop()
        self.turns = asyncio.Semaphore(CONNECTIONS_MAX)
        self._idle: dict[Endpoint, list[_Connection]] = {}

    async def take(self, endpoint: Endpoint) -> _Connection:
        """An idle connection that is still good, or a new one."""
        idle = self._idle.setdefault(endpoint, [])
        while idle:
            connection = idle.pop()
            if not connection.is_stale():
                return connection
            connection.close()
        return await _Connection.open(endpoint)

    def give(self, endpoint: Endpoint, connection: _Connection) -> None:
        """Keep a connection whose answer was read to the end."""
        self._idle.setdefault(endpoint, []).append(connection)

    def close(self) -> None:
        """Close the idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()


_INHERITED: Final[list[_Pool]] = []
"""Pools of the process that forked this one, kept alive for good: closing a stream, even by garbage
collection, would unregister it from the event loop that both processes still share."""


class AsyncClient:
    """Talks to a cluster through whichever of `nodes` answers. All times are in seconds.

    `timeout` bounds each call, connecting included. A call's own `timeout` replaces it and is told
    to the node too, whose answer at that deadline is waited for half a second more.
    """

    def __init__(
        self, nodes: str | Sequence[str] = "http://localhost:8000", *, timeout: float = 10.0
    ) -> None:
        self._route = Route(endpoints_of(nodes))
        self._timeout = timeout
        self._pool: _Pool | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the idle connections; the client can still be used."""
        self._own_pool().close()
        # Transports close their sockets in the next turn of the loop.
        await asyncio.sleep(0)

    async def get(
        self, key: Raw, *, r: int | None = None, timeout: float | None = None
    ) -> Value | None:
        """The newest value that `r` replicas know, or None if they say that there is none."""
        call = calls.get_call(key, r=r, timeout=timeout)
        return calls.read_get(await self.request(call, timeout=timeout))

    async def put(
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
        return calls.read_written(await self.request(call, timeout=timeout))

    async def delete(
        self, key: Raw, *, w: int | None = None, timeout: float | None = None
    ) -> Written:
        """Delete a key, whether or not it is there."""
        call = calls.delete_call(key, w=w, timeout=timeout)
        return calls.read_written(await self.request(call, timeout=timeout))

    async def page(
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
        return calls.read_page(await self.request(call, timeout=timeout))

    async def scan(
        self, prefix: Raw = b"", *, r: int | None = None, timeout: float | None = None
    ) -> AsyncIterator[bytes]:
        """Every key that begins with `prefix`; `timeout` is for each page.

        QuorumUnreachable, after the keys that were found, if some may be missing.
        """
        cursor, complete = "", True
        while True:
            page = await self.page(prefix, cursor=cursor, r=r, timeout=timeout)
            for key in page.keys:
                yield key
            complete = complete and page.complete
            cursor = page.cursor
            if not cursor:
                break
        if not complete:
            raise QuorumUnreachable("too few replicas answered: keys may be missing")

    async def batch(
        self,
        operations: Sequence[Operation],
        *,
        r: int | None = None,
        w: int | None = None,
        timeout: float | None = None,
    ) -> list[BatchResult]:
        """Do several operations in one request. They run side by side, without a transaction: each
        succeeds or fails for itself, and a read may miss a write that stands above it."""
        call = batch_call(operations, r=r, w=w, timeout=timeout)
        return read_batch(await self.request(call, timeout=timeout), operations)

    async def request(self, call: Call, *, timeout: float | None = None) -> Response:
        """Send any request to the first node that answers, and return its answer as it is."""
        seconds = self._timeout if timeout is None else timeout + GRACE_SECONDS
        until = time.monotonic() + seconds
        trial = Trial(call, self._route)
        while True:
            endpoint = trial.next()
            try:
                response = await self._attempt(endpoint, call, until=until)
            except Lost as lost:
                trial.lost(endpoint, lost, is_late=time.monotonic() >= until)
                continue
            chosen = trial.answer(endpoint, response)
            if chosen is not None:
                return chosen

    async def _attempt(self, endpoint: Endpoint, call: Call, *, until: float) -> Response:
        pool = self._own_pool()
        was_taken = False
        try:
            async with asyncio.timeout(until - time.monotonic()), pool.turns:
                if self._route.needs_proof(endpoint):
                    await _prove(endpoint)
                connection = await pool.take(endpoint)
                was_taken = True
                return await _exchanged(pool, connection, endpoint, call)
        except TimeoutError as fault:
            raise Lost(reason_of(fault), was_sent=was_taken) from None

    def _own_pool(self) -> _Pool:
        pool = self._pool
        if pool is not None and pool.pid != os.getpid():
            _INHERITED.append(pool)
        if pool is None or pool.pid != os.getpid() or pool.loop is not asyncio.get_running_loop():
            self._pool = pool = _Pool()
        return pool


async def _exchanged(
    pool: _Pool, connection: _Connection, endpoint: Endpoint, call: Call
) -> Response:
    try:
        response = await connection.exchange(call)
    except BaseException:
        # CancelledError too: the answer may still come.
        connection.close()
        raise
    if response.keeps_alive:
        pool.give(endpoint, connection)
    else:
        connection.close()
    return response


async def _prove(endpoint: Endpoint) -> None:
    """Raise Lost unless the node answers a ping, if only with a refusal.

    On a connection of its own: pings are served in the slow lane, and a connection that went there
    stays there.
    """
    connection = await _Connection.open(endpoint)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.exchange(PING)
    except (Lost, TimeoutError) as fault:
        raise Lost(str(fault) or "no answer in time", was_sent=False) from None
    finally:
        connection.close()
