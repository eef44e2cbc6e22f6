# SPDX-License-Identifier: GPL-3.0-or-later
"""Another node as this one sees it: who it is, and whether it is worth asking.

A node numbers the others in the order in which it learns of them, and itself first, so a set of
replicas is an int with a bit for each (`quorum`). The numbers mean nothing to other nodes.
"""

from __future__ import annotations

from typing import Final

from quorate.core.turn import Alarm

OWN_BIT: Final = 1
"""This node in a set of replicas."""


class Peer:
    """One of the other nodes. Owned by the node; mutated by its parts."""

    __slots__ = (
        "_came",
        "bit",
        "bytes_used",
        "has_answered",
        "has_come",
        "id",
        "index",
        "is_clogged",
        "is_heard",
        "is_linked",
        "is_reachable",
        "is_up",
        "keys",
        "last_answer_ms",
        "misses",
        "speed",
        "url",
        "version",
    )

    def __init__(self, url: str, index: int, came: Alarm) -> None:
        """`index` counts the peers from 0; `came` rings after it became reachable."""
        self.url = url
        self.index = index
        self.bit = 2 << index
        """It in a set of replicas."""
        self._came = came
        self.id = ""
        self.version = ""
        self.keys = 0
        self.bytes_used = 0
        self.is_linked = False
        self.is_heard = False
        """Whether a frame came from it since our link to it came up: its link to us is up too, so
        answers can come."""
        self.is_up = True
        self.is_clogged = False
        """More is on its way to it, unanswered, than may be."""
        self.is_reachable = False
        """Linked both ways, up, and keeping up: worth sending a request to. Kept by `judge`."""
        self.has_come = False
        """Whether it became reachable since the node last looked."""
        self.misses = 0
        self.has_answered = True
        """Since the last heartbeat."""
        self.last_answer_ms: int | None = None
        self.speed = 0
        """Rank by round trip, coarse so that noise does not make all nodes prefer one."""

    def judge(self) -> None:
        """Renew `is_reachable`, after a change of what it follows from."""
        before = self.is_reachable
        self.is_reachable = self.is_linked and self.is_heard and self.is_up and not self.is_clogged
        if self.is_reachable and not before:
            self.has_come = True
            self._came.soon()

    @property
    def state(self) -> str:
        """`up`, `down` (too many misses in a row) or `connecting`."""
        if not self.is_up:
            return "down"
        return "up" if self.is_linked else "connecting"
