# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to come to an end by itself does, or is told."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.pulls import Pulls
from quorate.core.topology import wants
from quorate.core.topology.layout import Course
from quorate.core.topology.peer import Peer
from quorate.core.topology.wants import goal_of
from quorate.core.values.events import ChangeResult
from quorate.core.values.wish import Wish
from quorate.errors import QuorumUnreachable
from quorate.sim import changes, rest
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
    acts = _called_off(timeout_ms=timeout_ms)
    cluster = acts.cluster
    cluster.run_until(lambda: cluster.layout().course == Course.REST)
    cluster.run_until(lambda: is_at_rest(cluster))
    return acts


def _called_off(*, timeout_ms: int = 1_000) -> Acts:
    """The same, before that is decided."""
    cluster = SimCluster(1, 4, spares=1, grow_after_ms=0, replication=1, timeout_ms=timeout_ms)
    clients = Clients(cluster, patience_ms=1_000)
    plan = draw(1, Options(nodes=4, replication=1))
    acts = Acts(cluster, plan, Copies(cluster, [], quorum=1, w=1), clients)
    changes.join(acts, Fault("join", 0.0, 1.0, (0, 3)))
    cluster.run_until(lambda: cluster.layout().moves)
    changes.wish_for(acts, 0, Wish(stops=True))
    assert cluster.layout().course == Course.MOVE
    return acts


def test_what_is_called_off_while_it_comes_to_rest_goes_on_too() -> None:
    acts = _called_off()
    assert come_to_rest(acts) == []
    assert acts.cluster.layout().copies() == {1: 256, 2: 256, 3: 256, 4: 256}
    stops, *others = acts.operators[-2:]
    assert isinstance(stops.result, ChangeResult)
    assert stops.result.epoch, "it was decided"
    assert len(others) == 1


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


@pytest.mark.plain
def test_what_goes_round_in_a_circle_is_told_long_before_it_takes_as_long_as_nothing_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To who sees that shares are uneven, and has the cluster go on, it says each time that all is
    where it belongs."""
    acts = _uneven()
    monkeypatch.setattr(wants, "goal_of", lambda layout: list(layout.table))
    began_ms = acts.cluster.world.now
    (told,) = come_to_rest(acts)
    assert told.invariant == "I24"
    assert acts.cluster.world.now - began_ms < rest.MOVE_MS / 4
    epochs = int(told.told.split()[2])
    assert epochs > rest.BACK_MAX


@pytest.mark.plain
@pytest.mark.parametrize("times", [1, 99])
def test_a_partition_that_is_put_aside_may_be_so_once(
    monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Each time it is tried again there are two layouts more, and nothing has come forward."""
    for module in (rest, wants):
        monkeypatch.setattr(module, "PUT_OFF_MS", 40_000)
    monkeypatch.setattr(rest, "MOVE_MS", 15_000.0)
    acts = _uneven()
    layout = acts.cluster.layout()
    wanting = goal_of(layout)
    unreadable = next(at for at, row in enumerate(layout.table) if set(row) != set(wanting[at]))
    tried: list[int] = []
    ask = Pulls._ask

    def ask_in_vain(self: Pulls, partition: int, sources: list[Peer]) -> None:
        tried.append(partition)
        if partition == unreadable and tried.count(unreadable) <= times:
            self._put_aside(partition)
        else:
            ask(self, partition, sources)

    monkeypatch.setattr(Pulls, "_ask", ask_in_vain)
    found = come_to_rest(acts)
    assert [each.invariant for each in found] == ([] if times == 1 else ["I24"])
    assert tried.count(unreadable) == 2
