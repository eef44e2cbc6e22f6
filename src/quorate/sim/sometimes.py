# SPDX-License-Identifier: GPL-3.0-or-later
"""Rare branches that a set of runs must reach (I30): what was never reached was not tested."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from quorate.core.topology.layout import Course, Layout, Member
from quorate.core.values.events import Effects, GetResult, PutResult, UpdateResult
from quorate.core.values.settings import majority
from quorate.core.values.versions import ABSENT, chain_of
from quorate.core.votes import is_phantom
from quorate.errors import Outcome, QuorateError
from quorate.host.driver import Driver
from quorate.sim.cluster import SimCluster
from quorate.sim.history import ClientOperation, Evidence
from quorate.sim.layouts import Layouts, moved
from quorate.sim.machine import Machine

COUNTERS: Final[dict[str, str]] = {
    "a write was stamped again": "writes_restamped",
    "a write was moved": "writes_moved",
    "an update lost a race": "updates_lost_race",
    "an update wrote back what it found": "updates_wrote_back",
    "what another proposed was adopted": "proposals_adopted",
    "several updates were one proposal": "updates_combined",
    "so many votes were gone that nobody knows": "updates_gone",
    "a read looked again": "reads_looked_again",
    "a read was hedged": "reads_hedged",
    "an answer was too far ahead to trust": "read_answers_distrusted",
    "a hint was stored": "hints_stored",
    "a hint was replayed": "hints_replayed",
    "a hint was dropped": "hints_dropped",
    "a peer's write was refused": "peer_writes_refused",
    "a lock refused a late write": "peer_writes_fenced",
    "garbage was dropped by all": "partitions_collected",
    "a request was shed": "requests_shed",
    "a request had to wait": "parked",
    "no request had to wait any more": "unparked",
    "damaged bytes were found": "damaged",
    "an outbox ran over": "links_overflowed",
    "damaged bytes ended a link": "protocol_errors",
    "a log line was lost": "log_lines_lost",
    "a pull went on after a restart": "pulls_resumed",
}
"""By the counters of nodes, of their links, and of `Lives`."""
FAULTS: Final[dict[str, str]] = {
    "a torn batch was found": "torn batch",
    "batches were lost in a crash": "batches lost",
    "a machine came back with an old disk": "old disk",
    "a connection broke in mid-frame": "frame torn",
    "a frame came in pieces": "frame in pieces",
    "a process was told to end": "stop",
    "a frame came twice": "frame duplicated",
    "a frame came late": "frame late",
    "a damaged frame came": "frame damaged",
}
"""By what was done to the cluster."""


class Lives:
    """Adds up what nodes count over all their lives, as counters die with their processes."""

    def __init__(self) -> None:
        self._waiting: dict[Driver, bool] = {}
        """By driver, of which each life of a node has its own: whether requests wait to begin."""
        self.parked = 0
        """How often a node had a request that waits when none did before."""
        self.unparked = 0
        """How often the last request that waited began or was refused."""
        self.resumed = 0
        """How often a node started that had pulled a part of what it was to pull."""

    def after_step(self, machine: Machine, effects: Effects) -> None:
        """Part of `cluster.Observer`."""
        del effects
        if not machine.is_running:
            return
        driver = machine.driver
        if driver not in self._waiting:
            self.resumed += _has_resumed(machine)
        has_parked = driver.node.parts.requests.has_parked
        if self._waiting.setdefault(driver, False) is not has_parked:
            self._waiting[driver] = has_parked
            self.parked += has_parked
            self.unparked += not has_parked

    def total(self) -> Counter[str]:
        """All counters."""
        total: Counter[str] = Counter()
        for driver in self._waiting:
            total.update(driver.node.parts.turn.counters)
            total.update(driver.counters())
            total["damaged"] += driver.node.parts.turn.counters["copies_damaged"]
        total["parked"] = self.parked
        total["unparked"] = self.unparked
        total["pulls_resumed"] = self.resumed
        return total


OPERATIONS: Final[dict[str, Callable[[ClientOperation, Evidence], bool]]] = {
    "a quorum was met exactly": lambda op, ev: (
        isinstance(op.result, PutResult) and op.result.acks == ev.w_of(op) < ev.n
    ),
    "a second stamp was superseded": lambda op, _: (
        isinstance(op.result, PutResult) and op.result.restamped and op.result.superseded
    ),
    "an update was built on a phantom": lambda op, _: (
        op.is_update and op.wrote is not None and is_phantom(chain_of(op.wrote.version))
    ),
    "an update went on under another layout": lambda op, ev: (
        op.is_update and op.wrote is not None and len(ev.rows_of(op)) > 1
    ),
    "a request was found to be done": lambda op, _: (
        isinstance(op.result, UpdateResult) and op.result.is_repeated
    ),
    "an update left things alone": lambda op, _: (
        isinstance(op.result, UpdateResult) and op.result.after is None
    ),
    "an update ended unknown": lambda op, _: (
        op.is_update
        and isinstance(op.result, QuorateError)
        and op.result.outcome is Outcome.UNKNOWN
    ),
    "a read repaired one replica": lambda op, _: (
        isinstance(op.result, GetResult) and op.result.repaired == 1
    ),
    "a read repaired several": lambda op, _: (
        isinstance(op.result, GetResult) and op.result.repaired > 1
    ),
    "a tombstone was read": lambda op, _: (
        isinstance(op.result, GetResult) and op.version != ABSENT and op.read is None
    ),
    "an expired record was read": lambda op, _: (
        isinstance(op.result, GetResult) and op.read is not None and op.served is None
    ),
    "a clock was not trusted": lambda op, _: _code(op) == "clock_untrusted",
    "a quorum could not be reached": lambda op, _: _code(op) == "quorum_unreachable",
    "the time was over": lambda op, _: _code(op) == "deadline_exceeded",
    "the disk was full": lambda op, _: _code(op) == "disk_full",
    "a write stalled": lambda op, _: _code(op) == "storage_busy",
    "a write was refused unapplied": lambda op, _: op.is_refused,
    "a write ended unknown": lambda op, _: (
        isinstance(op.result, QuorateError) and op.result.outcome is Outcome.UNKNOWN
    ),
    "a coordinator died": lambda op, _: op.result is None,
}
"""By what clients saw."""

LAYOUTS: Final[dict[str, Callable[[Layout, Layout], bool]]] = {
    "copies moved": lambda old, new: bool(moved(old, new)),
    "copies moved without a lost source": lambda old, new: any(
        not set(old.lost).isdisjoint(old.replicas(each)) for each in moved(old, new)
    ),
    "a move was called off": lambda old, new: bool(old.moves) and not moved(old, new),
    "a row grew": lambda old, new: any(
        len(new.table[each]) > len(old.table[each]) for each in moved(old, new)
    ),
    "a row shrank": lambda old, new: any(
        len(new.table[each]) < len(old.table[each]) for each in moved(old, new)
    ),
    "a plan was made while another was under way": lambda old, new: (
        old.course == new.course == Course.MOVE and _shares(old) != _shares(new)
    ),
    "a member was replaced while copies moved": lambda old, new: (
        bool(old.moves) and bool(_given_up(old, new)) and bool(_taken_in(old, new))
    ),
    "an empty disk took the place of a lost one": lambda old, new: any(
        each.url == other.url for each in _given_up(old, new) for other in _taken_in(old, new)
    ),
    "copies moved beside a founder that never came": lambda old, new: (
        bool(moved(old, new)) and not all(each.is_bound for each in old.members)
    ),
    "a founder that never came was given up": lambda old, new: any(
        not each.is_bound and each.url not in {other.url for other in new.members}
        for each in old.members
    ),
    "a recovery gave up more disks than can be lost": lambda old, new: new.recovery > old.recovery,
    "copies moved from what a recovery left of a row": lambda old, new: (
        old.recovery > 0
        and any(len(old.table[each]) < majority(old.replication) for each in moved(old, new))
    ),
    "a feature level was raised": lambda old, new: new.level > old.level,
    "a lost disk was refilled": lambda old, new: bool(old.lost) and not new.lost,
}
"""By a layout and the one after it."""
SOLE: Final = "copies moved from who alone had an acknowledged write"

BRANCHES: Final[tuple[str, ...]] = (*COUNTERS, *FAULTS, *OPERATIONS, *LAYOUTS, SOLE)
"""All that a set of runs must reach."""


def reached(
    lives: Lives,
    layouts: Layouts,
    cluster: SimCluster,
    operations: Sequence[ClientOperation],
    evidence: Evidence,
) -> Counter[str]:
    """How often a run reached each branch."""
    counters, faults = lives.total(), cluster.recorder.faults
    found = Counter({branch: counters[name] for branch, name in COUNTERS.items()})
    found.update({branch: faults[name] for branch, name in FAULTS.items()})
    for branch, is_so in OPERATIONS.items():
        found[branch] = sum(is_so(operation, evidence) for operation in operations)
    known = layouts.known
    pairs = [
        (known[old], known[new])
        for old, new in pairwise(sorted(known))
        if new == old + 1 or known[new].recovery > known[old].recovery
    ]
    for name, has_so_followed in LAYOUTS.items():
        found[name] = sum(has_so_followed(old, new) for old, new in pairs)
    found[SOLE] = _moved_from_one(layouts, operations)
    return found


def _moved_from_one(layouts: Layouts, operations: Sequence[ClientOperation]) -> int:
    """How many acknowledged writes only one had that left their row, and have moved."""
    known = layouts.known
    acked = {op.version: op.over_ms for op in operations if isinstance(op.result, PutResult)}
    return sum(
        acked.get(each.version, each.since_ms + 1) <= each.since_ms
        and each.epoch + 1 in known
        and each.partition in moved(known[each.epoch], known[each.epoch + 1])
        for each in layouts.sole
    )


def _has_resumed(machine: Machine) -> bool:
    """Whether a node that has just started has a part of what it gains already."""
    node = machine.node
    layout = node.membership.layout
    gained = [] if layout is None else layout.gaining(machine.settings.node_id)
    return 0 < len(node.pulls.left) < len(gained)


def _shares(layout: Layout) -> tuple[int, list[tuple[int, str, int]]]:
    """What copies there are to be, and where."""
    return layout.replication, [(each.id, each.zone, each.weight) for each in layout.members]


def _given_up(old: Layout, new: Layout) -> list[Member]:
    """The members that are to hold nothing any more."""
    staying = {each.id for each in new.members if each.weight}
    return [each for each in old.members if each.weight and each.id not in staying]


def _taken_in(old: Layout, new: Layout) -> list[Member]:
    """The members that were none before, or were to hold nothing."""
    holding = {each.id for each in old.members if each.weight}
    return [each for each in new.members if each.weight and each.id not in holding]


def _code(op: ClientOperation) -> str:
    return op.result.code if isinstance(op.result, QuorateError) else ""
