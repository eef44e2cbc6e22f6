# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for asyncio: safe to share between tasks of one event loop, and under cancellation.

Each call takes an idle connection or opens one, and gives it back only when the whole answer was
read. A call that is cancelled closes its connection: the answer that is still on its way can never
reach another call. What became of a cancelled write is unknown.

`scripts/blocking_client.py` makes `blocking.py` of this file, and `leases.py` of `async_leases.py`,
at every setup and build: it drops `async` and `await` and puts other names for some. Generators
that yield what to wait for, with a driver for each client, would not do: the public methods, half
of this file, would still stand twice, with their types and docstrings. How each client waits is in
`async_sockets` and `blocking_sockets`.
"""

from __future__ import annotations

import socket
import time
from asyncio import Semaphore
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from quorate.client import calls
from quorate.client.access import Credentials, File, authorization_of, chosen_context
from quorate.client.async_leases import CLOCK_SKEW_SECONDS, LEASE_SECONDS, AsyncLease
from quorate.client.async_sockets import acquire, dial, look_up, owner, pause, receive, send_all
from quorate.client.calls import (
    BatchOperation,
    BatchResult,
    Call,
    Doubt,
    Incremented,
    KeyPage,
    Raw,
    Value,
    Written,
)
from quorate.client.sockets import NodeConnection, Pool, TlsFault, broken, reason_of
from quorate.client.trial import (
    CONNECT_SECONDS,
    DEFAULT_NODE,
    GRACE_SECONDS,
    PING,
    TIMEOUT_SECONDS,
    Endpoint,
    Lost,
    NodeOrder,
    Trial,
    endpoints_of,
)
from quorate.errors import (
    InvalidRequest,
    Outcome,
    PeerProtocolError,
    PreconditionFailed,
    QuorateError,
    QuorumUnreachable,
    Unavailable,
)
from quorate.wire.http import Response, ResponseParser

if TYPE_CHECKING:
    import ssl

CONNECTIONS_MAX: Final = 64
"""Calls under way at once; more wait for their turn, within their own time."""
_READ_BYTES: Final = 256 << 10


class AsyncClient:
    """Talks to a cluster through whichever of `nodes` answers. All times are in seconds.

    `timeout` bounds each call, connecting included. A call's own `timeout` replaces it and is told
    to the node too, whose answer at that deadline is waited for half a second more. At most 64
    calls are under way at once; more wait for their turn, within their own time.

    `https://` URLs are reached through TLS, and those without a scheme if any of these is given:
    `ca`, a file with the CAs by which nodes are known (default: the system's); `cert`, a file with
    a certificate and its key for nodes to know this client by, or one file of each; `tls`, True, or
    a context of `ssl` that has all that. Nodes' certificates are for the host in the URL, or for
    `server_name`. `user` (default: `default`) and `password` log in, or
    `token`. InvalidRequest for what cannot be used.
    """

    def __init__(  # noqa: PLR0913 - a word for each thing that there is to say
        self,
        nodes: str | Sequence[str] = DEFAULT_NODE,
        *,
        timeout: float = TIMEOUT_SECONDS,
        tls: ssl.SSLContext | bool = False,
        ca: File | None = None,
        cert: File | tuple[File, File] | None = None,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        server_name: str | None = None,
    ) -> None:
        try:
            access = Credentials(
                authorization=authorization_of(user=user, password=password, token=token),
                context=chosen_context(tls, ca=ca, cert=cert),
                server_name=server_name,
            )
            self._nodes = NodeOrder(endpoints_of(nodes, access))
        except ValueError as fault:
            raise InvalidRequest(str(fault), outcome=Outcome.NOT_APPLIED) from None
        self._timeout = timeout
        self._pool: Pool[Semaphore] | None = None

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
        if self._pool is not None:
            self._pool.close()

    async def get(
        self, key: Raw, *, r: int | None = None, timeout: float | None = None
    ) -> Value | None:
        """The newest value that `r` replicas know, or None if they say that there is none."""
        call = calls.kv_call("GET", key, r=r, timeout=timeout)
        return calls.read_get(await self.request(call, timeout=timeout))

    async def put(
        self,
        key: Raw,
        value: Raw,
        *,
        w: int | None = None,
        ttl: int | None = None,
        timeout: float | None = None,
        if_version: str | None = None,
        if_absent: bool = False,
    ) -> Written:
        """Write a value that `w` replicas hold when this returns; it expires after `ttl`.

        `if_version`: only if that is the version that is there; `if_absent`: only if there is no
        value. PreconditionFailed otherwise, with the `version` that is there."""
        call = calls.kv_call("PUT", key, value, w=w, ttl=ttl, timeout=timeout)
        if if_version is not None or if_absent:
            call = calls.once(call, if_version=if_version, if_absent=if_absent)
        return calls.read_written(await self._write(call, timeout=timeout))

    async def delete(
        self,
        key: Raw,
        *,
        w: int | None = None,
        timeout: float | None = None,
        if_version: str | None = None,
    ) -> Written:
        """Delete a key, whether or not it is there; with `if_version` only that version of it,
        PreconditionFailed otherwise."""
        call = calls.kv_call("DELETE", key, w=w, timeout=timeout)
        if if_version is not None:
            call = calls.once(call, if_version=if_version)
        return calls.read_written(await self._write(call, timeout=timeout))

    async def compare_and_set(
        self,
        key: Raw,
        version: str | None,
        value: Raw,
        *,
        ttl: int | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Write `value` if `version` is there, or, if it is None, if nothing is. PreconditionFailed
        otherwise, with the `version` that is there."""
        return await self.put(
            key, value, ttl=ttl, timeout=timeout, if_version=version, if_absent=version is None
        )

    async def increment(
        self, key: Raw, by: int = 1, *, ttl: int | None = None, timeout: float | None = None
    ) -> Incremented:
        """Add `by` to an integer of 64 bits, kept as decimal text, or to 0 where there is none,
        which then expires after `ttl`.

        Where the answer is lost it is asked for again, and never added twice. Conflict if the value
        is no such integer, or the sum would be none."""
        call = calls.increment_call(key, by, ttl=ttl, timeout=timeout)
        return calls.read_incremented(await self._write(call, timeout=timeout))

    async def update(
        self,
        key: Raw,
        change: Callable[[bytes | None], Raw | None],
        *,
        ttl: int | None = None,
        timeout: float | None = None,
    ) -> Written | None:
        """Replace the value by what `change` makes of it, which is given None where there is none,
        and returns None to leave the key as it is. It then expires after `ttl`, or never.

        `change` is called again where another write came in between, until `timeout` is over: then
        PreconditionFailed."""
        until = time.monotonic() + (self._timeout if timeout is None else timeout)
        tries = 0
        while True:
            found = await self.get(key, timeout=timeout)
            value = change(None if found is None else found.value)
            if value is None:
                return None
            version = None if found is None else found.version
            try:
                return await self.compare_and_set(key, version, value, ttl=ttl, timeout=timeout)
            except PreconditionFailed:
                if time.monotonic() >= until:
                    raise
            tries += 1
            await pause(calls.back_off(tries))

    def lock(
        self,
        name: Raw,
        *,
        ttl: int = LEASE_SECONDS,
        timeout: float | None = None,
        max_clock_skew: float = CLOCK_SKEW_SECONDS,
    ) -> AsyncLease:
        """A lock to hold within `with`, kept under the key `name`. It is waited for until `timeout`
        is over: then LeaseTaken.

        It is renewed in the background; where its holder is cut off it is free after `ttl` seconds.
        `max_clock_skew` is the nodes' setting: the holder takes its lease to be over that much
        earlier. See the lease for what can still go wrong, and its `token` for what helps."""
        seconds = self._timeout if timeout is None else timeout
        return AsyncLease(self, name, ttl=ttl, timeout=seconds, max_clock_skew=max_clock_skew)

    async def page(
        self,
        prefix: Raw = b"",
        *,
        cursor: str = "",
        limit: int = calls.PAGE_KEYS,
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

        QuorumUnreachable, after the keys that were found, if some may be missing: replicas did not
        answer, or their copies are damaged.
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
            raise QuorumUnreachable(
                "too few replicas answered with sound copies: keys may be missing"
            )

    async def batch(
        self,
        operations: Sequence[BatchOperation],
        *,
        r: int | None = None,
        w: int | None = None,
        timeout: float | None = None,
    ) -> list[BatchResult]:
        """Do several operations in one request. They run side by side, without a transaction: each
        succeeds or fails for itself, and a read may miss a write that stands above it."""
        call = calls.batch_call(operations, r=r, w=w, timeout=timeout)
        return calls.read_batch(await self.request(call, timeout=timeout), operations)

    async def request(self, call: Call, *, timeout: float | None = None) -> Response:
        """Send any request to the first node that answers, and return its answer as it is."""
        seconds = self._timeout if timeout is None else timeout + GRACE_SECONDS
        until = time.monotonic() + seconds
        trial = Trial(call, self._nodes)
        while True:
            endpoint = trial.next()
            try:
                response = await self._attempt(endpoint, call, until=until)
            except (Lost, OSError) as fault:
                trial.lost(endpoint, fault, is_late=time.monotonic() >= until)
                continue
            chosen = trial.answer(endpoint, response)
            if chosen is not None:
                return chosen

    async def _write(self, call: Call, *, timeout: float | None) -> Response:
        """Send a write, and return the answer once it is done. If its outcome is not known it is
        sent again while there is time, provided that it may be (`Doubt`)."""
        began = time.monotonic()
        until = began + (self._timeout if timeout is None else timeout)
        doubt, left, tries = Doubt(call), timeout, 0
        while True:
            error: QuorateError | None
            try:
                if doubt.needs_time:
                    clock = await self.request(PING, timeout=left)
                    doubt.tell_time(clock, seconds=time.monotonic() - began)
                response = await self.request(doubt.call, timeout=left)
                error = calls.error_of(response, is_write=True)
            except Unavailable as fault:
                error = fault
            if doubt.is_over(error, is_late=time.monotonic() >= until):
                return response
            tries += 1
            await pause(calls.back_off(tries))
            left = max(until - time.monotonic(), 0.0)

    async def _attempt(self, endpoint: Endpoint, call: Call, *, until: float) -> Response:
        """One node's answer. Raises Lost; OSError where nothing was sent."""
        pool, use = self._own_pool(), (endpoint, call.is_fast)
        await acquire(pool.turns, until=until)
        try:
            if self._nodes.needs_proof(endpoint):
                await _prove(endpoint, until=until)
            kept = pool.take(use)
            connection = kept or await _connected(endpoint, until=until)
            is_good = False
            try:
                response = await _exchanged(
                    connection, endpoint, call, until=until, was_kept=kept is not None
                )
                is_good = response.keeps_alive
                return response
            finally:
                # Not good: cancelled or interrupted, too, for the answer may still come.
                if is_good:
                    pool.give(use, connection)
                else:
                    connection.close()
        finally:
            pool.turns.release()

    def _own_pool(self) -> Pool[Semaphore]:
        pool, mine = self._pool, owner()
        if pool is None or pool.owner != mine:
            if pool is not None:
                pool.close()
            turns = Semaphore(CONNECTIONS_MAX)
            # What leads its connection out of the fast lane has connections of its own.
            uses = [(each, is_fast) for each in self._nodes.endpoints for is_fast in (True, False)]
            self._pool = pool = Pool(uses, owner=mine, turns=turns)
        return pool


async def _prove(endpoint: Endpoint, *, until: float) -> None:
    """Raise Lost or OSError unless the node answers a ping, if only with a refusal.

    On a connection of its own: pings are served in the slow lane, and a connection that went there
    stays there.
    """
    until = min(until, time.monotonic() + CONNECT_SECONDS)
    with closing(await _connected(endpoint, until=until)) as connection:
        try:
            await _exchanged(connection, endpoint, PING, until=until, was_kept=False)
        except Lost as lost:
            raise Lost(lost.reason, was_sent=False, is_tls=lost.is_tls) from None


async def _connected(endpoint: Endpoint, *, until: float) -> NodeConnection:
    """A connection to the first of the node's addresses that answers.

    Each has an equal share of the time that is left, so that a silent one (of IPv6 where there is
    no route, say) leaves some for the next.
    """
    until = min(until, time.monotonic() + CONNECT_SECONDS)
    found = await look_up(endpoint.host, endpoint.port, until=until)
    last = OSError(f"{endpoint.host} has no address")
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        share = (until - time.monotonic()) / (len(found) - tried)
        try:
            connected = socket.socket(family, kind, protocol)
            await _dialled(connected, address, until=time.monotonic() + share)
        except OSError as fault:
            last = fault
        else:
            return await _secured(connected, endpoint, until=until)
    raise last


async def _dialled(connected: socket.socket, address: Any, *, until: float) -> None:
    try:
        await dial(connected, address, until=until)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connected.close()
        raise


async def _secured(connected: socket.socket, endpoint: Endpoint, *, until: float) -> NodeConnection:
    """The connection that is made of a socket: after the handshake, where there is TLS."""
    context = endpoint.access.context
    if context is None:
        return NodeConnection(connected)
    from quorate.client.tls import CLOSED, TlsConnection

    data, is_done = None, False
    try:
        name = endpoint.access.server_name or endpoint.host
        connection = TlsConnection(connected, context, name)
        while True:
            reply, is_done = connection.shake(data)
            if reply:
                await send_all(connected, memoryview(reply), until=until)
            if is_done:
                return connection
            data = await receive(connected, _READ_BYTES, until=until)
    except ConnectionError:
        raise ConnectionResetError(CLOSED) from None
    finally:
        if not is_done:
            connected.close()


async def _exchanged(
    connection: NodeConnection, endpoint: Endpoint, call: Call, *, until: float, was_kept: bool
) -> Response:
    """Send `call` and read its answer; raises Lost. `was_kept`: the connection is not a new one."""
    was_sent = False
    try:
        request = memoryview(connection.sealed(endpoint.request(call)))
        # The buffer of a socket at rest is empty. Where it takes nothing, nothing was sent.
        count = connection.socket.send(request)
        was_sent = True
        if count < len(request):
            await send_all(connection.socket, request[count:], until=until)
        parser, response = ResponseParser(), None
        while response is None:
            data = connection.opened(await receive(connection.socket, _READ_BYTES, until=until))
            if data is None:
                continue
            response = parser.feed(data) if data else parser.end()
            if response is None and not data:
                raise ConnectionResetError("connection closed before the answer")
        return response
    except PeerProtocolError as fault:
        raise Lost(str(fault), was_sent=True) from None
    except OSError as fault:
        fault = broken(connection, fault)
        if isinstance(fault, TlsFault):
            raise Lost.of(fault) from None
        was_kept = was_kept and not isinstance(fault, TimeoutError)
        raise Lost(reason_of(fault), was_sent=was_sent, was_kept=was_kept) from None
