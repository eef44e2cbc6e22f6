# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that goes on inside TLS: the same on asyncio's loop and on uvloop.

`start_tls` of either loop never calls `connection_made`, may deliver bytes before it returns, and
knows nothing of bytes that were read before it was called. So these are fed to its protocol, before
that reads any others; what comes early is kept, and handed over with the connection.
Neither loop sends an alert when a handshake fails: the other end sees the connection end.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

SHUTDOWN_SECONDS: Final = 2.0
"""How long an end that was told of the close may take to say so too."""
_LOOK_SECONDS: Final = 0.05
"""How often it is looked whether all is sent that was written before the close."""


class Receiver(Protocol):
    """What hears a connection: the part of asyncio.Protocol that a hand-over needs."""

    def connection_made(self, transport: Any, /) -> None:
        """The connection is there."""

    def data_received(self, data: bytes, /) -> None:
        """Bytes came."""


class SecureTransport(asyncio.Transport):
    """A transport inside TLS, and what the loops' own does not tell: bytes that wait in the TCP
    transport below it, and on Python 3.11 that the connection is lost.

    `get_extra_info` knows `identity` besides: who the other end proved to be, or None.
    """

    def __init__(self, raw: asyncio.Transport, inside: asyncio.Transport, identity: object) -> None:
        super().__init__({"identity": identity})
        self._raw = raw
        self._inside = inside
        self._is_leaving = False
        # No hop of our own for what is called most.
        self.write = inside.write  # type: ignore[method-assign]
        self.writelines = inside.writelines  # type: ignore[method-assign]
        self.pause_reading = inside.pause_reading  # type: ignore[method-assign]
        self.resume_reading = inside.resume_reading  # type: ignore[method-assign]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection."""
        if name == "identity":
            return super().get_extra_info(name, default)
        return self._inside.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._inside.get_write_buffer_size() + self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water."""
        return self._inside.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set high and low water."""
        self._inside.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another hear what comes."""
        self._inside.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who hears what comes."""
        return self._inside.get_protocol()

    def is_reading(self) -> bool:
        """Whether it reads."""
        return self._inside.is_reading()

    def is_closing(self) -> bool:
        """Whether it is closed or lost."""
        return self._is_leaving or self._inside.is_closing() or self._raw.is_closing()

    def can_write_eof(self) -> bool:
        """TLS has no half-close that the loops know."""
        return False

    def close(self) -> None:
        """Send what was written, say goodbye, and end."""
        if not self.is_closing():
            self._is_leaving = True
            if self.get_write_buffer_size():
                self._inside.set_protocol(_Leaving(self._inside.get_protocol()))
            self._close_once_sent()

    def _close_once_sent(self) -> None:
        # The loops give all that was written no longer than they give the goodbye behind it.
        if self.get_write_buffer_size() and not self._raw.is_closing():
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._close_once_sent)
        else:
            self._inside.close()

    def abort(self) -> None:
        """End now. Not by the transport inside, which on some versions of Python waits."""
        self._raw.abort()


class _Leaving(asyncio.Protocol):
    """Hears, of a connection that sends what was written and is closed then, nothing but how that
    goes, for who heard it before."""

    def __init__(self, before: asyncio.BaseProtocol) -> None:
        self.pause_writing = before.pause_writing  # type: ignore[method-assign]
        self.resume_writing = before.resume_writing  # type: ignore[method-assign]
        self.connection_lost = before.connection_lost  # type: ignore[method-assign]


class _Early(asyncio.Protocol):
    """Hears what a connection says before anybody takes it over, and keeps it."""

    def __init__(self) -> None:
        self.data = b""
        self.is_at_end = False
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> bool | None:
        self.is_at_end = True
        return None

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True


class Handshake:
    """One handshake on a transport that reads already.

    To run one: `transport = await handshake.run(...)`, then `give(receiver)`. ssl.SSLError,
    OSError or TimeoutError if it fails; the transport is closed then.
    """

    def __init__(self, raw: asyncio.Transport) -> None:
        self._raw = raw
        self._early = _Early()
        self._transport: SecureTransport | None = None
        self.begin_seconds = 0.0
        """What it took this process to answer the beginning."""

    async def run(
        self,
        context: ssl.SSLContext,
        *,
        identify: Callable[[ssl.SSLObject], object],
        seconds: float,
        head: Callable[[], bytes] | None = None,
        server_name: str | None = None,
    ) -> SecureTransport:
        """Shake hands, as the server unless the server's name is given. `head` is asked once for
        the bytes that were read before."""
        loop = asyncio.get_running_loop()
        raw = self._raw
        if raw.is_closing():
            raise ConnectionAbortedError("it is gone")
        shaking = loop.create_task(
            loop.start_tls(
                raw,
                self._early,
                context,
                server_side=server_name is None,
                server_hostname=server_name,
                ssl_handshake_timeout=seconds,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            )
        )
        if head is not None:
            # In the turn of the task's first step, and after it: start_tls has then asked for two
            # calls, that its protocol be told of the connection and that reading go on. The bytes
            # are fed right behind these: uvloop reads more before the turn that follows.
            loop.call_soon(loop.call_soon, self._feed, raw.get_protocol(), head)
        try:
            inside = await shaking
            # Of a connection that was aborted meanwhile the loops say that all went well.
            channel = None if inside is None else inside.get_extra_info("ssl_object")
            if inside is None or channel is None or self._early.is_lost:
                raise ConnectionAbortedError("it ended in the handshake")
            identity = self._identified(channel, identify)
        except BaseException as error:
            raw.abort()
            # Its traceback holds the loop's frames and this one, and these hold it and all that a
            # handshake takes: some 200 kB, which would wait for the collector.
            del shaking
            if isinstance(error, OSError):  # What it is not is a fault, and told with its place.
                error.__traceback__ = None
            raise
        self._transport = SecureTransport(raw, inside, identity)
        return self._transport

    @staticmethod
    def _identified(channel: ssl.SSLObject, identify: Callable[[ssl.SSLObject], object]) -> object:
        try:
            return identify(channel)
        except Exception as error:
            # Whatever a library makes of a stranger's certificate ends that connection alone.
            raise ConnectionAbortedError(f"its certificate cannot be read: {error!r}") from error

    def give(self, receiver: Receiver) -> bool:
        """Hand the connection over, with all that it said meanwhile; False if it is lost again."""
        transport, early = self._transport, self._early
        assert transport is not None
        if early.is_lost:
            return False
        transport.set_protocol(cast(asyncio.Protocol, receiver))
        receiver.connection_made(transport)
        if early.data:
            receiver.data_received(early.data)
        if early.is_at_end:
            # The receiver may have given it on.
            cast(asyncio.Protocol, transport.get_protocol()).eof_received()
        return True

    def _feed(self, before: asyncio.BaseProtocol, head: Callable[[], bytes]) -> None:
        protocol: Any = self._raw.get_protocol()
        if protocol is before or self._raw.is_closing():
            return
        begun = time.monotonic()
        rest = memoryview(head())
        while rest and not self._raw.is_closing():
            buffer = protocol.get_buffer(len(rest))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]
        self.begin_seconds = time.monotonic() - begun
