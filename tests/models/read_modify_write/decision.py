# SPDX-License-Identifier: GPL-3.0-or-later
"""Consensus on the successor of one version: single-decree Paxos among its replicas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tests.models.read_modify_write.replica import Replica
from tests.models.read_modify_write.rounds import Request, Rest, Round
from tests.models.read_modify_write.values import (
    Ack,
    Ballot,
    Record,
    Version,
    Vote,
    is_phantom,
)
from tests.models.read_modify_write.world import Task, World

TRIES_MAX = 20


class Proposal:
    """What one coordinator would have decided for an instance; `mine` None: what may be decided
    already, nothing else."""

    __slots__ = ("_asked", "_rounds", "inst", "key", "mine")

    def __init__(self, key: int, inst: Version, mine: Record | None) -> None:
        self.key = key
        self.inst = inst
        self.mine = mine
        self._rounds = 0
        self._asked: set[tuple[int, int]] = set()

    def ask(self, round_: Round[Vote]) -> None:
        """`mine` is about to be sent for acceptance."""
        self._rounds += 1
        number = self._rounds
        self._asked.update([(number, name) for name in round_.to])

        def hear(name: int, vote: Vote | None) -> None:
            if vote is None or vote.said in ("outbid", "gone", "refused"):
                self._asked.discard((number, name))

        round_.hear = hear

    @property
    def may_be_accepted(self) -> bool:
        """Whether anybody that was asked to accept `mine` has, or did not answer."""
        return bool(self._asked)


class Outcome(NamedTuple):
    """How it ended: "decided", "resolved", "gone", "tries" if none is left, or "nothing" if nothing
    may be decided, and nothing was proposed."""

    how: str
    record: Record | None = None
    votes: dict[int, Vote] | None = None


class Promised(NamedTuple):
    """A first phase that is over."""

    ballot: Ballot
    epoch: int
    votes: list[Vote]


def decide(
    world: World, request: Request, proposal: Proposal, promised: Promised | None = None
) -> Task[Outcome]:
    """Decide an instance, for `mine` unless something else may have been decided."""
    above = 0
    while request.tries < TRIES_MAX:
        if promised is None:
            ballot = world.ballot(request.coordinator, above)
            first = _ask(world, request, proposal, ballot)
            yield first
            outcome = _after_promises(world, first)
            if outcome is not None and not _may_come_back(proposal, outcome):
                return outcome
            promised, above = _promises(world, ballot, first), _outbid(first)
        if promised is not None:
            result = yield from _second_phase(world, request, proposal, promised)
            if isinstance(result, Outcome):
                return result
            promised, above = None, max(above, result)
        request.tries += 1
        yield Rest(world, world.random.random() * 40)
    return Outcome("tries")


def _second_phase(
    world: World, request: Request, proposal: Proposal, promised: Promised
) -> Task[Outcome | int]:
    """How it ended; or the round above which to try again."""
    record = chosen(world, promised.votes, proposal.mine)
    if record is None:
        return Outcome("nothing")
    second = _accept(world, request, proposal, promised.ballot, record)
    is_of_before = second.epoch != promised.epoch and promised.ballot[0] > 0
    if is_of_before and not world.broken("promises_of_before"):
        return 0
    yield second
    outcome = _after_acceptance(second, record)
    if outcome is None and world.broken("restart_after_accept"):
        return Outcome("lost")
    return _outbid(second) if outcome is None else outcome


def chosen(world: World, votes: Iterable[Vote], mine: Record | None) -> Record | None:
    """What to propose."""
    if mine is not None and world.broken("no_adopt"):
        return mine
    return chosen_of(votes, mine)


def chosen_of(votes: Iterable[Vote], mine: Record | None) -> Record | None:
    """What was accepted at the highest ballot, else one's own."""
    accepted = [vote for vote in votes if vote.accepted is not None]
    return max(accepted, key=lambda vote: vote.ballot).accepted if accepted else mine


def _ask(world: World, request: Request, proposal: Proposal, ballot: Ballot) -> Round[Vote]:
    def step(replica: Replica) -> Vote:
        return replica.prepare(proposal.key, proposal.inst, ballot)

    return Round(
        world,
        request,
        step,
        lambda round_: _resolved(round_) is not None or _has_promises(world, round_),
    )


def is_promise(world: World, vote: Vote) -> bool:
    """Whether a replica took no part in what this ballot did not hear of."""
    return vote.said == "promised" or (vote.said == "gone" and world.broken("gone_is_a_promise"))


def _has_promises(world: World, round_: Round[Vote]) -> bool:
    return round_.is_quorum(lambda vote: is_promise(world, vote))


def _promises(world: World, ballot: Ballot, round_: Round[Vote]) -> Promised | None:
    if round_.is_stale or not _has_promises(world, round_):
        return None
    votes = [vote for vote in round_.told.values() if is_promise(world, vote)]
    return Promised(ballot, round_.epoch, votes)


def _after_promises(world: World, round_: Round[Vote]) -> Outcome | None:
    resolved = _resolved(round_)
    if resolved is not None:
        return Outcome("resolved", resolved)
    if _has_promises(world, round_) or round_.is_stale:
        return None
    if round_.is_hopeless(lambda vote: vote.said == "gone"):
        return Outcome("gone", None, dict(round_.told))
    return None


def _may_come_back(proposal: Proposal, outcome: Outcome) -> bool:
    """Whether it is a matter of a lock that some have, and may take back."""
    return outcome.how == "gone" and is_phantom(proposal.inst) and proposal.may_be_accepted


def _accept(
    world: World, request: Request, proposal: Proposal, ballot: Ballot, record: Record
) -> Round[Vote]:
    def step(replica: Replica) -> Vote:
        return replica.accept(proposal.key, proposal.inst, ballot, record)

    round_ = Round(
        world,
        request,
        step,
        lambda round_: (
            _resolved(round_) is not None or round_.is_quorum(lambda vote: vote.said == "accepted")
        ),
    )
    if record is proposal.mine and not world.broken("forgets_asked"):
        proposal.ask(round_)
    return round_


def _after_acceptance(round_: Round[Vote], record: Record) -> Outcome | None:
    resolved = _resolved(round_)
    if resolved is not None:
        return Outcome("resolved", resolved)
    if not round_.is_stale and round_.is_quorum(lambda vote: vote.said == "accepted"):
        return Outcome("decided", record)
    return None


def _resolved(round_: Round[Vote]) -> Record | None:
    return next((vote.held for vote in round_.told.values() if vote.said == "resolved"), None)


def _outbid(round_: Round[Vote]) -> int:
    return max([vote.promised[0] for vote in round_.told.values()], default=0)


def spread(world: World, request: Request, key: int, record: Record) -> Task[bool]:
    """Have a majority hold a record, or something newer. False if too many refuse it, or do not
    answer."""

    def is_ack(ack: Ack) -> bool:
        return ack.said != "refused" or world.broken("refused_is_ack")

    for _ in range(8):
        round_: Round[Ack] = Round(
            world,
            request,
            lambda replica: replica.mutate(key, record),
            lambda round_: round_.is_quorum(is_ack),
        )
        yield round_
        if not round_.is_stale and round_.is_quorum(is_ack):
            return True
        if not round_.is_stale:
            world.stats["spread again"] += 1
            yield Rest(world, world.random.random() * 30)
    return False
