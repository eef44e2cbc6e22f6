# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection of the full service: aiohttp's protocol, but for two things.

What it says about requests that it could not read: the original logs a traceback for each and
answers text, in the name and version of its server. And clients that send no more and wait for
their answers: the original drops them with what they asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from quorate.doors.answered import Answered
from quorate.doors.http.context import respond_problem
from quorate.doors.http.problems import Refused
from quorate.doors.rarely import Rarely
from quorate.errors import Outcome, QuorateError

OTHER: Final = "other"
"""As what a request is counted that no route takes."""
TARGET_BYTES_MAX: Final = 8192
"""Longer ones are 414: a key of the greatest length, all escaped, takes 3 kB."""
HEADER_BYTES_MAX: Final = 16384
"""Longer ones are 431."""


class FullConnection(web.RequestHandler):
    """One client; the fast lane hands it over."""

    __slots__ = ("_answered", "_failures", "_has_ended", "_last_body", "_refusal")

    def __init__(
        self,
        manager: web.Server,
        *,
        refusal: Callable[[Refused], bytes],
        answered: Answered,
        failures: Rarely,
        **given: Any,
    ) -> None:
        super().__init__(manager, **given)
        self._failures = failures
        self._refusal = refusal
        self._answered = answered
        self._has_ended = False
        """Whether the client sends no more."""
        self._last_body: StreamReader | None = None
        """Of the last request that came: what takes its body, or is empty if it has none."""

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        # It knows the connection: the two would wait for the collector, with what was not read.
        self._last_body = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._last_body = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays, until all requests are answered but one whose body was cut
        short: its end will never come. If that one has begun there is nothing to stay for."""
        transport, body, messages = self.transport, self._last_body, self._messages
        is_idle = not messages and self._waiter is not None
        if body is None or is_idle or transport is None or not transport.can_write_eof():
            return False
        is_whole = body.is_eof()
        is_behind = len(messages) > 1 or self._current_request is not None
        if not is_whole and is_behind and messages and messages[-1][1] is body:
            messages.pop()
            is_whole = True
        self._has_ended = True
        if not messages:
            self.close()  # After the answer that it is at.
        return is_whole

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self._has_ended and not self._messages:
            self.close()
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):
            raise exc
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, and cannot become another one")
        if isinstance(exc, HttpProcessingError):
            assert self.transport is not None
            self._answered.operation(OTHER).done(Outcome.NOT_APPLIED.value, 0)
            self.transport.write(self._refusal(_unreadable(exc)))
            raise ConnectionError("answered, and nothing after this can be read")
        self._failures.tell({"path": request.path, "exc_info": exc})
        self._answered.operation(OTHER).done(Outcome.UNKNOWN.value, 0)
        response = respond_problem(
            QuorateError("the node failed to answer", outcome=Outcome.UNKNOWN)
        )
        response.force_close()
        return response


def _unreadable(fault: HttpProcessingError) -> Refused:
    if not isinstance(fault, LineTooLong):
        return Refused(400, "bad_request", "not a valid HTTP request")
    if TARGET_BYTES_MAX in fault.args:
        return Refused(414, "target_too_long", f"the target exceeds {TARGET_BYTES_MAX} bytes")
    return Refused(431, "header_too_large", f"a header exceeds {HEADER_BYTES_MAX} bytes")
