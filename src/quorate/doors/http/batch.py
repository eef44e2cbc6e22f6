# SPDX-License-Identifier: GPL-3.0-or-later
"""`POST /batch`: many independent operations in one request, each answered on its own.

Those of one key run in order, each after the answer to the one before; those of different keys in
any order, a few at a time. There is no transaction. What a batch can make the node hold is bounded:
its body, its operations, those under way at once, and the values in its answer. What it makes the
node do in one turn is, too (`portions`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from quorate.core.values.events import (
    Get,
    GetResult,
    Put,
    PutResult,
    Update,
    UpdateResult,
    Waiter,
)
from quorate.core.values.record import EXPIRES_MS_MAX, is_expiry, is_live
from quorate.doors.access import Principal, Role, require
from quorate.doors.http.conditions import WHERE_NONE_IS
from quorate.doors.http.context import Context, ask
from quorate.doors.http.keys import Base64, Text, from_text, to_text
from quorate.doors.http.leaving import write_parts
from quorate.doors.http.portions import PORTION_BYTES, Portions
from quorate.doors.http.problems import problem_of
from quorate.doors.http.query import TTL_SECONDS_MAX, Query
from quorate.doors.http.request import decode_large_json, read_body
from quorate.doors.http.updates import writing
from quorate.doors.limits import ByteBudget, checked_key, checked_value, no_room_for_reply
from quorate.errors import InvalidRequest, Outcome, Overloaded, QuorateError

OPERATIONS_MAX: Final = 1000
CONCURRENT_MAX: Final = 16
"""Operations of a batch that are under way at once."""
VALUES_BYTES: Final = 8 << 20
"""Bytes of values in one answer, beside one value of the greatest length. Gets that come after are
refused."""
BATCH_SECONDS: Final = 30.0
"""Operations that have not begun by then are not begun."""
_BODY_BYTES_MIN: Final = 2 << 20


class OperationBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One line of a batch; a field that is null counts as not given."""

    op: Literal["get", "put", "delete"]
    key: Text
    value: Text | UnsetType | None = UNSET
    ttl: int | UnsetType | None = UNSET
    """Seconds."""
    expires_ms: int | UnsetType | None = UNSET
    """Instead of `ttl`: the moment itself, so that a copied key expires when the first does."""
    if_absent: bool | UnsetType | None = UNSET
    """Put only where no value is, as `If-None-Match: *` does."""


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    """The whole body."""

    operations: Annotated[list[OperationBody], msgspec.Meta(max_length=OPERATIONS_MAX)]


_SHAPE: Final = (
    "an operation is get, put or delete, with key, value, ttl or expires_ms, and if_absent of a"
    " put: whatever else depends on what is there is a request of its own, /kv with If-Match or"
    " /incr"
)
_decoder: Final = msgspec.json.Decoder(BatchBody)


class _CheckedOperation(msgspec.Struct):
    """An operation that passed every check."""

    op: str
    key: bytes
    value: bytes | None
    expires_ms: int
    is_if_absent: bool = False


async def batch(context: Context, request: web.Request, query: Query) -> web.StreamResponse:
    """Run all operations, or none if one of them cannot be understood."""
    bytes_max = body_bytes_max(context.store.config.value_bytes_max)
    body = await read_body(context, request, bytes_max=bytes_max)
    portions = Portions()
    calls = []
    for operation in await _decoded(body, portions):
        await portions.take(_text_size(operation.value))
        calls.append(_checked(context, operation))
    _permit(context.principal, calls)
    if query.get("w") is not None and any([each.is_if_absent for each in calls]):
        raise InvalidRequest(
            "w is not for a batch with if_absent: that always needs a majority of the replicas",
            parameter="w",
        )
    running = _Running(context, query, calls, portions)
    try:
        parts = await _rendered(await running.results(), portions)
    finally:
        context.replies.give_back(running.values.used)
    if len(parts) == 1:
        return web.Response(body=parts[0], content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await write_parts(request, response, parts, context)
    return response


async def _rendered(results: list[dict[str, object]], portions: Portions) -> deque[bytes]:
    """The answer, in parts of about PORTION_BYTES; a result is whole in one."""
    parts: deque[bytes] = deque()
    part = bytearray(b'{"results":[')
    for index, result in enumerate(results):
        await portions.take(_text_size(result.get("value")))
        if len(part) >= PORTION_BYTES:
            parts.append(bytes(part))
            part.clear()
        part += b"," if index else b""
        part += msgspec.json.encode(result)
        # It is held once.
        results[index] = {}
    parts.append(bytes(part + b"]}"))
    return parts


def _text_size(text: object) -> int:
    """About how many bytes it is to read or write a value."""
    if isinstance(text, Base64):
        return len(text.base64)
    return len(text) if isinstance(text, str) else 0


async def _decoded(body: bytes, portions: Portions) -> list[OperationBody]:
    try:
        return (await decode_large_json(body, _decoder, portions)).operations
    except InvalidRequest as fault:
        raise InvalidRequest(f"{fault.detail}; {_SHAPE}") from None


def body_bytes_max(value_bytes_max: int) -> int:
    """Enough for the largest value in base64, and for many small ones."""
    return max(_BODY_BYTES_MIN, value_bytes_max * 3 // 2)


def _checked(context: Context, operation: OperationBody) -> _CheckedOperation:
    key = checked_key(from_text(operation.key))
    is_put = operation.op == "put"
    text = None if operation.value is UNSET else operation.value
    if is_put == (text is None):
        raise InvalidRequest("a put has a value, and nothing else has one")
    bytes_max = context.store.config.value_bytes_max
    value = None if text is None else checked_value(from_text(text), bytes_max=bytes_max)
    expires_ms = _expiry(operation, is_put=is_put, wall_ms=context.store.wall_ms())
    is_if_absent = operation.if_absent is True
    if is_if_absent and not is_put:
        raise InvalidRequest("if_absent is for puts")
    return _CheckedOperation(operation.op, key, value, expires_ms, is_if_absent)


def _permit(principal: Principal, calls: list[_CheckedOperation]) -> None:
    """Unauthenticated, or Forbidden, unless `principal` may run them all. Overloaded where its
    patterns take too long: all keys are compared in one turn."""
    for role, is_read in ((Role.READ, True), (Role.WRITE, False)):
        keys = [each.key for each in calls if (each.op == "get") is is_read]
        if keys:
            require(role, principal, *keys)


def _expiry(operation: OperationBody, *, is_put: bool, wall_ms: int) -> int:
    ttl = None if operation.ttl is UNSET else operation.ttl
    expires_ms = None if operation.expires_ms is UNSET else operation.expires_ms
    if ttl is None and expires_ms is None:
        return 0
    if not is_put or (ttl is not None and expires_ms is not None):
        raise InvalidRequest("ttl, or expires_ms, is for puts")
    if ttl is not None and not 1 <= ttl <= TTL_SECONDS_MAX:
        raise InvalidRequest(f"ttl is from 1 to {TTL_SECONDS_MAX} seconds")
    if expires_ms == 0 or not is_expiry(expires_ms or 0):
        raise InvalidRequest(f"expires_ms is from 1 to {EXPIRES_MS_MAX}")
    return wall_ms + ttl * 1000 if ttl is not None else expires_ms or 0


class _Running:
    """The operations of one batch and their results."""

    def __init__(
        self,
        context: Context,
        query: Query,
        calls: list[_CheckedOperation],
        portions: Portions,
    ) -> None:
        self._store = context.store
        self._r, self._w = query.quorum("r"), query.quorum("w")
        self._timeout_ms = query.timeout_ms()
        self._calls = calls
        self._results: list[dict[str, object]] = [{}] * len(calls)
        self._replies = context.replies
        self.values = ByteBudget(VALUES_BYTES + context.store.config.value_bytes_max)
        self._portions = portions
        self._is_full = False
        """A value was too much for the answer."""

    async def results(self) -> list[dict[str, object]]:
        """Run the operations; what each came to, in their order."""
        by_key: dict[bytes, list[int]] = {}
        for index, call in enumerate(self._calls):
            by_key.setdefault(call.key, []).append(index)
        # One iterator for all workers: each takes the next key when it is done with one.
        keys, deadline = iter(by_key.values()), asyncio.get_running_loop().time() + BATCH_SECONDS
        await asyncio.gather(*(self._work(keys, deadline) for _ in range(CONCURRENT_MAX)))
        return self._results

    async def _work(self, keys: Iterator[list[int]], deadline: float) -> None:
        loop = asyncio.get_running_loop()
        for indexes in keys:
            for index in indexes:
                call = self._calls[index]
                answer = await self._run(call, is_late=loop.time() >= deadline)
                self._results[index] = {"key": to_text(call.key), **answer}

    async def _run(self, call: _CheckedOperation, *, is_late: bool) -> dict[str, object]:
        try:
            if is_late:
                raise Overloaded("the batch took too long", outcome=Outcome.NOT_APPLIED)
            if call.is_if_absent:
                return await self._put_if_absent(call)
            return await (self._get(call) if call.op == "get" else self._put(call))
        except QuorateError as error:
            error.__traceback__ = None  # It holds the batch, in a ring.
            return problem_of(error).members()

    async def _get(self, call: _CheckedOperation) -> dict[str, object]:
        if self._is_full:
            raise _too_much()
        get = partial(Get, key=call.key, r=self._r, timeout_ms=self._timeout_ms)
        record = (await ask(self._store, get, GetResult)).record
        value = None if record is None else record.value
        if record is None or value is None or not is_live(record, wall_ms=self._store.wall_ms()):
            return {"status": 404}
        size = len(value)
        if not self.values.take(size):
            self._is_full = True
            raise _too_much()
        if not self._replies.take(size):
            self.values.give_back(size)
            raise no_room_for_reply()
        await self._portions.take(size)
        answer = {"status": 200, "version": record.version.hex(), "value": to_text(value)}
        return {**answer, "expires_ms": record.expires_ms} if record.expires_ms else answer

    async def _put(self, call: _CheckedOperation) -> dict[str, object]:
        def put(waiter: Waiter) -> Put:
            return Put(waiter, call.key, call.value, call.expires_ms, self._w, self._timeout_ms)

        result = await ask(self._store, put, PutResult)
        return {"status": 200, "version": result.version.hex(), "acks": result.acks}

    async def _put_if_absent(self, call: _CheckedOperation) -> dict[str, object]:
        edit = writing(call.value, call.expires_ms, WHERE_NONE_IS)
        size = len(call.value or b"")

        def update(waiter: Waiter) -> Update:
            return Update(waiter, call.key, edit, self._timeout_ms, size=size)

        result = await ask(self._store, update, UpdateResult)
        assert result.after is not None, "no edit of this door leaves a key as it was"
        return {"status": 200, "version": result.after.version.hex(), "acks": result.acks}


def _too_much() -> Overloaded:
    return Overloaded("the batch's answer is full: ask for fewer values at once")
