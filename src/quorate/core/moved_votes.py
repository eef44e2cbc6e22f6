# SPDX-License-Identifier: GPL-3.0-or-later
"""Votes that go along with a copy: who gains it asks who held it, and votes on as if it had always
been there.

Of each instance it then knows the highest promise, and what was accepted under the highest ballot,
of so many replicas that each majority of them has one among these (`exchanges.pulls`). So what a
majority had accepted is found by whoever asks a majority of the later ones, and is not decided once
more. A vote that was not given here may be remembered here: to who asks, it is as if the question
had come at once and the answer late. What any of them may have forgotten is forgotten here: the
floor is the highest of all, and so is what is lost.

For example: 17 and 42 accepted 8 as the successor of 7, and before it is written anywhere 99 takes
the place of 42. If 99 did not know, 23 and 99 could decide on another 8, and one INCR be lost.

Source: checked as `votes_not_pulled` in a model of the protocol (docs/simulation.md).
"""

from __future__ import annotations

from quorate.core.replica import Replica
from quorate.core.values.messages import Instance
from quorate.core.values.slots import PAGE_BYTES, partition_bounds
from quorate.core.values.stored import StoredVotes
from quorate.core.votes import Votes, settled

ToldVote = tuple[bytes, bytes, int, Instance | None]
"""As in `PulledVotes`."""


def told_votes(
    replica: Replica, votes: Votes, partition: int, *, after: bytes, base: bytes, limit: int
) -> tuple[list[ToldVote], bool]:
    """About `limit` of what was voted in a partition, behind the instance `base` of row `after`, in
    order; and whether there is more. StorageError if it cannot be read."""
    start, end = partition_bounds(partition)
    # One row more: that of `after` may have nothing to add.
    page, has_more = replica.votes.page(max(start, after), end, limit=limit + 1)
    found: list[ToldVote] = []
    room = PAGE_BYTES
    for row in page:
        for told in _told_of(replica, votes, row):
            instance = told[3]
            if row == after and (instance is None or instance.base <= base):
                continue
            if room <= 0 or len(found) >= limit:
                return found, True
            found.append(told)
            if instance is not None and instance.record is not None:
                room -= instance.record.size
    return found, has_more


def _told_of(replica: Replica, votes: Votes, row: bytes) -> list[ToldVote]:
    stored = votes.remembered(row)
    floor, lost = stored.floor, stored.lost
    if not stored.instances:
        return [(row, floor, lost, None)]
    held = replica.latest(row)
    return [(row, floor, lost, settled(each, held)) for each in stored.instances]


def take_votes(votes: Votes, told: ToldVote) -> None:
    """Remember what another replica told. StorageError if what is here cannot be read."""
    row, floor, lost, instance = told
    own = votes.remembered(row)
    by_base = {each.base: each for each in own.instances}
    if instance is not None:
        mine = by_base.get(instance.base)
        by_base[instance.base] = instance if mine is None else _joined(mine, instance)
    floor = max(floor, own.floor)
    kept = [by_base[base] for base in sorted(by_base) if base > floor]
    fresh = StoredVotes(floor, kept, max(lost, own.lost))
    if fresh == own:
        return
    votes.put(row, fresh)
    if instance is not None and instance.record is not None:
        votes.note_accepted(row)


def _joined(mine: Instance, told: Instance) -> Instance:
    """All that is known of one instance."""
    if mine.is_resolved or told.is_resolved:
        return mine if mine.is_resolved else told
    promised = max(mine.promised, told.promised)
    best = told if told.accepted > mine.accepted else mine
    return Instance(mine.base, promised, best.accepted, best.record)
