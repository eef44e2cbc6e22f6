# SPDX-License-Identifier: GPL-3.0-or-later
"""What a checker finds, and what a checker is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from quorate.core.values.events import Effects
from quorate.sim.history import Evidence, History
from quorate.sim.machine import Machine


class Violation(NamedTuple):
    """A promise that was not kept."""

    invariant: str
    """"I6" or "P3", as docs/design.md counts invariants and promises."""
    key: bytes
    told: str


Checker = Callable[[History, Evidence], list[Violation]]
"""Judges a finished run by what clients saw and what was left on the disks."""


class Observer(Protocol):
    """Judges a run while it goes on. The cluster calls `after_step` when the batch of the effects
    was given to the disk, and nothing of them was sent yet."""

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Look at what the step touched."""

    def violations(self) -> list[Violation]:
        """What was wrong so far."""
