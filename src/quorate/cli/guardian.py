# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that ends the nodes of another, and removes their directory, if that one is killed.

A process that is killed can end nobody. So `Guardian` starts one that does nothing but read a pipe,
and tells it of each node. Where the pipe ends before `done` was said, the writer is dead. (Linux
could do it with PR_SET_PDEATHSIG; no other system has that, and nobody would remove the directory.)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Final

STOP_SECONDS: Final = 10.0
"""What nodes have to stop in order."""
_POLL_SECONDS: Final = 0.05
_DONE: Final = b"done\n"


class Guardian:
    """The near end of it. `remove`: a directory that nobody wants afterwards; empty for none."""

    def __init__(self, *, remove: str = "") -> None:
        # A session of its own: Ctrl-C is for this process, which then stops its nodes itself.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "quorate.cli.guardian", remove],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, pid: int) -> None:
        """A node was started."""
        self._tell(b"+%d\n" % pid)

    def drop(self, pid: int) -> None:
        """A node has ended; its number may be another's soon."""
        self._tell(b"-%d\n" % pid)

    def close(self) -> None:
        """No node is left."""
        self._tell(_DONE)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # Killed itself, it guards nobody, which costs nothing while we live.
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()


def watch(lines: Iterable[bytes]) -> set[int]:
    """Read what a Guardian tells until its end; the nodes that are left without it."""
    pids: set[int] = set()
    for line in lines:
        if line == _DONE:
            return set()
        number = int(line[1:])
        if line.startswith(b"+"):
            pids.add(number)
        else:
            pids.discard(number)
    return pids


def end(pids: set[int]) -> None:
    """Ask processes to stop, and kill those that have not after `STOP_SECONDS`."""
    for number in (signal.SIGTERM, signal.SIGCONT):  # One may stand still.
        pids = {pid for pid in pids if _is_sent(pid, number)}
    until = time.monotonic() + STOP_SECONDS
    while pids and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
        pids = {pid for pid in pids if _is_sent(pid, 0)}
    for pid in pids:
        _is_sent(pid, signal.SIGKILL)


def _is_sent(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def main(remove: str) -> None:
    """Guard the nodes that standard input tells of."""
    left = watch(sys.stdin.buffer)
    if left:
        end(left)
        if remove:
            shutil.rmtree(remove, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
