# SPDX-License-Identifier: GPL-3.0-or-later
"""Put, delete and get."""

from __future__ import annotations

from collections.abc import Collection

from tests.models.read_modify_write.decision import (
    TRIES_MAX,
    Outcome,
    Promised,
    Proposal,
    decide,
    spread,
)
from tests.models.read_modify_write.operations import Operation
from tests.models.read_modify_write.rounds import Request, Rest, Round
from tests.models.read_modify_write.values import ABSENT, Ack, Record, Version
from tests.models.read_modify_write.world import Task, World

PATIENCE = 150


class _Contacts:
    """What replicas said whenever a put came to them."""

    def __init__(self, world: World) -> None:
        self._rounds = 0
        self._world = world
        self._epochs: set[int] = set()
        self._unanswered: set[tuple[int, int]] = set()
        self._is_held = False

    def add(self, round_: Round[Ack]) -> None:
        """It is about to be sent."""
        self._rounds += 1
        number = self._rounds
        self._epochs.add(round_.epoch)
        self._unanswered.update([(number, name) for name in round_.to])

        def hear(name: int, ack: Ack | None) -> None:
            self._unanswered.discard((number, name))
            self._is_held |= ack is not None and ack.said == "held"

        round_.hear = hear

    @property
    def has_none_held(self) -> bool:
        """Whether it is known that nobody ever held it, so that nobody can have told of it."""
        return not self._unanswered and not self._is_held

    def is_denied(self, round_: Round[Ack]) -> bool:
        """Whether a majority of each row never held it: one of them may be the only one of the next
        layout, and of fewer who gains a copy might ask none. Where it was sent under an earlier
        layout, a majority of that may have held it."""
        world = self._world
        if len(self._epochs) > 1 and not world.broken("denied_before"):
            return False
        denied = {name for name, ack in round_.told.items() if ack.is_denied}
        rows = world.log[round_.epoch].rows
        are_denied = [sum([name in denied for name in row]) > len(row) // 2 for row in rows]
        return any(are_denied) if world.broken("denied_in_one_row") else all(are_denied)


def put(world: World, request: Request, operation: Operation) -> Task[None]:
    """Write a value, or a tombstone."""
    coordinator, key = request.coordinator, operation.key
    version = (world.stamp(coordinator), coordinator + 1, 0)
    record = Record(version, operation.given)
    contacts = _Contacts(world)
    kept: set[int] = set()
    for _ in range(TRIES_MAX):
        round_: Round[Ack] = Round(
            world,
            request,
            lambda replica: replica.mutate(key, record),
            lambda round_: _is_judged(world, round_, contacts),
            patience=PATIENCE,
        )
        contacts.add(round_)
        yield round_
        if world.broken("keeps_answers"):
            kept |= {name for name, ack in round_.told.items() if _is_held(world, ack)}
            if world.is_quorum(world.nodes[coordinator].epoch, kept):
                operation.finish(world.now, is_ok=True)
                return
        if not round_.is_stale:
            break
    if round_.is_stale:
        operation.why = "stale"
        operation.finish(world.now, is_ok=False)
        return
    is_ok = yield from _after_round(
        world, request, operation, round_, contacts=contacts, version=version
    )
    operation.finish(world.now, is_ok=is_ok)


def _is_held(world: World, ack: Ack) -> bool:
    return ack.said == "held" or (ack.said == "refused" and world.broken("refused_is_ack"))


def _is_judged(world: World, round_: Round[Ack], contacts: _Contacts) -> bool:
    if world.broken("at_once"):
        return round_.is_quorum()
    return round_.is_quorum(lambda ack: _is_held(world, ack)) or (
        (round_.has_all and contacts.has_none_held) or contacts.is_denied(round_)
    )


def _after_round(
    world: World,
    request: Request,
    operation: Operation,
    round_: Round[Ack],
    *,
    contacts: _Contacts,
    version: Version,
) -> Task[bool]:
    """Whether the put has taken effect: done, stamped again, or moved."""
    high = max([ack.version for ack in round_.told.values()], default=ABSENT)
    if world.broken("at_once") and round_.is_quorum() and high <= version:
        return True
    if round_.is_quorum(lambda ack: _is_held(world, ack)) and not world.broken("at_once"):
        return True
    world.stats["puts stamped again or moved"] += 1
    coordinator = request.coordinator
    above = 0 if world.broken("low") else high[0]
    record = Record((world.stamp(coordinator, above), coordinator + 1, 0), operation.given)
    is_denied = contacts.is_denied(round_)
    world.stats["puts denied"] += is_denied
    is_above = contacts.has_none_held or is_denied
    is_above |= world.broken("stuck_again") or world.broken("at_once")
    if not is_above:
        if not round_.is_quorum():
            operation.why = "stuck"
            return False
        operation.is_moved = True
        moved = yield from _move(world, request, operation.key, version, record)
        if moved.record is None:
            operation.why = moved.how
            return False
        if moved.how == "resolved":
            return True
        record = moved.record
    is_spread = yield from spread(world, request, operation.key, record)
    operation.why = "" if is_spread else "refused"
    return is_spread


def _move(
    world: World, request: Request, key: int, version: Version, record: Record
) -> Task[Outcome]:
    """Give a put that some held another stamp, unless something was built on the first: its
    successor is decided to be the put itself, anew. Ballot 0 of the instance is its own."""
    world.stats["puts moved"] += 1
    epoch = world.nodes[request.coordinator].epoch
    first = Promised((0, request.coordinator + 1), epoch, [])
    return (yield from decide(world, request, Proposal(key, version, record), first))


def get(world: World, request: Request, operation: Operation) -> Task[None]:
    """Read what a majority holds, or will."""
    key = operation.key
    for _ in range(TRIES_MAX):
        round_: Round[Record] = Round(
            world,
            request,
            lambda replica: replica.records[key],
            lambda round_: round_.is_quorum(),
        )
        yield round_
        if not round_.is_stale and round_.is_quorum():
            best = max(round_.told.values(), key=lambda record: record.version)
            same = {name for name, each in round_.told.items() if each.version == best.version}
            is_held = world.is_quorum(round_.epoch, same)
            if not is_held:
                is_held = yield from confirm(
                    world, request, key, best, holders=same, epoch=round_.epoch
                )
            if is_held:
                operation.seen = best.value
                operation.finish(world.now, is_ok=True)
                return
        if not round_.is_stale:
            yield Rest(world, world.random.random() * 10)
    operation.why = "unread"
    operation.finish(world.now, is_ok=False)


def confirm(
    world: World,
    request: Request,
    key: int,
    record: Record,
    *,
    holders: Collection[int],
    epoch: int,
) -> Task[bool]:
    """Write a record back until a majority holds it. False if it is overwritten, refused, or the
    layout is another."""
    if world.broken("no_writeback"):
        return True
    if world.nodes[request.coordinator].epoch != epoch:
        return False
    acked = set(holders)
    others = [name for name in world.log[epoch].members if name not in acked]

    def is_enough(round_: Round[Ack]) -> bool:
        told = {name for name, ack in round_.told.items() if ack.said != "refused"}
        return world.is_quorum(epoch, acked | told)

    round_: Round[Ack] = Round(
        world, request, lambda replica: replica.mutate(key, record), is_enough, to=others
    )
    yield round_
    if round_.is_stale or not is_enough(round_):
        return False
    is_over = any([ack.said != "refused" and ack.version != ABSENT for ack in round_.told.values()])
    return not is_over or world.broken("no_reread")
