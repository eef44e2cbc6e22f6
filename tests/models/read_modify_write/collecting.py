# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas copy records to one another, agree on digests, lock, and drop garbage.

A lock is not moved while it would take the ground from under what is accepted, and maybe decided:
a replica that finds such votes here has them decided first, be it that whoever asked for them is
dead.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.models.read_modify_write.decision import Outcome, Proposal, decide, spread
from tests.models.read_modify_write.replica import Replica
from tests.models.read_modify_write.rounds import Request
from tests.models.read_modify_write.values import (
    NO_BALLOT,
    NOTHING,
    Ack,
    Record,
    Report,
    Version,
    Vote,
    is_garbage,
    is_phantom,
)
from tests.models.read_modify_write.world import Task, World

QUIET = 400
"""How long replicas go on after the end of all faults."""


class Collecting:
    """What replicas do by themselves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._finishing: set[tuple[int, int, Version]] = set()
        """Node, key and instance."""
        self._repair = world.random.choice((10, 40, 150))
        self._is_late = world.random.random() < 0.3
        for node in world.nodes:
            self.join(node.name)
        self._copy()

    def join(self, name: int) -> None:
        """A node is there."""
        self._world.at(self._world.random.random() * self._world.pause, lambda: self._report(name))

    # --- repair ------------------------------------------------------------------------------

    def _copy(self) -> None:
        """Some replica tells another what it holds; in the end each tells all."""
        world, random = self._world, self._world.random
        epoch = random.choice(world.nodes).epoch
        members = world.log[epoch].members
        if world.now < world.end + QUIET:
            self._tell_rows(random.choice(members), random.choice(members), epoch)
            world.at(random.random() * (6 if world.is_over else self._repair), self._copy)
            return
        for source in members:
            for target in members:
                self._tell_rows(source, target, epoch)

    def _tell_rows(self, source: int, target: int, epoch: int) -> None:
        """Tell a replica the records of another, as they are now; they may arrive late."""
        world, random = self._world, self._world.random
        node = world.nodes[source]
        if source == target or node.is_lost or node.epoch != epoch:
            return
        is_late = self._is_late and random.random() < 0.3 and not world.is_over
        delay = random.random() * 250 if is_late else 0
        for key, record in enumerate(node.records):
            if record.version != NOTHING.version:
                lock = 10_000 if world.broken("any_proof") else node.lock
                tell = partial(replace_if_older, key=key, record=record, lock=lock)
                world.at(delay, partial(self._tell, source, target, tell))

    def _tell(self, source: int, target: int, tell: Callable[[Replica], Ack]) -> None:
        world = self._world
        epoch = world.nodes[source].epoch
        if target in world.log[epoch].members and not world.nodes[source].is_lost:
            world.send(source, target, epoch, tell, None)

    # --- reports -----------------------------------------------------------------------------

    def _report(self, name: int) -> None:
        """Tell the others the digest at a boundary in the past."""
        world = self._world
        node = world.nodes[name]
        if node.is_lost:
            return
        if world.now < world.end + QUIET:
            world.at(world.random.random() * world.pause, lambda: self._report(name))
        if not self._may_collect(node) or world.is_away(name):
            return
        if world.broken("by_age"):
            for key in node.keys:
                if is_garbage(node.records[key], world.wall(name) - 100):
                    node.drop(key)
            return
        past = max(0, world.wall(name) - world.cut) // world.slice * world.slice
        if past > node.told or world.random.random() < 0.3:
            node.told = max(node.told, past)
            self._tell_others(node)

    def _may_collect(self, node: Replica) -> bool:
        layout = self._world.log[node.epoch]
        is_stable = layout.new is None or self._world.broken("collect_while_joint")
        return is_stable and node.name in layout.old

    def _tell_others(self, node: Replica) -> None:
        digest = node.digest(node.told)
        votes = node.in_the_way_of_lock(node.told)
        if votes and not self._world.broken("agrees_with_open_votes"):
            # It could not lock. If others did they would not vote on these: none would be decided.
            self._finish(node, votes)
            digest = ()
        report = Report(node.told, digest, node.lock, node.ground, node.horizon)
        world, epoch = self._world, node.epoch
        for other in world.log[epoch].old:
            is_bad = (node.name, other) in world.bad and not world.is_over
            if other != node.name and not (is_bad and world.random.random() < 0.5):
                lag = 0.0 if world.is_over else world.random.random() * world.report_lag
                hear = partial(self._hear, world.nodes[other], node, epoch, report)
                world.at(world.lag() + lag, hear)

    def _hear(self, node: Replica, source: Replica, epoch: int, report: Report) -> None:
        if node.is_lost or source.is_lost or self._world.is_away(node.name):
            return
        self._world.adopt(node.name, epoch)
        if node.epoch != epoch or not self._may_collect(node):
            return
        before = node.reports.get(source.name)
        if before is None or _order(report) >= _order(before):
            node.reports[source.name] = report
        others = [each for each in self._world.log[epoch].old if each != node.name]
        known = [node.reports[each] for each in others if each in node.reports]
        if node.lock > node.horizon and self._look_at_locked(node, known, len(others)):
            return
        self._look_at_agreed(node, known, len(others))

    def _look_at_locked(self, node: Replica, known: list[Report], others: int) -> bool:
        """Drop what is below the lock, or take it back. True if it is dropped."""
        lock = node.lock
        have_dropped = any([each.horizon >= lock for each in known])
        have_locked = [each for each in known if (each.lock, each.ground) == (lock, node.ground)]
        if have_dropped or len(have_locked) == others:
            self._complete(node, lock)
            return True
        passed = [each for each in known if each.boundary > lock and each.lock != lock]
        if passed and node.unlock():
            self._world.stats["unlocks"] += 1
        elif passed:
            self._world.stats["unlocks put off"] += 1
            self._finish(node, node.in_the_way_of_unlock())
        return False

    def _look_at_agreed(self, node: Replica, known: list[Report], others: int) -> None:
        """Lock the boundary that was told last, if all told one digest there."""
        boundary = node.told
        if boundary <= node.lock:
            return
        digest = node.digest(boundary)
        equal = [each for each in known if (each.boundary, each.digest) == (boundary, digest)]
        if len(equal) < others:
            return
        if not node.has_garbage(boundary) and not any([each.lock == boundary for each in known]):
            return
        if self._world.broken("no_lock"):
            self._complete(node, boundary)
        elif node.lock_at(boundary):
            self._world.stats["locks"] += 1
            self._tell_others(node)
        else:
            self._world.stats["locks put off"] += 1
            self._finish(node, node.in_the_way_of_lock(boundary))

    def _complete(self, node: Replica, boundary: int) -> None:
        self._world.stats["rows collected"] += node.collect(boundary)
        self._tell_others(node)

    # --- having open votes decided -----------------------------------------------------------

    def _finish(self, node: Replica, votes: list[tuple[int, Version, Record]]) -> None:
        for key, inst, record in votes:
            if (node.name, key, inst) not in self._finishing:
                self._finishing.add((node.name, key, inst))
                self._world.start(self._finish_one(node, key, inst, record))

    def _finish_one(self, node: Replica, key: int, inst: Version, record: Record) -> Task[None]:
        world = self._world
        request = Request(node.name)
        world.at(150, lambda: self._finishing.discard((node.name, key, inst)))
        outcome = yield from decide(world, request, Proposal(key, inst, None))
        if outcome.record is not None:
            yield from spread(world, request, key, outcome.record)
        elif outcome.how == "gone" and self._is_undecidable(node, inst, record, outcome):
            world.stats["votes dropped"] += 1
            instance = node.votes[key].get(inst)
            if instance is not None and instance.accepted == record:
                instance.ballot, instance.accepted = NO_BALLOT, None
        self._finishing.discard((node.name, key, inst))

    def _is_undecidable(
        self, node: Replica, inst: Version, record: Record, outcome: Outcome
    ) -> bool:
        """Whether so many have passed the lock of a phantom, without having accepted a successor,
        that none will be decided."""
        world = self._world
        if outcome.votes is None or world.broken("keeps_undecidable"):
            return False
        passed = {
            name
            for name, vote in outcome.votes.items()
            if never_accepts(vote, node.reports.get(name), inst, record)
        }
        rest = [name for name in world.log[node.epoch].members if name not in passed]
        return not world.is_quorum(node.epoch, rest)


def replace_if_older(node: Replica, key: int, record: Record, lock: int) -> Ack:
    """Take what another holds under a lock."""
    return node.mutate(key, record, lock)


def never_accepts(vote: Vote, report: Report | None, inst: Version, record: Record) -> bool:
    """Whether a replica has not accepted this successor of a phantom, and will not: it passed that
    lock, which it does not come back to, and holds nothing from which to tell that it has accepted
    it before. (On what was written it may vote again, when it takes its lock back.)"""
    return (
        is_phantom(inst)
        and vote.said == "gone"
        and vote.held.version < record.version
        and report is not None
        and report.boundary > inst[0] != report.lock
        and report.horizon != inst[0]
    )


def _order(report: Report) -> tuple[int, int, int]:
    return report.boundary, report.lock, report.horizon
