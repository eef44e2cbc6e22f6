# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 as our own client speaks it (RFC 9112): requests out, responses in, no sockets.

Requests are *canonical*: one Host, at most one Authorization and one Content-Length, nothing else
unless it is asked for, so that a node answers them in its fast lane. Responses are read from any
server or proxy in between: by Content-Length, chunked, or to the end of the connection. Left out:
trailers' values, HEAD, upgrades, compression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from quorate.errors import PeerProtocolError

HEAD_BYTES_MAX: Final = 64 << 10
BODY_BYTES_MAX: Final = 1 << 30
"""Above any value limit a cluster can be given in practice; a page of keys is far smaller."""
_LINE_BYTES_MAX: Final = 4096
_BEGIN: Final = b"HTTP/1."
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)
_QUOTED: Final = [chr(b) if b in _UNRESERVED else f"%{b:02X}" for b in range(256)]
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class Response:
    """One response. Header names are lower case; of a repeated header the last counts."""

    __slots__ = ("body", "headers", "keeps_alive", "status")

    def __init__(self, status: int, headers: dict[str, str], *, keeps_alive: bool) -> None:
        self.status = status
        self.headers = headers
        self.keeps_alive = keeps_alive
        """Whether another request may follow on the connection."""
        self.body = b""


def quote(raw: bytes) -> str:
    """`raw` as one component of a URL: everything but letters, digits and `-._~` escaped."""
    return "".join([_QUOTED[byte] for byte in raw])


def encode_request(
    method: str,
    target: str,
    host: str,
    *,
    body: bytes | None = None,
    authorization: str = "",
    headers: Mapping[str, str] = {},
) -> bytes:
    """The bytes of a request. All text is already escaped ASCII."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n"
    for name, value in headers.items():
        head += f"{name}: {value}\r\n"
    if authorization:
        head += f"Authorization: {authorization}\r\n"
    if body is None:
        return (head + "\r\n").encode("ascii")
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body


class ResponseParser:
    """Reads one response from bytes as they arrive; `feed` raises PeerProtocolError on nonsense.

    One request is in flight at a time, so bytes after its response are nonsense too.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._response: Response | None = None
        self._parts: list[bytes] = []
        self._body_bytes = 0
        self._missing: int | None = None
        """Bytes of the body, or of the chunk, still to come; None: until the connection ends."""
        self._chunked = False
        self._in_trailers = False

    def feed(self, data: bytes) -> Response | None:
        """Take bytes in; the response once it is complete."""
        self._buffer += data
        if self._response is None and not self._read_head():
            # What is no HTTP may never have a head's end.
            if not _BEGIN.startswith(self._buffer[: len(_BEGIN)]):
                raise _not_http(self._buffer)
            return None
        done = self._read_chunks() if self._chunked else self._read_body()
        if not done:
            return None
        return self._finished()

    def end(self) -> Response | None:
        """The connection ended: the response if that completes it, else None."""
        if self._response is None or self._chunked or self._missing is not None:
            return None
        return self._finished()

    def _finished(self) -> Response:
        assert self._response is not None
        if self._buffer:
            raise PeerProtocolError("bytes after the end of an HTTP response")
        self._response.body = b"".join(self._parts)
        return self._response

    def _read_head(self) -> bool:
        """Whether a final response's head was complete; interim ones (1xx) are passed over."""
        while True:
            end = self._buffer.find(b"\r\n\r\n")
            if max(end, len(self._buffer) if end < 0 else 0) > HEAD_BYTES_MAX:
                raise PeerProtocolError("HTTP response head too long", limit=HEAD_BYTES_MAX)
            if end < 0:
                return False
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            response = _parse_head(head)
            if response.status >= 200:
                self._begin(response)
                return True

    def _begin(self, response: Response) -> None:
        self._response = response
        length = response.headers.get("content-length")
        if response.status in (204, 304):
            self._missing = 0
        elif "transfer-encoding" in response.headers:
            self._begin_chunked(response)
        elif length is not None:
            if not (length.isascii() and length.isdigit() and len(length) < 18):
                raise PeerProtocolError("malformed Content-Length in an HTTP response")
            self._missing = int(length)
            self._grow(self._missing)
        else:
            response.keeps_alive = False

    def _begin_chunked(self, response: Response) -> None:
        if response.headers["transfer-encoding"].lower() != "chunked":
            raise PeerProtocolError("unknown Transfer-Encoding in an HTTP response")
        if "content-length" in response.headers:
            raise PeerProtocolError("Content-Length and Transfer-Encoding in an HTTP response")
        self._chunked = True

    def _grow(self, count: int) -> None:
        self._body_bytes += count
        if self._body_bytes > BODY_BYTES_MAX:
            raise PeerProtocolError("HTTP response body too long", limit=BODY_BYTES_MAX)

    def _read_body(self) -> bool:
        if self._missing is None:
            self._grow(len(self._buffer))
            self._take(len(self._buffer))
            return False
        self._missing -= self._take(min(self._missing, len(self._buffer)))
        return self._missing == 0

    def _take(self, count: int) -> int:
        if count:
            self._parts.append(bytes(self._buffer[:count]))
            del self._buffer[:count]
        return count

    def _read_chunks(self) -> bool:
        while True:
            if self._missing:
                self._missing -= self._take(min(self._missing, len(self._buffer)))
                if self._missing:
                    return False
                self._missing = 0
            line = self._line()
            if line is None:
                return False
            if self._in_trailers:
                if not line:
                    return True
                self._grow(len(line))
            elif self._missing == 0:
                self._end_chunk(line)
            else:
                self._begin_chunk(line)

    def _end_chunk(self, line: bytes) -> None:
        if line:
            raise PeerProtocolError("malformed chunk in an HTTP response")
        self._missing = None

    def _begin_chunk(self, line: bytes) -> None:
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 15 or not _HEX.issuperset(digits):
            raise PeerProtocolError("malformed chunk size in an HTTP response")
        count = int(digits, 16)
        self._grow(count)
        if count:
            self._missing = count
        else:
            self._in_trailers = True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if max(end, len(self._buffer) if end < 0 else 0) > _LINE_BYTES_MAX:
            raise PeerProtocolError("HTTP chunk line too long", limit=_LINE_BYTES_MAX)
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


def _not_http(raw: bytes | bytearray) -> PeerProtocolError:
    begins = raw[:40].partition(b"\r\n")[0].decode("latin-1")
    return PeerProtocolError("not an HTTP response", begins=begins)


def _parse_head(head: bytes) -> Response:
    first, *lines = head.decode("latin-1").split("\r\n")
    protocol, _, rest = first.partition(" ")
    status = rest[:3]
    if protocol not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()):
        raise _not_http(head)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise PeerProtocolError("malformed header in an HTTP response")
        headers[name.lower()] = value.strip(" \t")
    connection = headers.get("connection", "").lower()
    keeps_alive = connection != "close" if protocol == "HTTP/1.1" else connection == "keep-alive"
    return Response(int(status), headers, keeps_alive=keeps_alive)
