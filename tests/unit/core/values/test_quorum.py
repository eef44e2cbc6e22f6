# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict against every way that the missing replies may still go (S35)."""

from __future__ import annotations

from itertools import product

import pytest

from quorate.core.values.quorum import Consistency, Verdict, consistency, majority, verdict

_CASES = [
    (good, failed, n, needed)
    for n in range(1, 6)
    for needed in range(1, n + 1)
    for good in range(n + 1)
    for failed in range(n + 1 - good)
]


def _slow(good: int, failed: int, n: int, needed: int) -> Verdict:
    """Play every future: met if all have enough acks, lost if none has."""
    futures = [
        good + sum(replies) >= needed for replies in product((0, 1), repeat=n - good - failed)
    ]
    if good >= needed:
        return Verdict.MET
    return Verdict.PENDING if any(futures) else Verdict.LOST


@pytest.mark.parametrize(("good", "failed", "n", "needed"), _CASES)
def test_the_verdict_is_what_all_futures_agree_on(
    good: int, failed: int, n: int, needed: int
) -> None:
    assert verdict(good, failed, n, needed) is _slow(good, failed, n, needed)


@pytest.mark.parametrize("n", range(1, 10))
def test_two_majorities_share_a_replica_and_none_smaller_does(n: int) -> None:
    assert 2 * majority(n) > n >= 2 * (majority(n) - 1)


@pytest.mark.parametrize(
    ("n", "r", "w", "promise"),
    [
        (1, 1, 1, Consistency.LINEARIZABLE),
        (3, 2, 2, Consistency.LINEARIZABLE),
        (3, 3, 2, Consistency.LINEARIZABLE),
        (3, 1, 3, Consistency.REGULAR),
        (3, 3, 1, Consistency.REGULAR),
        (3, 1, 2, Consistency.EVENTUAL),
        (5, 2, 4, Consistency.REGULAR),
        (5, 3, 3, Consistency.LINEARIZABLE),
    ],
)
def test_what_reads_promise(n: int, r: int, w: int, promise: Consistency) -> None:
    assert consistency(n=n, r=r, w=w) is promise
