# SPDX-License-Identifier: GPL-3.0-or-later
"""Work beside the caller's, in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """One piece of work at a time, which looks up from it whenever it pauses."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin."""
        self._over.clear()
        # A daemon: a program that ends without giving a lease back must not wait for ever.
        self._thread = threading.Thread(target=work, name="quorate-lease", daemon=True)
        self._thread.start()

    def pause(self, seconds: float) -> bool:
        """Wait. Whether it is to end, which is known at once."""
        return self._over.wait(seconds)

    def stop(self) -> None:
        """Have it end, and wait until it has."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
