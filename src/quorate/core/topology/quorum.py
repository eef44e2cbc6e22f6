# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a quorum is judged: one pure verdict over the replies so far (Dynamo, section 4.5).

A set of replicas is an int with a bit for each (`peer`), so a replica counts once however often it
answers; hints never count. A *group* is such a set of which a number is needed: W of them for a
write, R for a read. Where two tables are in force each has its group, and all must be met (a joint
quorum: Raft, section 6).

    three = Group(0b0111, 2)
    verdict(0b0101, 0b0000, (three,))  # MET: two of the three
    verdict(0b0101, 0b0000, (three, Group(0b1110, 2)))  # PENDING: only one of the others
    verdict(0b0101, 0b1010, (three, Group(0b1110, 2)))  # LOST: two of them will not answer
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What the replies so far decide."""

    MET = enum.auto()
    PENDING = enum.auto()
    LOST = enum.auto()


class Consistency(enum.Enum):
    """What a read at these numbers promises (P2)."""

    LINEARIZABLE = "linearizable"
    """Never older than a finished write or an earlier read."""
    REGULAR = "regular"
    """Never older than a finished write; two reads during one write may go back in time."""
    EVENTUAL = "eventual"


_MET, _PENDING, _LOST = Verdict.MET, Verdict.PENDING, Verdict.LOST


class Group:
    """Replicas of which `needed` have to answer."""

    __slots__ = ("mask", "needed")

    def __init__(self, mask: int, needed: int) -> None:
        self.mask = mask
        self.needed = needed


Groups = tuple[Group, ...]


def verdict(done: int, failed: int, groups: Groups) -> Verdict:
    """Judge the replicas that answered well and those that will not answer any more; all others may
    still. MET if every group is; LOST if any cannot be."""
    found = _MET
    for group in groups:
        mask, needed = group.mask, group.needed
        if (mask & done).bit_count() < needed:
            if (mask & (done | ~failed)).bit_count() < needed:
                return _LOST
            found = _PENDING
    return found


def lacking(done: int, groups: Groups) -> int:
    """The members of all groups that are not met; 0 if all are."""
    found = 0
    for group in groups:
        if (group.mask & done).bit_count() < group.needed:
            found |= group.mask
    return found


def needed_of(groups: Groups) -> int:
    """How many answers the most demanding group needs, for people."""
    return max([group.needed for group in groups])


def majority(n: int) -> int:
    """The smallest count that any two sets of which share a replica."""
    return n // 2 + 1


def consistency(*, n: int, r: int, w: int) -> Consistency:
    """What reads of `r` promise where writes need `w`.

    Linearizable needs a majority of answers too, not only an overlap with writes: at W = N, R = 1
    two reads may meet two replicas of which only one has an unfinished write yet.
    """
    if r + w <= n:
        return Consistency.EVENTUAL
    return Consistency.LINEARIZABLE if min(r, w) >= majority(n) else Consistency.REGULAR
