# SPDX-License-Identifier: GPL-3.0-or-later
"""What was answered when: a run in slices of time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, zip_longest

import msgspec


class Slice(msgspec.Struct, frozen=True):
    """What came in within one slice, late answers in that of their arrival."""

    succeeded: int = 0
    errors: int = 0
    worst_ms: float = 0.0


class Availability(msgspec.Struct, frozen=True):
    """How a run looks to whoever only asks whether it worked."""

    longest_gap_ms: int
    """The longest time without a success, in whole slices."""
    failed_share: float
    """Of all that were answered or lost, 0 to 1."""


def added(timelines: Sequence[Sequence[Slice]]) -> list[Slice]:
    """What several workers saw at the same time, as one."""
    return [
        Slice(
            sum(each.succeeded for each in same),
            sum(each.errors for each in same),
            max(each.worst_ms for each in same),
        )
        for same in zip_longest(*timelines, fillvalue=Slice())
    ]


def availability(timeline: Sequence[Slice], *, slice_ms: int) -> Availability:
    """The summary of a timeline."""
    gaps = [len(list(group)) for is_gap, group in groupby(timeline, _is_gap) if is_gap]
    errors = sum(each.errors for each in timeline)
    ended = errors + sum(each.succeeded for each in timeline)
    return Availability(max(gaps, default=0) * slice_ms, errors / ended if ended else 0.0)


def _is_gap(each: Slice) -> bool:
    return each.succeeded == 0
