# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes to an end by itself once faults are over.

Copies come forward in a bounded time, step by step, until each is where it belongs, lost disks are
refilled, and all nodes know it (I24). And hints are replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Final

from msgspec.structs import replace

from quorate.core.exchanges.anti_entropy import PAUSE_MAX
from quorate.core.exchanges.hints import FENCED_MS
from quorate.core.topology.layout import Course, Layout
from quorate.core.topology.wants import PUT_OFF_MS
from quorate.core.values.settings import majority
from quorate.core.values.versions import ms_of
from quorate.core.values.wish import Wish
from quorate.errors import QuorateError
from quorate.sim import changes
from quorate.sim.acts import Acts, Asker
from quorate.sim.checkers import Violation, digests
from quorate.sim.checkers.bounds import at_rest
from quorate.sim.checkers.shares import uneven
from quorate.sim.cluster import SimCluster
from quorate.sim.copies import Copies
from quorate.sim.judging import misplaced
from quorate.sim.plan import Fault

MOVE_MS: Final = 240_000.0
"""Longer than copies take to move one step: all tries to decide the layout in which they move, 64
partitions one after another over the slowest links, and the layout after it."""
BACK_MAX: Final = 128
"""So many layouts in a row may bring back what was there before. It is four times as many as there
are where each partition is tried and put aside: 64 at once, and two layouts for each such try."""
LOOK_MS: Final = 50.0
"""Between two looks at whether they have."""
ADVICE_MS: Final = 20_000.0
"""How long an operator waits before doing what status advises."""
HINT_RETRY_MS: Final = 1_200.0
"""Longer than a peer waits for its hints to be tried again, if it could take some of them."""
REPAIR_MS: Final = 200.0
"""Between two rounds of reads: more than the slowest link and two syncs of the slowest disk."""
ROUNDS_MAX: Final = 8
"""So often all keys are read, at most, until nothing is left that reads can repair."""
DIGEST_SLICES: Final = 2 * PAUSE_MAX
"""Longer than it takes digests to bring what a lock keeps out: a boundary past its link, and as
many as a difference is left alone of which nothing came before."""
CLOCK_ROOM_MS: Final = 100.0
"""How far from the guard a clock has to be before requests must succeed."""


def clocks_behind_ms(cluster: SimCluster, skew_ms_max: int) -> float:
    """How long it takes until no node has seen a stamp further ahead than the guard allows."""
    lead_ms = 0
    for machine in cluster.machines:
        if machine.is_running:
            seen_ms = ms_of(machine.node.parts.clock.last)
            lead_ms = max(lead_ms, seen_ms - machine.now().wall_ms)
    return max(0.0, lead_ms - skew_ms_max + CLOCK_ROOM_MS)


def come_to_rest(acts: Acts) -> list[Violation]:
    """Wait until nothing moves any more, and operators have their answers; what goes on for ever.
    What was cancelled half-way an operator takes up again, as the end of an upgrade; also what is
    cancelled while we wait, as an answer may come late. It asks again where that fails, as the
    cluster may be voting still on what somebody asked for who died."""
    cluster, standstill = acts.cluster, _Standstill(acts.cluster)
    asked, told = _ask_for_the_rest(acts), ""
    look_ms = cluster.world.now + ADVICE_MS
    while True:
        failed = [each.result for each in asked if isinstance(each.result, QuorateError)]
        is_answered = not any(each.missing() for each in acts.operators)
        if cluster.broken:
            return []
        if is_at_rest(cluster) and is_answered and not failed:
            asked = _ask_for_the_rest(acts)
            if not asked:
                return []
        if standstill.is_too_long():
            waits = [each.node.pulls.waits_for for each in cluster.machines if each.is_running]
            epoch = cluster.layout().epoch
            stays = f"by epoch {epoch} copies are not at rest, and stay: {waits}{told}"
            return [Violation("I24", b"", stays)]
        cluster.run(LOOK_MS)
        if failed:
            asked, told = _ask_for_the_rest(acts), f"; an operator was told: {failed[0]}"
        elif acts.ruined and cluster.world.now > look_ms:
            look_ms = cluster.world.now + ADVICE_MS
            asked = _ask_for_the_rest(acts)


def _ask_for_the_rest(acts: Acts) -> list[Asker]:
    """Have operators ask a member for what is left to do, if anything is; who waits for it."""
    cluster, count = acts.cluster, len(acts.operators)
    layout, machines = cluster.layout(), enumerate(cluster.machines)
    node = next((i for i, each in machines if each.is_running and each.node.membership.is_in), 0)
    for index, machine in enumerate(acts.cluster.machines):
        if machine.is_running and machine.node.membership.given_up:
            if machine.settings.node_id not in acts.copies.given_up:
                told = f"{machine.name} was given up, and nobody said so"
                acts.found.append(Violation("I24", b"", told))
            acts.ruin([index], come_last=False)()
    never = _never_come(acts, layout)
    if acts.ruined and _recover(acts, others_first=bool(never)):
        return acts.operators[count:]
    if never:
        # No more copies than members.
        left = [each for each in layout.members if each.weight and each.url not in never]
        fewer = min(layout.replication, len(left))
        changes.wish_for(acts, node, Wish(leave=never, is_forced=True, replication=fewer))
        return acts.operators[count:]
    if layout.course == Course.REST and not _is_whole(layout):
        changes.wish_for(acts, node, Wish())
    if all(each.settings.level > layout.level for each in cluster.machines):
        changes.wish_for(acts, node, Wish(raises_level=True))
    return acts.operators[count:]


def _recover(acts: Acts, *, others_first: bool) -> bool:
    """Have an operator give up all disks that are lost for good where a node's status advises it;
    whether any does. Nobody is named whose disk counts, as far as that node knows; and where a
    majority of the voters is, `others_first` may be told to leave."""
    there = {each.settings.node_id for each in acts.cluster.machines}.difference(acts.ruined)
    for index, machine in enumerate(acts.cluster.machines):
        if not (machine.is_running and machine.node.membership.is_in):
            continue
        membership = machine.node.membership
        layout = membership.layout
        assert layout is not None
        gone = {each.id for each in layout.members}.difference(there).union(layout.lost)
        lost = {layout.name_of(each.id, each.url) for each in layout.members if each.id in gone}
        if others_first and membership.count_votes() >= majority(len(membership.voters())):
            continue
        for line in machine.node.status().waits:
            names = tuple(line.partition("quorate recover ")[2].split(","))
            if lost.issuperset(names):
                changes.wish_for(acts, index, Wish(recover=tuple(sorted(lost))))
                return True
    return False


def welcome(acts: Acts) -> None:
    """Have nodes whose disks were given up join with their empty ones, if no other member is where
    they are: long after the recovery, some of them get what it left."""
    layout, machines = acts.cluster.layout(), acts.cluster.machines
    running = [i for i, each in enumerate(machines) if each.is_running]
    node = next((i for i in running if machines[i].node.membership.is_in), 0)
    for machine in machines if acts.ruined else ():
        if machine.lost_disks and machine.url not in layout.urls():
            changes.join(acts, Fault("join", 0.0, 0.0, (node, machines.index(machine))))


def _never_come(acts: Acts, layout: Layout) -> tuple[str, ...]:
    """The members that an operator gives up, as they do not run: founders that nobody met, and
    those whose disks are lost for good."""
    machines = [acts.cluster.machines[index] for index in acts.plan.late if acts.plan.gives_up]
    machines += [each for each in acts.cluster.machines if each.settings.node_id in acts.ruined]
    away = {each.url for each in machines if not each.is_running}
    return tuple(
        [each.url for each in layout.members if each.url in away and each.id not in layout.lost]
    )


class _Standstill:
    """For how long nothing has come forward. Layouts that bring back what was there before, be it
    as copies were to move and could not, are no progress: a partition that is put aside is tried
    again every PUT_OFF_MS, for ever."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._seen: set[Layout] = set()
        """What there was, but for epochs and moves."""
        self._epoch = 0
        self._back = 0
        """How many layouts brought nothing since."""
        self._since_ms = cluster.world.now
        self._was_put_off = False
        """Whether a partition was put aside since: it is tried once more."""

    def is_too_long(self) -> bool:
        """Whether it is longer than anything may take. To be asked often."""
        cluster, layout = self._cluster, self._cluster.layout()
        if layout.epoch != self._epoch:
            self._epoch = layout.epoch
            self._back += 1
            there = replace(layout, epoch=0, moves=())
            if there not in self._seen:
                self._seen.add(there)
                self._since_ms, self._was_put_off, self._back = cluster.world.now, False, 0
        running = [machine.node for machine in cluster.machines if machine.is_running]
        self._was_put_off |= any(each.changes.wants.put_off() for each in running)
        most_ms = MOVE_MS + (PUT_OFF_MS + MOVE_MS if self._was_put_off else 0)
        return self._back > BACK_MAX or cluster.world.now > self._since_ms + most_ms


def is_at_rest(cluster: SimCluster) -> bool:
    """Whether no copy is to move, and no disk to be replaced, by the word of every node."""
    layout = cluster.layout()
    if layout.moves or layout.lost or layout.course != Course.REST:
        return False
    ids = {machine.settings.node_id for machine in cluster.machines}
    running = [machine.node for machine in cluster.machines if machine.is_running]
    return all(each.id in ids for each in layout.members) and all(
        node.membership.epoch == layout.epoch and not node.parts.replica.withheld
        for node in running
    )


def is_readable(cluster: SimCluster, *, r: int) -> bool:
    """Whether every replica runs, can be reached and can be read, and each key has R of them."""
    return (
        is_at_rest(cluster)
        and cluster.is_running()
        and cluster.is_connected()
        and not any(each.disk.damaged() for each in cluster.machines)
        and r <= min(map(len, cluster.layout().table))
    )


def wrong_at_rest(cluster: SimCluster, *, within_ms: float) -> list[Violation]:
    """What nodes have that they must not have, once nothing happens; `within_ms` is for replicas to
    bring each other what digests showed."""
    running = [each for each in cluster.machines if each.is_running]
    cluster.world.run_until(
        lambda: not any(each.node.agreement.is_repairing for each in running),
        cluster.world.now + within_ms,
    )
    found = [*at_rest(each.node for each in running), *digests.check(running)]
    if is_at_rest(cluster):
        found += misplaced(cluster)
        found += [Violation("I17", b"", f"at rest {told}") for told in uneven(cluster.layout())]
    return found


def drain(cluster: SimCluster, *, were_fenced: bool) -> None:
    """Let hints be replayed for as long as they get fewer. `were_fenced`: a lock may have kept some
    out, which are tried again later: others tell of the next slices by then, and it is taken back.
    """
    _drain(cluster, HINT_RETRY_MS)
    if were_fenced:
        _drain(cluster, FENCED_MS + 2 * _slice_ms(cluster) + HINT_RETRY_MS)


def pauses_ms(cluster: SimCluster, were_fenced: Callable[[], bool]) -> Iterator[float]:
    """The pauses between rounds of reads, as many as there may be until nothing is left to repair.

    Where a lock may have kept a record out, pauses of a slice follow, in which digests bring it.
    Reads cannot: what they write back keeps its old stamp, and below a lock only a replica that has
    the same lock, and holds the record, may send that."""
    yield from [REPAIR_MS] * ROUNDS_MAX
    if were_fenced():
        yield from [_slice_ms(cluster)] * DIGEST_SLICES


def _slice_ms(cluster: SimCluster) -> float:
    return max(machine.settings.slice_ms for machine in cluster.machines)


def _drain(cluster: SimCluster, retry_ms: float) -> None:
    left = hints_left(cluster)
    before: dict[int, int] = {}
    while any(left.values()) and left != before:
        cluster.run(retry_ms)
        left, before = hints_left(cluster), left


def hints_left(cluster: SimCluster) -> dict[int, int]:
    """Hints that wait, by node; but for those of disks that are lost."""
    lost = cluster.lost_ids()
    return {
        index: sum(
            machine.node.hints.count(peer)
            for peer in machine.node.roster.peers
            if lost.isdisjoint(peer.names)
        )
        for index, machine in enumerate(cluster.machines)
        if machine.is_running
    }


def undone_by_hints(
    cluster: SimCluster, copies: Copies, keys: Collection[bytes]
) -> list[Violation]:
    """Hints that wait though all can be reached, and keys of which not all replicas hold the same
    version."""
    held = [copies.held(index) for index in range(len(cluster.machines))]
    differing = [key for key in keys if len({each[key] for each in held if key in each}) > 1]
    return [
        Violation("I13", b"", f"{count} hints wait at n{node}, and all can be reached")
        for node, count in hints_left(cluster).items()
        if count
    ] + [Violation("I13", key, "hints did not bring it to all") for key in differing]


def _is_whole(layout: Layout) -> bool:
    """Whether no disk of it is lost, nobody is to leave, and all have their shares."""
    return not layout.lost and all(each.weight for each in layout.members) and not uneven(layout)
