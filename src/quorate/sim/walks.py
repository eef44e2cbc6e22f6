# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that list keys while others read and write: page after page, each of the node that the
walk names, or of the next one that runs. A page that fails is the last one."""

from __future__ import annotations

import math

from quorate.core.values.events import Result, Scan, ScanResult
from quorate.core.values.slots import row_of
from quorate.errors import QuorateError
from quorate.sim.cluster import SimCluster
from quorate.sim.history import History, Page
from quorate.sim.machine import Machine
from quorate.sim.plan import PageWalk


class Walker:
    """One of them, and who is told its pages (`events.Waiter`)."""

    def __init__(
        self, cluster: SimCluster, history: History, walk: PageWalk, *, timeout_ms: int = 0
    ) -> None:
        """`timeout_ms`: of each page; 0 is what nodes give a request."""
        self._cluster: SimCluster | None = cluster
        self._history = history
        self._walk = walk
        self._timeout_ms = timeout_ms
        self._left = walk.pages
        self._page: Page | None = None
        """What is asked now."""
        self._machine: Machine | None = None
        self._life = 0
        self.is_over = False
        """Whether the last page was answered."""
        cursor = row_of(walk.key)[:2] if walk.key else b""
        cluster.world.after(walk.at_ms, lambda: self._ask(cursor))

    def _ask(self, cursor: bytes) -> None:
        if self._cluster is None:
            return
        node = self._cluster.running(self._walk.node)
        if node is None:
            return
        machine = self._cluster.machines[node]
        self._left -= 1
        walk, now = self._walk, self._cluster.world.now
        self._page = Page(node, cursor, walk.limit, walk.r, asked_ms=now)
        self._machine, self._life = machine, machine.life
        self._history.pages.append(self._page)
        asked = Scan(self, cursor=cursor, limit=walk.limit, r=walk.r, timeout_ms=self._timeout_ms)
        machine.receive(asked)

    def done(self, result: Result) -> None:
        page, machine = self._page, self._machine
        assert page is not None, "the world is over"
        assert machine is not None
        assert page.result is None, f"answered twice: {page.result}, then {result}"
        assert isinstance(result, ScanResult | QuorateError)
        page.result = result
        page.over_ms = machine.world.now
        if isinstance(result, ScanResult) and result.cursor and self._left:
            self._ask(result.cursor)
        else:
            self.is_over = True

    def missing(self) -> Page | None:
        """The page, if its coordinator lives and has not answered it."""
        page, machine = self._page, self._machine
        is_missing = page is not None and math.isinf(page.over_ms)
        return page if is_missing and machine and machine.life == self._life else None

    def let_go(self) -> None:
        """Refer to nothing any more."""
        self._cluster = self._page = self._machine = None
