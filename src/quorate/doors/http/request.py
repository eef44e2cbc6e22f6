# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request says: its query, and its body within limits of bytes, time, memory and shape.

A query is read as browsers and HTTP libraries write it: `+` is a space, `%2B` a plus. Everything
else is strict: a bad escape, an unknown parameter or one given twice is refused and never guessed.
"""

from __future__ import annotations

import asyncio
import re
from itertools import islice
from typing import Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import StreamReader, web

from quorate.doors.http.problems import Refused, too_many_bodies
from quorate.doors.limits import REQUEST_SECONDS, BodyPace, ByteBudget, checked_key
from quorate.errors import InvalidRequest, ValueTooLarge
from quorate.notation import parse_duration

TTL_SECONDS_MAX: Final = 10**10
"""About 317 years: far from overflowing anything that counts milliseconds."""
TIMEOUT_MS_MAX: Final = 600_000
QUORUM_MAX: Final = 64

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_COUNTED_END: Final = re.compile(r"[A-Za-z0-9_]\Z")
"""Of a name that is the caller's own, as a node's URL: so those end that _NAME_END finds."""
Document = TypeVar("Document")

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
# The end of a name and nothing else: names of fields end in such a character, a quote inside a
# string follows a backslash, and one that begins a string follows punctuation or white space.
_NAME_END: Final = re.compile(rb'"(?<=[A-Za-z0-9_]")[ \t\r\n]*+:')


class Query:
    """The decoded parameters of one request."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    def get(self, name: str) -> bytes | None:
        """The bytes of a parameter, None if it was not given."""
        return self._values.get(name)

    def key(self) -> bytes:
        """The `key`. KeyMissing, KeyTooLarge."""
        return checked_key(self._values.get("key", b""))

    def number(self, name: str, *, low: int, high: int, default: int) -> int:
        """A parameter in plain digits, `default` if it was not given."""
        raw = self._values.get(name)
        if raw is None:
            return default
        if not _NUMBER.fullmatch(raw) or not low <= int(raw) <= high:
            raise InvalidRequest(
                f"{name} must be a whole number from {low} to {high}", parameter=name
            )
        return int(raw)

    def quorum(self, name: str) -> int:
        """`r` or `w`; 0 if not given. Whether there are as many replicas is the core's to say."""
        return self.number(name, low=1, high=QUORUM_MAX, default=0)

    def ttl_ms(self) -> int:
        """`ttl`, given in seconds, in milliseconds; 0 if not given."""
        return self.number("ttl", low=1, high=TTL_SECONDS_MAX, default=0) * 1000

    def timeout_ms(self) -> int:
        """`timeout`, a duration such as `500ms` or `2s`; 0 if not given."""
        raw = self._values.get("timeout")
        if raw is None:
            return 0
        try:
            # The length bound keeps a string of digits from becoming a huge number.
            timeout_ms = parse_duration(raw.decode("ascii")) if len(raw) <= 20 else 0
        except ValueError as fault:
            raise InvalidRequest(f"timeout: {fault}", parameter="timeout") from None
        if not 0 < timeout_ms <= TIMEOUT_MS_MAX:
            raise InvalidRequest("timeout must be from 1ms to 10m", parameter="timeout")
        return timeout_ms


def parse_query(target: str, *, allowed: frozenset[str]) -> Query:
    """The query of a request target as aiohttp gives it (`request.raw_path`). InvalidRequest."""
    raw = target.encode("utf-8", "surrogateescape")
    if b"#" in raw:
        raise InvalidRequest("a request's target has no fragment: write # as %23")
    values: dict[str, bytes] = {}
    for part in raw.partition(b"?")[2].split(b"&"):
        if not part:
            continue
        raw_name, _, raw_value = part.partition(b"=")
        name = _decoded(raw_name).decode("utf-8", "replace")
        if name not in allowed:
            raise InvalidRequest(
                f"unknown parameter: this takes {', '.join(sorted(allowed)) or 'none'}",
                parameter=name[:64],
            )
        if name in values:
            raise InvalidRequest(f"{name} is given twice", parameter=name)
        values[name] = _decoded(raw_value)
    return Query(values)


def _decoded(raw: bytes) -> bytes:
    if _BAD_ESCAPE.search(raw):
        raise InvalidRequest("a % must be followed by two hexadecimal digits: write %25 for itself")
    return unquote_to_bytes(raw.replace(b"+", b" "))


async def read_body(request: web.Request, budget: ByteBudget, *, bytes_max: int) -> bytes:
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
        budget.charge(0, before=len(body))
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
    """The document in `body`, if it is one that every reader understands alike. InvalidRequest.

    The decoder's type bounds what is built, so that a hostile body costs milliseconds, and refuses
    depth, unknown names, other numbers than whole ones and text that is no Unicode. It is made of
    structs whose optional fields are UNSET where they are not given.
    """
    try:
        document = decoder.decode(body)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as fault:
        raise InvalidRequest(f"not acceptable JSON: {str(fault)[:200]}") from None
    name_count = _names_in(document)
    if sum(1 for _ in islice(_NAME_END.finditer(body), name_count + 1)) != name_count:
        raise InvalidRequest("a name is repeated in an object")
    return document


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
