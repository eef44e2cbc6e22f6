# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it takes until all copies are where they belong, by how fast they were seen to move.

Nothing is looked at for this alone: each `GET /topology` is a look. Two of them within WINDOW_S, a
second apart, tell how many copies came meanwhile. For example: 700 were to come at 12:00:00, and
650 are at 12:00:05: ten a second, so the rest takes 65 s.

There is no pace by default from which a first move could be told. Who gets copies asks for a page
at a time and rests for as long as that took (`core.exchanges.pulls`), so it depends on disks, links
and clients. Until copies were seen to move nobody can tell. Then the pace is kept, and what is
planned later is an estimate by it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from quorate.core.values.status import Status
from quorate.core.values.wish import Preview

WINDOW_S: Final = 120.0
"""Looks that are older say nothing of the pace now."""
APART_S: Final = 1.0
"""Looks that are kept are at least so far apart; so at most WINDOW_S / APART_S + 1 are."""
STILL_S: Final = 30.0
"""Where no copy came for so long, how fast they moved before says nothing any more."""


class Eta(NamedTuple):
    """How long it takes until all copies are where they belong."""

    seconds: int | None = None
    """None where nobody can tell."""
    bytes_s: int | None = None
    """By which pace; None where it is not known what copies take."""
    is_estimate: bool = False
    """Whether that is how fast copies moved at another time."""


class _Rate(NamedTuple):
    copies_s: float
    copy_bytes: float
    """0 where it is not known."""

    def eta(self, copies: int, size: int, *, is_estimate: bool) -> Eta:
        """Until so many copies of so many bytes altogether have come."""
        seconds = copies / self.copies_s
        if not self.copy_bytes or not size:
            return Eta(math.ceil(seconds), None, is_estimate)
        bytes_s = self.copies_s * self.copy_bytes
        return Eta(math.ceil(size / bytes_s), round(bytes_s), is_estimate)


class CopyPace:
    """How fast copies are seen to move, and did last."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque()
        """When, and how many copies had yet to come."""
        self._goal: object = None
        """Of the course that was looked at."""
        self._epoch = 0
        self._copies = 0
        """To move, at the last look."""
        self._step = 0
        """The most that members had to get at once in the step of this epoch."""
        self._coming = 0
        """Copies that have yet to come, at the last look."""
        self._last: _Rate | None = None

    def estimate(self, copies: int, size: int) -> Eta:
        """Of what does not move yet: `copies`, about `size` bytes altogether."""
        if self._last is None or not copies:
            return Eta()
        return self._last.eta(copies, size, is_estimate=True)

    def of(self, status: Status, coming: Preview | None) -> Eta:
        """Of a cluster that is at this, and comes to that; what moves is looked at."""
        if coming is None or status.phase != "moving":
            # What moves later begins anew: it may be less, and none of the difference has come.
            self._looks.clear()
        if coming is None or status.phase not in ("waiting", "moving"):
            return Eta()
        if status.phase == "waiting":
            return self.estimate(coming.copies, coming.bytes)
        return self.look(
            goal=(
                coming.replication,
                [(each.id, each.zone, each.weight) for each in coming.shares],
            ),
            epoch=coming.epoch,
            copies=coming.copies,
            size=coming.bytes,
            left=sum([each.left for each in status.members if each.member]),
        )

    def look(self, *, goal: object, epoch: int, copies: int, size: int, left: int) -> Eta:
        """Of what moves now: `copies` are not yet where they belong, about `size` bytes altogether.
        `goal`: what they move for, equal in all steps of a course. `left`: what members have yet
        to get of the step that layout `epoch` is."""
        now = self._clock()
        while self._looks and now - self._looks[0][0] > WINDOW_S:
            self._looks.popleft()
        if goal != self._goal or copies > self._copies:
            # Another course: what was to come before is no measure.
            self._looks.clear()
        self._goal = goal
        self._count(epoch, copies, left)
        if not self._looks or now - self._looks[-1][0] >= APART_S:
            self._looks.append((now, self._coming))
        since, coming = self._looks[0]
        copy_bytes = size / copies if copies else 0
        if now - since >= APART_S and coming > self._coming:
            self._last = _Rate((coming - self._coming) / (now - since), copy_bytes)
            return self._last.eta(self._coming, round(self._coming * copy_bytes), is_estimate=False)
        if now - since >= STILL_S:
            return Eta()
        return self.estimate(self._coming, round(self._coming * copy_bytes))

    def _count(self, epoch: int, copies: int, left: int) -> None:
        """Count what has yet to come. Copies are where they belong once the whole step is done, so
        those that members have got of it already are taken off. Members tell late what they have
        to get: until then that is no progress."""
        self._step = left if epoch != self._epoch else max(self._step, left)
        coming = copies - min(self._step - left, copies)
        self._coming = min(coming, self._coming) if self._looks else coming
        self._epoch, self._copies = epoch, copies
