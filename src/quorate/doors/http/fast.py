# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast lane: canonical `/kv` requests, answered without a framework (DESIGN, section 8).

Canonical is what `_CANONICAL` matches: one strict expression over the whole head, which lists every
header it tolerates, each at most once, so that nothing is left to misread. On anything else the
connection goes to aiohttp, with the request byte for byte, as soon as the answers before it are
written, and stays there.

Nothing is made for a request but its waiter: no Future, Task or timer. Answers leave in the order
of the requests, one write per turn. Reads overlap; a write has the connection to itself, so that
what is pipelined behind it sees it (RFC 9112, 9.3.2). What a connection can make the node hold is
bounded: requests not answered by the window, bytes not read by not reading on, and bodies by the
shared budget.
"""

from __future__ import annotations

import asyncio
import re
from binascii import a2b_qp
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, cast

import msgspec

from quorate.config import KEY_BYTES_MAX
from quorate.core.values.events import Get, GetResult, Put, PutResult, Result
from quorate.doors.budget import ByteBudget
from quorate.doors.http.answers import Promise, Reply, problem_reply, value_reply, written_reply
from quorate.doors.http.limits import (
    IDLE_SECONDS,
    LINGER_SECONDS,
    PROGRESS_BYTES,
    REQUEST_SECONDS,
    Deadlines,
    IdleLimit,
)
from quorate.errors import Outcome, Overloaded, QuorateError
from quorate.runtime.store import Store

HEAD_BYTES_MAX: Final = 16 << 10
"""An incomplete head that is longer is aiohttp's to refuse."""
WINDOW_MAX: Final = 32
"""Requests of a connection that may be unanswered."""
_WINDOW_BYTES: Final = 4 << 20
"""The window shrinks so that this many bytes of the largest answer seen fit into it."""


def _once(group: int, name: bytes, value: bytes) -> bytes:
    """A header whose value is `group`; a second one, (?(group)(?!)), matches nothing."""
    return rb"(?(%d)(?!))(?i:%b):[ \t]*+(%b)\r\n" % (group, name, value)


_TEXT: Final = rb"[\x20-\x7e]*+"
_HEADERS: Final = (
    _once(5, b"host", rb"[A-Za-z0-9._:\[\]-]+"),
    _once(6, b"content-length", rb"[0-9]{1,10}"),
    _once(7, b"user-agent", _TEXT),
    _once(8, b"accept", _TEXT),
    _once(9, b"accept-encoding", _TEXT),
    _once(10, b"content-type", _TEXT),
)
_CANONICAL: Final = re.compile(
    rb"(GET|HEAD|PUT|DELETE) /kv\?key=((?:[A-Za-z0-9._~:@/,-]++|%%[0-9A-Fa-f]{2}){1,1024}+)"
    rb"(?:&([rw])=([1-9]))? HTTP/1\.1\r\n(?:%b)*(?(5)|(?!))\r\n" % b"|".join(_HEADERS)
)
_PERCENT: Final = ord("%")
_READS: Final = frozenset({b"GET", b"HEAD"})
_READ_RESULTS: Final = (GetResult, QuorateError)
_WRITE_RESULTS: Final = (PutResult, QuorateError)
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class FastLane:
    """What all connections of the door share."""

    def __init__(
        self,
        store: Store,
        *,
        full_service: Callable[[], asyncio.Protocol],
        is_welcome: Callable[[bytes], bool],
        bodies: ByteBudget,
    ) -> None:
        self.store = store
        self.promise = Promise(store)
        self.full_service = full_service
        """Makes the aiohttp protocol that takes over a connection."""
        self.is_welcome = is_welcome
        """Whether a Host header names this node."""
        self.bodies = bodies
        self.deadlines = Deadlines(REQUEST_SECONDS)
        self.idle_limit = IdleLimit(IDLE_SECONDS)
        self._date = b""
        self._date_second = -1

    def connection(self) -> FastConnection:
        """The protocol of a new connection."""
        return FastConnection(self)

    def close(self) -> None:
        """Let no connection run into a limit any more."""
        self.deadlines.close()
        self.idle_limit.close()

    def render(self, reply: Reply, *, wall_ms: int, has_body: bool) -> bytes:
        """The bytes of an answer; that to a HEAD has no body but says its length."""
        second = wall_ms // 1000
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode()
        return b"%b%bContent-Length: %d\r\nDate: %b\r\n\r\n%b" % (
            _STATUS_LINES[reply.status],
            reply.lines,
            len(reply.body),
            self._date,
            reply.body if has_body else b"",
        )


class _Asked:
    """A request that was submitted, and then its answer; the waiter that the core is given."""

    __slots__ = ("_connection", "_method", "_quorum", "answer")

    def __init__(self, connection: FastConnection, method: bytes, quorum: int) -> None:
        self._connection = connection
        self._method = method
        self._quorum = quorum
        self.answer: bytes | None = None

    def done(self, result: Result) -> None:
        lane = self._connection.lane
        method, quorum, wall_ms = self._method, self._quorum, lane.store.wall_ms()
        if method in _READS:
            assert isinstance(result, _READ_RESULTS)
            promise = lane.promise.of(r=quorum, w=0) if quorum else lane.promise.default()
            reply = value_reply(result, promise=promise, wall_ms=wall_ms)
        else:
            assert isinstance(result, _WRITE_RESULTS)
            promise = lane.promise.of(r=0, w=quorum) if quorum else lane.promise.default()
            reply = written_reply(result, promise=promise)
        self.answer = lane.render(reply, wall_ms=wall_ms, has_body=method != b"HEAD")
        lane.store.flush_soon(self._connection)


class _Upload:
    """A PUT whose body is still arriving."""

    __slots__ = ("body", "key", "length", "next_mark", "quorum")

    def __init__(self, key: bytes, quorum: int, length: int) -> None:
        self.key = key
        self.quorum = quorum
        self.length = length
        self.body = bytearray()
        self.next_mark = PROGRESS_BYTES
        """Bytes received that earn the client more time."""


class FastConnection:
    """One connection in the fast lane: an asyncio.Protocol in all but its base (`Speaker`)."""

    __slots__ = (
        "_asked",
        "_buffer",
        "_heaviest",
        "_is_ended",
        "_is_fenced",
        "_is_leaving",
        "_is_shed",
        "_is_stopped",
        "_is_watched",
        "_is_writable",
        "_lingering",
        "_transport",
        "_upload",
        "_window",
        "lane",
        "silent_sweeps",
    )

    def __init__(self, lane: FastLane) -> None:
        self.lane = lane
        self.silent_sweeps = 0
        self._transport: asyncio.Transport | None = None
        """None before the beginning, after the end, and once aiohttp has the connection."""
        self._buffer = b""
        self._upload: _Upload | None = None
        self._asked: deque[_Asked] = deque()
        self._window = WINDOW_MAX
        self._heaviest = _WINDOW_BYTES // WINDOW_MAX
        """The window is right for answers of this size."""
        self._is_writable = True
        self._is_fenced = False
        """Nothing may begin before all is answered: a write is under way, or comes next."""
        self._is_stopped = False
        """Reading is paused."""
        self._is_leaving = False
        """What begins the buffer is for aiohttp."""
        self._is_watched = False
        """An unfinished request is under a deadline."""
        self._is_ended = False
        """The client will send nothing more, or nothing more of it is taken."""
        self._is_shed = False
        """A body was refused of which more may come."""
        self._lingering: asyncio.TimerHandle | None = None
        """Set once that is answered."""

    # --- what the transport calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.lane.idle_limit.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self.lane.idle_limit.discard(self)
        self._unwatch()
        self._drop_upload()
        if self._lingering is not None:
            self._lingering.cancel()

    def data_received(self, data: bytes) -> None:
        self.silent_sweeps = 0
        if self._is_ended:
            return
        if self._upload is not None:
            data = self._gather(self._upload, data)
        self._buffer = self._buffer + data if self._buffer else data
        self._serve()

    def eof_received(self) -> bool:
        # Whoever half-closes after its requests still gets the answers.
        self._is_ended = True
        return bool(self._asked) or self._is_leaving or self._is_stopped

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        self._go_on()

    # --- what the store and the limits call -------------------------------------------------------

    def flush(self) -> None:
        """Write the answers that are there, up to the first that is not."""
        asked, answers = self._asked, []
        while asked and (answer := asked[0].answer) is not None:
            asked.popleft()
            answers.append(answer)
            if len(answer) > self._heaviest:
                self._heaviest = len(answer)
                self._window = max(1, _WINDOW_BYTES // len(answer))
        if not asked:
            self._is_fenced = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if answers:
            transport.write(answers[0] if len(answers) == 1 else b"".join(answers))
        if self._is_stopped or self._is_leaving or self._is_ended:
            self._go_on()

    def abort(self) -> None:
        """Drop the client: its connection cannot be trusted to answer in order any more."""
        if self._transport is not None:
            self._transport.abort()

    def expired(self) -> None:
        """A request took too long to arrive."""
        self._is_watched = False
        self.abort()

    def idled(self) -> None:
        """The client was silent for long; it may be waiting, or be slow, which others judge."""
        is_busy = bool(self._asked or self._buffer) or self._upload is not None
        if self._transport is not None and not is_busy:
            self._transport.close()

    # --- requests ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Take requests off the buffer until it is empty, unclear, or enough is under way."""
        data, at = self._buffer, 0
        while at < len(data) and self._has_room() and not self._is_leaving:
            match = _CANONICAL.match(data, at)
            if match is None:
                is_whole = data.find(b"\r\n\r\n", at) >= 0
                self._is_leaving = is_whole or len(data) - at > HEAD_BYTES_MAX
                break
            if self._asked and match[1] not in _READS:
                self._is_fenced = True
                break
            end = self._take(match, data)
            self._is_leaving = end is None
            at = at if end is None else end
        self._buffer = data[at:]
        if at:
            self._unwatch()
        if self._buffer or self._upload is not None or self._is_stopped or self._is_ended:
            self._settle()

    def _take(self, match: re.Match[bytes], data: bytes) -> int | None:
        """Begin a canonical request; where the next starts, None if it is for aiohttp."""
        method, raw_key, parameter, digit, host, length = match.group(1, 2, 3, 4, 5, 6)
        key = _unquote(raw_key) if _PERCENT in raw_key else raw_key
        if len(key) > KEY_BYTES_MAX or not self.lane.is_welcome(host):
            return None
        quorum = int(digit or 0)
        is_read = method in _READS
        if quorum and is_read != (parameter == b"r"):
            return None
        if method == b"PUT":
            return self._take_put(key, quorum, data, match)
        if length is not None:
            return None
        if is_read:
            asked = _Asked(self, method, quorum)
            self._asked.append(asked)
            self.lane.store.submit(Get(asked, key, quorum))
        else:
            self._write(method, key, quorum, None)
        return match.end()

    def _take_put(self, key: bytes, quorum: int, data: bytes, match: re.Match[bytes]) -> int | None:
        length = int(match[6] or -1)
        if not 0 <= length <= self.lane.store.config.value_bytes_max:
            return None
        start = match.end()
        end = start + length
        if end <= len(data):
            self._write(b"PUT", key, quorum, data[start:end])
            return end
        self._upload = _Upload(key, quorum, length)
        self._gather(self._upload, data[start:])
        return len(data)

    def _gather(self, upload: _Upload, data: bytes) -> bytes:
        """Add to the unfinished body; what lies behind it."""
        missing = upload.length - len(upload.body)
        part = data[:missing]
        if not self.lane.bodies.take(len(part)):
            self._shed()
            return b""
        upload.body += part
        if len(upload.body) == upload.length:
            self._drop_upload()
            self._unwatch()
            self._write(b"PUT", upload.key, upload.quorum, bytes(upload.body))
        elif len(upload.body) >= upload.next_mark:
            upload.next_mark = len(upload.body) + PROGRESS_BYTES
            self._unwatch()
        return data[missing:]

    def _write(self, method: bytes, key: bytes, quorum: int, value: bytes | None) -> None:
        asked = _Asked(self, method, quorum)
        self._asked.append(asked)
        self._is_fenced = True
        self.lane.store.submit(Put(asked, key, value, 0, quorum))

    def _shed(self) -> None:
        """Refuse the unfinished body, answer what came before it, and close."""
        self._drop_upload()
        refusal = problem_reply(
            Overloaded("too many request bodies are arriving", outcome=Outcome.NOT_APPLIED)
        )
        lines = refusal.lines + b"Connection: close\r\n"
        refusal = msgspec.structs.replace(refusal, lines=lines)
        asked = _Asked(self, b"PUT", 0)
        wall_ms = self.lane.store.wall_ms()
        asked.answer = self.lane.render(refusal, wall_ms=wall_ms, has_body=True)
        self._asked.append(asked)
        self._is_ended = self._is_shed = True
        self.lane.store.flush_soon(self)

    def _drop_upload(self) -> None:
        if self._upload is not None:
            self.lane.bodies.give_back(len(self._upload.body))
            self._upload = None

    # --- flow -------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        """Whether another request may begin."""
        return (
            self._is_writable
            and not self._is_fenced
            and self._upload is None
            and len(self._asked) < self._window
        )

    def _go_on(self) -> None:
        """Answers have left, or may leave again: take up what had to wait."""
        if self._is_stopped and not self._is_leaving and self._has_room():
            self._serve()
        else:
            self._settle()

    def _settle(self) -> None:
        """Let what the transport and the deadlines do follow from the state of the connection."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        must_stop = self._is_leaving or (self._upload is None and not self._has_room())
        if self._is_leaving and not self._asked and self._is_writable:
            self._leave(transport)
            return
        if self._is_ended:
            if not self._asked and not must_stop:
                if not self._is_shed:
                    transport.close()
                elif self._lingering is None:
                    loop = asyncio.get_running_loop()
                    self._lingering = loop.call_later(LINGER_SECONDS, transport.close)
            self._is_stopped = must_stop
            return
        if must_stop != self._is_stopped:
            self._is_stopped = must_stop
            (transport.pause_reading if must_stop else transport.resume_reading)()
        is_unfinished = not must_stop and (self._upload is not None or bool(self._buffer))
        if is_unfinished and not self._is_watched:
            self._is_watched = True
            self.lane.deadlines.watch(self)

    def _unwatch(self) -> None:
        if self._is_watched:
            self._is_watched = False
            self.lane.deadlines.forget(self)

    def _leave(self, transport: asyncio.Transport) -> None:
        """Give the connection, and what it has sent of the next request, to aiohttp."""
        self._transport = None
        self.lane.idle_limit.discard(self)
        self._unwatch()
        if self._is_stopped and not self._is_ended:
            transport.resume_reading()
        rest, self._buffer = self._buffer, b""
        protocol = self.lane.full_service()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(rest)


def _unquote(raw: bytes) -> bytes:
    """`urllib.parse.unquote_to_bytes` in a third of its time, for whole escapes and no `=`.

    Of such bytes quoted-printable reads the same, but for the mark.
    """
    return a2b_qp(raw.replace(b"%", b"="))
