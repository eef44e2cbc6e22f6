# SPDX-License-Identifier: GPL-3.0-or-later
"""`ask`: a request to the node for which a Future is worth its price."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from quorate.core.values.events import Event, Result, Waiter
from quorate.errors import QuorateError
from quorate.host.store import Store

ResultType = TypeVar("ResultType")


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
