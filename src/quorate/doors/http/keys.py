# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes about keys, in full: `/kv` and `/incr` with any framing of the body, `/keys`,
`/explain`."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from aiohttp import web

from quorate.core.values.events import (
    SCAN_ROWS_MAX,
    Explain,
    ExplainResult,
    Scan,
    ScanResult,
)
from quorate.doors.access import Role, require
from quorate.doors.http.context import Context, ask, respond, respond_json
from quorate.doors.http.kv import INCREMENT, METHODS, Asked, Method
from quorate.doors.http.query import Query
from quorate.doors.http.replies import Reply
from quorate.doors.http.request import read_body
from quorate.doors.pages import live_keys
from quorate.errors import InvalidRequest, QuorateError

CURSOR_HEADER: Final = "Quorate-Cursor"
_CURSOR_BYTES_MAX: Final = 4096


class Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that are no text."""

    base64: str


Text = str | Base64
"""Bytes in JSON: a string, or {"base64": ...} where they are not UTF-8."""


async def serve_kv(context: Context, request: web.Request, query: Query) -> web.Response:
    """GET, HEAD, PUT (the body is the value, whatever its type is said to be), and DELETE: a
    tombstone under the same quorum rules, also where nothing is."""
    return await _serve(context, request, query, METHODS[request.method.encode()])


async def increment(context: Context, request: web.Request, query: Query) -> web.Response:
    """Add `by`, 1 if it is not given, to a counter; the answer is what it comes to."""
    require(Role.READ, context.principal, query.key())
    if request.body_exists and request.content_length != 0:
        raise InvalidRequest("what to add stands in the query, not in a body: /incr?key=...&by=5")
    return await _serve(context, request, query, INCREMENT)


async def _serve(
    context: Context, request: web.Request, query: Query, method: Method
) -> web.Response:
    store, answers, value = context.store, context.answers, None
    asked = Asked(method, query, lambda name: request.headers.getall(name, []))
    if method.has_body:
        value = await read_body(context, request, bytes_max=store.config.value_bytes_max)
    result = await ask(
        store,
        lambda waiter: asked.event(waiter, value, wall_ms=store.wall_ms()),
        asked.result_type,
    )
    judged = asked.judged(result, answers, wall_ms=store.wall_ms())
    if isinstance(judged, QuorateError):
        raise judged
    if isinstance(judged, Reply):
        return respond(judged)
    return respond(answers.of(judged, r=asked.r, w=asked.w, wall_ms=store.wall_ms()))


async def list_keys(context: Context, _request: web.Request, query: Query) -> web.Response:
    """A page of keys in row order. `cursor` is null at the end; `complete` is false where some
    replicas could not be asked, so that a key may be missing."""
    prefix, cursor = query.get("prefix") or b"", decode_cursor(query.get("cursor"))
    limit = query.number("limit", low=1, high=SCAN_ROWS_MAX, default=SCAN_ROWS_MAX)
    r, timeout_ms = query.quorum("r"), query.timeout_ms()

    store = context.store
    page = await ask(
        store, lambda waiter: Scan(waiter, prefix, cursor, limit, r, timeout_ms), ScanResult
    )
    keys = [to_text(key) for key in live_keys(page.rows, wall_ms=store.wall_ms())]
    following = encode_cursor(page.cursor) if page.cursor else None
    return respond_json({"keys": keys, "cursor": following, "complete": page.complete})


async def explain(context: Context, _request: web.Request, query: Query) -> web.Response:
    """Slot, partition and replicas of a key. A version is null where a replica did not answer or
    its copy is damaged, and empty where it has nothing."""
    key, timeout_ms = query.key(), query.timeout_ms()
    result = await ask(
        context.store, lambda waiter: Explain(waiter, key, timeout_ms), ExplainResult
    )
    replicas = [
        {
            "url": view.url,
            "state": view.state,
            "version": None if view.version is None else view.version.hex(),
            "live": None if view.version is None else view.live,
            "expires_ms": view.expires_ms,
            "hints": view.hints,
            "damaged": view.damaged,
        }
        for view in result.replicas
    ]
    return respond_json(
        {
            "key": to_text(key),
            "slot": result.slot,
            "partition": result.partition,
            "epoch": result.epoch,
            "replicas": replicas,
        }
    )


def encode_cursor(cursor: bytes) -> str:
    """A scan's cursor as text that needs no escaping."""
    return base64.urlsafe_b64encode(cursor).decode()


def decode_cursor(text: bytes | None) -> bytes:
    """The cursor in a request; empty where there is none. InvalidRequest."""
    if not text:
        return b""
    try:
        if len(text) > _CURSOR_BYTES_MAX:
            raise ValueError("too long")
        return base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("cursor must be one that a page before gave") from None


def to_text(raw: bytes) -> Text:
    """Bytes as JSON can say them."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return Base64(base64.b64encode(raw).decode())


def from_text(text: Text) -> bytes:
    """The bytes that JSON said. InvalidRequest."""
    if isinstance(text, str):
        return text.encode("utf-8")
    try:
        return base64.b64decode(text.base64, validate=True)
    except ValueError:
        raise InvalidRequest('"base64" does not hold base64') from None
