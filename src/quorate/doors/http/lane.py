# SPDX-License-Identifier: GPL-3.0-or-later
"""What the connections of the fast lane have in common, and how their answers are written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from quorate.doors.access import Principal, require
from quorate.doors.answered import Answered
from quorate.doors.flow import Limits
from quorate.doors.http.canonical import FULL, FULL_WITH_LOGIN, HEADERS, HEADERS_WITH_LOGIN, LINE
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.kv import REQUESTS, Answers, Method
from quorate.doors.http.problems import Refused, problem_reply
from quorate.doors.http.replies import Reply
from quorate.doors.limits import IDLE_SECONDS, ByteBudget
from quorate.doors.principals import Principals
from quorate.errors import Forbidden, QuorateError
from quorate.host.store import Store

WINDOW_MAX: Final = 32
"""Requests of a connection that may be unanswered."""
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = [
    f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n".encode() for status in range(600)
]


class FastLane(Limits):
    """What all connections of the fast lane share."""

    def __init__(
        self,
        store: Store,
        answers: Answers,
        *,
        full_service: Callable[[], asyncio.Protocol],
        hosts: HostPolicy,
        principals: Principals,
        bodies: ByteBudget,
        answered: Answered,
        replies: ByteBudget,
    ) -> None:
        super().__init__(
            bodies,
            replies,
            asyncio.get_running_loop(),
            window_first=WINDOW_MAX,
            window_max=WINDOW_MAX,
            idle_seconds=IDLE_SECONDS,
        )
        self.store = store
        self.answers = answers
        self.operations = {
            method.operation: answered.operation(
                method.operation, answered.reads if method.is_read else answered.writes
            )
            for method in REQUESTS.values()
        }
        self.full_service = full_service
        """Makes the aiohttp protocol that takes over a connection."""
        self.hosts = hosts
        """Which Host headers a connection may have."""
        self.principals = principals
        self.match_line = LINE.match
        """Finds the request line of a canonical request."""
        self.match_headers = (HEADERS_WITH_LOGIN if principals.asks else HEADERS).fullmatch
        """Finds its headers. Where nobody logs in, what is shown decides nothing."""
        self.match_full = (FULL_WITH_LOGIN if principals.asks else FULL).match
        """Finds one that says more than these take."""
        self.asks = principals.asks
        self.value_bytes_max = store.config.value_bytes_max
        self._date = b""
        self._date_second = -1

    def refusal(
        self, principal: Principal, method: Method, key: bytes, *, source: str
    ) -> QuorateError | None:
        """Why somebody may not send a request any more that was let in; None if they may."""
        try:
            require(method.role, principal, key)
        except QuorateError as error:
            if isinstance(error, Forbidden):
                self.principals.audit.permission_refused(
                    who=principal.name, source=source, what=method.operation
                )
            return error
        return None

    def render(self, reply: Reply, *, wall_ms: int, has_body: bool) -> bytes:
        """The bytes of an answer; that to a HEAD has no body but says its length."""
        second = wall_ms // 1000
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(second, usegmt=True).encode()
        return b"%b%bCache-Control: no-store\r\nContent-Length: %d\r\nDate: %b\r\n\r\n%b" % (
            _STATUS_LINES[reply.status],
            reply.lines,
            len(reply.body),
            self._date,
            reply.body if has_body else b"",
        )

    def render_bare(self, reply: Reply, *, wall_ms: int) -> bytes:
        """The bytes of an answer that never has a body (304), nor says how long one would be."""
        answer = self.render(reply, wall_ms=wall_ms, has_body=False)
        return answer.replace(b"Content-Length: 0\r\n", b"", 1)

    def render_last(self, error: QuorateError | Refused, *, has_body: bool = True) -> bytes:
        """The bytes of a refusal after which the connection ends."""
        reply = problem_reply(error).saying(b"Connection: close\r\n")
        return self.render(reply, wall_ms=self.store.wall_ms(), has_body=has_body)
