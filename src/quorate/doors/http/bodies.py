# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading request bodies within limits: bytes, time, memory, and the shape of JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Final, NoReturn

from aiohttp import StreamReader, web

from quorate.doors.http.limits import PROGRESS_BYTES, REQUEST_SECONDS, BodyBudget
from quorate.doors.http.problems import Refused
from quorate.errors import InvalidRequest, Outcome, Overloaded, ValueTooLarge

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


async def read_body(request: web.Request, budget: BodyBudget, *, bytes_max: int) -> bytes:
    """The whole body. Overloaded, or Refused where it is too large (before it is read, if its
    length was declared), malformed or too slow."""
    if (request.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)
    if "Expect" in request.headers:
        await request.writer.write(_CONTINUE)
        # What was written so far is no part of the answer, which may still become an error.
        request.writer.output_size = 0
    body = bytearray()
    try:
        await _gather(request.content, body, budget, bytes_max=bytes_max)
    except TimeoutError:
        raise Refused(408, "too_slow", "the body took too long to arrive", is_final=True) from None
    except web.RequestPayloadError:
        raise Refused(400, "bad_body", "the body is malformed", is_final=True) from None
    finally:
        budget.give_back(len(body))
    return bytes(body)


async def _gather(
    content: StreamReader, body: bytearray, budget: BodyBudget, *, bytes_max: int
) -> None:
    clock = asyncio.get_running_loop().time
    deadline, next_mark = clock() + REQUEST_SECONDS, PROGRESS_BYTES
    while True:
        async with asyncio.timeout_at(deadline):
            part = await content.readany()
        if not part:
            return
        if not budget.take(len(part)):
            raise Overloaded("too many request bodies are arriving", outcome=Outcome.NOT_APPLIED)
        body += part
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        if len(body) >= next_mark:
            deadline, next_mark = clock() + REQUEST_SECONDS, len(body) + PROGRESS_BYTES


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, ValueTooLarge.code, f"the body exceeds {bytes_max} bytes", is_final=True)


def decode_json(body: bytes) -> object:
    """The document in `body`, if it is one that every reader understands alike. InvalidRequest.

    Strings are valid Unicode, names are unique and numbers whole: no NaN, no 1e400.
    """
    try:
        document: object = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        # A lone surrogate can be escaped in JSON and is no text.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except ValueError as fault:
        raise InvalidRequest(f"not acceptable JSON: {str(fault)[:200]}") from None
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated in an object")
    return found


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no whole number")
