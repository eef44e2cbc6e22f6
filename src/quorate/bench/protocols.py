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
        self.misses = 0


class Codec(Protocol):
    """One protocol's requests and replies."""

    replies_per_write: int

    def read(self, key: int) -> bytes:
        """The request that reads a key."""

    def write(self, key: int) -> bytes:
        """The request, or requests, that write a key."""

    def take(self, data: bytes, tally: Tally) -> tuple[int, bytes]:
        """The number of whole replies at the start of `data`, and what is left after them."""


class RespCodec:
    """GET and SET, with WAIT after each SET if asked: one operation, two replies."""

    def __init__(self, *, value: bytes, wait: int) -> None:
        self.replies_per_write = 2 if wait else 1
        self._wait = wait
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

    def take(self, data: bytes, tally: Tally) -> tuple[int, bytes]:
        if data == b"+OK\r\n":
            return 1, b""
        count = begin = 0
        while (end := data.find(b"\r\n", begin)) >= 0:
            try:
                after = self._after(data, begin, end, tally)
            except ValueError:
                raise ProtocolFault(f"no RESP reply: {data[begin : begin + 40]!r}") from None
            if after < 0:
                break
            count, begin = count + 1, after
        return count, data[begin:]

    def _after(self, data: bytes, begin: int, end: int, tally: Tally) -> int:
        """Where the reply whose first line is `data[begin:end]` ends; -1 if it is not all there."""
        mark = data[begin]
        if mark == 43:  # +
            return end + 2
        text = data[begin + 1 : end]
        if mark == 36:  # $
            length = int(text)
            if length < 0:
                tally.misses += 1
                return end + 2
            after = end + 4 + length
            return after if after <= len(data) else -1
        if mark == 45:  # -
            tally.errors[text.partition(b" ")[0].decode("ascii", "replace")] += 1
        elif mark == 58:  # :
            if int(text) < self._wait:
                tally.errors["WAIT reached too few replicas"] += 1
        else:
            raise ValueError("no reply begins like this")
        return end + 2


class HttpCodec:
    """GET and PUT of `/kv` in canonical form."""

    replies_per_write = 1

    def __init__(self, *, value: bytes, authority: str) -> None:
        host = b"Host: " + authority.encode("ascii")
        self._read_tail = b" HTTP/1.1\r\n%b\r\n\r\n" % host
        self._write_tail = b" HTTP/1.1\r\n%b\r\nContent-Length: %d\r\n\r\n%b" % (
            host,
            len(value),
            value,
        )

    def read(self, key: int) -> bytes:
        return b"GET /kv?key=quorate-bench%%3A%015d%b" % (key, self._read_tail)

    def write(self, key: int) -> bytes:
        return b"PUT /kv?key=quorate-bench%%3A%015d%b" % (key, self._write_tail)

    def take(self, data: bytes, tally: Tally) -> tuple[int, bytes]:
        count = begin = 0
        while (end := data.find(b"\r\n\r\n", begin)) >= 0:
            length = _LENGTH.search(data, begin, end)
            if not data.startswith(b"HTTP/1.", begin) or length is None:
                raise ProtocolFault(f"no HTTP response: {data[begin : begin + 40]!r}")
            after = end + 4 + int(length[1])
            if after > len(data):
                break
            if not data.startswith(b"200", begin + 9):
                _count_failure(data[begin:after], tally)
            count, begin = count + 1, after
        return count, data[begin:]


def _count_failure(response: bytes, tally: Tally) -> None:
    status = response[9:12].decode("ascii", "replace")
    code = _CODE.search(response)
    if code is not None and code[1] == b"not_found":
        tally.misses += 1
    else:
        tally.errors[f"{status} {code[1].decode()}" if code else status] += 1
