# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection of the full service: aiohttp's protocol, but for what becomes of clients that it
gives up too early.

Those that sent what is no request: the original logs a traceback for each, answers text in the name
and version of its server, and resets the connection; and waits for the rest of a body that is
malformed. Those that send no more and wait for their answers: the original drops them with what
they asked. And those that went: the original keeps what they sent until the collector comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage
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

    __slots__ = (
        *("_answered", "_answered_count", "_failures", "_has_ended", "_is_unreadable"),
        *("_last_body", "_linger_seconds", "_lost", "_refusal"),
    )

    def __init__(
        self,
        manager: web.Server,
        *,
        refusal: Callable[[Refused], bytes],
        answered: Answered,
        failures: Rarely,
        linger_seconds: float,
        **given: Any,
    ) -> None:
        super().__init__(manager, lingering_time=linger_seconds, **given)
        self._failures = failures
        self._refusal = refusal
        self._answered = answered
        self._linger_seconds = linger_seconds
        self._answered_count = 0
        self._has_ended = False
        """Whether the client sends no more."""
        self._is_unreadable = False
        """Whether what came is no request, so that nothing behind it can be read."""
        self._last_body: StreamReader | None = None
        """Of the last request that came: what takes its body, or is empty if it has none."""
        self._lost: asyncio.Future[None] | None = None
        """Done when the connection is, if anybody waits for that."""

    def connection_lost(self, exc: BaseException | None) -> None:
        # To whoever waits for it the client is gone, whatever the system says of that: a name that
        # is no ConnectionError, as EHOSTUNREACH, would be a fault of ours.
        super().connection_lost(exc and ConnectionResetError("the client is gone"))
        # It knows the connection: the two would wait for the collector, with what was not read.
        self._last_body = None
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._is_unreadable:
            return
        super().data_received(data)
        if self._messages:
            message, body = self._messages[-1]
            if not isinstance(message, RawRequestMessage):
                self._give_up(message.exc)
            self._last_body = body

    def _give_up(self, fault: BaseException) -> None:
        """Read nothing behind a fault, be it one of a body."""
        self._is_unreadable = True
        # It holds the frame that holds it, with all that came.
        fault.__traceback__ = None
        body = self._last_body
        if body is None or body.is_eof():
            return
        if self._is_busy or len(self._messages) > 1:
            body.set_exception(web.RequestPayloadError("malformed"))
        # Else it is answered, and nobody asks what the rest says.
        body.feed_eof()

    @property
    def _is_busy(self) -> bool:
        """Whether a request is being answered. aiohttp's own marks are set a turn too late, and
        taken away before the answer is written."""
        return self._request_count - len(self._messages) > self._answered_count

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays, until all requests are answered but one whose body was cut
        short: its end will never come. If that one has begun there is nothing to stay for."""
        transport, body, messages = self.transport, self._last_body, self._messages
        if body is None or transport is None or not transport.can_write_eof():
            return False
        is_busy = self._is_busy
        if not body.is_eof():
            if not messages:
                return False
            messages.pop()
        self._has_ended = True
        if is_busy and not messages:
            self.close()  # After the answer that it is at.
        return is_busy or bool(messages)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if self._has_ended and not self._messages:
            self.close()
        finished = await super().finish_response(request, resp, start_time)
        self._answered_count += 1
        is_last = not self._messages or not resp.keep_alive
        if is_last and self._is_unreadable and not self._has_ended:
            await self._linger()
        return finished

    async def _linger(self) -> None:
        """End our side, and let the client see that: one that still sends would see a reset instead
        of the answer (RFC 9112, 9.6)."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        transport.resume_reading()  # It may rest, as somebody was to read the rest first.
        self._lost = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._lost,), timeout=self._linger_seconds)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            if isinstance(exc, ConnectionError):
                # The body's stream keeps it, and the frames that it holds keep the stream.
                exc.__traceback__ = None
            else:
                self._failures.tell({"path": request.path, "exc_info": exc})
            # Nobody is there, or what has begun cannot become another answer.
            self.force_close()
            return _Written()
        if isinstance(exc, HttpProcessingError):
            self._answered.operation(OTHER).done(Outcome.NOT_APPLIED.value, 0)
            if self.transport is not None and not self.transport.is_closing():
                self.transport.write(self._refusal(_unreadable(exc)))
            return _Written()
        self._failures.tell({"path": request.path, "exc_info": exc})
        self._answered.operation(OTHER).done(Outcome.UNKNOWN.value, 0)
        response = respond_problem(
            QuorateError("the node failed to answer", outcome=Outcome.UNKNOWN)
        )
        response.force_close()
        return response


class _Written(web.Response):
    """Stands for a last answer that is written, or never will be. (To raise a ConnectionError, as
    the original does, is to leave all that the request had to the collector.)"""

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


def _unreadable(fault: HttpProcessingError) -> Refused:
    if not isinstance(fault, LineTooLong):
        return Refused(400, "bad_request", "not a valid HTTP request")
    if TARGET_BYTES_MAX in fault.args:
        return Refused(414, "target_too_long", f"the target exceeds {TARGET_BYTES_MAX} bytes")
    return Refused(431, "header_too_large", f"a header exceeds {HEADER_BYTES_MAX} bytes")
