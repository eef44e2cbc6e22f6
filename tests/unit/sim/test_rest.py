# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to come to an end by itself does, or is told."""

from __future__ import annotations

from quorate.core.topology.layout import Course
from quorate.core.values.events import ChangeResult
from quorate.core.values.wish import Wish
from quorate.errors import QuorumUnreachable
from quorate.sim import changes
from quorate.sim.acts import Acts
from quorate.sim.checkers.shares import uneven
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.draw import Options, draw
from quorate.sim.plan import Fault
from quorate.sim.rest import come_to_rest, is_at_rest, wrong_at_rest
from quorate.sim.workload import Clients


def _uneven(*, timeout_ms: int = 1_000) -> Acts:
    """A cluster in which a node's joining was called off half-way."""
    cluster = SimCluster(1, 4, spares=1, grow_after_ms=0, replication=1, timeout_ms=timeout_ms)
    clients = Clients(cluster, patience_ms=1_000)
    plan = draw(1, Options(nodes=4, replication=1))
    acts = Acts(cluster, plan, Copies(cluster, [], quorum=1, w=1), clients)
    changes.join(acts, Fault("join", 0.0, 1.0, (0, 3)))
    cluster.run_until(lambda: cluster.layout().moves)
    changes.wish_for(acts, 0, Wish(stops=True))
    cluster.run_until(lambda: cluster.layout().course == Course.REST)
    cluster.run_until(lambda: is_at_rest(cluster))
    return acts


def test_what_was_called_off_half_way_goes_on_so_that_shares_are_even() -> None:
    """Nobody leaves and no disk is lost: that copies lie unevenly is all that tells."""
    acts = _uneven()
    cluster = acts.cluster
    (told,) = uneven(cluster.layout())
    assert told.startswith("members that are alike have [")
    assert [each.invariant for each in wrong_at_rest(cluster, within_ms=1_000)] == ["I17"]
    assert come_to_rest(acts) == []
    assert cluster.layout().copies() == {1: 256, 2: 256, 3: 256, 4: 256}
    assert wrong_at_rest(cluster, within_ms=1_000) == []


def test_an_operator_asks_again_where_voters_had_promised_another_that_died() -> None:
    """Who is beaten waits up to half a second, which is more than requests have here."""
    acts = _uneven(timeout_ms=100)
    cluster, before = acts.cluster, len(acts.operators)
    for _ in range(2):
        changes.wish_for(acts, 1, Wish())
        cluster.run(1.0)
        cluster.kill(1)
        cluster.run(1_000)
        cluster.restart(1)
        cluster.run_until(cluster.is_connected, 10_000)
    assert cluster.layout().course == Course.REST
    assert come_to_rest(acts) == []
    _, _, first, *_, last = [each.result for each in acts.operators[before:]]
    assert isinstance(first, QuorumUnreachable)
    assert isinstance(last, ChangeResult)
    assert wrong_at_rest(cluster, within_ms=1_000) == []


def test_what_operators_are_never_granted_is_told() -> None:
    acts = _uneven()
    for machine in acts.cluster.machines:
        machine.disk.is_full = True
    (told,) = come_to_rest(acts)
    assert told.invariant == "I24"
    assert told.told.endswith(
        "an operator was told: a majority of the voters has not answered in time"
    )
