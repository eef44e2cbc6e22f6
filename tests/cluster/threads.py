# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that work until a block ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self


class Threads:
    """A context manager: inside it each of `works` runs in a thread, until `stop` is set."""

    def __init__(self, works: Iterable[Callable[[], None]]) -> None:
        self.lock = threading.Lock()
        """For what the threads share."""
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in works]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
