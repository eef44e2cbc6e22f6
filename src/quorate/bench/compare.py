# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sets of rounds compared: the ratio of each figure, and how sure it is.

Of each figure the logarithms over the rounds of a side are taken as a sample; the difference of
their means is the ratio, with Welch's interval (Student's t, unequal variances). Logarithms,
because what differs between runs is a factor, and so that A to B is the inverse of B to A.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import fmean, variance
from typing import Final

import msgspec

from quorate.bench.result import FIGURES, KINDS, BenchResult

METHOD: Final = "95 % interval: Welch's t over the logarithms of the rounds"
_NO_MATTER: Final = ("targets", "scenario", "preload")
_T: Final = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
"""Student's t, 97.5 %, for 1 to 30 degrees of freedom."""
_T_NORMAL: Final = 1.960
"""For any number of them."""


class Compared(msgspec.Struct, frozen=True):
    """One figure of one kind of requests."""

    kind: str
    figure: str
    before: float
    """The geometric mean of the rounds."""
    after: float
    ratio: float
    """After to before."""
    low: float | None
    """Where the interval begins; None if a side has only one round."""
    high: float | None

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 1: the difference is more than noise."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def rounds_of(results: Sequence[BenchResult]) -> list[BenchResult]:
    """Every single round that was not interrupted."""
    every = (each for result in results for each in (result.rounds or [result]))
    return [each for each in every if each.is_complete]


def differing(before: Sequence[BenchResult], after: Sequence[BenchResult]) -> list[str]:
    """In what the plans differ, besides the targets: a ratio tells of that too then."""
    first, *others = (each.plan for each in (*before, *after))
    return [
        name
        for name in first.__struct_fields__
        if name not in _NO_MATTER
        and any(getattr(first, name) != getattr(other, name) for other in others)
    ]


def compare(before: Sequence[BenchResult], after: Sequence[BenchResult]) -> list[Compared]:
    """Every figure that both sides have; of each at least one round was not interrupted."""
    sides = rounds_of(before), rounds_of(after)
    found = []
    for kind in KINDS:
        for figure in FIGURES[1:]:  # How many requests there were is no figure of merit.
            one, other = ([getattr(each.of(kind), figure) for each in side] for side in sides)
            if min(*one, *other) > 0:
                found.append(_compared(kind, figure, one, other))
    return found


def _compared(kind: str, figure: str, before: list[float], after: list[float]) -> Compared:
    old, new = [log(each) for each in before], [log(each) for each in after]
    difference = fmean(new) - fmean(old)
    half = _half_width(old, new)
    low, high = (None, None) if half is None else (exp(difference - half), exp(difference + half))
    return Compared(kind, figure, exp(fmean(old)), exp(fmean(new)), exp(difference), low, high)


def _half_width(one: list[float], other: list[float]) -> float | None:
    if len(one) < 2 or len(other) < 2:
        return None
    a, b = variance(one) / len(one), variance(other) / len(other)
    if not a + b:
        return 0.0
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return student_t(freedom) * sqrt(a + b)


def student_t(freedom: float) -> float:
    """The 97.5 % quantile. Between the numbers of the table on a straight line over 1 / freedom,
    which lies above the curve: the interval is rather too wide than too narrow."""
    freedom = max(freedom, 1.0)
    below = int(freedom)
    if below >= len(_T):
        return _T_NORMAL + (_T[-1] - _T_NORMAL) * len(_T) / freedom
    low, high = _T[below], _T[below - 1]
    share = (1 / freedom - 1 / (below + 1)) / (1 / below - 1 / (below + 1))
    return low + share * (high - low)
