# SPDX-License-Identifier: GPL-3.0-or-later
"""Large answers of the full service on their way to clients, as `Flow` has those of the fast lane:
charged to the budget of replies until the kernel has them, and given up where the client takes none
of it in time, or too little while others find no room (`too_slow`)."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

from quorate.doors.flow import FREE_REPLY_BYTES
from quorate.doors.http.context import Context
from quorate.doors.limits import no_room_for_reply, too_slow


async def write_large(request: web.Request, response: web.StreamResponse, context: Context) -> None:
    """Write a large answer, and return once the kernel has it; a small one is left to aiohttp. One
    that only reads were made for is refused where there is no room: Overloaded."""
    body = response.body if isinstance(response, web.Response) else None
    if not isinstance(body, bytes) or len(body) <= FREE_REPLY_BYTES or request.method == "HEAD":
        return
    transport = request.transport
    if transport is None:
        return
    if request.method != "GET":
        context.replies.add(len(body))
    elif not context.replies.take(len(body)):
        raise no_room_for_reply()
    leaving = Leaving(transport, len(body), len(body), context)
    try:
        await response.prepare(request)
        await response.write_eof()
    finally:
        leaving.end()


async def write_part(
    request: web.Request,
    response: web.StreamResponse,
    part: bytes,
    context: Context,
    *,
    is_last: bool,
) -> None:
    """Write a part of a long answer, before the first its head, and return once the kernel has it
    or it is small. Overloaded, and nothing written, if it is large and there is no room."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    size = len(part)
    held_bytes = size if size > FREE_REPLY_BYTES else 0
    if held_bytes and not context.replies.take(held_bytes):
        raise no_room_for_reply()
    leaving = Leaving(transport, size, held_bytes, context)
    try:
        await response.prepare(request)
        await (response.write_eof(part) if is_last else response.write(part))
    finally:
        leaving.end()


async def write_parts(
    request: web.Request, response: web.StreamResponse, parts: deque[bytes], context: Context
) -> None:
    """Write a large answer to what may have written something, so that it is never refused, and
    return once the kernel has it. Each part is let go as it is written, in a turn of its own."""
    left_bytes = sum(map(len, parts))
    response.content_length = left_bytes
    context.replies.add(left_bytes)
    try:
        await response.prepare(request)
        while parts and request.transport is not None:
            part = parts.popleft()
            left_bytes -= len(part)
            leaving = Leaving(request.transport, len(part), len(part), context)
            try:
                await (response.write(part) if parts else response.write_eof(part))
            finally:
                leaving.end()
            del part
            await asyncio.sleep(0)
    finally:
        context.replies.give_back(left_bytes)


class Leaving:
    """A large answer, or a part of a long one, that its client has yet to take."""

    __slots__ = (
        *("_deadlines", "_held_bytes", "_refused_before", "_replies", "_transport"),
        "_waiting_bytes",
    )

    def __init__(
        self, transport: asyncio.WriteTransport, size: int, held_bytes: int, context: Context
    ) -> None:
        """`held_bytes`: what of its size the budget is charged with, and is given back."""
        self._transport = transport
        self._replies = context.replies
        self._deadlines = context.taking
        self._held_bytes = held_bytes
        self._waiting_bytes = transport.get_write_buffer_size() + size
        self._watch()

    def end(self) -> None:
        """It is taken, or its client is gone."""
        self._deadlines.forget(self)
        self._replies.give_back(self._held_bytes)

    def expired(self) -> None:
        """Part of `Closable`."""
        waiting = self._transport.get_write_buffer_size()
        was_short = self._replies.refused != self._refused_before
        if too_slow(self._waiting_bytes - waiting, held=self._held_bytes, was_short=was_short):
            self._transport.abort()
            return
        self._waiting_bytes = waiting
        taken = max(self._held_bytes - waiting, 0)
        self._replies.give_back(taken)
        self._held_bytes -= taken
        self._watch()

    def _watch(self) -> None:
        self._refused_before = self._replies.refused
        self._deadlines.watch(self)
