# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that wait for copies to move strike then, once, and are over when they end."""

from __future__ import annotations

import pytest

from quorate.core.topology.layout import Course
from quorate.core.values.events import Join
from quorate.sim.acts import Acts
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.draw import Options, draw
from quorate.sim.faults import Nemesis
from quorate.sim.plan import Fault
from quorate.sim.rest import is_at_rest
from quorate.sim.strikes import SLOW_SYNC_MS
from quorate.sim.workload import Clients
from tests.simulation import asking

PLAN = draw(1, Options(nodes=4, replication=1))
KEYS = [b"key%d" % number for number in range(60)]
LASTS_MS = 5_000.0


class Stage:
    """Three nodes with copies of each key, which a fourth is to join."""

    def __init__(self, name: str, amount: float = 0.0, *, copies: int = 1) -> None:
        self.cluster = SimCluster(1, 4, spares=1, grow_after_ms=0, replication=copies)
        asking.finish(self.cluster, *[asking.put(self.cluster, 0, key, b"v") for key in KEYS])
        clients = Clients(self.cluster, patience_ms=1_000)
        watched = Copies(self.cluster, KEYS, quorum=1, w=1)
        self.nemesis = Nemesis(Acts(self.cluster, PLAN, watched, clients))
        self.nemesis.schedule([Fault(name, 0.0, LASTS_MS, (0,), amount)])
        self.cluster.run(1)
        self.joining = self.cluster.machines[3]

    def join(self) -> None:
        """Have the fourth join."""
        self.cluster.machines[0].receive(Join(asking.Handle(self.cluster.world), self.joining.url))

    def cuts(self) -> set[tuple[int, int]]:
        """The directions in which nothing goes through."""
        pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
        return {pair for pair in pairs if self.cluster.wire(*pair).is_cut}

    def come_to_rest(self) -> None:
        """Wait until all has moved, and nothing is lost."""
        self.cluster.run_until(self.cluster.is_connected)
        self.cluster.run_until(lambda: len(self.cluster.layout().members) == 4)
        self.cluster.run_until(lambda: is_at_rest(self.cluster), 120_000)
        for key in KEYS:
            assert asking.value(self.cluster, 0, key) == b"v"


def test_who_gains_dies_when_it_has_pulled_something() -> None:
    stage = Stage("gainer")
    stage.cluster.run(1_000)
    assert all(machine.is_running for machine in stage.cluster.machines)
    stage.join()
    stage.cluster.run_until(lambda: not stage.joining.is_running)
    assert stage.cluster.layout().moves
    stage.cluster.run(LASTS_MS)
    assert stage.joining.life == 3, "it started, died once, and started"
    stage.come_to_rest()


def test_who_gains_dies_after_its_disk_stood_while_it_pulled_all() -> None:
    stage = Stage("gainer", 100.0)
    stage.join()
    stage.cluster.run_until(lambda: stage.joining.hangs_for_ms() > 100)
    stage.cluster.run_until(lambda: not stage.joining.node.pulls.left)
    noted_ms = stage.cluster.world.now
    stage.cluster.run_until(lambda: not stage.joining.is_running)
    assert stage.cluster.world.now - noted_ms == pytest.approx(100)
    stage.cluster.run(LASTS_MS)
    assert stage.joining.life == 3
    stage.come_to_rest()


def test_a_disk_that_stands_goes_on_when_the_fault_ends() -> None:
    stage = Stage("gainer", 100.0)
    stage.join()
    stage.cluster.run_until(lambda: stage.joining.hangs_for_ms() > 10)
    stage.nemesis.heal()
    stage.cluster.run(100)
    assert stage.joining.hangs_for_ms() < 100
    stage.come_to_rest()


def test_nor_does_it_stand_on_if_who_was_to_die_has_pulled_all_and_the_fault_ends_first() -> None:
    stage = Stage("gainer", 500.0)
    stage.join()
    stage.cluster.run_until(lambda: stage.joining.hangs_for_ms() > 10)
    stage.cluster.run_until(lambda: not stage.joining.node.pulls.left)
    assert stage.joining.hangs_for_ms() > 10
    stage.nemesis.heal()
    stage.cluster.run(100)
    assert stage.joining.hangs_for_ms() < 100
    stage.cluster.run(1_000)
    assert stage.joining.life == 3, "it started, died as the fault ended, and started"
    stage.come_to_rest()


def test_who_hears_first_and_who_gains_are_cut_off_from_all_others() -> None:
    stage = Stage("handover")
    stage.cluster.run(1_000)
    assert not stage.cuts()
    stage.join()
    stage.cluster.run_until(stage.cuts)
    cuts = stage.cuts()
    epochs = [machine.node.membership.epoch for machine in stage.cluster.machines]
    (first,) = [index for index, epoch in enumerate(epochs) if epoch == max(epochs)]
    assert cuts == {pair for pair in cuts if len({first, 3}.intersection(pair)) == 1}
    assert len(cuts) == 2 * len({first, 3}) * (4 - len({first, 3}))
    stage.cluster.run(1_000)
    assert stage.cuts() == cuts
    stage.cluster.run(LASTS_MS)
    assert not stage.cuts()
    stage.come_to_rest()


def test_a_move_is_called_off_once_something_was_pulled_and_goes_on_then() -> None:
    stage = Stage("recall", 20.0)
    stage.join()
    cluster = stage.cluster
    cluster.run_until(lambda: cluster.layout().moves)
    joint = cluster.layout()
    cluster.run_until(lambda: cluster.layout().epoch > joint.epoch)
    assert cluster.layout().course == Course.REST
    assert cluster.layout().table == joint.table
    slowest_ms = max(machine.sync_ms for machine in cluster.machines)[1]
    assert slowest_ms == 2 * SLOW_SYNC_MS
    cluster.run_until(lambda: cluster.layout().moves == joint.moves)
    cluster.run(LASTS_MS)
    assert stage.joining.sync_ms[1] < SLOW_SYNC_MS
    stage.come_to_rest()


def test_who_was_behind_lacks_what_was_written_and_no_hint_brings_it() -> None:
    stage = Stage("behind", copies=3)
    cluster = stage.cluster
    cluster.run(20)
    assert stage.cuts() == {(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)}
    assert asking.must_put(cluster, 1, KEYS[0], b"new").acks == 2
    assert cluster.machines[1].node.hints.total == 1
    cluster.run(LASTS_MS)
    assert not stage.cuts()
    cluster.run_until(cluster.is_connected)
    cluster.run(2_000)
    held = [asking.held(cluster, index, KEYS[0]) for index in range(3)]
    assert [each is not None and each.value for each in held] == [b"v", b"new", b"new"]
