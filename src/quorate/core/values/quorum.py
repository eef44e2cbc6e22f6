# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a quorum is judged: one pure verdict over the replies so far (Dynamo, section 4.5).

`n` replicas hold a key; a request needs `needed` of them (W for a write, R for a read). Only
distinct replicas are counted, each once; hints never count.
"""

from __future__ import annotations

import enum


class Verdict(enum.Enum):
    """What the replies so far decide."""

    MET = enum.auto()
    PENDING = enum.auto()
    LOST = enum.auto()


class Consistency(enum.Enum):
    """What a read at these numbers promises (DESIGN, P2)."""

    LINEARIZABLE = "linearizable"
    """Never older than a finished write or an earlier read."""
    REGULAR = "regular"
    """Never older than a finished write; two reads during one write may go back in time."""
    EVENTUAL = "eventual"


_MET, _PENDING, _LOST = Verdict.MET, Verdict.PENDING, Verdict.LOST


def verdict(good: int, failed: int, n: int, needed: int) -> Verdict:
    """Judge `good` answers and `failed` replicas; `n - good - failed` may still answer."""
    if good >= needed:
        return _MET
    return _LOST if n - failed < needed else _PENDING


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
