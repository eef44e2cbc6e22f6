# SPDX-License-Identifier: GPL-3.0-or-later
"""What canonical requests say behind their target: the version, and the headers.

A client sends the same headers with each of its requests, so a connection keeps the last few blocks
of them with what they were found to mean: finding one again takes a twentieth of what matching it
takes. Of another client's nothing is kept here, so none can tell by the time what others send. What
decides who asks is not kept at all.
"""

from __future__ import annotations

from collections.abc import Callable
from re import Match
from typing import TYPE_CHECKING, Final

from quorate.doors.http.canonical import KEY_PREFIX, PLAIN_BYTES
from quorate.doors.http.kv import METHODS, Method

if TYPE_CHECKING:
    from mypy_extensions import i64

PLAIN_BYTES_MAX: Final = 16 << 10
"""Of a longer one the value would be copied for nothing."""
KEPT_BYTES_MAX: Final = 1024
"""Longer blocks are matched each time."""
KEPT_MAX: Final = 4
"""Blocks of a connection. Requests with a body send another than those without."""
_END: Final = b"\r\n\r\n"
_SPACE: Final = ord(" ")
_STARTS: Final = {name[0]: (method, name + b" " + KEY_PREFIX) for name, method in METHODS.items()}
"""How a plain request begins, by its first byte."""
_IS_PLAIN: Final = bytes([byte in PLAIN_BYTES for byte in range(256)])
"""By byte, whether it stands for itself in a key."""
NO_LENGTH: Final = -1


class Head:
    """What the headers of one request say."""

    __slots__ = ("host", "is_bodiless", "length", "shown", "size")

    def __init__(self, host: bytes, length: bytes | None, shown: bytes | None, size: int) -> None:
        self.host = host
        self.length = NO_LENGTH if length is None else int(length)
        """As Content-Length says, or NO_LENGTH."""
        # Java and requests say of a request without a body that it has 0 bytes.
        self.is_bodiless = length is None or length == b"0"
        self.shown = shown
        """The value of Authorization, where that decides."""
        self.size = size
        """Bytes of the version and the headers, with the empty line."""


class Plain:
    """A request that says a key and no more."""

    __slots__ = ("end", "head", "key", "method")

    def __init__(self, method: Method, key: bytes, head: Head, end: int) -> None:
        self.method = method
        self.key = key
        self.head = head
        self.end = end
        """Where its body begins, or would."""


class Heads:
    """Those of one connection."""

    __slots__ = ("_asks", "_fullmatch", "_kept", "_last", "_last_block")

    def __init__(self, fullmatch: Callable[[bytes], Match[bytes] | None], *, asks: bool) -> None:
        """`fullmatch`: of `canonical.HEADERS`, or of HEADERS_WITH_LOGIN if it `asks`."""
        self._fullmatch = fullmatch
        self._asks = asks
        self._kept: dict[bytes, Head] = {}
        self._last: Head | None = None
        self._last_block = b""
        """Of those kept the one that came last: to compare one takes a fifth of looking it up."""

    def at(self, data: bytes, start: int) -> Head | None:
        """What begins there; None if it is not whole, or not canonical."""
        end = data.find(_END, start)
        if end < 0:
            return None
        block = data[start : end + 4]
        head = self._kept.get(block)
        return self._read(block) if head is None else head

    def plain(self, data: bytes) -> Plain | None:
        """The one request that `data` is, if its key stands for itself, it says nothing else, and
        its headers came before; None if it is anything else.

        That is most of what comes. Spelled out, it takes a third of what the expressions take.
        """
        start = _STARTS.get(data[0]) if data else None
        if start is None:
            return None
        method, beginning = start
        first: i64 = len(beginning)
        if data[:first] != beginning:
            return None
        size: i64 = len(data)
        at: i64 = first
        # Native indices, which never leave the data: a few instructions for a byte.
        while at < size:
            byte: i64 = data[at]
            if not _IS_PLAIN[byte]:
                break
            at += 1
        is_empty = at == first
        if is_empty or at == size or data[at] != _SPACE:
            return None
        head = self._known(data, at + 1, method)
        if head is None:
            return None
        end = at + 1 + head.size
        if size - end != (head.length if method.has_body else 0):
            return None
        return Plain(method, data[first:at], head, end)

    def _known(self, data: bytes, start: i64, method: Method) -> Head | None:
        """The kept one that begins there, in a request that is all of `data`."""
        last = self._last
        if last is not None and data[start : start + last.size] == self._last_block:
            return last
        end = len(data)
        if method.has_body:
            end = data.find(_END, start) + 4
            # Not whole. (A compiled slice that would end before it begins raises.)
            if end < start:
                return None
        block = data[start:end]
        head = self._kept.get(block)
        if head is not None:
            self._last, self._last_block = head, block
        return head

    def _read(self, block: bytes) -> Head | None:
        match = self._fullmatch(block)
        if match is None:
            return None
        host, length = match.group(1, 2)
        shown = match[3] if self._asks else None
        head = Head(host, length, shown, len(block))
        if shown is None and len(block) <= KEPT_BYTES_MAX:
            if len(self._kept) == KEPT_MAX:
                self._kept.clear()
            self._kept[block] = head
        return head
