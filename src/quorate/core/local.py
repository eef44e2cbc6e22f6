# SPDX-License-Identifier: GPL-3.0-or-later
"""This node's own copies, read and written as they are: no quorum, no other node is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.exchanges.scans import Scans
from quorate.core.horizons import Fenced
from quorate.core.serving import Serving
from quorate.core.turn import Parts, not_applied
from quorate.core.values.events import (
    LocalGet,
    LocalPut,
    LocalResult,
    LocalScan,
    Result,
    Waiter,
)
from quorate.core.values.slots import row_of
from quorate.errors import Conflict, InvalidRequest, QuorateError, StorageError


class Local:
    """Requests for what this node holds."""

    __slots__ = ("_admit", "_parts", "_scans", "_serving")

    def __init__(
        self,
        parts: Parts,
        scans: Scans,
        serving: Serving,
        admit: Callable[[Waiter, bytes, int], bool],
    ) -> None:
        """`admit` counts a request for a key and so many bytes in, or refuses it."""
        self._parts: Final = parts
        self._scans: Final = scans
        self._serving: Final = serving
        self._admit: Final = admit

    def get(self, event: LocalGet) -> None:
        """Answer with what is held of a key."""
        result = self._held(row_of(event.key), applied=False)
        self._parts.turn.answers.append((event.waiter, result))

    def put(self, event: LocalPut) -> None:
        """Keep a record as a peer's is kept, and answer once it is durable."""
        row, waiter, size = row_of(event.key), event.waiter, event.record.size
        if not self._admit(waiter, event.key, size):
            return
        replica, requests = self._parts.replica, self._parts.requests
        reason = self._serving.why_refused(row, event.record)
        if reason or replica.trouble.code:
            error = InvalidRequest(reason) if reason else replica.trouble.error()
            requests.answer(waiter, not_applied(error), size)
            return
        try:
            applied = not replica.apply(row, event.record)
        except StorageError as error:
            requests.answer(waiter, not_applied(error), size)
            return
        except Fenced:
            detail = "nothing of so old a stamp may win here: deletes may have been dropped since"
            requests.answer(waiter, not_applied(Conflict(detail)), size)
            return
        replica.when_durable(
            lambda: requests.answer(waiter, self._held(row, applied=applied), size)
        )

    def scan(self, event: LocalScan) -> None:
        """Answer with what is held of a range of keys."""
        if self._admit(event.waiter, b"-", 0):
            try:
                self._scans.begin_local(event)
            except QuorateError as error:
                self._parts.requests.answer(event.waiter, error, 0)

    def _held(self, row: bytes, *, applied: bool) -> Result:
        try:
            return LocalResult(self._parts.replica.shown(row), applied)
        except StorageError as error:
            return error
