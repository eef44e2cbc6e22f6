# SPDX-License-Identifier: GPL-3.0-or-later
"""One module per question that a run must answer, each a slow and obvious model.

A checker judges a finished run by what clients saw and what is left on the disks. An observer
judges every step while it goes on, and looks only at what the step touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from quorate.sim.checkers import (
    convergence,
    counters,
    deletes,
    expiry,
    freshness,
    honesty,
    invention,
    linearizability,
    listings,
    liveness,
    locks,
    refusals,
    survival,
    updates,
)
from quorate.sim.checkers.answering import Answering
from quorate.sim.checkers.bounds import Bounds
from quorate.sim.checkers.dropping import Dropping
from quorate.sim.checkers.durability import Durability
from quorate.sim.checkers.granting import Granting
from quorate.sim.checkers.guard import Guard
from quorate.sim.checkers.handoff import Handoff
from quorate.sim.checkers.placement import Placing
from quorate.sim.checkers.refusals import Handed
from quorate.sim.checkers.stamps import Stamps
from quorate.sim.checkers.telling import Telling
from quorate.sim.checkers.voting import VotesTold
from quorate.sim.checkers.watch import Judge, Machines, Watch
from quorate.sim.history import Evidence, History, Violation
from quorate.sim.machine import Machine

Checker = Callable[[History, Evidence], Iterable[Violation]]
"""Judges a finished run by what clients saw and what was left on the disks."""

__all__ = ["ALL", "Checker", "Handed", "Violation", "Watch", "watch"]

ALL: Final[dict[str, Checker]] = {
    "convergence": convergence.check,
    "counters": counters.check,
    "deletes": deletes.check,
    "expiry": expiry.check,
    "freshness": freshness.check,
    "honesty": honesty.check,
    "invention": invention.check,
    "linearizability": linearizability.check,
    "listings": listings.check,
    "liveness": liveness.check,
    "locks": locks.check,
    "refusals": refusals.check,
    "survival": survival.check,
    "updates": updates.check,
}
"""What every finished run is asked."""


def watch(machines: Sequence[Machine], handed: Handed) -> Watch:
    """An observer with all judges of steps, one of which is `handed`: `refusals` needs it."""
    known = Machines(machines)
    measuring: list[Judge] = [Bounds(), Guard(known)]
    judges: list[Judge] = [
        *measuring,
        Durability(known),
        Dropping(known),
        Stamps(),
        Placing(known),
        Handoff(known),
        Telling(),
        VotesTold(),
        Answering(),
        Granting(),
        handed,
    ]
    return Watch(known, judges, measuring)
