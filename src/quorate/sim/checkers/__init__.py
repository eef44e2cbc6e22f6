# SPDX-License-Identifier: GPL-3.0-or-later
"""One module per question that a run must answer, each a slow and obvious model.

A checker judges a finished run by what clients saw and what is left on the disks. An observer
judges every step while it goes on, and looks only at what the step touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quorate.sim.checkers import (
    convergence,
    deletes,
    derived,
    expiry,
    freshness,
    hints,
    honesty,
    invention,
    linearizability,
    liveness,
    refusals,
    survival,
)
from quorate.sim.checkers.answering import Answering
from quorate.sim.checkers.bounds import Bounds, Caches
from quorate.sim.checkers.durability import Durability
from quorate.sim.checkers.guard import Clocks, Guard
from quorate.sim.checkers.handed import Handed
from quorate.sim.checkers.handoff import Handoff
from quorate.sim.checkers.placement import Placing
from quorate.sim.checkers.stamps import Stamps
from quorate.sim.checkers.telling import Telling
from quorate.sim.checkers.violation import Checker, Observer, Violation
from quorate.sim.checkers.watch import Judge, Machines, Watch
from quorate.sim.machine import Machine

__all__ = ["ALL", "Checker", "Handed", "Observer", "Violation", "watch"]

ALL: Final[dict[str, Checker]] = {
    "convergence": convergence.check,
    "deletes": deletes.check,
    "derived": derived.check,
    "expiry": expiry.check,
    "freshness": freshness.check,
    "hints": hints.check,
    "honesty": honesty.check,
    "invention": invention.check,
    "linearizability": linearizability.check,
    "liveness": liveness.check,
    "refusals": refusals.check,
    "survival": survival.check,
}
"""What every finished run is asked."""


def watch(machines: Sequence[Machine], handed: Handed) -> Observer:
    """An observer that asks all that every step is asked, and collects what `refusals` needs."""
    known = Machines(machines)
    judges: list[Judge] = [
        Durability(known),
        Stamps(),
        Placing(),
        Handoff(known),
        Guard(),
        Telling(),
        Answering(),
        Caches(),
        handed,
    ]
    return Watch(known, [Bounds(), Clocks()], judges)
