# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to come to an end by itself does, or is told."""

from __future__ import annotations

from quorate.core.topology.layout import Course
from quorate.core.values.wish import Wish
from quorate.sim import changes
from quorate.sim.acts import Acts
from quorate.sim.checkers.shares import uneven
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.draw import Options, draw
from quorate.sim.plan import Fault
from quorate.sim.rest import come_to_rest, is_at_rest, wrong_at_rest
from quorate.sim.workload import Clients


def test_what_was_called_off_half_way_goes_on_so_that_shares_are_even() -> None:
    """Nobody leaves and no disk is lost: that copies lie unevenly is all that tells."""
    cluster = SimCluster(1, 4, spares=1, grow_after_ms=0, replication=1)
    clients = Clients(cluster, patience_ms=1_000)
    plan = draw(1, Options(nodes=4, replication=1))
    acts = Acts(cluster, plan, Copies(cluster, [], quorum=1, w=1), clients)
    changes.join(acts, Fault("join", 0.0, 1.0, (0, 3)))
    cluster.run_until(lambda: cluster.layout().moves)
    changes.wish_for(acts, 0, Wish(stops=True))
    cluster.run_until(lambda: cluster.layout().course == Course.REST)
    cluster.run_until(lambda: is_at_rest(cluster))
    (told,) = uneven(cluster.layout())
    assert told.startswith("members that are alike have [")
    assert [each.invariant for each in wrong_at_rest(cluster, within_ms=1_000)] == ["I17"]
    assert come_to_rest(acts) == []
    assert cluster.layout().copies() == {1: 256, 2: 256, 3: 256, 4: 256}
    assert wrong_at_rest(cluster, within_ms=1_000) == []
