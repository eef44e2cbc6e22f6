# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that cost tens of milliseconds with 1,000 members: made once in a second, for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final, Generic, NamedTuple, TypeVar

from quorate.core.values.wish import Preview

AGE_SECONDS: Final = 1.0
"""How old they may be."""

Value = TypeVar("Value")


class Lately(Generic[Value]):
    """What was made last, for all who ask within AGE_SECONDS."""

    __slots__ = ("_begun_s", "_making", "_of")

    def __init__(self) -> None:
        self._making: asyncio.Task[Value] | None = None
        self._begun_s = 0.0
        self._of: object = None

    async def get(
        self, make: Callable[[], Coroutine[Any, Any, Value]], *, of: object = None
    ) -> Value:
        """What `make` makes, or has made lately and of the same. Raises what it raises, to all who
        wait for it; the next one tries again."""
        making, now_s = self._making, monotonic()
        if (
            making is None
            or (self._of != of or now_s - self._begun_s >= AGE_SECONDS)
            or (making.done() and (making.cancelled() or making.exception() is not None))
        ):
            making = asyncio.get_running_loop().create_task(make())
            self._making, self._begun_s, self._of = making, now_s, of
        # One client that goes away ends it for nobody else.
        return await asyncio.shield(making)


class Lasting(NamedTuple):
    """What a door made lately."""

    metrics: Lately[bytes]
    coming: Lately[Preview]
    """What the cluster comes to as it is."""
