# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica, spoken to directly: its own records and keys, without a quorum.

A record travels as a msgpack array: format (1), key, version, value or nil, expiry in milliseconds,
prior; and the winners, where there are any. What one node's `get` returns, another's `replicate`
takes.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from aiohttp import web

from quorate.core.values.events import (
    SCAN_ROWS_MAX,
    LocalGet,
    LocalPut,
    LocalResult,
    LocalScan,
    ScanResult,
)
from quorate.core.values.record import WINNERS_MAX, Record, is_expiry
from quorate.core.values.versions import ABSENT, RECORD_LENGTHS
from quorate.doors.http.context import Context, ask, respond_text
from quorate.doors.http.keys import CURSOR_HEADER, decode_cursor, encode_cursor
from quorate.doors.http.leaving import write_part
from quorate.doors.http.problems import Refused
from quorate.doors.http.query import Query
from quorate.doors.http.request import read_body
from quorate.doors.limits import checked_key, checked_value
from quorate.doors.pages import live_keys
from quorate.errors import InvalidRequest, QuorateError
from quorate.wire.frame_rules import is_record
from quorate.wire.http import quote

RECORD_TYPE: Final = "application/vnd.quorate.record"
FORMAT: Final = 1
OVERHEAD_BYTES_MAX: Final = 4096
"""What a body is longer than its value, at most: the key, the winners and a few dozen bytes."""


async def replicate(context: Context, request: web.Request, _query: Query) -> web.Response:
    """POST /internal/replicate: keep the record if it is newer; Quorate-Applied tells whether this
    replica holds it now. Idempotent."""
    value_bytes_max = context.store.config.value_bytes_max
    body = await read_body(context, request, bytes_max=value_bytes_max + OVERHEAD_BYTES_MAX)
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
    if not limit:
        return await _stream(context, request, prefix, cursor)
    page = await _page(context, prefix, cursor, limit)
    response = respond_text(_lines(context, page))
    if page.cursor:
        response.headers[CURSOR_HEADER] = encode_cursor(page.cursor)
    return response


async def _stream(
    context: Context, request: web.Request, prefix: bytes, cursor: bytes
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
    if request.version < (1, 1):
        # There are no chunks, so only the end of the connection is the end of the list.
        response.force_close()
    is_last = False
    try:
        while not is_last:
            context.permit()
            page = await _page(context, prefix, cursor, SCAN_ROWS_MAX)
            if request.method == "HEAD":
                # aiohttp would send what is written, and the client take it for the next answer.
                await response.prepare(request)
                return response
            part, cursor = _lines(context, page).encode(), page.cursor
            is_last = not cursor
            # The rows are nearly as large as the lines, which may wait long for their client.
            del page
            await write_part(request, response, part, context, is_last=is_last)
    except QuorateError as error:
        if not response.prepared:
            raise
        context.refused(error)
        # The status is sent: only a body that visibly ends too early can still tell.
        if request.transport is not None:
            request.transport.abort()
    return response


async def _page(context: Context, prefix: bytes, cursor: bytes, limit: int) -> ScanResult:
    return await ask(
        context.store, lambda waiter: LocalScan(waiter, prefix, cursor, limit), ScanResult
    )


def _lines(context: Context, page: ScanResult) -> str:
    keys = live_keys(page.rows, wall_ms=context.store.wall_ms())
    return "".join(f"{quote(key)}\n" for key in keys)


_Word = Annotated[int, msgspec.Meta(ge=0)]


class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    format: int
    key: bytes
    version: bytes
    value: bytes | None
    expires_ms: int
    prior: bytes
    winners: Annotated[tuple[tuple[_Word, _Word], ...], msgspec.Meta(max_length=WINNERS_MAX)] = ()


_decoder: Final = msgspec.msgpack.Decoder(_Body)


def encode_record(key: bytes, record: Record) -> bytes:
    """The body for a record."""
    winners = [record.winners] if record.winners else []
    # Without winners it is what release 0.1.0 takes.
    return msgspec.msgpack.encode(
        (
            *(FORMAT, key, record.version, record.value, record.expires_ms, record.prior),
            *winners,
        )
    )


def decode_record(body: bytes, *, value_bytes_max: int) -> tuple[bytes, Record]:
    """Key and record of a body, every field checked. InvalidRequest."""
    try:
        found = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise InvalidRequest(f"not a record: {fault}") from None
    if found.format != FORMAT:
        raise InvalidRequest("a record of another format", found=found.format, supported=FORMAT)
    if len(found.version) not in RECORD_LENGTHS or not any(found.version):
        raise InvalidRequest("a record's version has 14 or 22 bytes and is not zero")
    if found.prior != ABSENT and len(found.prior) not in RECORD_LENGTHS:
        raise InvalidRequest("a record's prior version has 14 or 22 bytes, or none")
    if found.prior >= found.version:
        raise InvalidRequest("a record's prior version is below its own")
    if not is_expiry(found.expires_ms):
        raise InvalidRequest("a record's expiry is out of range")
    if found.value is not None:
        checked_value(found.value, bytes_max=value_bytes_max)
    record = Record(found.version, found.value, found.expires_ms, found.prior, found.winners)
    if not is_record(record):
        raise InvalidRequest("a record's winners are of links of its version, in order")
    return checked_key(found.key), record
