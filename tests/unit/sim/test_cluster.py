# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults come when they are called, are counted, and end."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Effects, GetResult, PutResult
from quorate.core.values.slots import row_of
from quorate.errors import Corrupt
from quorate.sim.cluster import SimCluster
from quorate.sim.machine import Machine
from quorate.sim.network import SILENCE_MS
from quorate.sim.noise import Noise


def test_a_cluster_is_linked_and_serves_when_it_is_made() -> None:
    cluster = SimCluster(1, 5)
    assert cluster.is_connected()
    cluster.must_put(0, b"k", b"v")
    assert [cluster.value(index, b"k") for index in range(5)] == [b"v"] * 5
    assert cluster.faults == {}
    assert cluster.broken == []


def test_every_fault_is_counted() -> None:
    cluster = SimCluster(1, 3)
    cluster.must_put(0, b"k", b"v", w=3)
    cluster.pause(0)
    cluster.resume(0)
    cluster.split([0], [1, 2])
    cluster.heal()
    cluster.reset(0, 1)
    cluster.forget(1, 0)
    cluster.stall(0, 10)
    cluster.set_disk_full(0, is_full=True)
    cluster.set_disk_full(0, is_full=False)
    cluster.rot(0, b"k")
    cluster.step_clock(0, 10)
    cluster.set_clock_rate(0, 1.1)
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    cluster.kill(1)
    cluster.restart(1, image=cluster.machines[1].image())
    counted = {name: count for name, count in cluster.faults.items() if "batch" not in name}
    assert counted == {
        "pause": 1,
        "cut": 4,
        "reset": 1,
        "half-open": 1,
        "stall": 1,
        "disk full": 1,
        "disk freed": 1,
        "rot": 1,
        "clock step": 1,
        "clock rate": 1,
        "power cut": 2,
        "restart empty": 1,
        "old disk": 1,
        "restart": 1,
    }


def test_observers_see_every_answer_and_every_batch() -> None:
    class Watch:
        def __init__(self) -> None:
            self.answers = 0
            self.stored = 0

        def after_step(self, machine: Machine, effects: Effects) -> None:
            self.answers += len(effects.answers)
            if effects.batch is not None and effects.batch.records:
                self.stored += machine.disk.get(row_of(b"k")) is not None

    cluster = SimCluster(1, 3)
    watch = Watch()
    cluster.observers.append(watch)
    handle = cluster.put(0, b"k", b"v", w=3)
    cluster.finish(handle)
    assert (watch.answers, watch.stored) == (1, 3)


def test_a_split_is_one_until_it_is_healed() -> None:
    cluster = SimCluster(1, 5, write_wait_ms=50, timeout_ms=200)
    cluster.split([0, 1], [2, 3, 4])
    cluster.run(20_000)
    keys = [b"key%d" % number for number in range(20)]
    handles = [cluster.put(0, key, b"v", w=3) for key in keys]
    cluster.finish(*handles)
    assert not any(isinstance(handle.result, PutResult) for handle in handles)
    cluster.heal()
    cluster.run_until(cluster.is_connected)
    handles = [cluster.put(0, key, b"v", w=3) for key in keys]
    cluster.finish(*handles)
    assert all(isinstance(handle.result, PutResult) for handle in handles)


def test_one_direction_can_be_mended_alone() -> None:
    cluster = SimCluster(1, 2)
    cluster.split([0], [1])
    cluster.mend(0, 1)
    assert not cluster.wire(0, 1).is_cut
    assert cluster.wire(1, 0).is_cut


def test_a_machine_that_vanishes_is_found_out_by_its_silence_or_its_return() -> None:
    cluster = SimCluster(1, 3)
    cluster.kill(2, is_silent=True)
    cluster.run(1_000)
    assert cluster.is_up(0, 2), "nobody told node 0"
    cluster.run(SILENCE_MS[1])
    assert not cluster.is_up(0, 2)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    cluster.kill(2, is_silent=True)
    cluster.run(10)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected, 1_000)
    cluster.must_put(0, b"k", b"v", w=3)


def test_rot_is_found_by_the_codec_and_repaired_by_reads() -> None:
    """I23."""
    cluster = SimCluster(1, 3)
    cluster.must_put(0, b"k", b"v", w=3)
    assert cluster.rot(1, b"k")
    assert not cluster.rot(1, b"none")
    with pytest.raises(Corrupt):
        cluster.held(1, b"k")
    assert cluster.value(1, b"k") == b"v"
    cluster.run(100)
    assert cluster.held(1, b"k") is not None


@pytest.mark.parametrize("seed", range(5))
def test_the_protocol_stands_frames_that_are_lost_doubled_reordered_late_and_damaged(
    seed: int,
) -> None:
    cluster = SimCluster(seed, 5, timeout_ms=500, write_wait_ms=300)
    cluster.set_noise(
        Noise(loss=0.05, duplicate=0.1, reorder=0.2, late=0.1, damage=0.02, late_ms=(1e3, 2e4))
    )
    acknowledged: dict[bytes, bytes] = {}
    for number in range(150):
        key = b"key%d" % number
        handle = cluster.put(number % 5, key, b"of " + key)
        cluster.finish(handle)
        if isinstance(handle.result, PutResult):
            acknowledged[key] = b"of " + key
    assert len(acknowledged) > 100
    cluster.set_noise(None)
    cluster.run(30_000)
    for key, value in acknowledged.items():
        assert cluster.value(0, key) == value
    told = {name for name in cluster.faults if name.startswith("frame")}
    assert told >= {"frame lost", "frame duplicated", "frame reordered", "frame late"}
    assert "frame damaged" in told
    assert cluster.broken == []


def test_noise_can_be_limited_to_the_links_of_some_machines() -> None:
    cluster = SimCluster(1, 4)
    cluster.set_noise(Noise(loss=1.0), [3])
    noisy = {str(link) for link in cluster.wires() if link.noise is not None}
    assert noisy == {
        *("n3 -> n0", "n3 -> n1", "n3 -> n2"),
        *("n0 -> n3", "n1 -> n3", "n2 -> n3"),
    }


def test_nodes_of_a_cluster_share_no_record_with_their_disks() -> None:
    """Every record went through the codec."""
    cluster = SimCluster(1, 3, cache_entries=100)
    cluster.must_put(0, b"k", b"some value", w=3)
    first = cluster.held(0, b"k")
    assert first == cluster.held(1, b"k")
    assert first is not cluster.held(1, b"k")
    cached = cluster.must_get(0, b"k", r=1)
    assert cached == GetResult(first, answers=1)
    assert cached.record is not first


def test_the_largest_clock_error_is_known() -> None:
    cluster = SimCluster(1, 3)
    cluster.step_clock(1, -700)
    cluster.step_clock(1, 700)
    assert cluster.worst_clock_ms() == pytest.approx(700, abs=1)


def test_replicas_and_what_they_hold_can_be_asked() -> None:
    cluster = SimCluster(1, 5)
    cluster.must_put(0, b"k", b"v", w=3)
    holders = [m for m, machine in enumerate(cluster.machines) if machine.disk.get(row_of(b"k"))]
    assert sorted(cluster.replicas(b"k")) == holders
    assert len(holders) == 3
