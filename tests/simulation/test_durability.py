# SPDX-License-Identifier: GPL-3.0-or-later
"""What was answered "ok" is there for ever (P1, I1, I7, I22)."""

from __future__ import annotations

from functools import partial

import pytest

from quorate.core.values.events import PutResult
from quorate.core.values.record import is_live
from quorate.core.values.slots import row_of
from quorate.core.values.versions import stamp_of
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from tests.simulation import asking
from tests.simulation.asking import Handle

SEEDS = 100
SEEDS_PER_TEST = 25


def _load(cluster: SimCluster, keys: int) -> dict[bytes, Handle]:
    """Writes of keys written once, begun over the next 30 ms through nodes that run."""
    random = cluster.world.random
    handles: dict[bytes, Handle] = {}

    def begin(key: bytes) -> None:
        running = [index for index, machine in enumerate(cluster.machines) if machine.is_running]
        if running:
            handles[key] = asking.put(cluster, random.choice(running), key, b"value of " + key)

    for number in range(keys):
        cluster.world.after(random.uniform(0, 30), partial(begin, b"key%d" % number))
    return handles


def _acknowledged(handles: dict[bytes, Handle]) -> list[bytes]:
    return [key for key, handle in handles.items() if isinstance(handle.result, PutResult)]


def _power_cut(seed: int) -> tuple[int, int]:
    """All nodes lose power at once, in the middle of writes; how many were answered and read."""
    cluster = SimCluster(seed, 3 + seed % 3)
    handles = _load(cluster, 60)
    cluster.run(cluster.world.random.uniform(5, 40))
    for index in range(len(cluster.machines)):
        cluster.kill(index)
    acknowledged = _acknowledged(handles)
    for index in range(len(cluster.machines)):
        cluster.restart(index)
    cluster.run_until(cluster.is_connected)
    for key in acknowledged:
        assert asking.value(cluster, 0, key) == b"value of " + key, f"seed {seed}: {key!r} is lost"
    return len(acknowledged), len(handles)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_a_power_cut_of_all_nodes_loses_no_acknowledged_write(first: int) -> None:
    """P1, I1, I22."""
    counts = [_power_cut(seed) for seed in range(first, first + SEEDS_PER_TEST)]
    acknowledged, begun = (sum(each) for each in zip(*counts, strict=True))
    assert 0 < acknowledged < begun, "the cut must come in the middle"


@pytest.mark.parametrize("seed", range(20))
def test_nodes_that_die_and_return_one_after_another_lose_no_acknowledged_write(seed: int) -> None:
    """I1: at most one is away at a time."""
    cluster = SimCluster(seed, 4)
    handles = _load(cluster, 80)
    random = cluster.world.random
    for _ in range(6):
        victim = random.randrange(4)
        cluster.kill(victim)
        cluster.run(random.uniform(1, 20))
        cluster.restart(victim)
        cluster.run_until(cluster.is_connected)
    cluster.run(10_000)
    for key in _acknowledged(handles):
        assert asking.value(cluster, random.randrange(4), key) == b"value of " + key, (
            f"{key!r} is lost"
        )


@pytest.mark.parametrize("seed", range(10))
def test_an_acknowledged_write_is_on_w_disks_when_it_is_answered(seed: int) -> None:
    """I7: durable there, not only written."""
    cluster = SimCluster(seed, 3)
    random = cluster.world.random
    for number in range(20):
        w = random.randint(1, 3)
        key = b"key%d" % number
        handle = asking.put(cluster, random.randrange(3), key, b"v", w=w)
        asking.finish(cluster, handle)
        holders = [
            machine for machine in cluster.machines if machine.disk.durable(row_of(key)) is not None
        ]
        assert len(holders) >= handle.of(PutResult).acks >= w


@pytest.mark.parametrize("seed", range(10))
def test_a_write_that_was_refused_is_never_read(seed: int) -> None:
    """I5."""
    cluster = SimCluster(seed, 3, write_wait_ms=50)
    asking.split(cluster, [0], [1, 2])
    for wire in cluster.wires.values():
        if wire.is_cut:
            wire.reset()
    cluster.run(50)
    refused = asking.put(cluster, 0, b"k", b"refused")
    asking.finish(cluster, refused)
    assert not isinstance(refused.result, PutResult)
    asking.heal(cluster)
    cluster.run_until(cluster.is_connected)
    cluster.run(5_000)
    assert all(asking.held(cluster, index, b"k") is None for index in range(3))


@pytest.mark.parametrize("seed", range(10))
def test_deleted_stays_deleted_through_hints_and_restarts(seed: int) -> None:
    """I11, P5."""
    cluster = SimCluster(seed, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.kill(2)
    cluster.run(20)
    asking.must_put(cluster, 1, b"k", None)
    cluster.kill(0)
    cluster.restart(2)
    cluster.restart(0)
    cluster.run_until(cluster.is_connected)
    for _ in range(3):
        for index in range(3):
            record = asking.must_get(cluster, index, b"k").record
            assert not is_live(record, wall_ms=EPOCH_MS)
        cluster.run(2_000)


@pytest.mark.parametrize("seed", range(10))
def test_an_old_disk_and_a_clock_set_back_give_no_version_out_again(seed: int) -> None:
    """The ceiling of the clock went back too, but peers know what was stamped since."""
    cluster = SimCluster(seed, 3)
    image = cluster.machines[0].image()
    cluster.step_clock(0, 500)
    before = [asking.must_put(cluster, 0, b"k", b"%d" % number, w=3) for number in range(5)]
    cluster.kill(0)
    cluster.step_clock(0, -500)
    cluster.restart(0, image=image)
    assert asking.held(cluster, 0, b"k") is None
    cluster.run_until(cluster.is_connected)
    after = asking.must_put(cluster, 0, b"k", b"after")
    assert after.version > max(result.version for result in before)
    assert [asking.value(cluster, index, b"k") for index in range(3)] == [b"after"] * 3


@pytest.mark.parametrize("seed", range(10))
def test_an_old_disk_of_a_moment_ago_gives_no_stamp_out_again(seed: int) -> None:
    """Who saw its last stamp is silent, and the clock is where it was: its ceiling, which what it
    kept of others has raised, is above that."""
    cluster = SimCluster(seed, 3)
    cluster.step_clock(1, 800)
    asking.must_put(cluster, 1, b"k", b"base", w=3)
    cluster.run(100)
    image = cluster.machines[0].image()
    asking.split(cluster, [0, 1], [2])
    first = asking.must_put(cluster, 0, b"k", b"first")
    cluster.kill(0)
    asking.heal(cluster)
    asking.split(cluster, [0, 2], [1])
    cluster.restart(0, image=image)
    again = asking.put(cluster, 0, b"k", b"again")
    asking.finish(cluster, again)
    result = again.of(PutResult)
    assert stamp_of(result.version) > stamp_of(first.version)
    asking.heal(cluster)
    cluster.run_until(cluster.is_connected)
    cluster.run(5_000)
    assert len({asking.value(cluster, index, b"k", r=3) for index in range(3)}) == 1


def test_an_expired_value_is_gone_for_every_replica_at_the_same_instant() -> None:
    """I16: the instant is absolute, and travels with the record."""
    cluster = SimCluster(1, 3)
    expires_ms = EPOCH_MS + 5_000
    asking.must_put(cluster, 0, b"k", b"v", w=3, expires_ms=expires_ms)
    records = [asking.held(cluster, index, b"k") for index in range(3)]
    assert {record and record.expires_ms for record in records} == {expires_ms}
    cluster.kill(1)
    cluster.restart(1, is_empty=True)
    cluster.run_until(cluster.is_connected)
    assert asking.must_get(cluster, 1, b"k").record == records[0], "repair carries it along"
    assert is_live(records[0], wall_ms=expires_ms - 1)
    assert not is_live(records[0], wall_ms=expires_ms)
