# SPDX-License-Identifier: GPL-3.0-or-later
"""A process lives, stops and dies as the driver's does."""

from __future__ import annotations

import pytest

from quorate.core.node import CEILING_META
from quorate.core.values.events import (
    Durable,
    Effects,
    Get,
    GetResult,
    Put,
    PutResult,
    StorageState,
)
from quorate.core.values.slots import row_of
from quorate.errors import DiskFull, Outcome
from quorate.sim.cluster import SimCluster, url_of
from quorate.sim.machine import START_AGAIN_MS, Machine
from quorate.sim.trace import Trace
from tests.simulation import asking
from tests.simulation.asking import Handle


class Steps:
    """The events of each step."""

    def __init__(self) -> None:
        self.all: list[tuple[str, list[str]]] = []

    def after_step(self, machine: Machine, effects: Effects) -> None:
        del effects
        self.all.append((machine.name, [type(event).__name__ for event in machine.events]))


def test_all_that_comes_within_a_turn_is_one_step() -> None:
    cluster = SimCluster(1, 1)
    asking.must_put(cluster, 0, b"first", b"v")
    steps = Steps()
    cluster.observers.append(steps)
    handles = [
        asking.put(cluster, 0, b"a", b"v"),
        asking.get(cluster, 0, b"b"),
        asking.put(cluster, 0, b"c", b"v"),
    ]
    asking.finish(cluster, *handles)
    assert steps.all[0] == ("n0", ["Put", "Get", "Put"])


def test_a_disk_without_sync_makes_a_second_step_in_the_same_turn() -> None:
    """As `runtime.driver` does."""
    cluster = SimCluster(1, 1, needs_sync=False)
    asking.must_put(cluster, 0, b"first", b"v")
    steps = Steps()
    cluster.observers.append(steps)
    handle = asking.put(cluster, 0, b"k", b"v")
    asking.finish(cluster, handle)
    assert steps.all == [("n0", ["Put"]), ("n0", ["Durable"])]
    assert handle.took_ms < 0.3


def test_what_both_steps_of_a_turn_say_leaves_together() -> None:
    cluster = SimCluster(1, 3, needs_sync=False)
    handles = [asking.put(cluster, 0, b"key%d" % number, b"v", w=3) for number in range(20)]
    asking.finish(cluster, *handles)
    assert all(handle.of(PutResult).acks == 3 for handle in handles)


def test_a_pause_stalls_everything_and_nothing_is_lost_by_it() -> None:
    cluster = SimCluster(1, 3)
    steps = Steps()
    handle = asking.put(cluster, 0, b"k", b"v", w=3)
    cluster.pause(2)
    cluster.observers.append(steps)
    cluster.run(3_000)
    assert "n2" not in [name for name, _ in steps.all]
    assert handle.result is None
    cluster.resume(2)
    cluster.run(100)
    assert "n2" in [name for name, _ in steps.all]
    assert asking.held(cluster, 2, b"k") is not None
    assert cluster.machines[2].life == 1


def test_what_was_due_in_a_pause_is_done_after_it_and_not_in_another_life() -> None:
    cluster = SimCluster(1, 3)
    done: list[str] = []
    cluster.machines[0].later(10, lambda: done.append("of node 0"))
    cluster.machines[1].later(10, lambda: done.append("of node 1"))
    cluster.pause(0)
    cluster.pause(1)
    cluster.run(100)
    assert done == []
    cluster.kill(1)
    cluster.restart(1)
    cluster.resume(0)
    cluster.run(100)
    assert done == ["of node 0"]


def test_a_node_that_raises_ends_and_is_noted() -> None:
    cluster = SimCluster(1, 3, is_tolerant=True)
    cluster.machines[1].receive(Durable(99))
    cluster.run(10)
    assert not cluster.machines[1].is_running
    (told,) = cluster.broken
    assert "n1" in told
    assert "durable mark 99 out of order" in told
    cluster.restart(1)
    cluster.run_until(cluster.is_connected)


def test_a_node_that_raises_stops_a_run_that_does_not_expect_it() -> None:
    cluster = SimCluster(1, 3)
    cluster.machines[1].receive(Durable(99))
    with pytest.raises(AssertionError, match="out of order"):
        cluster.run(10)


def test_a_process_that_is_killed_leaves_what_it_wrote_to_the_kernel() -> None:
    cluster = SimCluster(1, 1)
    asking.must_put(cluster, 0, b"first", b"v")
    cluster.machines[0].stall(1_000)
    asking.put(cluster, 0, b"k", b"v")
    cluster.run(10)
    cluster.kill(0, is_power_cut=False)
    disk = cluster.machines[0].disk
    assert disk.durable(row_of(b"k")) is None
    cluster.restart(0)
    assert disk.durable(row_of(b"k")) is not None
    assert asking.value(cluster, 0, b"k") == b"v"


def test_a_batch_that_ends_the_process_is_seen_and_its_answers_are_out() -> None:
    """As `runtime.driver` tells before it stores."""
    cluster = SimCluster(1, 1)
    asking.must_put(cluster, 0, b"k", b"v")
    ends: list[bool] = []

    class Ends:
        def after_step(self, machine: Machine, effects: Effects) -> None:
            del effects
            ends.append(machine.is_running)

    cluster.observers.append(Ends())
    cluster.machines[0].disk.is_broken = True
    read, write = asking.get(cluster, 0, b"k"), asking.put(cluster, 0, b"k", b"w")
    cluster.run(10)
    assert ends == [False]
    assert read.of(GetResult).record is not None
    assert write.result is None


def test_a_second_answer_is_noted() -> None:
    cluster = SimCluster(1, 1, is_tolerant=True)
    handle = asking.put(cluster, 0, b"k", b"v")
    cluster.machines[0].receive(Get(handle, b"k"))
    cluster.run(100)
    assert "answered twice" in cluster.broken[0]


def test_a_failed_sync_ends_the_process_and_its_links() -> None:
    cluster = SimCluster(1, 3)
    cluster.machines[1].fail_sync()
    handle = asking.put(cluster, 1, b"k", b"v", w=3)
    cluster.run(100)
    assert handle.result is None
    assert not cluster.machines[1].is_running
    assert not cluster.machines[0].driver.links.links[url_of(1)].process
    assert cluster.recorder.faults["ended"] == 1
    cluster.restart(1)
    cluster.run_until(cluster.is_connected)
    asking.must_put(cluster, 1, b"k", b"v", w=3)


def test_an_engine_that_fails_for_good_ends_the_process() -> None:
    cluster = SimCluster(1, 3)
    cluster.machines[1].disk.is_broken = True
    asking.put(cluster, 0, b"k", b"v")
    cluster.run(100)
    assert not cluster.machines[1].is_running


def test_a_full_disk_refuses_writes_and_takes_them_when_it_has_room() -> None:
    cluster = SimCluster(1, 1, write_wait_ms=100)
    asking.must_put(cluster, 0, b"k", b"v")
    cluster.machines[0].disk.is_full = True
    asking.put(cluster, 0, b"notices", b"v")
    cluster.run(10)
    handle = asking.put(cluster, 0, b"k", b"w")
    asking.finish(cluster, handle)
    error = handle.of(DiskFull)
    assert error.outcome is Outcome.NOT_APPLIED
    assert asking.value(cluster, 0, b"k") == b"v"
    cluster.machines[0].disk.is_full = False
    cluster.run(1_000)
    asking.must_put(cluster, 0, b"k", b"x")


def test_a_stalled_disk_confirms_nothing_until_it_goes_on() -> None:
    cluster = SimCluster(1, 1)
    asking.must_put(cluster, 0, b"first", b"v")
    cluster.machines[0].stall(2_000)
    handle = asking.put(cluster, 0, b"k", b"v")
    cluster.run(1_900)
    assert handle.result is None
    asking.finish(cluster, handle)
    assert 2_000 <= handle.took_ms < 2_010


def test_a_sync_covers_what_was_written_before_it_began_and_nothing_later() -> None:
    cluster = SimCluster(1, 1)
    asking.must_put(cluster, 0, b"first", b"v")
    machine = cluster.machines[0]
    machine.sync_ms = (10.0, 10.0)
    first = asking.put(cluster, 0, b"first", b"v")
    cluster.run(5)
    second = asking.put(cluster, 0, b"second", b"v")
    asking.finish(cluster, first)
    assert machine.disk.durable(row_of(b"first")) is not None
    assert machine.disk.durable(row_of(b"second")) is None
    asking.finish(cluster, second)
    assert second.took_ms >= 14
    assert machine.disk.durable(row_of(b"second")) is not None


@pytest.mark.parametrize(("stall_ms", "told"), [(4_000, []), (6_000, ["storage_busy", ""])])
def test_a_stall_that_begins_during_a_sync_is_told_when_it_lasts_too_long(
    stall_ms: int, told: list[str]
) -> None:
    """Longer than a request may take: 5 s."""
    cluster = SimCluster(1, 1)
    asking.must_put(cluster, 0, b"first", b"v")
    machine = cluster.machines[0]
    codes: list[str] = []

    class States:
        def after_step(self, machine: Machine, effects: Effects) -> None:
            del effects
            codes.extend(each.code for each in machine.events if isinstance(each, StorageState))

    cluster.observers.append(States())
    machine.sync_ms = (10.0, 10.0)
    asking.put(cluster, 0, b"k", b"v")
    cluster.run(5)
    cluster.machines[0].stall(stall_ms)
    cluster.run(4_900)
    assert codes == []
    cluster.run(1_000)
    assert codes == told[:1]
    cluster.run(1_000)
    assert codes == told
    assert machine.disk.durable(row_of(b"k")) is not None


def test_a_node_whose_clock_cannot_be_right_is_started_again_later() -> None:
    lines: list[str] = []
    cluster = SimCluster(1, 1, trace=Trace(lines.append))
    asking.must_put(cluster, 0, b"k", b"v")
    cluster.kill(0)
    cluster.step_clock(0, -3_600_000)
    cluster.restart(0)
    cluster.run(START_AGAIN_MS * 2.5)
    machine = cluster.machines[0]
    assert not machine.is_running
    told = [line for line in lines if "start refused" in line]
    assert ["clock" in line for line in told] == [True] * 3
    assert cluster.recorder.faults["start refused"] == 3
    cluster.step_clock(0, 3_600_000)
    cluster.run(START_AGAIN_MS)
    assert machine.is_running


def test_a_restarted_node_finds_what_was_durable_and_no_life_shares_the_draws_of_another() -> None:
    cluster = SimCluster(1, 1)
    result = asking.must_put(cluster, 0, b"k", b"v")
    draws = {cluster.machines[0].node.parts.random.random()}
    for _ in range(3):
        cluster.kill(0)
        cluster.restart(0)
        cluster.run(10)
        record = asking.must_get(cluster, 0, b"k").record
        assert record is not None
        assert record.version == result.version
        draws.add(cluster.machines[0].node.parts.random.random())
    assert len(draws) == 4


def test_a_wiped_machine_comes_back_as_another_node() -> None:
    """The id is the data directory's (`host.identity`)."""
    cluster = SimCluster(1, 3)
    asking.must_put(cluster, 0, b"k", b"v", w=3)
    cluster.kill(1)
    cluster.restart(1, is_empty=True)
    cluster.run_until(cluster.is_connected)
    assert asking.held(cluster, 1, b"k") is None
    assert len({machine.settings.node_id for machine in cluster.machines}) == 3
    assert cluster.machines[1].settings.node_id != 2


def test_a_machine_with_an_old_disk_is_the_node_of_then_with_its_copies_and_hints() -> None:
    cluster = SimCluster(1, 3)
    machine = cluster.machines[1]
    cluster.kill(2)
    asking.must_put(cluster, 1, b"old", b"v")
    cluster.run(100)
    image = machine.image()
    ceiling = machine.disk.get_meta(CEILING_META)
    cluster.restart(2)
    cluster.run(3_000)
    asking.must_put(cluster, 1, b"new", b"v", w=3)
    assert asking.counter(cluster, "hints_replayed") == 1
    assert machine.disk.get_meta(CEILING_META) != ceiling
    cluster.kill(1)
    lost = machine.disk
    cluster.restart(1, image=image)
    assert machine.lost_disks == [lost]
    assert machine.disk.get_meta(CEILING_META) == ceiling
    assert machine.settings.node_id == 2
    assert cluster.machines[1].node.hints.total == 1
    held = [asking.held(cluster, 1, key) is not None for key in (b"old", b"new")]
    assert held == [True, False]
    cluster.run_until(lambda: not cluster.machines[1].node.hints.total)
    assert asking.value(cluster, 1, b"new", r=3) == b"v"


def test_an_old_disk_of_a_machine_that_was_wiped_since_brings_its_id_back() -> None:
    cluster = SimCluster(1, 3)
    image = cluster.machines[1].image()
    cluster.kill(1)
    cluster.restart(1, is_empty=True)
    cluster.kill(1)
    cluster.restart(1, image=image)
    assert cluster.machines[1].settings.node_id == 2


@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_timers_run_by_the_clock_of_their_machine(rate: float) -> None:
    """A time-out of a second, on a clock that is not right."""
    cluster = SimCluster(1, 3)
    asking.must_put(cluster, 0, b"first", b"v")
    cluster.set_clock_rate(0, rate)
    cluster.pause(1)
    cluster.pause(2)
    handle = asking.put(cluster, 0, b"k", b"v", timeout_ms=1_000)
    asking.finish(cluster, handle)
    assert handle.took_ms == pytest.approx(1_000 / rate, rel=0.02)


def test_a_dead_machine_hears_nothing() -> None:
    cluster = SimCluster(1, 3)
    cluster.kill(0)
    machine = cluster.machines[0]
    handle = Handle(cluster.world)
    machine.receive(Put(handle, b"k", b"v"))
    cluster.restart(0)
    cluster.run(1_000)
    assert handle.result is None
