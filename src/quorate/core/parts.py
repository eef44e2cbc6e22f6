# SPDX-License-Identifier: GPL-3.0-or-later
"""What the coordinators of one node share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quorate.core.replica import Reader, Replica
from quorate.core.requests.admission import Requests
from quorate.core.turn import Turn
from quorate.core.values.clock import HybridClock
from quorate.core.values.settings import Settings
from quorate.core.values.versions import TIES

if TYPE_CHECKING:
    from random import Random


class Parts:
    """Shared by the coordinators of one node; all of them live as long as the node."""

    __slots__ = ("clock", "process", "random", "replica", "requests", "settings", "turn")

    def __init__(self, settings: Settings, engine: Reader, random: Random, *, ceiling: int) -> None:
        self.settings = settings
        self.random = random
        self.process = random.choice(TIES)
        """Drawn at each start: the tie-break of versions. Two processes may have one node id, where
        a data directory was copied, and may stamp at one instant."""
        self.turn = Turn()
        self.clock = HybridClock(ceiling=ceiling, skew_ms_max=settings.max_clock_skew_ms)
        self.replica = Replica(engine)
        self.requests = Requests(
            turn=self.turn,
            count_max=settings.inflight_max,
            bytes_max=settings.inflight_bytes_max,
        )
