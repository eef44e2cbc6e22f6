# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of a real loop need: a disk that takes its time, one end of a connection, and a way to
wait for either."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from quorate.host.system import Channel

_DEADLINE_S = 10.0


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    """Return as soon as `condition()` is true."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"still waiting for {what}"
        await asyncio.sleep(0.001)


async def turns() -> None:
    """Return when what is due now has been done, and what that made due."""
    for _ in range(5):
        await asyncio.sleep(0)


class FakeDisk:
    """A sync takes until the gate is open, and raises `error` if there is one."""

    def __init__(self) -> None:
        self.syncs = 0
        self.threads: list[threading.Thread] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: BaseException | None = None

    def sync(self) -> None:
        self.syncs += 1
        self.threads.append(threading.current_thread())
        assert self.gate.wait(_DEADLINE_S)
        if self.error is not None:
            raise self.error


class FakeConnection:
    """One end of a connection that keeps what it is told. (`host.system.Dialled`)"""

    def __init__(self) -> None:
        self.channel: Channel | None = None
        self.received = b""
        self.failures: list[str] = []
        """Why nobody was asked, or nothing if nobody is there."""
        self.losses = 0

    def connection_made(self, channel: Channel, /) -> None:
        self.channel = channel

    def data_received(self, data: bytes, /) -> None:
        self.received += data

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, exc: Exception | None, /) -> None:
        del exc
        self.losses += 1

    def pause_writing(self) -> None:
        """Nothing is written that could not leave."""

    def resume_writing(self) -> None:
        """Likewise."""

    def dial_failed(self, why_not_tried: str) -> None:
        self.failures.append(why_not_tried)
