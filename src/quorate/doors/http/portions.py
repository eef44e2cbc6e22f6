# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on many megabytes, done in portions, so that other clients are answered in between."""

from __future__ import annotations

import asyncio
from typing import Final

PORTION_BYTES: Final = 1 << 20
"""Worked on in one turn of the loop, or one value that is larger."""


class Portions:
    """The work of one request, whoever of its tasks does it."""

    __slots__ = ("_lock", "_used_bytes")

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._used_bytes = 0

    async def take(self, size: int) -> None:
        """Return in a turn that has room for work on `size` bytes, which is then done at once."""
        # Who comes meanwhile waits for the lock, and then for a turn of its own.
        async with self._lock:
            if self._used_bytes and self._used_bytes + size > PORTION_BYTES:
                self._used_bytes = 0
                await asyncio.sleep(0)
            self._used_bytes += size
