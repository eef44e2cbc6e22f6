# SPDX-License-Identifier: GPL-3.0-or-later
"""`/kv` in full: every parameter and header, any framing of the body."""

from __future__ import annotations

from aiohttp import web

from quorate.core.values.events import Get, GetResult, Put, PutResult
from quorate.doors.http.asking import ask
from quorate.doors.http.bodies import read_body
from quorate.doors.http.context import Context
from quorate.doors.http.kv import METHODS
from quorate.doors.http.query import Query
from quorate.doors.http.responses import respond


async def serve(context: Context, request: web.Request, query: Query) -> web.Response:
    """GET, HEAD, PUT (the body is the value, whatever its type is said to be), and DELETE: a
    tombstone under the same quorum rules, also where nothing is."""
    store, method, value = context.store, METHODS[request.method.encode()], None
    key = query.key()
    if method.has_body:
        value = await read_body(request, context.bodies, bytes_max=store.config.value_bytes_max)
    ttl_ms, timeout_ms = query.ttl_ms(), query.timeout_ms()
    r, w = query.quorum("r"), query.quorum("w")
    expires_ms = store.wall_ms() + ttl_ms if ttl_ms else 0

    result: GetResult | PutResult
    if method.is_read:
        result = await ask(store, lambda waiter: Get(waiter, key, r, timeout_ms), GetResult)
    else:
        result = await ask(
            store, lambda waiter: Put(waiter, key, value, expires_ms, w, timeout_ms), PutResult
        )
    response = respond(context.answers.of(result, r=r, w=w, wall_ms=store.wall_ms()))
    etag = response.headers.get("ETag")
    if method.is_read and etag is not None and etag == request.headers.get("If-None-Match"):
        return web.Response(status=304, headers={"ETag": etag})
    return response
