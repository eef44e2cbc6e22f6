# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of collection: of when garbage is locked and dropped, and of what is kept out afterwards.

Each is a rule of the protocol that is left out, as in a model of it. `test_collection_rules` has a
world for each that notices it: chance would need many, as a minute of stamp time has to pass, and
something to be late by as much.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quorate.core.exchanges.agreement import Agreement
from quorate.core.exchanges.collection import Collection
from quorate.core.exchanges.pulls import Pulls
from quorate.core.horizons import Fenced, Fences
from quorate.core.replica import Replica
from quorate.core.topology.layout import Layout
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.values.messages import Agree
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_bounds
from quorate.core.values.versions import ABSENT
from tests.simulation.plants.plant import Plant

_adopted: Final = Agreement.adopted
_apply_over: Final = Replica.apply_over
_hear: Final = Agreement.hear
_lets_in: Final = Fences.lets_in
_look_at: Final = Agreement._look_at
_move_on: Final = Agreement._move_on

OLD_SLICES: Final = 2
"""After so many slices garbage goes, where age alone decides."""


def _dropped_at_once(
    self: Collection, partition: int, lock: int, digest: int, others: tuple[Peer, ...]
) -> None:
    del digest, others
    self._fences.advance(partition, lock)
    self._note(partition)
    self.sweep(partition)


def _let_in_below_a_horizon(
    self: Fences, partition: int, record: Record, held: Record | None
) -> bool:
    del self, partition, record, held
    return True


def _late_digests_count(self: Agreement, peer: Peer, message: Agree) -> None:
    _hear(self, peer, message)
    if message.boundary != self.boundary - 1 or self._membership.topology is None:
        return
    for partition, digest in message.digests:
        others = self._membership.topology.partitions[partition].others
        told = [self._heard[each] for each in others if each in self._heard]
        then = [each.before if each.boundary == self.boundary else each.digests for each in told]
        is_equal = [each.get(partition) == digest for each in then]
        if self._own.get(partition) == digest and len(told) == len(others) and all(is_equal):
            self._collection.agreed(partition, others, message.boundary, digest)


def _locked_unchecked(
    self: Collection, partition: int, others: tuple[Peer, ...], boundary: int, digest: int
) -> None:
    fence = self._fences.of(partition)
    reports = [self._reports.get(peer, {}).get(partition) for peer in others]
    is_locked = any([each is not None and each[1] == boundary for each in reports])
    if not (is_locked or self._is_worth_it(partition, boundary)):
        return
    if boundary > self._floor and (fence is None or boundary > fence.lock):
        self._fences.lock(partition, boundary, digest)
        self._note(partition)
        self._look_at_locked(partition, boundary, digest, others)


def _unlocked_by_whoever_has_no_lock(self: Agreement, peer: Peer, message: Agree) -> None:
    _hear(self, peer, message)
    fences = self._replica.fences
    for partition, lock, _, _ in message.fences:
        fence = fences.of(partition)
        if fence is not None and fence.lock > fence.horizon and fence.lock != lock:
            fences.unlock(partition)


class _OldRow:
    """The replicas of a partition that had it before it moved."""

    def __init__(self, others: tuple[Peer, ...], *, is_mine: bool) -> None:
        self.others = others
        self.is_mine = is_mine


class _OldRows:
    """A membership, and its topology, as if no copies moved."""

    def __init__(self, membership: Membership, layout: Layout) -> None:
        self._membership = membership
        self.roster = membership.roster
        self.topology: Any = None
        if membership.topology is not None:
            self.topology = self
            self.partitions: list[Any] = list(membership.topology.partitions)
            for partition, _ in layout.moves:
                peers = [membership.peer(each) for each in layout.replicas(partition)]
                others = tuple([each for each in peers if each is not None])
                self.partitions[partition] = _OldRow(others, is_mine=len(others) < len(peers))

    @property
    def epoch(self) -> int:
        return self._membership.epoch

    def current(self) -> Any:
        return self.topology


def _collected_while_copies_move(self: Agreement, layout: Layout) -> None:
    now: Any = self._membership
    known: Any = _OldRows(now._membership if isinstance(now, _OldRows) else now, layout)
    self._membership = known
    _adopted(self, msgspec.structs.replace(layout, moves=()))


def _tombstones_need_no_place(
    self: Fences, partition: int, record: Record, held: Record | None
) -> bool:
    if self.is_garbage(record, self.horizon(partition)):
        return False
    return _lets_in(self, partition, record, held)


def _kept_though_it_is_garbage(self: Agreement, partition: int) -> None:
    fence = self._replica.fences.of(partition)
    if fence is not None:
        fence.is_swept = True


def _a_majority_is_enough(self: Agreement, partition: int, others: tuple[Peer, ...]) -> None:
    equal = tuple([peer for peer in others if self._equal[partition] & peer.bit])
    if 2 * (len(equal) + 1) > len(others) + 1:
        others = equal
    _look_at(self, partition, others)
    fence = self._replica.fences.of(partition)
    if fence is not None and fence.lock > fence.horizon:
        self._collection._look_at_locked(partition, fence.lock, fence.digest, others)


def _refused_and_acknowledged(
    self: Replica, row: bytes, record: Record, held: Record | None, **named: bool
) -> bytes:
    try:
        return _apply_over(self, row, record, held, **named)
    except Fenced:
        return ABSENT


def _dropped_by_age(self: Agreement) -> bool:
    replica = self._replica
    for partition in [each for each in self._mine if replica.tombstones[each]]:
        start, end = partition_bounds(partition)
        found, _ = replica.newest(start, end, limit=1_000)
        old = self.boundary - OLD_SLICES
        for row in [each for each in found if replica.fences.is_garbage(found[each], old)]:
            replica.collect(row, found[row])
    return _move_on(self)


def _no_horizon_with_the_copy(self: Pulls, page: Any, lock: int) -> dict[bytes, Record]:
    del self, page, lock
    return {}


def _kept_though_nobody_lists_it(self: Pulls, *pages: Any) -> None:
    del self, pages


RULES: Final = (
    Plant(
        "garbage goes before all have locked it", Collection, "_look_at_locked", _dropped_at_once
    ),
    Plant("what is below a horizon wins", Fences, "lets_in", _let_in_below_a_horizon),
    Plant("a boundary is locked late", Agreement, "hear", _late_digests_count),
    Plant("a lock is not checked", Collection, "agreed", _locked_unchecked),
    Plant("a lock is taken back", Agreement, "hear", _unlocked_by_whoever_has_no_lock),
    Plant("copies that move are collected", Agreement, "adopted", _collected_while_copies_move),
    Plant("a late delete is not kept", Fences, "lets_in", _tombstones_need_no_place),
    Plant("a copy comes with garbage", Agreement, "gained", _kept_though_it_is_garbage),
    Plant("a majority collects", Agreement, "_look_at", _a_majority_is_enough),
    Plant("what is refused is acknowledged", Replica, "apply_over", _refused_and_acknowledged),
    Plant("garbage goes by age", Agreement, "_move_on", _dropped_by_age),
    Plant("a copy comes without a horizon", Pulls, "_own_rows", _no_horizon_with_the_copy),
    Plant("what nobody lists is kept", Pulls, "_drop_refused", _kept_though_nobody_lists_it),
)
