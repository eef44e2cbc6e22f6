# SPDX-License-Identifier: GPL-3.0-or-later
"""What `/kv` answers, whichever lane serves it: status, header lines and body.

Header lines are bytes, each ended by CRLF, without Content-Length and Date, which the lanes add:
the fast lane writes them as they are, the other one takes them apart again.
"""

from __future__ import annotations

from binascii import hexlify
from typing import Final

import msgspec

from quorate.core.values.events import GetResult, PutResult
from quorate.core.values.record import is_live
from quorate.doors.http.problems import PROBLEM_TYPE, Problem, Refused, problem_of
from quorate.errors import QuorateError
from quorate.runtime.store import Store


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An answer before it is written."""

    status: int
    lines: bytes
    body: bytes


_VALUE_LINES: Final = (
    b"Content-Type: application/octet-stream\r\n"
    b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Consistency: %b\r\n'
)
_WRITTEN_LINES: Final = (
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Acks: %d/%d\r\nQuorate-Consistency: %b\r\n'
)

_ABSENT: Final = Problem(404, "not_found", "Not found", "there is no value under this key")


def consistency(*, n: int, r: int, w: int) -> bytes:
    """What a key's operations add up to when all are made with this `r` and `w` (DESIGN, P2)."""
    if 2 * r > n and 2 * w > n:
        return b"linearizable"
    return b"regular" if r + w > n else b"eventual"


class Promise:
    """The consistency of a node's requests, worked out anew only when the layout changes."""

    __slots__ = ("_default", "_layout", "_n", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._layout: object = self
        self._n = 0
        self._default = b""

    def default(self) -> bytes:
        """The word for requests that name neither `r` nor `w`."""
        if self._store.layout() is not self._layout:
            self._follow_layout()
        return self._default

    def of(self, *, r: int, w: int) -> bytes:
        """The word for one request; 0 stands for what is configured."""
        if self._store.layout() is not self._layout:
            self._follow_layout()
        return self._word(r, w)

    def _follow_layout(self) -> None:
        self._layout = layout = self._store.layout()
        replication = self._store.config.replication
        self._n = min(replication, len(layout.nodes)) if layout else replication
        self._default = self._word(0, 0)

    def _word(self, r: int, w: int) -> bytes:
        config, majority = self._store.config, self._n // 2 + 1
        return consistency(n=self._n, r=r or config.r or majority, w=w or config.w or majority)


def value_reply(result: GetResult | QuorateError, *, promise: bytes, wall_ms: int) -> Reply:
    """The answer to a GET; a HEAD is the same without its body."""
    if isinstance(result, QuorateError):
        return problem_reply(result)
    record = result.record
    if record is None or record.value is None or not is_live(record, wall_ms=wall_ms):
        absent = _reply(_ABSENT._replace(facts={"answers": result.answers}))
        lines = absent.lines + b"Quorate-Consistency: %b\r\n" % promise
        return msgspec.structs.replace(absent, lines=lines)
    version = hexlify(record.version)
    return Reply(200, _VALUE_LINES % (version, version, promise), record.value)


def written_reply(result: PutResult | QuorateError, *, promise: bytes) -> Reply:
    """The answer to a PUT or DELETE."""
    if isinstance(result, QuorateError):
        return problem_reply(result)
    version = hexlify(result.version)
    lines = _WRITTEN_LINES % (version, version, result.acks, result.replicas, promise)
    if result.restamped:
        lines += b"Quorate-Restamped: true\r\n"
    return Reply(200, lines, b"ok")


def problem_reply(error: QuorateError | Refused) -> Reply:
    """The answer that says what went wrong."""
    reply = _reply(problem_of(error))
    if not isinstance(error, Refused):
        return reply
    lines = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
    return msgspec.structs.replace(reply, lines=reply.lines + lines.encode())


def _reply(problem: Problem) -> Reply:
    lines = f"Content-Type: {PROBLEM_TYPE}\r\n".encode()
    if problem.status == 503:
        lines += b"Retry-After: 1\r\n"
    return Reply(problem.status, lines, problem.encode())
