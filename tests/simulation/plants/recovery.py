# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a cluster that goes on without more disks than it can lose."""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.sources import CopySources
from quorate.core.topology.peer import Peer
from quorate.core.values.settings import majority
from quorate.sim.acts import RUINS
from quorate.sim.draw import Options
from tests.simulation.plants.plant import Plant

RUINED: Final = Options(
    nodes=4,
    replication=4,
    faults=frozenset((*RUINS, "weight", "hold", "isolate")),
    ruin_share=1.0,
)
"""Worlds in which more disks are lost than a cluster can do without, and some copies are missed
before."""

_Sources = tuple[int, list[Peer], list[Peer]]
_sources: Final = CopySources._replicas


def _as_many_as_ever(self: CopySources, partition: int) -> _Sources:
    needed, leaving, staying = _sources(self, partition)
    layout = self._membership.layout
    assert layout is not None
    usual = len(layout.table[partition])
    usual -= majority(usual) - 1
    return min(needed, usual), leaving, staying


PLANTS: Final = (
    Plant(
        "of what a recovery left of a row not all are asked",
        CopySources,
        "_replicas",
        _as_many_as_ever,
        RUINED,
    ),
)
