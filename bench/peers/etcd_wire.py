# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd's put and range as bytes from templates: through gRPC, and through its HTTP gateway.

gRPC is a call on a stream of an HTTP/2 connection (RFC 9113). A client library would cost several
times what etcd does, so a request is two frames from a template, and a reply is told by its frames'
types: a call that succeeded sends a DATA frame, one that failed only trailers, or it is reset.
"""

from __future__ import annotations

import base64
import re
import struct
from collections import Counter
from typing import Final

_KEY: Final = b"quorate-bench:%015d"
"""What `quorate bench` uses, so that keys are of one length everywhere."""
_KEY_MARK: Final = b"quorate-bench:"
MISS: Final = "a read of a key that is not there"

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_FRAME_HEAD: Final = struct.Struct(">BHBBI")
_WINDOW_MOST: Final = (1 << 31) - 1
_WINDOW_FIRST: Final = 65_535


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = len(payload)
    return _FRAME_HEAD.pack(length >> 16, length & 0xFFFF, kind, flags, stream) + payload


_HELLO: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, b"")
    # The connection's window, for all replies together, is opened once and as far as it goes.
    + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW_MOST - _WINDOW_FIRST))
)


def _header_block(path: bytes) -> bytes:
    """Literals without Huffman codes, and the static table (RFC 7541): POST and http."""
    path_field = b"\x04%c%b" % (len(path), path)
    authority, content_type = b"\x01\x04etcd", b"\x0f\x10\x10application/grpc"
    return b"\x83\x86" + path_field + authority + content_type + b"\x00\x02te\x08trailers"


class GrpcCaller:
    """One HTTP/2 connection with one call under way at a time."""

    def __init__(self, *, value: bytes, is_read: bool, errors: Counter[str]) -> None:
        self._errors = errors
        self._is_read = is_read
        self._headers = _header_block(b"/etcdserverpb.KV/%b" % (b"Range" if is_read else b"Put"))
        # Protobuf: field 1 is the key, field 2 of a put its value; both have one byte of length.
        self._tail = b"" if is_read else b"\x12%c%b" % (len(value), value)
        self._stream = 1
        self._owed = _HELLO
        """What is to be said before the next call."""
        self._unread = b""
        self._has_data = False

    def request(self, key: int) -> bytes:
        owed, self._owed = self._owed, b""
        stream, self._stream = self._stream, self._stream + 2
        message = b"\x0a\x1d" + _KEY % key + self._tail
        call = _frame(_HEADERS, _END_HEADERS, stream, self._headers)
        data = struct.pack(">BI", 0, len(message)) + message
        return owed + call + _frame(_DATA, _END_STREAM, stream, data)

    def is_answered(self, data: bytes) -> bool:
        data = self._unread + data
        begin, is_whole = 0, False
        while begin + 9 <= len(data):
            high, low, kind, flags, _ = _FRAME_HEAD.unpack_from(data, begin)
            end = begin + 9 + (high << 16 | low)
            if end > len(data):
                break
            is_whole |= self._ends_reply(kind, flags, data[begin + 9 : end])
            begin = end
        self._unread = data[begin:]
        return is_whole

    def _ends_reply(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == _DATA:
            self._has_data = True
            if self._is_read and _KEY_MARK not in payload:
                self._errors[MISS] += 1
        elif kind == _RST_STREAM or (kind == _HEADERS and flags & _END_STREAM):
            if kind == _RST_STREAM or not self._has_data:
                self._errors["a call that failed"] += 1
            self._has_data = False
            return True
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._owed += _frame(kind, _ACK, 0, payload if kind == _PING else b"")
        return False


_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)


class GatewayCaller:
    """JSON over HTTP/1.1, with bytes in base64."""

    def __init__(self, *, value: bytes, is_read: bool, errors: Counter[str]) -> None:
        self._errors = errors
        self._is_read = is_read
        self._tail = b'"}' if is_read else b'","value":"%b"}' % base64.b64encode(value)
        path = b"range" if is_read else b"put"
        length = len(self._body(0))
        self._head = b"POST /v3/kv/%b HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n" % (
            path,
            length,
        )
        self._unread = b""

    def _body(self, key: int) -> bytes:
        return b'{"key":"%b%b' % (base64.b64encode(_KEY % key), self._tail)

    def request(self, key: int) -> bytes:
        return self._head + self._body(key)

    def is_answered(self, data: bytes) -> bool:
        data = self._unread = self._unread + data
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head) if head >= 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            return False
        if not data.startswith(b"200", 9):
            self._errors[data[9:12].decode("ascii", "replace")] += 1
        elif self._is_read and b'"kvs"' not in data:
            self._errors[MISS] += 1
        self._unread = b""
        return True
