# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators do to the cluster of a world, and when: drawn apart from its faults.

A few changes, in a third of all worlds: each makes copies move, and that takes many steps.
"""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Final

from quorate.sim.acts import CHANGES, LAST, STRIKES
from quorate.sim.faults import FAULTS
from quorate.sim.plan import Fault

CHANGING_SHARE: Final = 0.35
"""The share of worlds in which operators change the cluster."""
_TAKE_SPARES: Final = frozenset(("join", "replace", "bury"))
"""What needs a node that is in nobody's list."""
_MOVE: Final = ("leave", "weight", "copies")
STRIKE_SHARE: Final = 0.5
"""So often there are faults that wait for copies to move, where any do."""


class Changing:
    """The changes of one world."""

    def __init__(self, random: Random, names: list[str], spares: int, load_ms: float) -> None:
        self._random = random
        self.names = names
        self.spares = spares
        """Nodes that are in nobody's list."""
        self.load_ms = load_ms
        """How long the load is to take; 0 as ever."""
        self.settings: dict[str, int] = {}
        self.strikes: list[str] = []

    def faults(self, nodes: int) -> list[Fault]:
        """All of them; `nodes` is how many there are with the spares. None where nobody is left to
        be asked by one who is not meant."""
        if nodes <= 2:
            return []
        faults = [self._fault(name, nodes) for name in self.names]
        return [*faults, *(self._strike(name, faults, nodes) for name in self.strikes if faults)]

    def _fault(self, name: str, nodes: int) -> Fault:
        """One of them. Some are asked for at the same time, of different nodes."""
        random, shape = self._random, FAULTS[name]
        begin_ms = random.choice((0.1, random.random(), random.random())) * self.load_ms
        lasts_ms = random.choice(shape.limits_ms)
        subjects = [random.randrange(nodes - self.spares)]
        if name in _TAKE_SPARES:
            spare = random.randrange(nodes - self.spares, nodes)
            subjects = [spare] if name == "join" else [*subjects, spare]
        if shape.nodes == (1,):
            subjects = []
        asked = random.choice([node for node in range(nodes) if node not in subjects])
        return Fault(
            name,
            begin_ms,
            min(begin_ms + lasts_ms, self.load_ms),
            (asked, *subjects),
            random.choice(shape.amounts),
        )

    def _strike(self, name: str, changes: list[Fault], nodes: int) -> Fault:
        """What is for copies that move: before one of the changes, or from it on."""
        random, change = self._random, self._random.choice(changes)
        if name == "behind":
            begin_ms = max(change.begin_ms - random.choice(FAULTS[name].limits_ms), 0.0)
            # It may be who is to leave.
            node = random.choice((*change.nodes, random.randrange(nodes)))
            return Fault(name, begin_ms, change.begin_ms, (node,))
        amount = random.choice(FAULTS[name].amounts)
        return Fault(name, change.begin_ms, self.load_ms, change.nodes[:1], amount)


def draw_changes(
    random: Random, allowed: Collection[str], room: int, nodes: int | None
) -> Changing:
    """A few changes in some worlds; in all if nothing else is allowed. `room`: so many nodes are
    not needed for copies: of those, if a person chose how many `nodes` there are, some are the
    spares."""
    names = [name for name in CHANGES if name in allowed]
    share = CHANGING_SHARE if set(allowed).difference(CHANGES, STRIKES, LAST) else 1.0
    if not names or random.random() >= share:
        return Changing(random, [], 0, 0.0)
    names = random.choices(names, k=random.choice((1, 1, 2, 2, 3, 4, 8)))
    load_ms = random.choice((1_000.0, 4_000.0, 10_000.0))
    grow_after_ms = random.choice((0, 200, 1_000))
    spares = random.choice((1, 1, 2)) if not _TAKE_SPARES.isdisjoint(names) else 0
    if nodes is not None:
        spares = min(spares, room)
    if not spares:
        names = [name for name in names if name not in _TAKE_SPARES]
    changing = Changing(random, names, spares, load_ms)
    strikes = [name for name in STRIKES if name in allowed]
    if strikes and random.random() < STRIKE_SHARE:
        changing.strikes = random.choices(strikes, k=random.choice((1, 2, 4)))
        # These move copies, whatever else is asked for.
        moving = [name for name in _MOVE if name in allowed]
        names += random.sample(moving, min(len(moving), 1))
    changing.settings["grow_after_ms"] = grow_after_ms
    return changing
