# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of the log, written by a thread: what a node does must not wait for who reads of it.

A pipe that nobody reads blocks whoever writes to it. So a line is only laid into a queue here, and
the thread alone waits. What does not fit is lost and counted, as is what cannot be written: the
disk of the log may be full, its reader gone.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from typing import Final

STDERR: Final = 2
LINES_MAX: Final = 10_000
BYTES_MAX: Final = 4 << 20
"""Waiting lines. A reader that stops for some seconds costs none."""
CRITICAL_BYTES_SPARE: Final = 256 << 10
"""Kept for lines that say why the process ends: nothing else ever says that."""


class LineWriter:
    """A structlog logger that writes to a file descriptor, standard error if none is named."""

    def __init__(self, descriptor: int = STDERR) -> None:
        self.lost = 0
        """Lines that did not fit, or could not be written."""
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        """The first is being written."""
        self._bytes = 0
        self._changed = Condition()
        self._thread: Thread | None = None
        self._untold = 0
        """Lines that did not fit since the last line that said so."""
        self.tell_lost: Callable[[int], object] = lambda _: None
        """Called on the thread when there is room again, with the number of lines that did not fit
        before; it is to log a line."""

    def msg(self, message: str) -> None:
        """Have a line written. Never waits."""
        self._put(message, bytes_max=BYTES_MAX, lines_max=LINES_MAX)

    debug = info = warning = error = msg

    def critical(self, message: str) -> None:
        """The same, where other lines fit no more."""
        self._put(message, bytes_max=BYTES_MAX + CRITICAL_BYTES_SPARE, lines_max=2 * LINES_MAX)

    def flush(self, *, seconds: float) -> bool:
        """Wait until all lines are written, or lost, or the time is up; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, seconds)

    def _put(self, message: str, *, bytes_max: int, lines_max: int) -> None:
        line = f"{message}\n".encode(errors="backslashreplace")
        with self._changed:
            if len(self._waiting) >= lines_max or self._bytes + len(line) > bytes_max:
                self.lost += 1
                self._untold += 1
                return
            self._waiting.append(line)
            self._bytes += len(line)
            if self._thread is None:
                # A daemon: nobody waits for a line that no one reads when the process ends.
                self._thread = Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting[0]
            is_written = self._write(line)
            with self._changed:
                self._waiting.popleft()
                self._bytes -= len(line)
                self.lost += not is_written
                untold = 0
                if not self._waiting:
                    untold, self._untold = self._untold, 0
                    self._changed.notify_all()
            if untold:
                self.tell_lost(untold)

    def _write(self, line: bytes) -> bool:
        """Whether it could be. Not through a file object, which keeps what it could not write."""
        rest = memoryview(line)
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    # Whoever shares the descriptor made it so.
                    select.select([], [self._descriptor], [])
        except OSError:
            return False
        return True
