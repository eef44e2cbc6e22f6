# SPDX-License-Identifier: GPL-3.0-or-later
"""Who sends a request of the full service: Basic (RFC 7617), Bearer (RFC 6750), a client's
certificate, or nothing where nobody has to log in."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from quorate.doors.access import NOBODY, Principal
from quorate.doors.guests import source_of
from quorate.doors.principals import NOT_ACCEPTED, Answer, Principals
from quorate.errors import Unauthenticated

HEADER: Final = "Authorization"


class _FutureApplicant:
    def __init__(self, request: web.Request, future: asyncio.Future[Answer]) -> None:
        self._request = request
        self._future = future

    @property
    def is_gone(self) -> bool:
        return self._request.transport is None

    def logged_in(self, answer: Answer) -> None:
        if not self._future.done():
            self._future.set_result(answer)


async def identify(principals: Principals, request: web.Request) -> Principal:
    """Who sends the request. Unauthenticated, Overloaded."""
    transport = request.transport
    if transport is None:
        return NOBODY
    principal = await _identified(principals, request, transport)
    principals.guests.judge(transport, principal)
    return principal


async def _identified(
    principals: Principals, request: web.Request, transport: asyncio.BaseTransport
) -> Principal:
    given = request.headers.getall(HEADER, [])
    if not given or not principals.asks:
        return principals.at(transport)
    if len(given) > 1:
        raise Unauthenticated(NOT_ACCEPTED)
    header, source = given[0].encode("utf-8", "surrogateescape"), source_of(transport)
    known = principals.known(header, source)
    if known is not None:
        return known
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    principals.apply(header, source, _FutureApplicant(request, future))
    answer = await future
    if isinstance(answer, Principal):
        return answer
    raise answer
