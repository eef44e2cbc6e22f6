# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the coordinator of writes."""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges import writes
from quorate.core.exchanges.write import Write
from quorate.core.exchanges.writes import Writes
from quorate.core.replica import Replica
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Groups, Verdict, verdict
from quorate.core.turn import Parked
from quorate.core.values.events import Put
from quorate.core.values.messages import Mutated
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, pack_version
from quorate.errors import Outcome, QuorateError
from quorate.sim.draw import Options
from quorate.sim.faults import MILD
from tests.simulation.plants.plant import DEFAULT, Plant

_begin: Final = Writes.begin
_send: Final = Writes._send
_answered: Final = Writes.answered
_above: Final = Writes._above
_expired: Final = Write.expired
_judge: Final = Writes._judge


def _denied(self: Replica, record: Record) -> bool:
    del self, record
    return True


def _hints_count(
    self: Writes, write: Write, *, is_mine: bool, held: Record | None, others: tuple[Peer, ...]
) -> None:
    before = write.failed
    _send(self, write, is_mine=is_mine, held=held, others=others)
    write.acks |= write.failed & ~before
    write.failed = before


def _down_peers_are_left_out(
    self: Writes, write: Write, *, is_mine: bool, held: Record | None, others: tuple[Peer, ...]
) -> None:
    live = tuple(peer for peer in others if peer.is_reachable)
    _send(self, write, is_mine=is_mine, held=held, others=live)


def _refused_for_its_own_disk(self: Writes, event: Put, parked: Parked | None = None) -> None:
    if self._replica.trouble.code:
        raise self._replica.trouble.error()
    _begin(self, event, parked)


def _any_w_is_a_majority(groups: Groups) -> bool:
    del groups
    return True


def _more_than_w(done: int, failed: int, groups: Groups) -> Verdict:
    if all((done & group.mask).bit_count() > group.needed for group in groups):
        return Verdict.MET
    is_lost = verdict(done, failed, groups) is Verdict.LOST
    return Verdict.LOST if is_lost else Verdict.PENDING


def _superseded_is_plain(self: Writes, peer: Peer, ops: list[Write], answer: Mutated) -> None:
    _answered(self, peer, ops, Mutated(answer.batch, [], answer.refused, answer.busy))


def _the_last_report_counts(self: Writes, peer: Peer, ops: list[Write], answer: Mutated) -> None:
    for write in ops:
        write.highest, write.ahead = ABSENT, 0
    _answered(self, peer, ops, answer)


def _above_its_own_only(self: Writes, write: Write) -> Record | None:
    write.highest = write.record.version
    return _above(self, write)


def _expired_unapplied(self: Write) -> QuorateError:
    error = _expired(self)
    error.outcome = Outcome.NOT_APPLIED
    return error


def _without_node_id(stamp: int, node_id: int) -> bytes:
    del node_id
    return pack_version(stamp, 0)


def _no_hint_for_the_lost(self: Writes, peer: Peer, ops: list[Write]) -> None:
    for write in ops:
        self._failed(write, peer.bit)


def _stamped_again(self: Writes, write: Write) -> None:
    self._restamp(write)


def _the_first_acks_decide(self: Writes, write: Write) -> None:
    is_acked = verdict(write.acks, write.failed, write.groups) is Verdict.MET
    if is_acked and write.ahead and not write.is_settled and write.succession is None:
        self._restamp(write)
    else:
        _judge(self, write)


PLANTS: Final = (
    Plant("a hint counts toward W", Writes, "_send", _hints_count),
    Plant(
        "down peers are dropped from the replica list",
        Writes,
        "_send",
        _down_peers_are_left_out,
    ),
    Plant("W is judged with > for >=", writes, "verdict", _more_than_w),
    Plant("a superseded ack counts as plain", Writes, "answered", _superseded_is_plain),
    Plant(
        "the last ack alone decides on a second stamp", Writes, "answered", _the_last_report_counts
    ),
    Plant(
        "the second stamp is not above the reported version",
        Writes,
        "_above",
        _above_its_own_only,
        Options(5, 3, 0, 0, faults=frozenset({"crossed", "skew"})),
    ),
    Plant(
        "NOT_APPLIED after a replica was sent the write",
        Write,
        "expired",
        _expired_unapplied,
    ),
    Plant(
        "no hint where an ack never came",
        Writes,
        "lost",
        _no_hint_for_the_lost,
        Options(faults=MILD),
    ),
    Plant(
        "a full disk refuses what the peers could take",
        Writes,
        "begin",
        _refused_for_its_own_disk,
        Options(faults=frozenset({"full"})),
    ),
    Plant(
        "a put of less than a majority is moved",
        writes,
        "are_majorities",
        _any_w_is_a_majority,
        DEFAULT._replace(replication=2, w=1, r=1),
    ),
    Plant("versions without a tie-break", writes, "pack_version", _without_node_id),
)
TOLD: Final = (
    Plant("a write is stamped again, not moved", Writes, "_move", _stamped_again),
    Plant("the first acks decide on a second stamp", Writes, "_judge", _the_first_acks_decide),
    Plant("who is ahead is taken never to have held a write", Replica, "never_held", _denied),
)
"""What a story shows (`test_update_rules`)."""
