# SPDX-License-Identifier: GPL-3.0-or-later
"""`GET /probe`: whether this node reaches another one. Only members are tried, so that nobody has
a node look around its network."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from quorate.core.values.status import Probe
from quorate.doors.http.context import Context, respond_json
from quorate.doors.http.query import Query
from quorate.errors import InvalidRequest, NotReady, Overloaded
from quorate.notation import parse_url

UNDER_WAY_MAX: Final = 32
_under_way: set[object] = set()


async def probe(context: Context, _request: web.Request, query: Query) -> web.Response:
    """GET /probe?url=: try to reach that member."""
    try:
        url = parse_url((query.get("url") or b"").decode(errors="replace"))
    except ValueError as fault:
        raise InvalidRequest(f"not a node's URL: {fault}") from None
    if url not in {each.url for each in context.store.status().members}:
        raise InvalidRequest("no member has this URL, and no other is tried", url=url)
    if len(_under_way) >= UNDER_WAY_MAX:
        raise Overloaded("too many are tried at once", most=UNDER_WAY_MAX)
    mark = object()
    _under_way.add(mark)
    try:
        return respond_json(await context.probe(url))
    finally:
        _under_way.discard(mark)


async def unable(_url: str) -> Probe:
    """Of a door without a network behind it."""
    raise NotReady("this node reaches nobody")
