# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults come when they are called, are counted, and end."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Edited, Effects, GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.errors import Corrupt
from quorate.sim.cluster import SimCluster, url_of
from quorate.sim.machine import Machine
from quorate.sim.network import SILENCE_MS
from quorate.sim.noise import Noise
from quorate.sim.twins import twin_of
from tests.simulation import asking


def test_a_cluster_is_linked_and_serves_when_it_is_made() -> None:
    cluster = SimCluster(1, 5)
    assert cluster.is_connected()
    asking.must_put(cluster, 0, b"k", b"v")
    assert [asking.value(cluster, index, b"k") for index in range(5)] == [b"v"] * 5
    assert cluster.recorder.faults == {}
    assert cluster.broken == []


def test_every_fault_is_counted() -> None:
    cluster = SimCluster(1, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.pause(0)
    cluster.resume(0)
    asking.split(cluster, [0], [1, 2])
    asking.heal(cluster)
    cluster.reset(0, 1)
    cluster.wire(1, 0).forget()
    cluster.machines[0].stall(10)
    cluster.rot(0, b"k")
    cluster.step_clock(0, 10)
    cluster.set_clock_rate(0, 1.1)
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    cluster.kill(1)
    cluster.restart(1, image=cluster.machines[1].image())
    counted = {
        name: count for name, count in cluster.recorder.faults.items() if "batch" not in name
    }
    assert counted == {
        "pause": 1,
        "cut": 4,
        "reset": 1,
        "half-open": 1,
        "stall": 1,
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
    handle = asking.put(cluster, 0, b"k", b"v", w=3)
    asking.finish(cluster, handle)
    assert (watch.answers, watch.stored) == (1, 3)


def test_observers_do_not_see_what_a_twin_does() -> None:
    class Seen:
        def __init__(self) -> None:
            self.machines: set[Machine] = set()

        def after_step(self, machine: Machine, effects: Effects) -> None:
            del effects
            self.machines.add(machine)

    cluster = SimCluster(1, 3)
    seen = Seen()
    cluster.observers.append(seen)
    twin = twin_of(cluster, 1)
    handle = asking.put_through(twin, b"k", b"v", w=1)
    cluster.run(10_000)
    assert handle.result is not None, "it took a step"
    assert seen.machines == set(cluster.machines)


def test_a_split_is_one_until_it_is_healed() -> None:
    cluster = SimCluster(1, 5, write_wait_ms=50, timeout_ms=200)
    asking.split(cluster, [0, 1], [2, 3, 4])
    cluster.run(20_000)
    keys = [b"key%d" % number for number in range(20)]
    handles = [asking.put(cluster, 0, key, b"v", w=3) for key in keys]
    asking.finish(cluster, *handles)
    assert not any(isinstance(handle.result, PutResult) for handle in handles)
    asking.heal(cluster)
    cluster.run_until(cluster.is_connected)
    handles = [asking.put(cluster, 0, key, b"v", w=3) for key in keys]
    asking.finish(cluster, *handles)
    assert all(isinstance(handle.result, PutResult) for handle in handles)


def test_one_direction_can_be_mended_alone() -> None:
    cluster = SimCluster(1, 2)
    asking.split(cluster, [0], [1])
    cluster.mend(0, 1)
    assert not cluster.wire(0, 1).is_cut
    assert cluster.wire(1, 0).is_cut


def test_a_machine_that_vanishes_is_found_out_by_its_silence_or_its_return() -> None:
    cluster = SimCluster(1, 3)
    cluster.kill(2, is_silent=True)
    cluster.run(1_000)
    assert cluster.machines[0].driver.links.links[url_of(2)].process, "nobody told node 0"
    cluster.run(SILENCE_MS[1])
    assert not cluster.machines[0].driver.links.links[url_of(2)].process
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    cluster.kill(2, is_silent=True)
    cluster.run(10)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected, 1_000)
    asking.must_put(cluster, 0, b"k", b"v", w=3)


def test_votes_that_rot_are_noticed_and_the_next_version_is_voted_on_again() -> None:
    """An increment goes on by the others meanwhile."""
    cluster = SimCluster(1, 3)

    def add(index: int) -> None:
        asking.finish(cluster, handle := asking.update(cluster, index, b"k", _one_longer))
        handle.of(UpdateResult)
        cluster.run(100)

    add(0)
    assert cluster.rot_votes(1, b"k")
    assert not cluster.rot_votes(1, b"none")
    with pytest.raises(Corrupt):
        cluster.machines[1].disk.get_votes(row_of(b"k"))
    add(0)
    assert cluster.machines[1].disk.get_votes(row_of(b"k"))
    cluster.kill(2)
    add(1)
    assert asking.value(cluster, 0, b"k") == b"+++"


def _one_longer(found: Record | None) -> Edited:
    return Edited(((found and found.value) or b"") + b"+")


def test_rot_is_found_by_the_codec_and_repaired_by_reads() -> None:
    """I23."""
    cluster = SimCluster(1, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    assert cluster.rot(1, b"k")
    assert not cluster.rot(1, b"none")
    with pytest.raises(Corrupt):
        asking.held(cluster, 1, b"k")
    assert asking.value(cluster, 1, b"k") == b"v"
    cluster.run(100)
    assert asking.held(cluster, 1, b"k") is not None


@pytest.mark.parametrize("seed", range(5))
def test_the_protocol_stands_frames_that_are_lost_doubled_reordered_late_and_damaged(
    seed: int,
) -> None:
    cluster = SimCluster(seed, 5, timeout_ms=500, write_wait_ms=300)
    noise = Noise(loss=0.05, duplicate=0.1, reorder=0.2, late=0.1, damage=0.02, late_ms=(1e3, 2e4))
    for wire in cluster.wires.values():
        wire.noise = noise
    acknowledged: dict[bytes, bytes] = {}
    for number in range(150):
        key = b"key%d" % number
        handle = asking.put(cluster, number % 5, key, b"of " + key)
        asking.finish(cluster, handle)
        if isinstance(handle.result, PutResult):
            acknowledged[key] = b"of " + key
    assert len(acknowledged) > 100
    for wire in cluster.wires.values():
        wire.noise = None
    cluster.run(30_000)
    for key, value in acknowledged.items():
        assert asking.value(cluster, 0, key) == value
    told = {name for name in cluster.recorder.faults if name.startswith("frame")}
    assert told >= {"frame lost", "frame duplicated", "frame reordered", "frame late"}
    assert "frame damaged" in told
    assert cluster.broken == []


def test_nodes_of_a_cluster_share_no_record_with_their_disks() -> None:
    """Every record went through the codec."""
    cluster = SimCluster(1, 3, cache_entries=100)
    asking.must_put(cluster, 0, b"k", b"some value", w=3)
    first = asking.held(cluster, 0, b"k")
    assert first == asking.held(cluster, 1, b"k")
    assert first is not asking.held(cluster, 1, b"k")
    cached = asking.must_get(cluster, 0, b"k", r=1)
    assert cached == GetResult(first, answers=1)
    assert cached.record is not first


def test_the_largest_clock_error_is_known() -> None:
    cluster = SimCluster(1, 3)
    cluster.step_clock(1, -700)
    cluster.step_clock(1, 700)
    assert max(machine.clock.worst_ms for machine in cluster.machines) == pytest.approx(700, abs=1)


def test_replicas_and_what_they_hold_can_be_asked() -> None:
    cluster = SimCluster(1, 5)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    holders = [m for m, machine in enumerate(cluster.machines) if machine.disk.get(row_of(b"k"))]
    assert sorted(cluster.replicas(b"k")) == holders
    assert len(holders) == 3
