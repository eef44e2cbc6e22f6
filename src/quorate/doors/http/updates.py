# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that depend on what is there: `/kv` under a condition or with an Idempotency-Key, `/incr`.

Each is one `Update`, which takes effect once, on the record directly before it. A request that says
who it is by an Idempotency-Key may be sent again: the last requests on a key are remembered in its
record, until a plain write replaces it. With `since_ms` a request says that it was sent before, and
when; it does not take effect now if it cannot be told any more whether it did then.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from aiohttp import web

from quorate.core.values.events import Edit, Edited, Update, UpdateResult
from quorate.core.values.record import EXPIRES_MS_MAX, Record
from quorate.doors.access import Role
from quorate.doors.http.conditions import IDEMPOTENCY, VersionConditions
from quorate.doors.http.context import Context, ask, respond
from quorate.doors.http.login import require
from quorate.doors.http.request import Query
from quorate.errors import Conflict, InvalidRequest, Outcome

INTEGER_MIN: Final = -(1 << 63)
INTEGER_MAX: Final = (1 << 63) - 1
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")
"""As Redis writes and takes them: of every number one text."""
_NAME: Final = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
"""What an Idempotency-Key may be: 1 to 255 characters."""


def request_number(request: web.Request, said: bytes) -> int:
    """The number under which the core remembers a request that asks for what is `said`; 0 without
    an Idempotency-Key. Another one of the same name is not taken for it."""
    lines = request.headers.getall(IDEMPOTENCY, [])
    if not lines:
        return 0
    if len(lines) > 1 or not _NAME.fullmatch(lines[0]):
        raise InvalidRequest(f"{IDEMPOTENCY} is given once, with 1 to 255 characters of ASCII")
    digest = blake2b(f"{lines[0]}\n{request.method}\n".encode(), digest_size=8)
    digest.update(said)
    return int.from_bytes(digest.digest(), "big") or 1


async def update(
    context: Context,
    request: web.Request,
    query: Query,
    edit: Edit,
    *,
    said: bytes,
    shows_value: bool = False,
) -> web.Response:
    """Do what `edit` says, once. `said`: what to write or add, by which a request that is sent
    again is known. InvalidRequest, Conflict, and whatever `edit` raises."""
    for name in ("r", "w"):
        if query.get(name) is not None:
            raise InvalidRequest(
                f"{name} is not for this: what depends on the version that is there always needs "
                "a majority of the replicas",
                parameter=name,
            )
    key, timeout_ms, number = query.key(), query.timeout_ms(), request_number(request, said)
    since_ms = query.number("since_ms", low=1, high=EXPIRES_MS_MAX, default=0)
    if since_ms and not number:
        raise InvalidRequest(f"since_ms is for a request with an {IDEMPOTENCY}")
    # What is yet to be says nothing.
    since_ms = min(since_ms, context.store.wall_ms())
    result = await ask(
        context.store,
        lambda waiter: Update(waiter, key, edit, timeout_ms, number, since_ms, len(said)),
        UpdateResult,
    )
    return respond(context.answers.of_update(result, request=number, shows_value=shows_value))


def writing(value: bytes | None, expires_ms: int, conditions: VersionConditions) -> Edit:
    """Put `value`, or delete if it is None, under `conditions`."""
    edited = Edited(value, expires_ms)

    def edit(record: Record | None) -> Edited:
        conditions.check_write(record)
        return edited

    return edit


def adding(by: int, expires_ms: int) -> Callable[[Record | None], Edited]:
    """Add `by` to the integer that is there, which expires when it did, or to 0 that expires at
    `expires_ms`."""

    def edit(record: Record | None) -> Edited:
        held = record.value if record is not None else b"0"
        number = integer_of(held or b"")
        if number is None or not INTEGER_MIN <= number + by <= INTEGER_MAX:
            raise Conflict(
                "the value is not an integer of 64 bits"
                if number is None
                else "the sum is not an integer of 64 bits",
                outcome=Outcome.NOT_APPLIED,
            )
        return Edited(b"%d" % (number + by), expires_ms if record is None else record.expires_ms)

    return edit


def integer_of(text: bytes) -> int | None:
    """The signed integer of 64 bits that a text is; None if it is none."""
    number = int(text) if _INTEGER.fullmatch(text) else None
    return number if number is not None and INTEGER_MIN <= number <= INTEGER_MAX else None


async def increment(context: Context, request: web.Request, query: Query) -> web.Response:
    """Add `by`, 1 if it is not given, to a counter; the answer is what it comes to."""
    # Who is answered what a counter comes to, reads it.
    require(Role.READ, context.principal, query.key())
    if request.body_exists and request.content_length != 0:
        raise InvalidRequest("what to add stands in the query, not in a body: /incr?key=...&by=5")
    given = query.get("by")
    by = 1 if given is None else integer_of(given)
    if by is None:
        raise InvalidRequest("by must be a whole number of 64 bits, such as -5", parameter="by")
    ttl_ms = query.ttl_ms()
    edit = adding(by, context.store.wall_ms() + ttl_ms if ttl_ms else 0)
    return await update(context, request, query, edit, said=b"%d" % by, shows_value=True)
