# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas that can talk converge: by hints, by reads (P6, I2, I13, I14, I23)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Effects, GetResult
from quorate.core.values.messages import Mutate
from quorate.core.values.slots import row_of
from quorate.core.values.versions import stamp_of
from quorate.errors import Corrupt
from quorate.sim.cluster import SimCluster
from quorate.sim.machine import Machine
from tests.simulation import asking


def _held(cluster: SimCluster, key: bytes) -> list[bytes | None]:
    """What each replica's disk has of a key."""
    records = [asking.held(cluster, index, key) for index in cluster.replicas(key)]
    return [None if record is None else record.value for record in records]


# --- hints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_write_with_one_replica_down_leaves_a_hint_that_survives_restart(seed: int) -> None:
    """I13: of both, the coordinator and the replica."""
    cluster = SimCluster(seed, 3)
    cluster.kill(2)
    cluster.run(20)
    keys = [b"key%d" % number for number in range(30)]
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"v") for key in keys])
    cluster.run(50)
    cluster.kill(0)
    cluster.run(20)
    cluster.restart(0)
    cluster.run_until(cluster.is_connected)
    assert cluster.machines[0].node.hints.total == 30
    cluster.restart(2)
    cluster.run_until(lambda: not cluster.machines[0].node.hints.total, 5_000)
    assert all(_held(cluster, key) == [b"v"] * 3 for key in keys)
    cluster.run(50)
    assert list(cluster.machines[0].disk.scan_hints(b"", b"\xff" * 17)) == []


def test_a_returning_replica_has_every_key_within_seconds() -> None:
    """A kill and a return under load."""
    cluster = SimCluster(3, 3)
    cluster.kill(1)
    cluster.run(20)
    keys = [b"key%d" % number for number in range(2_000)]
    handles = [asking.put(cluster, number % 2 * 2, key, key) for number, key in enumerate(keys)]
    asking.finish(cluster, *handles)
    cluster.restart(1)
    came_ms = cluster.world.now
    cluster.run_until(lambda: not sum(cluster.machines[i].node.hints.total for i in (0, 2)))
    assert cluster.world.now - came_ms < 2_000
    assert all(asking.held(cluster, 1, key) is not None for key in keys)


def test_hints_never_lower_what_a_replica_holds() -> None:
    """I10, I13."""
    cluster = SimCluster(4, 3)
    asking.split(cluster, [0, 1], [2])
    for wire in cluster.wires.values():
        if wire.is_cut:
            wire.reset()
    cluster.run(50)
    asking.must_put(cluster, 0, b"k", b"hinted")
    cluster.kill(0)
    asking.heal(cluster)
    cluster.run_until(cluster.is_connected)
    newer = asking.must_put(cluster, 1, b"k", b"newer")
    cluster.restart(0)
    cluster.run(5_000)
    assert cluster.machines[0].node.hints.total == 0
    assert _held(cluster, b"k") == [b"newer"] * 3
    record = asking.held(cluster, 2, b"k")
    assert record is not None
    assert record.version == newer.version


def test_a_full_disk_gets_its_hints_when_it_has_room_again() -> None:
    """Later, never lost."""
    cluster = SimCluster(5, 3)
    asking.must_put(cluster, 0, b"before", b"v", w=3)
    cluster.machines[2].disk.is_full = True
    asking.put(cluster, 2, b"fills", b"v")
    keys = [b"key%d" % number for number in range(20)]
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"v") for key in keys])
    cluster.run(10_000)
    assert asking.value(cluster, 2, b"before", r=1) == b"v", "reads go on"
    assert asking.counter(cluster, "hints_replayed") == 0
    cluster.machines[2].disk.is_full = False
    cluster.run_until(lambda: not cluster.machines[0].node.hints.total, 10_000)
    assert all(_held(cluster, key) == [b"v"] * 3 for key in keys)


def test_a_silent_replica_gets_what_it_did_not_answer_as_hints() -> None:
    cluster = SimCluster(6, 3)
    cluster.pause(2)
    keys = [b"key%d" % number for number in range(20)]
    asking.finish(cluster, *[asking.put(cluster, 0, key, b"v") for key in keys])
    cluster.run(60_000)
    cluster.resume(2)
    cluster.run(4_100)
    assert all(_held(cluster, key) == [b"v"] * 3 for key in keys)
    assert cluster.is_connected()
    cluster.run(5_000)
    assert cluster.machines[0].node.hints.total == 0


# --- reads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("coordinator", [0, 2])
def test_a_stale_or_missing_replica_is_repaired_by_a_read(
    old: bytes | None, coordinator: int
) -> None:
    """Before the answer, as R + W > N."""
    cluster = SimCluster(7, 3, hint_bytes_max=0)
    if old is not None:
        asking.must_put(cluster, 0, b"k", old, w=3)
    cluster.kill(2)
    cluster.run(20)
    asking.must_put(cluster, 0, b"k", b"new")
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    cluster.kill(1)
    cluster.run(20)
    result = asking.must_get(cluster, coordinator, b"k")
    assert (result.record and result.record.value, result.repaired) == (b"new", 1)
    held = asking.held(cluster, 2, b"k")
    assert held is not None
    assert held.value == b"new"


def test_a_repair_of_all_replicas_by_a_read_of_all() -> None:
    """I2, I14: and the next read moves nothing."""
    cluster = SimCluster(8, 3, hint_bytes_max=0)
    cluster.kill(1)
    cluster.kill(2)
    cluster.run(20)
    asking.must_put(cluster, 0, b"k", b"v", w=1)
    cluster.restart(1)
    cluster.restart(2)
    cluster.run_until(cluster.is_connected)
    assert asking.must_get(cluster, 1, b"k", r=3).repaired == 2
    cluster.run(100)
    assert _held(cluster, b"k") == [b"v"] * 3
    assert asking.must_get(cluster, 2, b"k", r=3) == GetResult(
        asking.held(cluster, 0, b"k"), answers=3
    )


@pytest.mark.parametrize("seed", range(5))
def test_damaged_records_are_never_served_and_are_repaired_by_reads(seed: int) -> None:
    """I23."""
    cluster = SimCluster(seed, 3)
    keys = [b"key%d" % number for number in range(30)]
    asking.finish(cluster, *[asking.put(cluster, 0, key, key, w=3) for key in keys])
    damaged = cluster.world.random.randrange(3)
    assert all(cluster.rot(damaged, key) for key in keys)
    for index in range(3):
        assert [asking.value(cluster, index, key) for key in keys] == keys
    cluster.run(100)
    assert cluster.machines[damaged].disk.damaged() == []


def test_a_damaged_copy_that_one_sound_copy_cannot_repair_is_written_over() -> None:
    """I23: the third disk is lost. Where the damaged copy held a newer write the sound one does not
    know, so a read fails; who can live with the sound one writes it again."""
    cluster = SimCluster(9, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.kill(2)
    cluster.restart(2, is_empty=True)
    assert cluster.rot(1, b"k")
    cluster.run_until(cluster.is_connected)
    for index in range(3):
        handle = asking.get(cluster, index, b"k")
        asking.finish(cluster, handle)
        assert handle.of(Corrupt).outcome is None
    assert asking.value(cluster, 0, b"k", r=1) == b"v"
    asking.must_put(cluster, 1, b"k", b"v")
    assert [asking.value(cluster, index, b"k") for index in range(3)] == [b"v"] * 3
    assert cluster.machines[1].disk.damaged() == []


# --- clocks ------------------------------------------------------------------------------------


class Stamps:
    """Those that were sent for a row."""

    def __init__(self, row: bytes) -> None:
        self.row = row
        self.stamps: set[int] = set()

    def after_step(self, machine: Machine, effects: Effects) -> None:
        del machine
        for messages in effects.sends.values():
            for message in messages:
                if isinstance(message, Mutate):
                    self.stamps |= {
                        stamp_of(r.version) for row, r in message.items if row == self.row
                    }


def test_equal_timestamps_end_as_one_write_everywhere() -> None:
    """The node's number breaks the tie."""
    equal = 0
    for seed in range(30):
        cluster = SimCluster(seed, 3)
        for index in range(3):
            asking.must_put(cluster, index, b"other", b"v")
        cluster.run(1_500)
        seen = Stamps(row_of(b"k"))
        cluster.observers.append(seen)
        handles = [asking.put(cluster, index, b"k", b"%d" % index) for index in range(3)]
        asking.finish(cluster, *handles)
        equal += len(seen.stamps) < 3
        cluster.run(1_000)
        assert len(set(_held(cluster, b"k"))) == 1
        winner = _held(cluster, b"k")[0]
        assert [asking.value(cluster, index, b"k") for index in range(3)] == [winner] * 3
    assert equal, "no two stamps were equal"


@pytest.mark.parametrize("seed", range(20))
def test_clocks_five_seconds_apart_lose_no_later_write_of_one_client(seed: int) -> None:
    """Through whichever node, with a guard that allows for them."""
    cluster = SimCluster(seed, 4, max_clock_skew_ms=12_000, cache_entries=seed % 2 * 100)
    random = cluster.world.random
    for machine in cluster.machines:
        machine.clock.offset_ms = random.choice((-5_000, 0, 5_000))
    for number in range(15):
        if random.random() < 0.3:
            cluster.machines[random.randrange(4)].clock.offset_ms = random.choice(
                (-5_000, 0, 5_000)
            )
        value = b"%d" % number if random.random() < 0.8 else None
        asking.must_put(cluster, random.randrange(4), b"k", value)
        assert asking.value(cluster, random.randrange(4), b"k") == value


def test_a_node_whose_clock_is_too_far_ahead_harms_nobody_but_itself() -> None:
    """I8: loudly."""
    cluster = SimCluster(11, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.machines[2].clock.offset_ms = 3_600_000
    failed = asking.put(cluster, 2, b"k", b"from the future")
    asking.finish(cluster, failed)
    cluster.run(3_000)
    notes = [note.event for machine in cluster.machines[:2] for note in machine.notes]
    assert notes.count("peer_clock_too_far_ahead") == 2
    for index in (0, 1):
        assert asking.value(cluster, index, b"k") == b"v"
        asking.must_put(cluster, index, b"k", b"v")
    asking.must_put(cluster, 0, b"k", b"again")
    assert asking.value(cluster, 1, b"k") == b"again"
