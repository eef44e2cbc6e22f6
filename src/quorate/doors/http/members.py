# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the cluster: `POST /join` and `GET /nodes`."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from quorate.core.values.events import Join, JoinResult
from quorate.doors.http.context import Context, ask, respond_json, respond_text
from quorate.doors.http.request import Query, decode_json, read_body
from quorate.errors import InvalidRequest
from quorate.notation import is_loopback, is_nowhere, parse_url, split_url

_BODY_BYTES_MAX: Final = 4096
_WEB_PORTS: Final = (80, 443)
_PRIVILEGED_PORT_MAX: Final = 1023


async def join(context: Context, request: web.Request, _query: Query) -> web.Response:
    """POST /join: make the URL in the body (raw, or JSON) a member, or announce it again."""
    body = await read_body(request, context.bodies, bytes_max=_BODY_BYTES_MAX)
    url = checked_member(_url_in(body), own_url=context.store.status().url)
    result = await ask(context.store, lambda waiter: Join(waiter, url), JoinResult)
    return respond_json({"url": url, "known": result.known, "owns": result.owns})


async def list_nodes(context: Context, request: web.Request, _query: Query) -> web.Response:
    """GET /nodes: every member as this node sees it; with `Accept: text/plain`, their URLs."""
    members = context.store.status().members
    if "text/plain" in request.headers.get("Accept", ""):
        return respond_text("".join(f"{member.url}\n" for member in members))
    return respond_json(members)


def checked_member(text: str, *, own_url: str) -> str:
    """The URL of a node in its normal form, if connecting to it makes sense. InvalidRequest.

    A join makes every member connect to that address, so it must not name what only this machine
    can see (loopback, unless this node is there too), a cloud's metadata service (link-local), or
    the port of some other service. What a name resolves to is judged when it is dialled.
    """
    try:
        url = parse_url(text)
        host, port = split_url(url)
    except ValueError as fault:
        raise InvalidRequest(f"not a node's URL: {fault}") from None
    if port <= _PRIVILEGED_PORT_MAX and port not in _WEB_PORTS:
        raise InvalidRequest("a node does not listen on a privileged port", port=port)
    if is_loopback(host) and not is_loopback(split_url(own_url)[0]):
        raise InvalidRequest("a loopback address means another machine on every node")
    if is_nowhere(host):
        raise InvalidRequest("no node can be reached at this address", address=host)
    return url


class _Joining(msgspec.Struct, forbid_unknown_fields=True):
    url: str


_joining: Final = msgspec.json.Decoder(_Joining)


def _url_in(body: bytes) -> str:
    if body.lstrip()[:1] == b"{":
        try:
            return decode_json(body, _joining).url
        except InvalidRequest as fault:
            raise InvalidRequest(f'write {{"url": "http://host:port"}}: {fault}') from None
    try:
        return body.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequest("not a node's URL: write http://host:port") from None
