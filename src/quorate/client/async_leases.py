# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases under asyncio: locks that are free again by themselves where their holder is gone.

A lease is a value under the lock's key that expires. Who puts it where nothing is holds the lock;
who holds it replaces it by itself, by its version, before it expires, and deletes it at the end.

What no lock can do is stop a holder that was paused and does not know yet that its time is over.
So each lease has a `token`, which every later holder's is above: whoever takes orders from holders
(a table, a file, a queue) keeps the highest token that it saw, and refuses lower ones.
"""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Final, Protocol

from quorate.client.async_background import AsyncBackground
from quorate.client.async_sockets import pause
from quorate.client.calls import LeaseLost, LeaseTaken, Raw, Value, Written, back_off
from quorate.errors import (
    InvalidRequest,
    Outcome,
    PreconditionFailed,
    QuorateError,
    Unavailable,
)

LEASE_SECONDS: Final = 30
CLOCK_SKEW_SECONDS: Final = 1.0
"""The nodes' -max-clock-skew, where nobody says another."""
_RENEWALS: Final = 3
"""Tries to renew a lease in its time."""


class AsyncLeaseStore(Protocol):
    """What a lease needs of a client."""

    async def get(self, key: Raw, *, timeout: float | None = None) -> Value | None:
        """The value, or None."""

    async def put(
        self,
        key: Raw,
        value: Raw,
        *,
        ttl: int | None = None,
        timeout: float | None = None,
        if_version: str | None = None,
        if_absent: bool = False,
    ) -> Written:
        """Write under a condition."""

    async def delete(
        self, key: Raw, *, timeout: float | None = None, if_version: str | None = None
    ) -> Written:
        """Delete under a condition."""


class AsyncLease:
    """A lock, held within `with`. LeaseTaken where it cannot be had; LeaseLost at the end where it
    was lost on the way, unless another error ends the `with`."""

    def __init__(
        self, store: AsyncLeaseStore, name: Raw, *, ttl: int, timeout: float, max_clock_skew: float
    ) -> None:
        if ttl <= max_clock_skew:
            raise InvalidRequest(
                f"ttl must be more than max_clock_skew, which is {max_clock_skew:g} s",
                outcome=Outcome.NOT_APPLIED,
            )
        self._store = store
        self._name = name
        self._ttl = ttl
        self._timeout = timeout
        self._seconds = ttl - max_clock_skew
        """How long it may be relied on after it was asked for."""
        self._holder = os.urandom(16).hex()
        """The value under the key, by which this lease is known again."""
        self._version = ""
        """That the value has."""
        self._end = 0.0
        """When it is over, by the monotonic clock."""
        self._why: QuorateError | None = None
        """What went wrong with the last renewal."""
        self._background = AsyncBackground()
        self.token = ""
        """The version of the value as it was first put: higher than every earlier holder's token,
        compared as text. Empty before the lock is held."""

    @property
    def seconds_left(self) -> float:
        """How long it may be relied on from now, if it is not renewed; 0 if it is lost."""
        return max(self._end - time.monotonic(), 0.0)

    @property
    def is_held(self) -> bool:
        """Whether the lock is held now. It is over `max_clock_skew` before the nodes say so."""
        return self.seconds_left > 0

    def check(self) -> None:
        """LeaseLost, unless the lock is held."""
        if not self.is_held:
            raise LeaseLost("the lease is not held any more: stop what it protects") from self._why

    async def __aenter__(self) -> AsyncLease:
        await self._acquire()
        self._background.start(self._keep)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._background.stop()
        was_held = self.is_held
        self._end = 0.0
        is_ours = await self._release()
        if kind is None and not (was_held and is_ours):
            raise LeaseLost("the lease was lost before it was given back") from self._why

    async def _acquire(self) -> None:
        until, tries = time.monotonic() + self._timeout, 0
        while True:
            began = time.monotonic()
            try:
                written = await self._store.put(
                    self._name, self._holder, ttl=self._ttl, if_absent=True
                )
            except PreconditionFailed as error:
                if time.monotonic() >= until:
                    raise LeaseTaken(
                        "another one holds the lease",
                        outcome=Outcome.NOT_APPLIED,
                        version=error.version,
                    ) from None
            else:
                self.token = written.version
                self._hold(written.version, began)
                return
            tries += 1
            await pause(back_off(tries))

    async def _keep(self) -> None:
        """Renew the lease again and again, until it is given back or lost."""
        share = self._seconds / _RENEWALS
        while self.is_held:
            # Once a renewal failed there is less time for the next.
            if await self._background.pause(min(share, self.seconds_left / 2) + 0.01):
                return
            try:
                await self._renew()
            except QuorateError as error:
                self._why = error

    async def _renew(self) -> None:
        began, left = time.monotonic(), self.seconds_left
        try:
            written = await self._store.put(
                self._name, self._holder, ttl=self._ttl, timeout=left, if_version=self._version
            )
        except PreconditionFailed as error:
            if not await self._is_ours():
                self._why, self._end = error, 0.0
        else:
            self._hold(written.version, began)

    async def _release(self) -> bool:
        """Give the lease back. Whether it was this one's; what cannot be deleted expires."""
        try:
            return await self._delete() or (await self._is_ours() and await self._delete())
        except Unavailable:
            return True

    async def _delete(self) -> bool:
        try:
            await self._store.delete(self._name, if_version=self._version)
        except PreconditionFailed:
            return False
        return True

    async def _is_ours(self) -> bool:
        """Whether the value that is there is this lease's, by a renewal whose answer was lost."""
        found = await self._store.get(self._name)
        if found is None or found.value != self._holder.encode():
            return False
        self._version = found.version
        return True

    def _hold(self, version: str, began: float) -> None:
        self._version, self._end, self._why = version, began + self._seconds, None
