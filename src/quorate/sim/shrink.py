# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest plan that still fails, for a person to read.

Delta debugging (Zeller, Hildebrandt, 2002) on the lists that a plan is made of: drop as much as
possible at once, then halves, quarters, single items. What is left is made plain: shorter faults,
no odd clock, disk or link. Each try is a whole run, and changes what the world draws after it, so
a smaller plan may fail by another way than the one it came from: what counts as the same failure
is for the caller's `fails` to say.

It never tries other seeds: a failure so rare that it needs its exact draws stays as large as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from quorate.sim.faults import FAULTS
from quorate.sim.plan import Fault, Plan, Request, Visit

T = TypeVar("T")

TRIES_MAX: Final = 1_000
_PLAIN_LATENCY: Final = (1.0,)
_PLAIN_SYNC: Final = (0.3, 3.0)
_SHORT_MS: Final = 10
_PLAIN_REQUEST: Final = {
    "value_bytes": 0,
    "ttl_ms": 0,
    "r": 0,
    "w": 0,
    "timeout_ms": 0,
    "tries": 1,
}


def shrink(
    plan: Plan,
    fails: Callable[[Plan], bool],
    *,
    tries_max: int = TRIES_MAX,
    tell: Callable[[Plan], None] = lambda _: None,
) -> Plan:
    """The smallest plan found on which `fails` holds, as it does on `plan`; `tell` hears of each
    smaller one. Calls `fails` at most `tries_max` times."""
    return _Shrinker(plan, fails, tries_max, tell).run()


class _Shrinker:
    """The smallest plan so far, and the tries that are left."""

    def __init__(
        self,
        plan: Plan,
        fails: Callable[[Plan], bool],
        tries_max: int,
        tell: Callable[[Plan], None],
    ) -> None:
        self.plan = plan
        self._fails = fails
        self._tries_left = tries_max
        self._tell = tell

    def run(self) -> Plan:
        """Cut until nothing more can be cut."""
        before = None
        while self.plan != before and self._tries_left:
            before = self.plan
            self._cut(self.plan.faults, lambda plan, faults: replace(plan, faults=faults))
            self._cut(self.plan.walks, lambda plan, walks: replace(plan, walks=walks))
            self._cut(self.plan.scripts, lambda plan, scripts: replace(plan, scripts=scripts))
            self._cut(_visits(self.plan), _with_visits)
            self._cut(_serials(self.plan), _with_requests)
            for change in _changes(self.plan):
                self._take(change(self.plan))
        return self.plan

    def _take(self, candidate: Plan) -> bool:
        """Go on with a candidate if it fails too."""
        if candidate == self.plan or not self._tries_left:
            return False
        self._tries_left -= 1
        if not self._fails(candidate):
            return False
        self.plan = candidate
        self._tell(candidate)
        return True

    def _cut(self, items: tuple[T, ...], put: Callable[[Plan, tuple[T, ...]], Plan]) -> None:
        """Leave out as many of `items` as can be; `put` gives the plan that has only those left."""
        size = len(items)
        while size:
            start = 0
            while start < len(items):
                rest = items[:start] + items[start + size :]
                if self._take(put(self.plan, rest)):
                    items = rest
                else:
                    start += size
            size //= 2


# --- lists that can be cut ---------------------------------------------------------------------


def _visits(plan: Plan) -> tuple[tuple[int, Visit], ...]:
    """Every visit, with the number of its client."""
    return tuple((client, visit) for client, script in enumerate(plan.scripts) for visit in script)


def _with_visits(plan: Plan, visits: tuple[tuple[int, Visit], ...]) -> Plan:
    scripts: list[list[Visit]] = [[] for _ in plan.scripts]
    for client, visit in visits:
        scripts[client].append(visit)
    return replace(plan, scripts=tuple(map(tuple, scripts)))


def _changed(plan: Plan, change: Callable[[Visit], Visit]) -> Plan:
    """The plan with a change to each visit."""
    scripts = tuple(tuple(change(visit) for visit in script) for script in plan.scripts)
    return replace(plan, scripts=scripts)


def _serials(plan: Plan) -> tuple[int, ...]:
    """Of all requests: each is unique in its plan."""
    return tuple(request.serial for request in plan.requests())


def _with_requests(plan: Plan, serials: tuple[int, ...]) -> Plan:
    kept = frozenset(serials)

    def cut(visit: Visit) -> Visit:
        return replace(visit, requests=tuple(r for r in visit.requests if r.serial in kept))

    return _changed(plan, cut)


# --- what can be made plain --------------------------------------------------------------------


def _changes(plan: Plan) -> Iterator[Callable[[Plan], Plan]]:
    """Everything that might be made plainer; each change may be taken or not."""
    # From the last node on: those before it keep their numbers.
    yield from (partial(_without_node, node) for node in reversed(range(plan.nodes)))
    yield lambda plan: replace(plan, syncs_ms=(_PLAIN_SYNC,) * plan.nodes)
    yield lambda plan: replace(plan, latencies_ms=(_PLAIN_LATENCY,) * plan.nodes**2)
    yield lambda plan: replace(plan, offsets_ms=(0,) * plan.nodes)
    yield lambda plan: replace(plan, cache_entries=0, stays_dead=None)
    yield lambda plan: replace(plan, refills=plan.refills[:-1])
    yield lambda plan: replace(plan, late=plan.late[:-1])
    yield lambda plan: replace(plan, gives_up=False)
    yield _plain_times
    yield partial(_plain_requests, _serials(plan))
    yield from (partial(_plain_requests, (serial,)) for serial in _serials(plan))
    for milder in (_of_fewest_nodes, _half_as_long):
        yield from (partial(_milder, milder, index) for index in range(len(plan.faults)))


def _without_node(node: int, plan: Plan) -> Plan:
    """`plan` without a node that nothing in it names; those after it move up."""
    named = {visit.node for _, visit in _visits(plan)}
    named.update(index for fault in plan.faults for index in fault.nodes)
    named.update(plan.refills)
    named.update(plan.late)
    named.update(walk.node for walk in plan.walks)
    founders = plan.nodes - plan.spares
    is_needed = node < founders <= plan.settings["replication"]
    if node in named or is_needed or node == plan.stays_dead:
        return plan

    def moved(index: int) -> int:
        return index - (index > node)

    others = [index for index in range(plan.nodes) if index != node]
    stays_dead = plan.stays_dead
    return replace(
        _changed(plan, lambda visit: replace(visit, node=moved(visit.node))),
        nodes=plan.nodes - 1,
        spares=plan.spares - (node >= founders),
        refills=tuple(map(moved, plan.refills)),
        late=tuple(map(moved, plan.late)),
        walks=tuple(replace(walk, node=moved(walk.node)) for walk in plan.walks),
        offsets_ms=tuple(plan.offsets_ms[index] for index in others),
        syncs_ms=tuple(plan.syncs_ms[index] for index in others),
        latencies_ms=tuple(plan.latency_ms(a, b) for a in others for b in others),
        faults=tuple(replace(f, nodes=tuple(map(moved, f.nodes))) for f in plan.faults),
        stays_dead=None if stays_dead is None else moved(stays_dead),
    )


def _plain_times(plan: Plan) -> Plan:
    """Whole milliseconds, and no load longer than its faults."""
    faults = tuple(
        replace(fault, begin_ms=float(round(fault.begin_ms)), end_ms=float(round(fault.end_ms)))
        for fault in plan.faults
    )
    load_ms = max((fault.end_ms for fault in faults), default=1.0)
    plain = replace(plan, faults=faults, load_ms=load_ms)
    return _changed(plain, lambda visit: replace(visit, pause_ms=float(round(visit.pause_ms))))


def _plain_requests(serials: tuple[int, ...], plan: Plan) -> Plan:
    """No padding, expiry, quorum or time limit of their own."""
    chosen = frozenset(serials)

    def plain(request: Request) -> Request:
        return replace(request, **_PLAIN_REQUEST) if request.serial in chosen else request

    return _changed(plan, lambda visit: replace(visit, requests=tuple(map(plain, visit.requests))))


def _milder(milder: Callable[[Fault], Fault], index: int, plan: Plan) -> Plan:
    faults = list(plan.faults)
    faults[index] = milder(faults[index])
    return replace(plan, faults=tuple(faults))


def _of_fewest_nodes(fault: Fault) -> Fault:
    """With as many nodes as its kind must name; 0 in a kind is all of them."""
    fewest = min(count or len(fault.nodes) for count in FAULTS[fault.name].nodes)
    return replace(fault, nodes=fault.nodes[:fewest])


def _half_as_long(fault: Fault) -> Fault:
    if fault.lasts_ms < _SHORT_MS:
        return fault
    return replace(fault, end_ms=fault.begin_ms + fault.lasts_ms / 2)
