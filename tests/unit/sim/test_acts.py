# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults that overlap are undone when the last of them is over."""

from __future__ import annotations

import pytest

from quorate.sim.acts import Acts
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.noise import Noise
from quorate.sim.plan import Options, draw
from quorate.sim.workload import Clients

PLAN = draw(1, Options(nodes=4))


@pytest.fixture
def acts() -> Acts:
    cluster = SimCluster(1, 4, latency_ms=PLAN.latencies_ms[0])
    clients = Clients(cluster, patience_ms=1_000)
    return Acts(cluster, PLAN, Copies(cluster, [], quorum=2), clients)


def test_a_machine_starts_when_nothing_keeps_it_down(acts: Acts) -> None:
    machine = acts.cluster.machines[0]
    acts.down(0)
    acts.down(0)
    acts.up(0)
    assert not machine.is_running
    acts.start_all()
    assert not machine.is_running
    acts.up(0)
    assert machine.is_running


def test_a_lost_disk_is_found_empty_once(acts: Acts) -> None:
    cluster = acts.cluster
    node_id = cluster.machines[0].settings.node_id
    key = next(b"%d" % n for n in range(99) if 0 in cluster.replicas(b"%d" % n))
    cluster.must_put(0, key, b"v", w=3)
    acts.down(0)
    acts.lose_disk(0)
    assert cluster.held(0, key) is not None
    acts.up(0)
    assert cluster.held(0, key) is None
    assert cluster.machines[0].settings.node_id != node_id
    cluster.run_until(cluster.is_connected)
    cluster.must_get(0, key, r=3)
    cluster.run(100)
    acts.down(0)
    acts.up(0)
    assert cluster.held(0, key) is not None


def test_an_old_disk_is_put_back_once_and_its_loss_is_judged(acts: Acts) -> None:
    cluster = acts.cluster
    key = next(b"%d" % n for n in range(99) if 0 in cluster.replicas(b"%d" % n))
    acts.copies.replicas[key] = cluster.replicas(key)
    image = cluster.machines[0].image()
    cluster.must_put(0, key, b"v", w=3)
    acts.down(0)
    acts.put_back(0, image)
    assert cluster.held(0, key) is not None
    acts.up(0)
    assert cluster.held(0, key) is None
    assert not acts.copies.forgot_ms
    acts.down(cluster.replicas(key)[1])
    acts.lose_disk(cluster.replicas(key)[1])
    acts.up(cluster.replicas(key)[1])
    assert key in acts.copies.forgot_ms
    acts.down(0)
    acts.up(0)
    assert cluster.faults["old disk"] == 1


def test_a_link_is_whole_when_the_last_cut_is_over(acts: Acts) -> None:
    wire = acts.cluster.wire(0, 1)
    acts.cut([(0, 1), (1, 2)])
    acts.cut([(0, 1)])
    acts.mend([(0, 1), (1, 2)])
    assert wire.is_cut
    assert not acts.cluster.wire(1, 2).is_cut
    acts.mend([(0, 1)])
    assert not wire.is_cut


def test_a_pause_is_over_when_the_last_is(acts: Acts) -> None:
    acts.pause(1)
    acts.pause(1)
    acts.resume(1)
    assert acts.cluster.machines[1].is_paused
    acts.resume(1)
    assert not acts.cluster.machines[1].is_paused


def test_a_full_disk_stays_full_through_a_restart(acts: Acts) -> None:
    acts.fill(2)
    acts.fill(2)
    acts.down(2)
    acts.lose_disk(2)
    acts.up(2)
    acts.free(2)
    assert acts.cluster.machines[2].disk.is_full
    acts.free(2)
    assert not acts.cluster.machines[2].disk.is_full


def test_a_stalled_engine_takes_batches_when_the_last_stall_is_over(acts: Acts) -> None:
    acts.jam(2)
    acts.jam(2)
    acts.clear(2)
    assert acts.cluster.machines[2].disk.is_busy
    acts.clear(2)
    assert not acts.cluster.machines[2].disk.is_busy


def test_the_slowest_counts_and_what_was_usual_comes_back(acts: Acts) -> None:
    wire, machine = acts.cluster.wire(0, 1), acts.cluster.machines[0]
    acts.slow([(0, 1)], 500.0)
    acts.slow([(0, 1)], 20.0)
    acts.drag(0, 30.0)
    acts.drag(0, 5.0)
    assert (wire.latency_ms, machine.sync_ms) == ((500.0,), (30.0, 60.0))
    acts.quicken([(0, 1)], 500.0)
    acts.hurry(0, 30.0)
    assert (wire.latency_ms, machine.sync_ms) == ((20.0,), (5.0, 10.0))
    acts.quicken([(0, 1)], 20.0)
    acts.hurry(0, 5.0)
    assert (wire.latency_ms, machine.sync_ms) == (PLAN.latencies_ms[1], PLAN.syncs_ms[0])


def test_noise_adds_up_and_ends(acts: Acts) -> None:
    wire = acts.cluster.wire(0, 1)
    loss, more, late = Noise(loss=0.1), Noise(loss=0.3), Noise(late=0.2)
    for noise in (loss, more, late):
        acts.disturb([(0, 1)], noise)
    assert wire.noise == Noise(loss=0.3, late=0.2)
    acts.calm([(0, 1)], more)
    assert wire.noise == Noise(loss=0.1, late=0.2)
    acts.calm([(0, 1)], loss)
    acts.calm([(0, 1)], late)
    assert wire.noise is None


def test_clocks_are_set_right_whatever_was_done_to_them(acts: Acts) -> None:
    acts.step_clock(0, 1.5)
    acts.cluster.set_clock_rate(1, 0.5)
    acts.cluster.run(1_000)
    assert abs(acts.cluster.machines[0].clock.error_ms) == pytest.approx(1.5 * acts.clock_ms, abs=2)
    assert abs(acts.cluster.machines[1].clock.error_ms) > 400
    acts.correct_clocks()
    acts.cluster.run(1_000)
    assert max(abs(machine.clock.error_ms) for machine in acts.cluster.machines) < 2


def test_directions_are_named_both_ways(acts: Acts) -> None:
    assert sorted(acts.across([0])) == [(0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0)]
    assert (0, 1) not in acts.across([0, 1])
    assert (0, 1) in acts.around([0, 1])
    assert (2, 3) not in acts.around([0, 1])
