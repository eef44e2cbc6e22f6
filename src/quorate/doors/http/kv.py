# SPDX-License-Identifier: GPL-3.0-or-later
"""`/kv` in full: every parameter and header, any framing of the body. FEATURES S20 to S22."""

from __future__ import annotations

from aiohttp import web

from quorate.core.values.events import Get, GetResult, Put, PutResult, Waiter
from quorate.doors.http.answers import value_reply, written_reply
from quorate.doors.http.bodies import read_body
from quorate.doors.http.context import Context
from quorate.doors.http.query import Query
from quorate.doors.http.responses import respond
from quorate.runtime.store import ask


async def read_value(context: Context, request: web.Request, query: Query) -> web.Response:
    """GET and HEAD."""
    key, r, timeout_ms = query.key(), query.quorum("r"), query.timeout_ms()
    promise = context.promise.of(r=r, w=query.quorum("w"))

    def event(waiter: Waiter) -> Get:
        return Get(waiter, key, r, timeout_ms)

    result = await ask(context.store, event, GetResult)
    response = respond(value_reply(result, promise=promise, wall_ms=context.store.wall_ms()))
    etag = response.headers.get("ETag")
    if etag is not None and etag == request.headers.get("If-None-Match"):
        return web.Response(status=304, headers={"ETag": etag})
    return response


async def write_value(context: Context, request: web.Request, query: Query) -> web.Response:
    """PUT: the body is the value, whatever its type is said to be."""
    query.key()
    value = await read_body(request, context.bodies, bytes_max=context.store.config.value_bytes_max)
    ttl_ms = query.ttl_ms()
    expires_ms = context.store.wall_ms() + ttl_ms if ttl_ms else 0
    return await _write(context, query, value, expires_ms)


async def delete_value(context: Context, _request: web.Request, query: Query) -> web.Response:
    """DELETE: a tombstone under the same quorum rules, also where nothing is."""
    return await _write(context, query, None, 0)


async def _write(
    context: Context, query: Query, value: bytes | None, expires_ms: int
) -> web.Response:
    key, w, timeout_ms = query.key(), query.quorum("w"), query.timeout_ms()
    promise = context.promise.of(r=query.quorum("r"), w=w)

    def event(waiter: Waiter) -> Put:
        return Put(waiter, key, value, expires_ms, w, timeout_ms)

    result = await ask(context.store, event, PutResult)
    return respond(written_reply(result, promise=promise))
