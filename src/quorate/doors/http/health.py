# SPDX-License-Identifier: GPL-3.0-or-later
"""For what watches a node: `/healthz` and `/readyz`."""

from __future__ import annotations

from aiohttp import web

from quorate.doors.http.context import Context, respond_text
from quorate.doors.http.request import Query
from quorate.errors import NotReady


async def healthz(_context: Context, _request: web.Request, _query: Query) -> web.Response:
    """200 while the process serves at all: restarting it would not help otherwise."""
    return respond_text("ok")


async def readyz(context: Context, _request: web.Request, _query: Query) -> web.Response:
    """200 when requests belong here, else 503 with the reason. `/internal/ping` asks the same."""
    status = context.store.status()
    if not status.ready:
        raise NotReady(status.reason or "not ready")
    return respond_text("ok")
