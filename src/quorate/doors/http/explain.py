# SPDX-License-Identifier: GPL-3.0-or-later
"""`GET /explain`: where a key lives and what each of its replicas has."""

from __future__ import annotations

from aiohttp import web

from quorate.core.values.events import Explain, ExplainResult
from quorate.doors.http.asking import ask
from quorate.doors.http.context import Context
from quorate.doors.http.listing import to_text
from quorate.doors.http.query import Query
from quorate.doors.http.responses import respond_json


async def explain(context: Context, _request: web.Request, query: Query) -> web.Response:
    """Slot, partition and replicas of a key. A version is null where a replica did not answer, and
    empty where it has nothing."""
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
