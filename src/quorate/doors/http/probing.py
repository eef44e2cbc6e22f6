# SPDX-License-Identifier: GPL-3.0-or-later
"""`GET /probe`: whether this node reaches another one. Only members, at either of their
addresses, and candidates are tried, so that nobody has a node look around its network."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from quorate.core.values.status import Probe, Status
from quorate.doors.http.context import Context, respond_json
from quorate.doors.http.query import Query
from quorate.errors import InvalidRequest, NotReady, Overloaded
from quorate.notation import member_url, parse_url

UNDER_WAY_MAX: Final = 32
_under_way: set[object] = set()


async def probe(context: Context, _request: web.Request, query: Query) -> web.Response:
    """GET /probe?url=: try to reach who is there, or may be."""
    try:
        url = parse_url((query.get("url") or b"").decode(errors="replace"))
    except ValueError as fault:
        raise InvalidRequest(f"not a node's URL: {fault}") from None
    status = context.store.status()
    urls = {each.url for each in status.members} | _for_clients(status)
    if url not in urls and url not in {each.url for each in status.candidates}:
        raise InvalidRequest("no member or candidate has this URL: no other is tried", url=url)
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


def _for_clients(status: Status) -> set[str]:
    """Where clients reach members, by their own word: of that, what could be a member's URL."""
    urls = set()
    for each in status.members:
        try:
            urls.add(member_url(each.client, own_url=status.url))
        except ValueError:
            continue
    return urls
