# SPDX-License-Identifier: GPL-3.0-or-later
"""A request's body, within limits of bytes, time, memory and shape."""

from __future__ import annotations

import asyncio
import re
from itertools import islice
from typing import Final, TypeVar

import msgspec
from aiohttp import HttpVersion11, StreamReader, web

from quorate.doors.http.context import Context
from quorate.doors.http.portions import PORTION_BYTES, Portions
from quorate.doors.http.problems import Refused, too_many_bodies
from quorate.doors.limits import REQUEST_SECONDS, BodyPace, ByteBudget
from quorate.errors import InvalidRequest, ValueTooLarge

_COUNTED_END: Final = re.compile(r"[A-Za-z0-9_]\Z")
"""Of a name that is the caller's own, as a node's URL: so those end that _NAME_END finds."""
Document = TypeVar("Document")

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# The end of a name and nothing else: names of fields end in such a character, a quote inside a
# string follows a backslash, and one that begins a string follows punctuation or white space.
_NAME_END: Final = re.compile(rb'"(?<=[A-Za-z0-9_]")[ \t\r\n]*+:')


async def read_body(context: Context, request: web.Request, *, bytes_max: int) -> bytes:
    """The whole body. Overloaded, or Refused where it is too large (before it is read, if its
    length was declared), malformed or too slow; Unauthenticated or Forbidden where its sender may
    not send it any more."""
    if (request.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)
    # RFC 9110, 15.2: to HTTP/1.0 that would be the answer.
    if "Expect" in request.headers and request.version >= HttpVersion11:
        await request.writer.write(_CONTINUE)
        # What was written so far is no part of the answer, which may still become an error.
        request.writer.output_size = 0
    body, budget = bytearray(), context.bodies
    try:
        await _gather(request.content, body, budget, bytes_max=bytes_max)
    except TimeoutError:
        raise Refused(408, "too_slow", "the body took too long to arrive", is_final=True) from None
    except web.RequestPayloadError as fault:
        # The stream keeps it, and the frames that it holds keep the stream.
        fault.__traceback__ = None
        raise Refused(400, "bad_body", "the body is malformed", is_final=True) from None
    finally:
        budget.charge(0, before=len(body))
    context.permit()
    return bytes(body)


async def _gather(
    content: StreamReader, body: bytearray, budget: ByteBudget, *, bytes_max: int
) -> None:
    clock = asyncio.get_running_loop().time
    deadline, pace = clock() + REQUEST_SECONDS, BodyPace(budget)
    while True:
        async with asyncio.timeout_at(deadline):
            part = await content.readany()
        if not part:
            return
        if not budget.charge(len(body) + len(part), before=len(body)):
            raise too_many_bodies()
        body += part
        if len(body) > bytes_max:
            raise _too_large(bytes_max)
        if pace.earns(len(body)):
            deadline = clock() + REQUEST_SECONDS


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, ValueTooLarge.code, f"the body exceeds {bytes_max} bytes", is_final=True)


def decode_json(body: bytes, decoder: msgspec.json.Decoder[Document]) -> Document:
    """The document in `body`, if it is one that every reader understands alike. InvalidRequest."""
    document = _parsed(body, decoder)
    name_count = _names_in(document)
    if sum(1 for _ in islice(_NAME_END.finditer(body), name_count + 1)) != name_count:
        raise _repeated()
    return document


async def decode_large_json(
    body: bytes, decoder: msgspec.json.Decoder[Document], portions: Portions
) -> Document:
    """The same of many megabytes. They are parsed in one turn, which is little more than to copy
    them; names are counted in portions."""
    document = _parsed(body, decoder)
    left, begin, end = _names_in(document), 0, 0
    while end < len(body) and left >= 0:
        start, end = end, min(end + PORTION_BYTES, len(body))
        await portions.take(end - start)
        left -= sum(1 for _ in islice(_NAME_END.finditer(body, begin, end), left + 1))
        # A name may end here whose colon is in the next portion, behind white space.
        text = body[start:end].rstrip(b" \t\r\n")
        begin = start + len(text) - 1 if text else begin
    if left:
        raise _repeated()
    return document


def _repeated() -> InvalidRequest:
    return InvalidRequest("a name is repeated in an object")


def _parsed(body: bytes, decoder: msgspec.json.Decoder[Document]) -> Document:
    """What a body says. InvalidRequest.

    The decoder's type bounds what is built, so that a hostile body costs milliseconds, and refuses
    depth, unknown names, other numbers than whole ones and text that is no Unicode. It is made of
    structs whose optional fields are UNSET where they are not given.
    """
    try:
        return decoder.decode(body)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise InvalidRequest(f"not acceptable JSON: {str(fault)[:200]}") from None


def _names_in(value: object) -> int:
    """How many names of objects it takes to write `value` in JSON."""
    if isinstance(value, list):
        return sum(_names_in(each) for each in value)
    if isinstance(value, dict):
        ended = [name for name in value if _COUNTED_END.search(name)]
        return len(ended) + sum(map(_names_in, value.values()))
    if not isinstance(value, msgspec.Struct):
        return 0
    fields = (getattr(value, name) for name in value.__struct_fields__)
    return sum(1 + _names_in(each) for each in fields if each is not msgspec.UNSET)
