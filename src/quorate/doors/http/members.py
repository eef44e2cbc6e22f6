# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in the cluster: `POST /join`, `DELETE /join` and `GET /nodes`."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from quorate.core.values.events import Forget, ForgetResult, Join, JoinResult
from quorate.doors.http.context import BegunResponse, Context, ask, respond_json, respond_text
from quorate.doors.http.query import Query
from quorate.doors.http.request import decode_json, read_body
from quorate.errors import InvalidRequest
from quorate.notation import member_url, parse_url

_BODY_BYTES_MAX: Final = 4096


async def join(context: Context, request: web.Request, _query: Query) -> web.Response:
    """POST /join: make the URL in the body (raw, or JSON) a member, or announce it again."""
    body = await read_body(context, request, bytes_max=_BODY_BYTES_MAX)
    url = _member(_url_in(body), context)
    result = await ask(context.store, lambda waiter: Join(waiter, url), JoinResult)
    # Who is no member is dialled from now on, and may be of another cluster, or not there.
    return respond_json(
        {"url": url, "known": result.known, "owns": result.owns, "member": result.member},
        kind=web.Response if result.member else BegunResponse,
    )


async def forget(context: Context, _request: web.Request, query: Query) -> web.Response:
    """DELETE /join?url=: this node forgets a member that holds no copies and is not there."""
    try:
        url = parse_url((query.get("url") or b"").decode(errors="replace"))
    except ValueError as fault:
        raise InvalidRequest(f"not a node's URL: {fault}") from None
    result = await ask(context.store, lambda waiter: Forget(waiter, url), ForgetResult)
    return respond_json({"url": url, "known": result.known})


async def list_nodes(context: Context, request: web.Request, _query: Query) -> web.Response:
    """GET /nodes: every member as this node sees it; with `Accept: text/plain`, their URLs."""
    members = context.store.status().members
    if "text/plain" in request.headers.get("Accept", ""):
        response = respond_text(
            "".join(f"{url}\n" for url in sorted({each.url for each in members}))
        )
    else:
        response = respond_json(members)
    response.headers["Vary"] = "Accept"
    return response


async def list_candidates(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """GET /candidates: where nodes may be of which none has greeted this one as its cluster's."""
    return respond_json(context.store.status().candidates)


def _member(text: str, context: Context) -> str:
    """The URL that `text` names, if it may be a member's. InvalidRequest."""
    try:
        return member_url(text, own_url=context.store.status().url)
    except ValueError as fault:
        raise InvalidRequest(f"not a node's URL: {fault}") from None


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
