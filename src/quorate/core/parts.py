# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is built from: its settings, and the parts that its coordinators share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from quorate.core.exchanges.hints import Hints
from quorate.core.replica import Reader, Replica
from quorate.core.requests.admission import Requests
from quorate.core.requests.turn import Turn
from quorate.core.values.clock import HybridClock
from quorate.core.values.versions import TIES

if TYPE_CHECKING:
    from random import Random


NODE_ID_MAX: Final = (1 << 48) - 1


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A node's settings as the core needs them; `config.Config` explains each."""

    url: str
    node_id: int
    """48 bits, drawn once for a data directory."""
    version: str
    cluster: str
    nodes: tuple[str, ...]
    """As given; may lack `url`, may be empty."""
    replication: int
    w: int
    r: int
    timeout_ms: int
    write_wait_ms: int
    heartbeat_ms: int
    down_after: int
    max_clock_skew_ms: int
    hint_bytes_max: int
    inflight_max: int
    inflight_bytes_max: int
    value_bytes_max: int
    key_bytes_max: int


class Parts:
    """Shared by the coordinators of one node; all of them live as long as the node."""

    __slots__ = ("clock", "hints", "process", "random", "replica", "requests", "settings", "turn")

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
        self.hints = Hints(
            engine=engine,
            replica=self.replica,
            turn=self.turn,
            bytes_max=settings.hint_bytes_max,
        )
