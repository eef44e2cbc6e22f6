# SPDX-License-Identifier: GPL-3.0-or-later
"""`GET /keys`: the cluster's live keys, a page at a time."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from aiohttp import web

from quorate.core.values.events import SCAN_ROWS_MAX, Scan, ScanResult
from quorate.doors.http.asking import ask
from quorate.doors.http.context import Context
from quorate.doors.http.query import Query
from quorate.doors.http.responses import respond_json
from quorate.doors.pages import live_keys
from quorate.errors import InvalidRequest

CURSOR_HEADER: Final = "Quorate-Cursor"
_CURSOR_BYTES_MAX: Final = 4096


class Base64(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes that are no text."""

    base64: str


Text = str | Base64
"""Bytes in JSON: a string, or {"base64": ...} where they are not UTF-8."""


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
