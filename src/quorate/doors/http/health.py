# SPDX-License-Identifier: GPL-3.0-or-later
"""For what watches a node: `/healthz`, `/readyz`, and `/check` of the copies on its disk."""

from __future__ import annotations

from aiohttp import web

from quorate.core.values.events import Check, CheckResult
from quorate.doors.http.context import (
    Context,
    ask,
    respond_json,
    respond_problem,
    respond_text,
)
from quorate.doors.http.query import Query
from quorate.errors import NotReady


async def healthz(_context: Context, _request: web.Request, _query: Query) -> web.Response:
    """200 while the process serves at all: restarting it would not help otherwise."""
    return respond_text("ok")


async def readyz(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """200 when requests belong here, else 503, with the reason unless a stranger asks.
    `/internal/ping` asks the same.

    The 503 is answered and not raised, so that it counts as `ok`: it is what was asked for, and
    probes alone would look as if clients saw errors."""
    status = context.store.status()
    if status.ready:
        return respond_text("ok")
    reason = status.reason if context.principal.name else ""
    return respond_problem(NotReady(reason or "not ready"))


async def begin_check(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """POST /check: compare this node's digests with what it holds, unless that is under way."""
    return await _check(context, is_asked=True)


async def check(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """GET /check: how far that is, or what came of it."""
    return await _check(context, is_asked=False)


async def _check(context: Context, *, is_asked: bool) -> web.Response:
    result = await ask(context.store, lambda waiter: Check(waiter, is_asked), CheckResult)
    return respond_json(result)
