# SPDX-License-Identifier: GPL-3.0-or-later
"""What a door needs of the running node: one way to ask, one way to be told."""

from __future__ import annotations

from typing import Final, Protocol

from quorate.config import Config
from quorate.core.topology.topology import Topology
from quorate.core.values.events import Event
from quorate.core.values.status import Status

STATUS_AGE_MS_MAX: Final = 100
"""How long a status is reused: it costs milliseconds, and strangers may ask for it in a loop."""


class Sink(Protocol):
    """A client connection that gathers a turn's answers and writes them at once."""

    def flush(self) -> None:
        """Write what was gathered. Called once, after the answers of the turn."""

    def abort(self) -> None:
        """End the connection at once: its `flush` raised, so nobody knows what it has written."""


class Store(Protocol):
    """The running node as doors see it; `host.driver.Driver` is the real one."""

    config: Config

    def submit(self, event: Event) -> None:
        """Take a request; its waiter's `done` is called later, never from inside this call."""

    def flush_soon(self, sink: Sink) -> None:
        """Call `sink.flush()` once at the end of this turn, however often this is asked."""

    def wall_ms(self) -> int:
        """Wall-clock milliseconds, the clock by which records expire."""

    def status(self) -> Status:
        """A snapshot, at most STATUS_AGE_MS_MAX old, and of the layout in force: what it says of
        liveness and readiness may be that late."""

    def topology(self) -> Topology | None:
        """Who holds what; None while that is not known. Another object whenever it changes."""
