# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that may not fit into one turn of the node: it goes on in the next.

All connections share what a turn has for it, whoever asks first goes first, and what is left goes
to the end of the line. So neither one KEYS with a slow pattern nor a hundred of them hold up the
turn, in which peers are answered and other clients served. The job of a client that is gone is
dropped when its turn comes, with what it holds, which no budget is charged for any more.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from quorate.doors.flow import CLOSED, Flow
from quorate.host.store import Store

STEPS_PER_TURN: Final = 500_000
"""A step takes 4 to 12 ns, so that a turn gives some milliseconds."""


class Connected(Protocol):
    """Who asks for a job."""

    @property
    def flow(self) -> Flow:
        """The state of its connection."""


class Job(Protocol):
    """Something that can be done in slices."""

    @property
    def session(self) -> Connected:
        """Whose it is."""

    def work(self, steps: int) -> int:
        """Do about `steps` of it. Returns how many are left over, 0 or less if it is not done."""


class Work:
    """The line of jobs of one door, and the store's sink that does a slice in each turn."""

    __slots__ = ("_jobs", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: deque[Job] = deque()

    def add(self, job: Job) -> None:
        """Do `job` from the end of this turn on."""
        self._jobs.append(job)
        self._store.flush_soon(self)

    def flush(self) -> None:
        """Do a turn's part. Called by the store at the end of the turn."""
        jobs, left = self._jobs, STEPS_PER_TURN
        while jobs and left > 0:
            job = jobs.popleft()
            if job.session.flow.state is CLOSED:
                continue
            left = job.work(left)
            if left <= 0:
                jobs.append(job)
        if jobs:
            self._store.flush_soon(self)

    def abort(self) -> None:
        """A job raised, which only a fault of ours does; it is out of the line already."""
        if self._jobs:
            self._store.flush_soon(self)
