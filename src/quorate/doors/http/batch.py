# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /batch`: many independent operations in one request, each answered on its own.

They begin together and in order: of two writes to one key the later one wins, but a read may be
answered before a write that stands above it. There is no transaction.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec
from aiohttp import web

from quorate.core.events import Get, GetResult, Put, PutResult, Waiter
from quorate.core.record import is_live
from quorate.doors.http.bodies import decode_json, read_body
from quorate.doors.http.context import Context
from quorate.doors.http.listing import Text, from_text, to_text
from quorate.doors.http.problems import problem_of
from quorate.doors.http.query import TTL_SECONDS_MAX, Query, checked_key
from quorate.doors.http.responses import respond_json
from quorate.errors import InvalidRequest, QuorateError, ValueTooLarge
from quorate.runtime.store import ask

OPERATIONS_MAX: Final = 1000
BODY_BYTES_MAX: Final = 16 << 20


class Operation(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a batch."""

    op: Literal["get", "put", "delete"]
    key: Text
    value: Text | None = None
    ttl: int | None = None
    """Seconds."""


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The whole body."""

    operations: list[Operation]


class _Call(msgspec.Struct):
    """An operation that passed every check."""

    op: str
    key: bytes
    value: bytes | None
    expires_ms: int


async def batch(context: Context, request: web.Request, query: Query) -> web.Response:
    """Run all operations, or none if one of them cannot be understood."""
    body = await read_body(request, context.bodies, bytes_max=BODY_BYTES_MAX)
    calls = [_checked(context, operation) for operation in _operations(body)]
    answers = await asyncio.gather(*(_run(context, query, call) for call in calls))
    return respond_json({"results": answers})


def _operations(body: bytes) -> list[Operation]:
    try:
        operations = msgspec.convert(decode_json(body), Batch).operations
    except msgspec.ValidationError as fault:
        raise InvalidRequest(f"not a batch: {fault}") from None
    if len(operations) > OPERATIONS_MAX:
        raise InvalidRequest("too many operations in a batch", operations_max=OPERATIONS_MAX)
    return operations


def _checked(context: Context, operation: Operation) -> _Call:
    key = checked_key(from_text(operation.key))
    is_put = operation.op == "put"
    if is_put == (operation.value is None):
        raise InvalidRequest("a put has a value, and nothing else has one")
    value = from_text(operation.value) if operation.value is not None else None
    bytes_max = context.store.config.value_bytes_max
    if value is not None and len(value) > bytes_max:
        raise ValueTooLarge("the value is too large", bytes=len(value), bytes_max=bytes_max)
    if operation.ttl is None:
        return _Call(operation.op, key, value, 0)
    if not is_put or not 1 <= operation.ttl <= TTL_SECONDS_MAX:
        raise InvalidRequest(f"ttl is for puts, from 1 to {TTL_SECONDS_MAX} seconds")
    return _Call(operation.op, key, value, context.store.wall_ms() + operation.ttl * 1000)


async def _run(context: Context, query: Query, call: _Call) -> dict[str, object]:
    run = _get if call.op == "get" else _put
    try:
        answer = await run(context, query, call)
    except QuorateError as error:
        answer = problem_of(error).members()
    return {"key": to_text(call.key), **answer}


async def _get(context: Context, query: Query, call: _Call) -> dict[str, object]:
    def event(waiter: Waiter) -> Get:
        return Get(waiter, call.key, query.quorum("r"), query.timeout_ms())

    record = (await ask(context.store, event, GetResult)).record
    if record is None or record.value is None:
        return {"status": 404}
    if not is_live(record, wall_ms=context.store.wall_ms()):
        return {"status": 404}
    return {"status": 200, "version": record.version.hex(), "value": to_text(record.value)}


async def _put(context: Context, query: Query, call: _Call) -> dict[str, object]:
    def event(waiter: Waiter) -> Put:
        return Put(
            waiter, call.key, call.value, call.expires_ms, query.quorum("w"), query.timeout_ms()
        )

    result = await ask(context.store, event, PutResult)
    return {"status": 200, "version": result.version.hex(), "acks": result.acks}
