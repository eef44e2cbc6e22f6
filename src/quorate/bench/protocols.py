# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests as bytes from templates, and replies counted: just enough of RESP2 and HTTP/1.1.

No reply is taken on trust: each is either a success, a miss (a read of a key that is not there) or
an error, counted by its kind. Bytes that are no reply raise ProtocolFault.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, Protocol

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
KEY_PREFIX: Final = "quorate-bench:"
"""Every key begins with it. The templates below write it out, to be no slower for it."""
_CODE: Final = re.compile(rb'"code": *"([a-z_]+)"')
_WAIT_MS: Final = 1000


class ProtocolFault(Exception):
    """The server sent bytes that are no reply."""


class Tally:
    """What went otherwise than a plain success."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        self.failed = 0
        """All errors together."""
        self.misses = 0

    def fail(self, kind: str, count: int = 1) -> None:
        """Count an error."""
        self.errors[kind] += count
        self.failed += count


Taken = tuple[int, bytes, int]
"""The number of whole replies, the beginning of one more, and how many bytes are still to come of
one more that need not be looked at. A plain tuple: one is made for each batch."""
_ONE: Final[Taken] = (1, b"", 0)


class Codec(Protocol):
    """One protocol's requests and replies."""

    replies_per_write: int

    def read(self, key: int) -> bytes:
        """The request that reads a key."""

    def write(self, key: int) -> bytes:
        """The request, or requests, that write a key."""

    def take(self, data: bytes, tally: Tally) -> Taken:
        """Count the replies at the start of `data`."""


class RespCodec:
    """GET and SET, with WAIT after each SET if asked: one operation, two replies."""

    def __init__(self, *, value: bytes, wait: int) -> None:
        self.replies_per_write = 2 if wait else 1
        self._wait = wait
        self._hit = b"$%d\r\n" % len(value)
        self._hit_bytes = len(self._hit) + len(value) + 2
        self._tail = b"\r\n$%d\r\n%b\r\n" % (len(value), value)
        if wait:
            count, ms = b"%d" % wait, b"%d" % _WAIT_MS
            self._tail += b"*3\r\n$4\r\nWAIT\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                len(count),
                count,
                len(ms),
                ms,
            )

    def read(self, key: int) -> bytes:
        return b"*2\r\n$3\r\nGET\r\n$29\r\nquorate-bench:%015d\r\n" % key

    def write(self, key: int) -> bytes:
        return b"*3\r\n$3\r\nSET\r\n$29\r\nquorate-bench:%015d%b" % (key, self._tail)

    def take(self, data: bytes, tally: Tally) -> Taken:
        if data == b"+OK\r\n":
            return _ONE
        if len(data) == self._hit_bytes and data.startswith(self._hit):
            return _ONE
        count = begin = 0
        while not data.startswith(b"*", begin):
            read = read_reply(data, begin)
            if read is None:
                return (count, data[begin:], 0)
            reply, after = read
            if after > len(data):
                return (count, b"", after - len(data))
            self._judge(reply, tally)
            count, begin = count + 1, after
        raise ProtocolFault("neither GET nor SET is answered with an array")

    def _judge(self, reply: object, tally: Tally) -> None:
        if reply is None:
            tally.misses += 1
        elif isinstance(reply, ErrorReply):
            tally.fail(reply.partition(" ")[0])
        elif isinstance(reply, int) and reply < self._wait:
            tally.fail("WAIT reached too few replicas")


class ErrorReply(str):
    """What an error says."""


def read_reply(data: bytes, begin: int) -> tuple[object, int] | None:
    """The reply of RESP2 at `begin` and where it ends; None if more of it must come to know that.
    It may end after `data` does, inside the last bulk string."""
    end = data.find(b"\r\n", begin)
    if end < 0:
        return None
    mark, text = data[begin : begin + 1], data[begin + 1 : end]
    try:
        if mark == b"+":
            return text, end + 2
        if mark == b"-":
            return ErrorReply(text.decode("utf-8", "replace")), end + 2
        number = int(text)
    except ValueError:
        mark = b""
    if mark == b":":
        return number, end + 2
    if mark == b"$":
        if number < 0:
            return None, end + 2
        return data[end + 2 : end + 2 + number], end + 4 + number
    if mark == b"*":
        return _read_array(data, end + 2, number)
    raise ProtocolFault(f"no RESP reply: {data[begin : begin + 40]!r}")


def _read_array(data: bytes, begin: int, count: int) -> tuple[object, int] | None:
    items = []
    for _ in range(count):
        read = read_reply(data, begin)
        if read is None:
            return None
        item, begin = read
        items.append(item)
    return items, begin


class HttpCodec:
    """GET and PUT of `/kv` in canonical form."""

    replies_per_write = 1

    def __init__(self, *, value: bytes, authority: str, w: int = 0, r: int = 0) -> None:
        self._value_bytes = len(value)
        self._hit_length = b"\r\nContent-Length: %d\r\n" % len(value)
        host = b"Host: " + authority.encode("ascii")
        self._read_tail = b"%b HTTP/1.1\r\n%b\r\n\r\n" % (_quorum("r", r), host)
        self._write_tail = b"%b HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (
            _quorum("w", w),
            host,
            len(value),
            value,
        )

    def read(self, key: int) -> bytes:
        return b"GET /kv?key=quorate-bench%%3A%015d%b" % (key, self._read_tail)

    def write(self, key: int) -> bytes:
        return b"PUT /kv?key=quorate-bench%%3A%015d%b" % (key, self._write_tail)

    def take(self, data: bytes, tally: Tally) -> Taken:
        end = data.find(b"\r\n\r\n")
        if (
            len(data) == end + 4 + self._value_bytes
            and data.startswith(b"HTTP/1.1 200 ")
            and data.find(self._hit_length, 0, end + 2) >= 0
        ):
            return _ONE
        count = begin = 0
        while (end := data.find(b"\r\n\r\n", begin)) >= 0:
            length = _LENGTH.search(data, begin, end)
            if not data.startswith(b"HTTP/1.", begin) or length is None:
                raise ProtocolFault(f"no HTTP response: {data[begin : begin + 40]!r}")
            after = end + 4 + int(length[1])
            is_success = data.startswith(b"200", begin + 9)
            if after > len(data):
                if is_success:
                    return (count, b"", after - len(data))
                break
            if not is_success:
                _count_failure(data[begin:after], tally)
            count, begin = count + 1, after
        return (count, data[begin:], 0)


def _quorum(name: str, number: int) -> bytes:
    return f"&{name}={number}".encode() if number else b""


def _count_failure(response: bytes, tally: Tally) -> None:
    status = response[9:12].decode("ascii", "replace")
    code = _CODE.search(response)
    if code is not None and code[1] == b"not_found":
        tally.misses += 1
    else:
        tally.fail(f"{status} {code[1].decode()}" if code else status)
