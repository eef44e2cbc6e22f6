# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica, spoken to directly: its own records and keys, without a quorum."""

from __future__ import annotations

from aiohttp import web

from quorate.core.values.events import (
    SCAN_ROWS_MAX,
    LocalGet,
    LocalPut,
    LocalResult,
    LocalScan,
    ScanResult,
)
from quorate.doors.http.asking import ask
from quorate.doors.http.bodies import read_body
from quorate.doors.http.context import Context
from quorate.doors.http.listing import CURSOR_HEADER, decode_cursor, encode_cursor
from quorate.doors.http.problems import Refused
from quorate.doors.http.query import Query
from quorate.doors.http.record_body import (
    OVERHEAD_BYTES_MAX,
    RECORD_TYPE,
    decode_record,
    encode_record,
)
from quorate.doors.http.responses import respond_text
from quorate.doors.pages import live_keys
from quorate.errors import QuorateError
from quorate.wire.http import quote


async def replicate(context: Context, request: web.Request, _query: Query) -> web.Response:
    """POST /internal/replicate: keep the record if it is newer; Quorate-Applied tells whether this
    replica holds it now. Idempotent."""
    value_bytes_max = context.store.config.value_bytes_max
    body = await read_body(request, context.bodies, bytes_max=value_bytes_max + OVERHEAD_BYTES_MAX)
    key, record = decode_record(body, value_bytes_max=value_bytes_max)
    result = await ask(context.store, lambda waiter: LocalPut(waiter, key, record), LocalResult)
    response = respond_text("ok")
    response.headers["Quorate-Applied"] = "true" if result.applied else "false"
    if result.record is not None:
        response.headers["Quorate-Version"] = result.record.version.hex()
    return response


async def read_record(context: Context, _request: web.Request, query: Query) -> web.Response:
    """GET /internal/get: this replica's record, tombstones included."""
    key = query.key()
    result = await ask(context.store, lambda waiter: LocalGet(waiter, key), LocalResult)
    if result.record is None:
        raise Refused(404, "not_found", "this replica has no record under this key")
    return web.Response(
        body=encode_record(key, result.record),
        content_type=RECORD_TYPE,
        headers={"Quorate-Version": result.record.version.hex()},
    )


async def list_local(context: Context, request: web.Request, query: Query) -> web.StreamResponse:
    """GET /internal/keys and /local/keys: live keys that this node holds, one a line, escaped as in
    a URL. All of them as a stream; with `limit`, one page and the cursor of the next."""
    prefix, cursor = query.get("prefix") or b"", decode_cursor(query.get("cursor"))
    limit = query.number("limit", low=1, high=SCAN_ROWS_MAX, default=0)
    page = await _page(context, prefix, cursor, limit or SCAN_ROWS_MAX)
    if not limit:
        return await _stream(context, request, prefix, page)
    response = respond_text(_lines(context, page))
    if page.cursor:
        response.headers[CURSOR_HEADER] = encode_cursor(page.cursor)
    return response


async def _stream(
    context: Context, request: web.Request, prefix: bytes, page: ScanResult
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    await response.prepare(request)
    try:
        await response.write(_lines(context, page).encode())
        while page.cursor:
            page = await _page(context, prefix, page.cursor, SCAN_ROWS_MAX)
            await response.write(_lines(context, page).encode())
    except QuorateError:
        # The status is sent: only a body that visibly ends too early can still tell.
        assert request.transport is not None
        request.transport.abort()
    return response


async def _page(context: Context, prefix: bytes, cursor: bytes, limit: int) -> ScanResult:
    return await ask(
        context.store, lambda waiter: LocalScan(waiter, prefix, cursor, limit), ScanResult
    )


def _lines(context: Context, page: ScanResult) -> str:
    keys = live_keys(page.rows, wall_ms=context.store.wall_ms())
    return "".join(f"{quote(key)}\n" for key in keys)
