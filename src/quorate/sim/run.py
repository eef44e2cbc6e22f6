# SPDX-License-Identifier: GPL-3.0-or-later
"""One run: load under faults, heal, liveness, quiescence, and what the checkers say.

Faults and load come first; then every fault ends at once. *Liveness* is a phase of its own, since
constant faults always heal something by accident: all requests through all nodes that run must
succeed within a stated time, even if one node stays dead. *Quiescence* then starts what is dead,
lets copies come to rest, and hints drain. Anti-entropy takes minutes, so what hints do not bring is
brought by reads: every key is read from all its replicas until no read finds anything to repair.
Only then are replicas compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from quorate.core.node import STARTUP_SKEW_MS_MAX
from quorate.core.values.events import GetResult
from quorate.core.values.settings import majority
from quorate.core.values.slots import row_of
from quorate.core.values.versions import ms_of
from quorate.sim import checkers, judging, rest
from quorate.sim.acts import Acts, in_turn
from quorate.sim.checkers import Violation, linearizability
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.faults import FAULTS, Harm, Nemesis, are_mild
from quorate.sim.history import ClientOperation, Evidence, Kind
from quorate.sim.layouts import Holders, Layouts, rows_of
from quorate.sim.machine import START_AGAIN_MS
from quorate.sim.plan import Plan, Request
from quorate.sim.sometimes import Lives, reached
from quorate.sim.trace import Trace
from quorate.sim.workload import Clients

PROBE_CLIENT: Final = 1_000
"""The client that asks in the phases after the load: a number that no client of a plan has."""
PROBE_KEYS_MAX: Final = 4
ANSWER_WITHIN_MS: Final = 1_500.0
"""In the liveness phase: several times the slowest link there and back and the slowest disk, for
a stamp, a second one and a hedge."""
CONNECT_MS: Final = 10_000.0
"""Longer than the nodes need to find each other."""
LINK_MS: Final = 500.0
"""More than it takes to break a link, to dial, and to hear from the other side."""
CALM_MS: Final = 1_500.0
"""More than it takes until what a fault held up has come, links are new, and time-outs are over."""
TURNS_MS: Final = 5.0
"""More than the turns take in which a read is begun, hedged and answered."""
PHASE_MS: Final = 120_000.0
"""Longer than clients need to come to the end of their scripts once faults are over."""


class RunResult(msgspec.Struct):
    """What became of one run."""

    seed: int
    digest: str = ""
    operations: int = 0
    results: Counter[str] = msgspec.field(default_factory=Counter)
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    reached: Counter[str] = msgspec.field(default_factory=Counter)
    violations: list[Violation] = msgspec.field(default_factory=list)
    availability: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """Operations answered well, and all, by the second in which they were asked."""
    weak_reads: int = 0
    """Answered reads for which R + W <= N."""
    strict: int = 0
    """Reads that only the exception of P2 explains."""
    stale_ages_ms: list[float] = msgspec.field(default_factory=list)
    """Of weak reads that missed a finished write: how long before it had finished."""
    convergence_ms: float | None = None
    """From the end of the faults until all replicas were equal; None if they never were."""
    in_budget: bool = True
    """Whether no key lost more copies than can be repaired."""
    virtual_ms: float = 0.0
    node_steps: int = 0


def run(plan: Plan, *, trace: Trace | None = None) -> RunResult:
    """Play a plan to its end and judge it."""
    return _Run(plan, trace).play()


class _Run:
    """A plan that is being played."""

    def __init__(self, plan: Plan, trace: Trace | None) -> None:
        self.plan = plan
        settings: dict[str, Any] = {**plan.settings}
        self.cluster = SimCluster(
            plan.seed,
            plan.nodes,
            nodes={} if plan.is_new else None,
            spares=plan.spares,
            cache_entries=plan.cache_entries,
            needs_sync=plan.needs_sync,
            is_tolerant=True,
            trace=trace,
            **settings,
        )
        self.lives = Lives()
        self.handed = checkers.Handed()
        self.watch = checkers.watch(self.cluster.machines, self.handed)
        self.layouts = Layouts(self.cluster.machines)
        self.cluster.observers += [self.lives, self.watch, self.layouts]
        n = plan.settings["replication"]
        self.w = plan.settings["w"] or majority(n)
        self.r = plan.settings["r"] or majority(n)
        self.keys = plan.keys()
        self.copies = Copies(
            self.cluster, self.keys, quorum=self._smallest_quorum(), w=plan.settings["w"]
        )
        self.cluster.observers.append(self.copies)
        self.patience_ms = 2.0 * (settings["timeout_ms"] + settings["write_wait_ms"])
        self.clients = Clients(self.cluster, patience_ms=self.patience_ms)
        self.acts = Acts(self.cluster, plan, self.copies, self.clients)
        self.nemesis = Nemesis(self.acts)
        self.settling = Clients(self.cluster, patience_ms=self.patience_ms)
        """The clients whose reads bring replicas together: these may fail where copies are damaged.
        """
        self.began_ms = self.healed_ms = self.healthy_ms = 0.0
        self.whole_ms = math.inf
        self.convergence_ms: float | None = None
        self.dead: frozenset[int] = frozenset()
        self._revive = in_turn()
        """Let the dead start again."""
        self.unsettled: list[bytes] = []
        self.beyond_repair: frozenset[bytes] = frozenset()
        """Keys of which a damaged copy is left that none of the others can repair."""
        self.found: list[Violation] = []
        """What was seen to be wrong during a phase."""
        self.serial = 0

    def play(self) -> RunResult:
        """All phases."""
        self.acts.boot()
        self._load()
        self._heal()
        if not self.cluster.broken:
            self._probe()
            self._probe_around(self.plan.seed % self.plan.nodes)
            self._settle()
        outcome = self._outcome()
        self.clients.close()
        self.settling.close()
        return outcome

    # --- phases ----------------------------------------------------------------------------

    def _load(self) -> None:
        self.began_ms = self.cluster.world.now
        self.nemesis.schedule(self.plan.faults)
        self.clients.start(self.plan.scripts, self.plan.walks)
        self.cluster.run(self.plan.load_ms)

    def _heal(self) -> None:
        """End all faults; give the nodes time to find each other, and clocks time to catch up."""
        plan, cluster = self.plan, self.cluster
        self.nemesis.heal()
        if plan.stays_dead is not None and self._can_do_without(plan.stays_dead):
            self.dead = frozenset((plan.stays_dead,))
            self._revive = self.acts.down(self.dead)
        self.acts.start_all()
        self.acts.correct_clocks()
        if plan.gives_up or self.acts.ruined:
            self.found += rest.come_to_rest(self.acts)
        self.acts.come()
        rest.welcome(self.acts)
        self.healed_ms = cluster.world.now
        world = cluster.world
        world.run_until(self.clients.are_done, world.now + PHASE_MS)
        world.run_until(lambda: not self.clients.forgotten(), world.now + self.patience_ms)
        world.run_until(self._has_started, world.now + self._start_ms())
        cluster.run(LINK_MS + self._beats_ms())
        cluster.run(rest.clocks_behind_ms(cluster, plan.settings["max_clock_skew_ms"]))
        self.healthy_ms = cluster.world.now

    def _probe(self) -> None:
        """Liveness: a write and a read of a few keys through every node that runs."""
        keys = [key for key in self.keys if self._has_quorum(key)][:PROBE_KEYS_MAX]
        for node, machine in enumerate(self.cluster.machines):
            if not machine.is_running:
                continue
            for key in keys:
                for kind in (Kind.PUT, Kind.GET):
                    self._ask_all([node], kind, key)

    def _probe_around(self, silent: int) -> None:
        """The same while one node is silent and nobody has marked it down: others stand in for it.
        Not asked where another node does not run, or may count as down though it runs."""
        is_calm = self.cluster.is_running()
        if not (is_calm and self._can_do_without(silent) and self._suspects_nobody_falsely()):
            return
        nodes = [index for index in range(self.plan.nodes) if index != silent]
        self.cluster.pause(silent)
        for key in self.keys[:PROBE_KEYS_MAX]:
            # Of several at once one may have to be moved, which a majority must be able to vote on;
            # but none whose W is less.
            are_many = self.copies.can_decide_without(key, silent) or self._moves_none(key)
            self._ask_all(nodes if are_many else nodes[:1], Kind.PUT, key)
            within_ms = {node: self._hedged_within_ms(node) for node in nodes}
            for op in self._ask_all(nodes, Kind.GET, key):
                if op.took_ms > within_ms[op.node] and self._has_quorum(key, without=silent):
                    self.found.append(Violation("I24", key, f"{op}: was not hedged"))
        self.cluster.resume(silent)

    def _moves_none(self, key: bytes) -> bool:
        """Whether no put of a key needs the votes of a majority."""
        w = self.plan.settings["w"]
        return all(0 < w < row.majority for row, _ in self.copies.rows(key))

    def _ask_all(self, nodes: Sequence[int], kind: Kind, key: bytes) -> list[ClientOperation]:
        """Ask several nodes the same at once, and wait for the answers."""
        asked = [self._ask(self.clients, node, kind, key) for node in nodes]
        self._wait_for(*asked)
        return asked

    def _hedged_within_ms(self, node: int) -> float:
        """How long a read through a node may take if a replica that it asks is silent: until it
        asks another, which has to answer; then, by the slowest link, once more there and back for
        the newest record, and to write it back, behind a sync that is under way."""
        hedges_after_ms = max(box.p95_ms for box in self.cluster.machines[node].node.outboxes)
        links_ms = 2 * max(map(max, self.plan.latencies_ms))
        syncs_ms = 2 * max(most for _, most in self.plan.syncs_ms)
        return hedges_after_ms + 4 * links_ms + syncs_ms + TURNS_MS

    def _settle(self) -> None:
        """Quiescence: start all, let hints drain, and read until nothing is left to repair."""
        cluster = self.cluster
        self._revive()
        for index, machine in enumerate(cluster.machines):
            if machine.disk.damaged():
                # A cache may hide the damage for as long as its process lives.
                self.acts.down([index])()
        cluster.world.run_until(cluster.is_running, cluster.world.now + self._start_ms())
        cluster.world.run_until(cluster.is_connected, cluster.world.now + CONNECT_MS)
        self.found += rest.come_to_rest(self.acts)
        for index in self.plan.refills:
            up = self.acts.down([index])
            self.acts.lose_disk(index)
            up()
            cluster.run(CONNECT_MS)
            self.found += rest.come_to_rest(self.acts)
        self._drain()
        if self._are_hints_enough():
            cluster.run(self.patience_ms)
            self._drain()
            self.found += rest.undone_by_hints(cluster, self.copies, self.keys)
        unsettled = self.keys
        for pause_ms in rest.pauses_ms(cluster, self._were_fenced):
            unsettled = self._repair(unsettled)
            if not unsettled:
                self.convergence_ms = cluster.world.now - self.healed_ms
                break
            # A read is answered once a majority holds the record; others may be syncing it still.
            cluster.run(pause_ms)
        self.unsettled = [key for key in unsettled if key not in self.copies.forgot_ms]
        self.beyond_repair = frozenset(filter(self.copies.is_beyond_repair, self.keys))
        # What an operator asked of who has come back since, and was not told of, may have begun.
        self.found += rest.come_to_rest(self.acts)
        cluster.run(LINK_MS)
        self.found += rest.wrong_at_rest(cluster, within_ms=PHASE_MS)
        if self.plan.walks and rest.is_readable(cluster, r=self.plan.settings["r"]):
            self.whole_ms = cluster.world.now
            node = self.plan.seed % self.plan.nodes
            self.clients.list_all(node, timeout_ms=int(PHASE_MS))

    def _drain(self) -> None:
        """Let hints be replayed."""
        rest.drain(self.cluster, were_fenced=self._were_fenced())

    def _were_fenced(self) -> bool:
        """Whether a lock kept something out."""
        return self.lives.total()["peer_writes_fenced"] > 0

    def _has_started(self) -> bool:
        """Whether every node runs that is to."""
        return all(m.is_running for i, m in enumerate(self.cluster.machines) if i not in self.dead)

    def _start_ms(self) -> float:
        """How long until every node starts: one whose clock is far behind its last stamp refuses to
        at first. Whoever came later would replay its hints after the reads that repair."""
        behind_ms = max(ms_of(each.ceiling) - each.now().wall_ms for each in self.cluster.machines)
        return max(behind_ms - STARTUP_SKEW_MS_MAX, 0) + 2 * START_AGAIN_MS

    # --- parts of phases -------------------------------------------------------------------

    def _smallest_quorum(self) -> int:
        """Of all R and W that are asked for."""
        own = (each for request in self.plan.requests() for each in (request.r, request.w))
        return min(self.w, self.r, *(each for each in own if each))

    def _are_hints_enough(self) -> bool:
        """Whether nothing happened that hints do not make good: every copy that was not
        acknowledged got one, so replicas are equal before any read repairs them."""
        lives = [machine.life for machine in self.cluster.machines]
        counted = self.lives.total()
        lost = ("hints_dropped", "hints_refused", "peer_writes_refused", "peer_writes_fenced")
        is_settled = len(self.layouts.taken) == 1
        return (
            is_settled
            and self._is_mild()
            and max(lives) == 1
            and not any(counted[name] for name in lost)
        )

    def _is_mild(self) -> bool:
        """Whether nothing worse happens than that frames do not arrive."""
        plan = self.plan
        return not (plan.is_new or any(plan.offsets_ms)) and are_mild(plan.faults)

    def _suspects_nobody_falsely(self) -> bool:
        """Whether links are quicker than heartbeats, as they have to be."""
        return self.plan.settings["heartbeat_ms"] > 2 * max(map(max, self.plan.latencies_ms))

    def _calm_ms(self) -> list[tuple[float, float]]:
        """The spans between faults in which no request may fail. None unless all faults of the plan
        are mild: what others lead to may last."""
        plan = self.plan
        is_wide = not plan.is_narrow()
        if not (is_wide and self._is_mild() and self._suspects_nobody_falsely()):
            return []
        spans = []
        begin_ms = self.began_ms
        noticed = (each for each in plan.faults if FAULTS[each.name].harm is not Harm.NONE)
        for fault in noticed:
            spans.append((begin_ms, self.began_ms + fault.begin_ms))
            over_ms = self.began_ms + fault.end_ms + CALM_MS + self._beats_ms()
            begin_ms = max(begin_ms, over_ms)
        return [*spans, (begin_ms, self.healed_ms)]

    def _beats_ms(self) -> float:
        """How long it takes until a node that answers again counts as up."""
        return float(self.plan.settings["heartbeat_ms"] * (self.plan.settings["down_after"] + 1))

    def _can_do_without(self, index: int) -> bool:
        """Whether every key keeps a quorum of copies that can be read, of each row, and a new
        cluster those who decide which disks its replicas are."""
        can_decide = self.cluster.can_bind_without(self.cluster.names(index))
        return (can_decide and self.copies.can_vouch_without(index)) and all(
            self._has_quorum(key, without=index) for key in self.keys
        )

    def _has_quorum(self, key: bytes, *, without: int = -1) -> bool:
        readable = set(self.copies.readable(key)).difference([without])
        w, r = self.plan.settings["w"], self.plan.settings["r"]
        return all(
            len(readable.intersection(voters)) >= max(w or row.majority, r or row.majority)
            for row, voters in self.copies.rows(key)
        )

    def _wait_for(self, *operations: ClientOperation) -> None:
        world = self.cluster.world
        deadline_ms = world.now + 2 * ANSWER_WITHIN_MS
        for each in operations:
            world.run_until(each.is_answered, deadline_ms)

    def _repair(self, keys: list[bytes]) -> list[bytes]:
        """Read keys from all their replicas; those that had to be repaired or could not be read.

        A damaged copy gives no answer. It is repaired by reading all the others through its own
        node, which asks itself first; so where not all answer, every replica is made to coordinate.
        One that is beyond repair is not waited for.
        """
        held = {key: len(self.copies.replicas[key]) for key in keys}
        needed = {
            key: len(self.copies.readable(key)) if self.copies.cannot_be_repaired(key) else n
            for key, n in held.items()
        }
        unread = self._read([(key, 0, n) for key, n in needed.items() if n])
        again = [
            (key, place, max(len(self.copies.readable(key)), 1))
            for key in unread
            for place in range(held[key])
        ]
        self._read(again)
        return unread

    def _read(self, wanted: list[tuple[bytes, int, int]]) -> list[bytes]:
        """Read each key, through its replica at a place, with an R; the keys that were repaired or
        could not be read."""
        found = []
        # Some worlds allow a node few requests at a time.
        width = 1 if self.plan.is_narrow() else len(wanted)
        for first in range(0, len(wanted), max(width, 1)):
            some = [
                self._ask(self.settling, self.copies.replicas[key][place], Kind.GET, key, r=r)
                for key, place, r in wanted[first : first + width]
            ]
            self._wait_for(*some)
            for op in some:
                result = op.result
                if not isinstance(result, GetResult):
                    found.append(op.key)
                    continue
                if result.repaired and not self.copies.is_garbage_of_some(op.key):
                    found.append(op.key)
                self.clients.history.operations.append(op)
        return found

    def _ask(
        self, clients: Clients, node: int, kind: Kind, key: bytes, *, r: int = 0
    ) -> ClientOperation:
        """Have one of the clients ask a node."""
        self.serial += 1
        request = Request(self.serial, kind, key, r=r, timeout_ms=int(ANSWER_WITHIN_MS))
        return clients.ask(PROBE_CLIENT, node, request)

    # --- the end ---------------------------------------------------------------------------

    def _outcome(self) -> RunResult:
        history, cluster = self.clients.history, self.cluster
        evidence = self._evidence()
        load = [each for each in history.operations if each.client != PROBE_CLIENT]
        weak_reads, ages = judging.stale_ages(history, evidence)
        return RunResult(
            self.plan.seed,
            digest=cluster.recorder.digest(),
            operations=len(load),
            results=judging.counted(load),
            faults=self.nemesis.injected,
            reached=reached(self.lives, self.layouts, cluster, load, evidence),
            violations=self._violations(evidence),
            availability=judging.by_second(load, self.began_ms),
            weak_reads=weak_reads,
            strict=len(linearizability.strict(history, evidence)),
            stale_ages_ms=ages,
            convergence_ms=self.convergence_ms,
            in_budget=not (self.copies.forgot_ms or self.beyond_repair),
            virtual_ms=cluster.world.now,
            node_steps=cluster.recorder.steps,
        )

    def _had(self, op: ClientOperation) -> list[list[Holders]]:
        """Who held the key of an operation by the layouts that its coordinator had (`Evidence`)."""
        row, called = row_of(op.key), self.copies.called()
        return [
            [each.renamed(called) for each in rows_of(layout, row)]
            for layout in self.layouts.between(op.node, op.asked_ms, op.over_ms)
        ]

    def _violations(self, evidence: Evidence) -> list[Violation]:
        """What nodes must never do, what steps were wrong, and what the checkers say."""
        found = [Violation("P8", b"", told) for told in self.cluster.broken]
        found += [Violation("I24", key, "never settles") for key in self.unsettled] + self.found
        errors = self.lives.total()["protocol_errors"]
        found += self.acts.found + judging.misunderstood(errors, self.plan)
        for operator in self.acts.operators:
            if operator.missing():
                found.append(Violation("P3", b"", operator.missing()))
            operator.let_go()
        if self.clients.busy and not found:
            told = f"{self.clients.busy} clients never came to the end of their scripts"
            found.append(Violation("I24", b"", told))
        found += self.watch.violations() + judging.lowered(self.cluster)
        return found + judging.judged(self.clients.history, evidence)

    def _evidence(self) -> Evidence:
        settings, cluster = self.plan.settings, self.cluster
        found, unreadable = judging.settled(cluster, self.copies.replicas)
        members = frozenset(each.id for each in cluster.layout().members)
        return Evidence(
            n=settings["replication"],
            r=self.r,
            w=self.w,
            set_r=settings["r"],
            set_w=settings["w"],
            sizes=self.layouts.sizes(),
            epoch_ms=EPOCH_MS,
            wall_skew_ms=math.ceil(max(each.clock.worst_ms for each in cluster.machines)),
            forgot_ms=self.copies.forgot_ms,
            lost_ms=self.copies.lost_ms,
            replicas=self.copies.replicas,
            settled=found,
            unreadable=unreadable,
            beyond_repair=frozenset(filter(self.copies.cannot_be_repaired, self.keys)),
            handed=self.handed.names(),
            is_quiet=not self.unsettled,
            healthy_from_ms=self.healthy_ms,
            answer_within_ms=ANSWER_WITHIN_MS,
            whole_from_ms=self.whole_ms,
            dead=self.dead,
            paused_ms={i: (m.paused_ms, m.resumed_ms) for i, m in enumerate(cluster.machines)},
            had=self._had,
            calm_ms=self._calm_ms(),
            forgotten=self.clients.forgotten(),
            hints_left={
                index: judging.hints_left(machine.disk, cluster.lost_ids(), members)
                for index, machine in enumerate(cluster.machines)
            },
        )
