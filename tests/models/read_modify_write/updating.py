# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-modify-write. Updates of one key that wait at one node go in one proposal: each has its own
link, and so its own version."""

from __future__ import annotations

from typing import NamedTuple

from tests.models.read_modify_write.decision import (
    TRIES_MAX,
    Outcome,
    Promised,
    Proposal,
    decide,
    spread,
)
from tests.models.read_modify_write.operations import Operation
from tests.models.read_modify_write.replica import Replica
from tests.models.read_modify_write.rounds import Request, Rest, Round
from tests.models.read_modify_write.values import (
    WINNERS_MAX,
    Ballot,
    Record,
    Value,
    Version,
    Vote,
    is_phantom,
)
from tests.models.read_modify_write.world import Task, World
from tests.models.read_modify_write.writing import confirm


class _Effect(NamedTuple):
    """What one update of a proposal read and made; no link if its condition failed."""

    seen: Value
    made: Value
    token: Version | None


class _Base(NamedTuple):
    """What is built on, and who promised for it with the same round."""

    record: Record
    promised: Promised | None


def update(world: World, request: Request, number: int, operations: list[Operation]) -> Task[None]:
    """Have each operation take effect once, in this order, directly after one base."""
    while request.tries < TRIES_MAX and not request.is_over:
        request.tries += 1
        base = yield from _base(world, request, operations[0].key)
        if base is None:
            yield Rest(world, world.random.random() * 20)
            continue
        why = yield from _build(world, request, number, operations, base)
        if why is None:
            return
        if why:
            _finish(world, operations, why)
            return
    _finish(world, operations, "contention")


def _finish(world: World, operations: list[Operation], why: str) -> None:
    world.stats[f"updates unknown: {why}"] += 1
    for operation in operations:
        operation.why = why
        operation.finish(world.now, is_ok=False)


# --- the base ------------------------------------------------------------------------------------


def _base(world: World, request: Request, key: int) -> Task[_Base | None]:
    """The newest record, held by a majority since the update began; None: look again."""
    ballot = world.ballot(request.coordinator)

    def step(replica: Replica) -> Vote:
        return replica.prepare(key, None, ballot)

    round_: Round[Vote] = Round(
        world, request, step, lambda round_: round_.is_quorum(), patience=200
    )
    yield round_
    if round_.is_stale or not round_.is_quorum():
        return None
    locks = [vote.lock for vote in round_.told.values()]
    world.clocks[request.coordinator] = max(world.clocks[request.coordinator], *locks)
    record = _newest(world, round_)
    same = {name for name, vote in round_.told.items() if vote.base.version == record.version}
    is_held = len(same) == len(round_.told) or world.is_quorum(round_.epoch, same)
    if is_phantom(record.version):
        if not is_held and not world.broken("mixed_phantoms"):
            world.stats["phantoms differed"] += 1
            return None
    elif not is_held and not world.broken("no_verify"):
        is_held = yield from confirm(world, request, key, record, holders=same, epoch=round_.epoch)
        if not is_held:
            return None
    return _Base(record, _promised(world, round_, ballot, record))


def _newest(world: World, round_: Round[Vote]) -> Record:
    bases = [vote.base for vote in round_.told.values()]
    best = max(bases, key=lambda record: record.version)
    live = [record for record in bases if record.value is not None]
    if is_phantom(best.version) and live and not world.broken("phantom_preferred"):
        world.stats["live below a phantom"] += 1
        return max(live, key=lambda record: record.version)
    return best


def _promised(world: World, round_: Round[Vote], ballot: Ballot, record: Record) -> Promised | None:
    promised = {
        name: vote
        for name, vote in round_.told.items()
        if vote.said == "promised" and vote.base.version == record.version
    }
    if not world.is_quorum(round_.epoch, promised):
        return None
    return Promised(ballot, round_.epoch, list(promised.values()))


# --- the successor -------------------------------------------------------------------------------


def _build(
    world: World, request: Request, number: int, operations: list[Operation], base: _Base
) -> Task[str | None]:
    """None: the clients are answered. Empty: the base has another successor. Else why it is
    unknown."""
    effects = _effects(world, request.coordinator, operations, base.record)
    made = [effect for effect in effects if effect.token is not None]
    if not made:
        _answer(world, operations, effects)
        return None
    record = _record(world, request, number, base.record, made)
    proposal = Proposal(operations[0].key, base.record.version, record)
    if is_phantom(base.record.version):
        world.stats["updates of nothing"] += 1
    outcome = yield from decide(world, request, proposal, base.promised)
    if outcome.how == "decided":
        if _is_same(outcome.record, record):
            return (yield from _commit(world, request, operations, effects, record))
        assert outcome.record is not None
        world.stats["updates lost or helped"] += 1
        yield from spread(world, request, proposal.key, outcome.record)
        return ""
    if outcome.how == "resolved":
        winner = _winner(outcome, proposal.inst)
        if winner == number and not world.broken("no_ids"):
            assert outcome.record is not None
            return (yield from _commit(world, request, operations, effects, outcome.record))
        if winner is not None or world.broken("no_ids"):
            return ""
    return outcome.how if proposal.may_be_accepted and outcome.how != "lost" else ""


def _effects(world: World, name: int, operations: list[Operation], base: Record) -> list[_Effect]:
    effects: list[_Effect] = []
    value = base.value
    stamp, process, link = base.version
    for operation in operations:
        made = operation.edit(value)
        if made is value:
            effects.append(_Effect(value, value, None))
            continue
        if link == base.version[2] or not world.broken("wrong_link"):
            link = world.stamp(name, link)
        effects.append(_Effect(value, made, (stamp, process, link)))
        value = made
    return effects


def _record(
    world: World, request: Request, number: int, base: Record, made: list[_Effect]
) -> Record:
    last = made[-1]
    assert last.token is not None
    version = last.token
    name = request.coordinator
    if world.broken("fresh_stamp"):
        version = (world.stamp(name, base.version[0]), name + 1, 0)
    expires = 0
    if last.made is None and not world.broken("tombstone_of_base"):
        wall = world.wall(name)
        expires = wall if world.broken("tombstone_of_wall") else max(wall, world.clocks[name])
    winners = (*base.winners, (base.version[2], number))[-WINNERS_MAX:]
    return Record(version, last.made, expires, winners)


def _is_same(one: Record | None, other: Record) -> bool:
    return one is not None and (one.version, one.winners) == (other.version, other.winners)


def _winner(outcome: Outcome, inst: Version) -> int | None:
    assert outcome.record is not None
    return dict(outcome.record.winners).get(inst[2])


def _commit(
    world: World,
    request: Request,
    operations: list[Operation],
    effects: list[_Effect],
    record: Record,
) -> Task[str | None]:
    """What is decided is answered when a majority holds it, or something newer."""
    if world.broken("no_commit"):
        _answer(world, operations, effects)
    is_spread = yield from spread(world, request, operations[0].key, record)
    if not is_spread:
        return "refused"
    _answer(world, operations, effects)
    return None


def _answer(world: World, operations: list[Operation], effects: list[_Effect]) -> None:
    for operation, effect in zip(operations, effects, strict=True):
        operation.seen, operation.made = effect.seen, effect.made
        operation.has_written = effect.token is not None
        if effect.token is not None:
            operation.token = effect.token
        operation.finish(world.now, is_ok=True)
