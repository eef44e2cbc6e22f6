# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that takes a lock over and over and writes under it. Each step is a line of JSON.

At SIGUSR1 it stops itself as soon as it holds the lock: after it has looked whether it does, before
it writes. When it is sent on it writes, whoever holds the lock by then.

python -m tests.cluster.lock_holder NUMBER URL...
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from typing import Final

import msgspec

from quorate.client import Client, LeaseLost, LeaseTaken
from quorate.errors import QuorateError

TTL_S: Final = 2
"""With the second that clocks may differ, a lease is relied on for one second."""
PATIENCE_S: Final = 1.0
"""Of one request: a node that is paused answers none."""
WRITE_S: Final = 0.01
WRITES: Final = (3, 3, 60)
"""Under one lease; the most take longer than a lease that is not renewed."""


class Step(msgspec.Struct):
    """One line of a holder."""

    what: str
    """It `begins`, has `taken` the lock, has `looked` whether it holds it and does, `stops`, will
    `write`, has `lost` it, or `failed` to take it, as too few nodes answered."""
    token: str = ""
    from_s: float = 0.0
    """By the machine's monotonic clock: before it asked for the lock, or looked."""
    to_s: float = 0.0
    """When it had."""


class Holding:
    """The holder's work."""

    def __init__(self, number: int, urls: list[str]) -> None:
        self._client = Client(urls, timeout=PATIENCE_S)
        self._drawn = random.Random(number)
        self._is_to_stop = False
        signal.signal(signal.SIGUSR1, self._note)

    def hold(self) -> None:
        """Take the lock once, write under it, and give it back."""
        from_s = time.monotonic()
        with self._client.lock("lock", ttl=TTL_S, timeout=PATIENCE_S) as lease:
            _tell("taken", lease.token, from_s)
            for _ in range(self._drawn.choice(WRITES)):
                from_s = time.monotonic()
                lease.check()
                _tell("looked", lease.token, from_s)
                if self._is_to_stop:
                    self._is_to_stop = False
                    _tell("stops", lease.token)
                    os.kill(os.getpid(), signal.SIGSTOP)
                _tell("write", lease.token)
                time.sleep(WRITE_S)

    def _note(self, *_: object) -> None:
        self._is_to_stop = True


def _tell(what: str, token: str = "", from_s: float = 0.0) -> None:
    step = Step(what, token, from_s, time.monotonic())
    sys.stdout.buffer.write(msgspec.json.encode(step) + b"\n")
    sys.stdout.buffer.flush()


def main(number: int, urls: list[str]) -> None:
    """Hold the lock again and again, until the process is ended."""
    holding = Holding(number, urls)
    _tell("begins")
    while True:
        try:
            holding.hold()
        except LeaseTaken:
            pass
        except LeaseLost:
            _tell("lost")
        except QuorateError:
            _tell("failed")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
