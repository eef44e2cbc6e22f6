# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault does what its name says, and is over when it ends."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Edited, Effects, PutResult
from quorate.core.values.messages import Message
from quorate.core.values.slots import row_of
from quorate.sim import faults
from quorate.sim.acts import Acts
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.draw import Options, draw
from quorate.sim.faults import FAULTS, Nemesis
from quorate.sim.history import Kind
from quorate.sim.machine import Machine
from quorate.sim.plan import Fault
from quorate.sim.workload import Clients
from tests.simulation import asking

KEYS = [b"key%d" % number for number in range(8)]
PLAN = draw(1, Options(nodes=5, replication=3))
LASTS_MS = 300.0


class Stage:
    """A cluster of five with some keys, and a nemesis."""

    def __init__(self) -> None:
        self.cluster = SimCluster(1, 5, max_clock_skew_ms=PLAN.settings["max_clock_skew_ms"])
        for key in KEYS:
            asking.must_put(self.cluster, 0, key, b"v", w=3)
        self.cluster.run(100)
        self.clients = Clients(self.cluster, patience_ms=1_000)
        copies = Copies(self.cluster, PLAN.keys() + KEYS, quorum=2, w=2)
        self.acts = Acts(self.cluster, PLAN, copies, self.clients)
        self.nemesis = Nemesis(self.acts)

    def begin(self, name: str, *nodes: int, amount: float = 0.0) -> None:
        """Have a fault begin now."""
        self.nemesis.schedule([Fault(name, 0.0, LASTS_MS, nodes, amount)])
        self.cluster.run(1)

    def end(self) -> None:
        """Wait until it is over, and the nodes are together again."""
        self.cluster.run(LASTS_MS)
        self.cluster.run_until(self.cluster.is_connected, 30_000)

    def cuts(self) -> set[tuple[int, int]]:
        """The directions in which nothing goes through."""
        pairs = [(a, b) for a in range(5) for b in range(5) if a != b]
        return {pair for pair in pairs if self.cluster.wire(*pair).is_cut}

    def runs(self, index: int) -> bool:
        """Whether a node runs on a machine."""
        return self.cluster.machines[index].is_running

    def load(self) -> None:
        """Write and read for as long as a fault lasts, through every node that runs."""
        for _ in range(30):
            for index, machine in enumerate(self.cluster.machines):
                if machine.is_running:
                    asking.put(self.cluster, index, KEYS[0], b"w")
                    asking.get(self.cluster, index, KEYS[1])
            self.cluster.run(10)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("name", FAULTS)
def test_after_any_fault_the_cluster_is_what_it_was(stage: Stage, name: str) -> None:
    shape = FAULTS[name]
    nodes = range(max(shape.nodes) or 5)
    stage.begin(name, *nodes, amount=max(shape.amounts))
    stage.load()
    stage.nemesis.heal()
    stage.acts.start_all()
    stage.acts.come()
    stage.acts.correct_clocks()
    stage.end()
    cluster = stage.cluster
    # Longer than the largest step: then every clock has caught up.
    cluster.run(15_000)
    assert stage.nemesis.injected == {name: 1}
    assert not stage.cuts()
    for machine in cluster.machines:
        assert machine.is_reading
        assert not machine.disk.is_full
        assert not machine.disk.is_busy
        assert abs(machine.clock.error_ms) < 2
    for link in cluster.wires.values():
        assert link.noise is None
        assert link.bytes_per_ms == 0
    for index in range(5):
        assert asking.must_put(cluster, index, KEYS[2], b"after").acks >= 2


@pytest.mark.parametrize("name", ["kill", "torn", "wipe"])
def test_processes_die_and_come_back(stage: Stage, name: str) -> None:
    stage.begin(name, 1)
    assert not stage.runs(1)
    stage.end()
    assert stage.runs(1)


def test_a_machine_works_on_and_comes_back_with_the_disk_that_it_had(stage: Stage) -> None:
    stage.begin("rollback", 0)
    assert stage.runs(0)
    cluster = stage.cluster
    held = stage.acts.copies.held(0)
    for key in KEYS:
        asking.must_put(cluster, 0, key, b"since", w=3)
    assert stage.acts.copies.held(0) != held
    stage.nemesis.heal()
    assert stage.runs(0)
    assert stage.acts.copies.held(0) == held
    stage.end()
    assert [asking.value(cluster, 0, key) for key in KEYS] == [b"since"] * len(KEYS)


def test_a_coordinator_dies_with_its_next_write(stage: Stage) -> None:
    stage.begin("coordinator", 2)
    stage.cluster.run(50)
    assert stage.runs(2)
    handle = asking.put(stage.cluster, 2, KEYS[0], b"w", w=3)
    stage.cluster.run(10)
    assert not stage.runs(2)
    assert handle.result is None
    stage.end()


class Sent:
    """The rounds that one node began, as the messages that it sent."""

    def __init__(self, cluster: SimCluster, index: int) -> None:
        self.rounds: list[type[Message]] = []
        self._machine = cluster.machines[index]
        cluster.observers.append(self)

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Note what is sent."""
        if machine is self._machine:
            sent = [type(message) for each in effects.sends.values() for message in each]
            self.rounds += [kind for kind in sent if kind in faults.DIES_AT[-1]]


@pytest.mark.parametrize("rounds", faults.DIES_AT, ids=lambda rounds: rounds[0].__name__)
def test_a_coordinator_dies_with_a_round_of_its_next_update(
    stage: Stage, rounds: tuple[type[Message], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(stage.cluster, 2)
    monkeypatch.setattr(faults, "DIES_WITHIN_MS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(faults, "DIES_AT", (rounds,))
        stage.begin("coordinator", 2)
    asking.update(stage.cluster, 2, KEYS[0], lambda _: Edited(b"w"))
    stage.cluster.run(20)
    assert not stage.runs(2)
    assert sent.rounds[-1] is rounds[0]
    stage.end()
    assert stage.runs(2)


def test_a_coordinator_whose_time_is_over_does_not_die_any_more(stage: Stage) -> None:
    """Else it would stay dead: nobody is left to start it."""
    stage.begin("coordinator", 2)
    asking.put(stage.cluster, 2, KEYS[0], b"w", w=3)
    stage.cluster.run_until(lambda: stage.cluster.machines[2].node.inflight, 10)
    stage.nemesis.heal()
    stage.cluster.run(50)
    assert stage.runs(2)


def test_what_a_process_was_told_comes_again_when_it_has_started_anew(stage: Stage) -> None:
    machine = stage.cluster.machines[1]
    life = machine.life
    stage.begin("echo", 1, amount=1.0)
    stage.load()
    assert machine.life == life + 4, "two ends, two starts"
    assert stage.cluster.recorder.faults["frame late"] > 0
    noisy = {link for link in stage.cluster.wires.values() if link.noise is not None}
    assert not noisy


def test_an_echo_that_is_over_ends_no_process(stage: Stage) -> None:
    stage.begin("echo", 1, amount=1.0)
    life = stage.cluster.machines[1].life
    stage.nemesis.heal()
    stage.end()
    assert stage.cluster.machines[1].life == life


def test_a_wiped_machine_has_nothing_and_its_loss_is_judged(stage: Stage) -> None:
    stage.begin("wipe", 1)
    stage.end()
    assert not any(stage.cluster.machines[1].disk.durable(row_of(key)) for key in KEYS)
    assert not stage.acts.copies.forgot_ms


def test_a_paused_process_says_nothing(stage: Stage) -> None:
    stage.begin("pause", 1)
    handle = asking.get(stage.cluster, 1, KEYS[0], r=1)
    stage.cluster.run(LASTS_MS / 2)
    assert handle.result is None
    stage.end()
    assert handle.result is not None


@pytest.mark.parametrize(
    ("name", "nodes", "cut", "whole"),
    [
        ("split", (0, 1), {(0, 2), (2, 0), (1, 4)}, {(0, 1), (2, 3)}),
        ("isolate", (3,), {(3, 0), (0, 3), (3, 4)}, {(0, 1), (1, 4)}),
        ("hintoverflow", (3,), {(3, 0), (0, 3)}, {(0, 1)}),
        ("oneway", (0, 1, 2), {(0, 1), (0, 2)}, {(1, 0), (2, 0), (0, 3)}),
        ("bridge", (0, 1, 2, 3, 4), {(1, 3), (4, 2)}, {(0, 1), (4, 0), (1, 2)}),
    ],
)
def test_cuts_are_where_they_belong(
    stage: Stage,
    name: str,
    nodes: tuple[int, ...],
    cut: set[tuple[int, int]],
    whole: set[tuple[int, int]],
) -> None:
    stage.begin(name, *nodes)
    assert cut <= stage.cuts()
    assert not whole & stage.cuts()
    stage.end()
    assert not stage.cuts()


@pytest.mark.parametrize(("name", "amount"), [("flap", 20.0), ("swizzle", 0.0)])
def test_links_come_and_go(stage: Stage, name: str, amount: float) -> None:
    stage.begin(name, 0, 1, amount=amount)
    seen = set()
    for _ in range(int(LASTS_MS)):
        seen.add(len(stage.cuts()))
        stage.cluster.run(1)
    assert 0 in seen
    assert len(seen) > 1
    stage.end()
    assert not stage.cuts()


def test_single_directions_are_held_up_so_many_at_a_time(stage: Stage) -> None:
    stage.begin("hold", *range(5), amount=4.0)
    seen = set()
    for _ in range(100):
        assert 0 < len(stage.cuts()) <= 4
        seen |= stage.cuts()
        stage.cluster.run(2)
    assert len(seen) > 4
    stage.end()
    assert not stage.cuts()


def test_crossing_splits_bring_their_own_requests_and_a_slow_clock(stage: Stage) -> None:
    stage.begin("crossed", *range(5), amount=8.0)
    assert len(stage.cuts()) > 5
    assert min(machine.clock.error_ms for machine in stage.cluster.machines) < -50
    stage.cluster.run(LASTS_MS)
    kinds = {operation.kind for operation in stage.clients.history.operations}
    assert kinds == {Kind.GET, Kind.PUT}
    stage.end()
    assert not stage.cuts()
    assert min(machine.clock.error_ms for machine in stage.cluster.machines) > -2


def test_splits_cross_where_a_quorum_is_all_nodes_too() -> None:
    """Then the node with the slow clock may have to be the reader, which nothing keeps from the
    replica that is alone."""
    options = Options(nodes=3, replication=3, w=3, r=3, faults=frozenset({"crossed"}))
    for seed in range(8):
        plan = draw(seed, options)
        cluster = SimCluster(seed, 3, max_clock_skew_ms=plan.settings["max_clock_skew_ms"])
        clients = Clients(cluster, patience_ms=1_000)
        acts = Acts(cluster, plan, Copies(cluster, plan.keys(), quorum=3, w=3), clients)
        nemesis = Nemesis(acts)
        nemesis.schedule([Fault("crossed", 0.0, LASTS_MS, (0, 1, 2), 4.0)])
        cluster.run(LASTS_MS + 1)
        assert not any(wire.is_cut for wire in cluster.wires.values())


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("loss", "frame lost"),
        ("duplicate", "frame duplicated"),
        ("reorder", "frame reordered"),
        ("late", "frame late"),
        ("damage", "frame damaged"),
        ("reset", "reset"),
        ("halfopen", "half-open"),
        ("stall", "stall"),
        ("full", "disk full"),
        ("syncfail", "ended"),
        ("rot", "rot"),
        ("clockstep", "clock step"),
        ("skew", "clock step"),
        ("drift", "clock rate"),
    ],
)
def test_what_was_done_is_counted(stage: Stage, name: str, counted: str) -> None:
    shape = FAULTS[name]
    stage.begin(name, *range(max(shape.nodes) or 5), amount=min(shape.amounts, key=abs))
    stage.load()
    assert stage.cluster.recorder.faults[counted] > 0


def test_links_over_a_thin_line_run_over(stage: Stage) -> None:
    stage.begin("thin", 1, amount=1.0)
    stage.load()
    assert sum(each.driver.journal.links_overflowed for each in stage.cluster.machines) > 0


def test_a_gray_machine_is_slow_at_everything(stage: Stage) -> None:
    stage.begin("gray", 1, amount=200.0)
    assert stage.cluster.wire(0, 1).latency_ms == (200.0,)
    assert stage.cluster.wire(1, 3).latency_ms == (200.0,)
    assert stage.cluster.machines[1].sync_ms == (200.0, 400.0)
    key = next(key for key in KEYS if 1 in stage.cluster.replicas(key))
    handle = asking.put(stage.cluster, 1, key, b"w", w=3)
    asking.finish(stage.cluster, handle)
    assert handle.took_ms > 200


def test_slow_links_are_slow_in_one_direction(stage: Stage) -> None:
    before = stage.cluster.wire(1, 0).latency_ms
    stage.begin("slow", 0, 1, amount=100.0)
    assert stage.cluster.wire(0, 1).latency_ms == (100.0,)
    assert stage.cluster.wire(1, 0).latency_ms == before


def _full_answer(stage: Stage) -> str:
    key = next(key for key in KEYS if 0 in stage.cluster.replicas(key))
    asking.put(stage.cluster, 0, key, b"first")
    stage.cluster.run(100)
    handle = asking.put(stage.cluster, 0, key, b"second", w=3)
    asking.finish(stage.cluster, handle)
    return "" if isinstance(handle.result, PutResult) else getattr(handle.result, "code", "?")


@pytest.mark.parametrize(("name", "code"), [("full", "disk_full"), ("busy", "storage_busy")])
def test_a_disk_that_takes_nothing_makes_its_node_refuse_writes(
    stage: Stage, name: str, code: str
) -> None:
    stage.begin(name, 0)
    assert _full_answer(stage) == code
    stage.end()
    stage.cluster.run(1_000)
    assert _full_answer(stage) == ""


def test_rot_spares_what_is_on_its_way_to_the_disk(stage: Stage) -> None:
    cluster = stage.cluster
    key = next(key for key in KEYS if 0 in cluster.replicas(key))
    cluster.machines[0].sync_ms = (50.0, 50.0)
    asking.put(cluster, 0, key, b"new")
    cluster.run(2)
    stage.begin("rot", 0, amount=100.0)
    damaged = len(cluster.machines[0].disk.damaged())
    assert damaged == sum(0 in cluster.replicas(each) for each in KEYS) - 1
    assert cluster.machines[0].disk.rots.total() == damaged


def test_hints_rot(stage: Stage) -> None:
    cluster = stage.cluster
    key = next(key for key in KEYS if 0 not in cluster.replicas(key))
    cluster.kill(cluster.replicas(key)[0])
    asking.must_put(cluster, 0, key, b"w")
    cluster.run(100)
    disk = cluster.machines[0].disk
    assert len(list(disk.scan_hints(b"", b"\xff" * 9))) == 1
    stage.begin("hintrot", 0, amount=100.0)
    with pytest.raises(Exception, match="damaged"):
        list(disk.scan_hints(b"", b"\xff" * 9))


def test_a_sync_that_was_to_fail_and_was_never_made_is_forgiven(stage: Stage) -> None:
    stage.begin("syncfail", 1)
    stage.end()
    asking.must_put(stage.cluster, 1, b"k", b"v", w=3)
    assert stage.cluster.machines[1].is_running


def test_a_twin_disturbs_nobody_and_is_not_believed(stage: Stage) -> None:
    stage.begin("twin", 1, amount=1.0)
    for _ in range(int(LASTS_MS)):
        stage.cluster.run(1)
        assert stage.cluster.is_connected()
    stage.end()
    assert asking.value(stage.cluster, 1, stage.acts.hot_key()) != b"of the twin"


def test_no_fault_begins_after_the_healing(stage: Stage) -> None:
    stage.nemesis.schedule([Fault("kill", 50.0, 100.0, (0,))])
    stage.nemesis.heal()
    stage.cluster.run(60)
    assert stage.cluster.machines[0].is_running
    assert not stage.nemesis.injected
