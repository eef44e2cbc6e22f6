# SPDX-License-Identifier: GPL-3.0-or-later
"""What a door needs of the running node: one way to ask, one way to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from quorate.config import Config
from quorate.core.topology.layout import Layout
from quorate.core.values.events import Event, Result, Waiter
from quorate.core.values.status import Status
from quorate.errors import QuorateError

ResultType = TypeVar("ResultType")


class Sink(Protocol):
    """A client connection that gathers a turn's answers and writes them at once."""

    def flush(self) -> None:
        """Write what was gathered. Called once, after the answers of the turn."""

    def abort(self) -> None:
        """End the connection at once: its `flush` raised, so nobody knows what it has written."""


class Store(Protocol):
    """The running node as doors see it; `runtime.driver.Driver` is the real one."""

    config: Config

    def submit(self, event: Event) -> None:
        """Take a request; its waiter's `done` is called later, never from inside this call."""

    def flush_soon(self, sink: Sink) -> None:
        """Call `sink.flush()` once at the end of this turn, however often this is asked."""

    def wall_ms(self) -> int:
        """Wall-clock milliseconds, the clock by which records expire."""

    def status(self) -> Status:
        """A snapshot; costs about a millisecond, not for every request."""

    def layout(self) -> Layout | None:
        """The current placement, None while not learnt."""


class _FutureWaiter:
    def __init__(self, future: asyncio.Future[Result]) -> None:
        self.future = future

    def done(self, result: Result) -> None:
        if not self.future.done():
            self.future.set_result(result)


async def ask(store: Store, make: Callable[[Waiter], Event], kind: type[ResultType]) -> ResultType:
    """Submit the event that `make` builds and await its result; raises what failed.

    For rare requests: it costs a Future. Hot paths pass a waiter of their own to `submit`.
    """
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    store.submit(make(_FutureWaiter(future)))
    result = await future
    if isinstance(result, QuorateError):
        raise result
    assert isinstance(result, kind), f"{type(result).__name__} where {kind.__name__} belongs"
    return result
