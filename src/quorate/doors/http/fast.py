# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast lane: canonical requests for `/kv` and `/incr`, answered without a framework.

Canonical is what `canonical` matches. On anything else, and on what is to be refused before the
store is asked, the connection goes to aiohttp, with the request byte for byte, as soon as the
answers before it are written, and stays there.

Nothing is made for a request but its waiter: no Future, Task or timer. Answers leave in the order
of the requests, one write per turn. Reads overlap; a write has the connection to itself, so that
what is pipelined behind it sees it (RFC 9112, 9.3.2). What a connection can make the node hold is
bounded: requests not answered by the window, bytes not read by not reading on, bodies and answers
by the shared budgets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from time import monotonic_ns
from typing import Final

from quorate.config import KEY_BYTES_MAX
from quorate.core.values.events import Get, Put, Result
from quorate.doors.access import ANYBODY, Principal
from quorate.doors.answered import Waiting, WaitingLine, outcome_word
from quorate.doors.flow import (
    ARRIVING,
    CLOSED,
    ENDING,
    READING,
    REFUSING,
    REPLY_BYTES_MAX,
    SMALL_REPLY_BYTES,
    VALUE_BYTES_LARGE,
    Flow,
    Input,
)
from quorate.doors.guests import source_of
from quorate.doors.http.canonical import named_lines, unquoted
from quorate.doors.http.heads import NO_LENGTH, PLAIN_BYTES_MAX, Head, Heads
from quorate.doors.http.kv import (
    METHODS,
    METHODS_BY_LETTER,
    REQUESTS,
    Asked,
    Method,
    may,
    understood,
)
from quorate.doors.http.lane import FastLane
from quorate.doors.http.problems import problem_of, problem_reply, too_many_bodies
from quorate.doors.http.replies import Reply
from quorate.doors.limits import BodyPace, no_room_for_reply
from quorate.doors.principals import Answer
from quorate.errors import Outcome, QuorateError

HEAD_BYTES_MAX: Final = 16 << 10
"""An incomplete head that is longer is aiohttp's to refuse."""
# A number of its own: to look one up in the enumeration takes longer than a whole answer.
_REFUSED: Final = 400
_R: Final = ord("r")
_ZERO: Final = ord("0")
_PUT: Final = METHODS[b"PUT"]


class _PendingAnswer(Waiting):
    """A request that was submitted, and then its answer; the waiter that the core is given."""

    __slots__ = ("_connection", "_quorum", "method")

    def __init__(self, connection: FastConnection, method: Method, quorum: int) -> None:
        operation = connection.lane.operations[method.operation]
        super().__init__(connection.asked, operation, connection.came_ns)
        self._connection = connection
        self._quorum = quorum
        self.method = method

    def done(self, result: Result) -> None:
        connection, method, quorum = self._connection, self.method, self._quorum
        lane = connection.lane
        wall_ms = lane.store.wall_ms()
        r, w = (quorum, 0) if method.is_read else (0, quorum)
        reply = lane.answers.of(result, r=r, w=w, wall_ms=wall_ms)
        flow, size = connection.flow, len(reply.body) if method.shows_body else 0
        if reply.status >= _REFUSED and isinstance(result, QuorateError):
            self.outcome = outcome_word(problem_of(result).outcome)
        elif len(reply.body) >= VALUE_BYTES_LARGE:
            flow.saw_large = True
        if size > SMALL_REPLY_BYTES and not flow.has_room(size):
            reply = problem_reply(no_room_for_reply())
            self.outcome = Outcome.NOT_APPLIED.value
        self.reply = lane.render(reply, wall_ms=wall_ms, has_body=method.shows_body)
        flow.reply_bytes += len(self.reply)
        if connection.asked.first is self:
            lane.store.flush_soon(connection)


class _PendingAsked(_PendingAnswer):
    """The same of a request that says more."""

    __slots__ = ("_asked",)

    def __init__(self, connection: FastConnection, asked: Asked) -> None:
        super().__init__(connection, asked.method, asked.r or asked.w)
        self._asked = asked

    def done(self, result: Result) -> None:
        connection = self._connection
        lane = connection.lane
        wall_ms = lane.store.wall_ms()
        judged = self._asked.judged(result, lane.answers, wall_ms=wall_ms)
        if not isinstance(judged, Reply):
            super().done(judged)
            return
        if judged.status == HTTPStatus.NOT_MODIFIED:
            self.reply = lane.render_bare(judged, wall_ms=wall_ms)
        else:
            self.reply = lane.render(judged, wall_ms=wall_ms, has_body=True)
        connection.flow.reply_bytes += len(self.reply)
        if connection.asked.first is self:
            lane.store.flush_soon(connection)


@dataclass(slots=True)
class _Upload:
    """A PUT whose body is still arriving."""

    write: Callable[[bytes], None]
    """Takes the body when it is whole."""
    length: int
    pace: BodyPace
    key: bytes
    principal: Principal
    """Who sends it, and may have lost the right to by the time that it is whole."""
    body: bytearray = field(default_factory=bytearray)


class FastConnection:
    """One connection in the fast lane: an asyncio.Protocol in all but its base (`Speaker`)."""

    __slots__ = (
        "_buffer",
        "_heads",
        "_hosts",
        "_is_fenced",
        "_is_guest",
        "_login",
        "_source",
        "_upload",
        "asked",
        "came_ns",
        "flow",
        "lane",
        "principal",
    )

    def __init__(self, lane: FastLane) -> None:
        self.lane = lane
        self.came_ns = 0
        """When the last packet came."""
        self.asked = WaitingLine()
        self.flow = Flow(self, self.asked, lane)
        self._buffer = b""
        self._heads = Heads(lane.match_headers, asks=lane.asks)
        self._upload: _Upload | None = None
        self._is_fenced = False
        """A write is under way or next, and all is answered first; or it is not known who asks."""
        self.principal: Principal = ANYBODY
        """Who sends what shows nothing else."""
        self._is_guest = False
        """Whether nobody is known to speak here (`doors.guests`)."""
        self._hosts = lane.hosts.at(None)
        self._source = ""
        self._login: Method | None = None
        """Of the request whose sender is looked for."""

    # --- what the transport, the store and the flow call ------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.flow.open(transport)
        lane = self.lane
        self.principal = lane.principals.at(transport)
        self._is_guest = lane.principals.guests.judge(transport, self.principal)
        self._hosts = lane.hosts.at(transport)
        self._source = source_of(transport) if lane.asks else ""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.flow.go(Input.LOST)
        self._upload = None

    def data_received(self, data: bytes) -> None:
        self.came_ns = monotonic_ns()
        flow = self.flow
        flow.silent_sweeps = 0
        if not flow.state.takes or self._take_plain(data):
            return
        if self._upload is not None:
            data = self._gather(self._upload, data)
        self._buffer = self._buffer + data if self._buffer else data
        self._serve()

    def eof_received(self) -> bool:
        # Whoever half-closes after its requests still gets the answers.
        self.flow.go(Input.END)
        self._serve()
        return self.flow.can_half_close

    def pause_writing(self) -> None:
        self.flow.choke()

    def resume_writing(self) -> None:
        self.flow.unchoke()
        self._serve()

    def flush(self) -> None:
        """Write the answers that are there, up to the first that is not."""
        flow, asked = self.flow, self.asked
        if answers := asked.take_ready():
            if asked.first is None:
                self._is_fenced = False
            flow.write(answers)
        elif asked.first is None:
            self._is_fenced = False
        if flow.state is not READING and flow.state is not ARRIVING and flow.state is not CLOSED:
            self._serve()

    def abort(self) -> None:
        """Drop the client: its connection cannot be trusted to answer in order any more."""
        self.flow.abort()

    def late(self) -> None:
        self.flow.abort()

    # --- requests ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Take requests off the buffer until it is empty, unclear, or enough is under way."""
        data, at, flow, asked = self._buffer, 0, self.flow, self.asked
        is_full = is_foreign = False
        match_line, heads = self.lane.match_line, self._heads
        while at < len(data) and not is_full and not is_foreign:
            if (
                self._is_fenced
                or flow.is_choked
                or asked.count >= flow.window
                or flow.reply_bytes > REPLY_BYTES_MAX
            ):
                is_full = True
            elif (match := match_line(data, at)) is None or (
                head := heads.at(data, start := match.end())
            ) is None:
                if data.find(b"\r\n\r\n", at) < 0 and len(data) - at <= HEAD_BYTES_MAX:
                    break
                end = self._take_full(data, at)
                is_foreign = end is None
                at = at if end is None else end
            else:
                end = self._take_matched(match, head, data, at=at, end=start + head.size)
                is_foreign = end is None
                at = at if end is None else end
        self._buffer = data[at:]
        if self._buffer or self._upload is not None or flow.state is not READING:
            if at:
                flow.go(Input.PROGRESS)
            self._settle(is_full=is_full, is_foreign=is_foreign)

    def _settle(self, *, is_full: bool, is_foreign: bool) -> None:
        """Tell the flow how far it came; or hand over what is not for here."""
        flow, transport = self.flow, self.flow.transport
        is_answered = self.asked.first is None and not flow.is_choked
        if is_foreign and is_answered and transport is not None and not transport.is_closing():
            self._hand_over()
        elif not flow.state.takes:
            # A request that came whole may still have to wait until the client reads.
            if is_answered or (self.asked.first is None and flow.state is not ENDING):
                flow.go(Input.ANSWERED)
        elif is_full or is_foreign:
            flow.go(Input.FULL)
        elif self._buffer or self._upload is not None:
            flow.go(Input.PART)
        else:
            flow.go(Input.WHOLE)

    def _hand_over(self) -> None:
        """Give the connection, and what it has sent of the next request, to aiohttp."""
        rest, self._buffer = self._buffer, b""
        transport = self.flow.give_away()
        protocol = self.lane.full_service()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(rest)

    def _take_plain(self, data: bytes) -> bool:
        """Begin the one request that `data` is. False, and nothing done, if there is more to it
        than `Heads.plain` takes, or it has to wait."""
        is_busy = self.asked.first is not None or self._is_fenced
        if is_busy or self._buffer or self.flow.state is not READING:
            return False
        plain = self._heads.plain(data) if len(data) <= PLAIN_BYTES_MAX else None
        if plain is None:
            return False
        method, key, head, end = plain.method, plain.key, plain.head, plain.end
        return self._take(method, key, 0, head, data=data, at=0, end=end) is not None

    def _take_matched(
        self, match: re.Match[bytes], head: Head, data: bytes, *, at: int, end: int
    ) -> int | None:
        """`_take` of a request whose line is `match`."""
        key, quoted, parameter = match.group(1, 2, 3)
        method, quorum = METHODS_BY_LETTER[data[at]], 0
        if key is None:
            key = unquoted(quoted)
        if parameter is not None:
            quorum = parameter[2] - _ZERO
            if method.is_read != (parameter[0] == _R):
                return None
        return self._take(method, key, quorum, head, data=data, at=at, end=end)

    def _take(
        self,
        method: Method,
        key: bytes,
        quorum: int,
        head: Head,
        *,
        data: bytes,
        at: int,
        end: int,
    ) -> int | None:
        """Begin a canonical request, whose head goes from `at` to `end`. Returns where in `data` to
        go on: behind the request, or at its start if it has to wait; None if it is for aiohttp."""
        lane, hosts = self.lane, self._hosts
        if (head.host not in hosts.known and not hosts.welcome(head.host)) or (
            head.length == NO_LENGTH if method.has_body else not head.is_bodiless
        ):
            return None
        principal = self.principal
        if head.shown is not None:
            known = lane.principals.known(head.shown, self._source)
            if known is None:
                return self._look_for(head.shown, method, at, data)
            principal = known
            if self._is_guest:
                self._judge(principal)
        if len(key) > KEY_BYTES_MAX or (
            # It is the full service that says what is refused.
            not method.role_bit & principal.role_bits and not may(principal, method, key)
        ):
            return None
        if method.is_read:
            lane.store.submit(Get(_PendingAnswer(self, method, quorum), key, quorum))
            return end
        if self.asked.count:
            self._is_fenced = True
            return at
        if not method.has_body:
            self._write(method, key, quorum, None)
            return end
        if head.length > lane.value_bytes_max:
            return None
        body_end = end + head.length
        if body_end > len(data):
            write = partial(self._write, method, key, quorum)
            pace = BodyPace(lane.bodies)
            self._await_body(_Upload(write, head.length, pace, key, principal), data[end:])
            return len(data)
        self._write(method, key, quorum, data[end:body_end])
        return body_end

    def _take_full(self, data: bytes, at: int) -> int | None:
        """`_take` of a request that may say anything that `/kv` and `/incr` take."""
        match = self.lane.match_full(data, at)
        if match is None:
            return None
        name, query, host, length = match.group(1, 2, 3, 4)
        lane, hosts, method = self.lane, self._hosts, REQUESTS[name]
        if (host not in hosts.known and not hosts.welcome(host)) or (
            length is None if method.has_body else length is not None and length != b"0"
        ):
            return None
        principal = self.principal
        if lane.asks and (shown := match[5]) is not None:
            known = lane.principals.known(shown, self._source)
            if known is None:
                return self._look_for(shown, method, at, data)
            principal = known
            if self._is_guest:
                self._judge(principal)
        asked = understood(method, query, named_lines(data[at : match.end()]))
        if asked is None or not may(principal, method, asked.key):
            return None
        size = int(length) if method.has_body else 0
        return self._begin(asked, data, match, size, principal)

    def _begin(
        self, asked: Asked, data: bytes, match: re.Match[bytes], size: int, principal: Principal
    ) -> int | None:
        if self.asked.count and not asked.method.is_read:
            self._is_fenced = True
            return match.start()
        if size > self.lane.value_bytes_max:
            return None
        end = match.end() + size
        if end > len(data):
            write, pace = partial(self._ask, asked), BodyPace(self.lane.bodies)
            upload = _Upload(write, size, pace, asked.key, principal)
            self._await_body(upload, data[match.end() :])
            return len(data)
        self._ask(asked, data[match.end() : end])
        return end

    def _ask(self, asked: Asked, body: bytes) -> None:
        if not asked.method.is_read:
            self._is_fenced = True
        store, value = self.lane.store, body if asked.method.has_body else None
        store.submit(asked.event(_PendingAsked(self, asked), value, wall_ms=store.wall_ms()))

    def _judge(self, principal: Principal) -> None:
        """Somebody is known to speak here, perhaps."""
        transport = self.flow.transport
        if transport is not None:
            self._is_guest = self.lane.principals.guests.judge(transport, principal)

    def _look_for(self, shown: bytes, method: Method, at: int, data: bytes) -> int:
        """Find out who sends a request, once those before it are answered. Returns as `_take`."""
        self._is_fenced = True
        if self.asked.first is None and self._login is None:
            self._login = method
            self.lane.principals.apply(shown, self._source, self)
        # Refused at once: what follows is dropped.
        return at if self.flow.state is not REFUSING else len(data)

    @property
    def is_gone(self) -> bool:
        """Part of `Applicant`."""
        return self.flow.state is CLOSED

    def logged_in(self, answer: Answer) -> None:
        """Go on with the request, whose sender is known now, or refuse it. Part of `Applicant`."""
        method, self._login = self._login, None
        if self.is_gone or method is None:
            return
        if isinstance(answer, QuorateError):
            self._buffer = b""
            self._refuse(method, answer)
        else:
            self._is_fenced = False
            self.lane.store.flush_soon(self)

    def _await_body(self, upload: _Upload, first: bytes) -> None:
        """Wait for the rest of a body, of which the first bytes are here."""
        self._upload = upload
        self._gather(upload, first)

    def _gather(self, upload: _Upload, data: bytes) -> bytes:
        """Add to the unfinished body; what lies behind it."""
        missing = upload.length - len(upload.body)
        part = data[:missing]
        size = len(upload.body) + len(part)
        if not self.flow.charge(size):
            self._upload = None
            self.flow.charge(0)
            self._refuse(_PUT, too_many_bodies())
            return b""
        upload.body += part
        if size == upload.length:
            self._upload = None
            self.flow.charge(0)
            self.flow.go(Input.WHOLE)
            if not self._finish(upload):
                return b""
        elif upload.pace.earns(size):
            self.flow.go(Input.PROGRESS)
        return data[missing:]

    def _finish(self, upload: _Upload) -> bool:
        """Write a body that is whole. False, and it is refused: who sent it may not any more."""
        refusal = self.lane.refusal(upload.principal, _PUT, upload.key, source=self._source)
        if refusal is not None:
            self._refuse(_PUT, refusal)
            return False
        upload.write(bytes(upload.body))
        return True

    def _write(self, method: Method, key: bytes, quorum: int, value: bytes | None) -> None:
        self._is_fenced = True
        self.lane.store.submit(Put(_PendingAnswer(self, method, quorum), key, value, 0, quorum))

    def _refuse(self, method: Method, error: QuorateError) -> None:
        """Refuse what is coming, answer what came before it, and close."""
        asked = _PendingAnswer(self, method, 0)
        asked.outcome = Outcome.NOT_APPLIED.value
        asked.reply = self.lane.render_last(error, has_body=method.shows_body)
        self.flow.reply_bytes += len(asked.reply)
        self.flow.go(Input.REFUSE)
        self.lane.store.flush_soon(self)
