# SPDX-License-Identifier: GPL-3.0-or-later
"""A read is as fresh as its R and the writes' W promise (I6)."""

from __future__ import annotations

import pytest

from quorate.sim.checkers import freshness
from quorate.sim.history import ClientOperation, Evidence, Kind
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    linked,
    of_get,
    of_put,
    of_update,
    record,
)


def _check(*operations: ClientOperation, facts: Evidence | None = None) -> list[str]:
    return [
        each.invariant for each in list(freshness.check(history(*operations), facts or evidence()))
    ]


@pytest.mark.parametrize(
    ("w", "r", "is_promised"),
    [(0, 0, True), (3, 1, True), (1, 3, True), (1, 2, False), (2, 1, False), (1, 1, False)],
)
def test_a_read_that_misses_a_finished_write_is_found_where_they_overlap(
    w: int, r: int, is_promised: bool
) -> None:
    put = of_put(b"v", 0, 1, number=5, w=w)
    expected = ["I6"] if is_promised else []
    assert _check(put, of_get(None, 2, 3, r=r)) == expected
    assert _check(put, of_get(b"old", 2, 3, number=4, r=r)) == expected
    assert _check(put, of_get(b"v", 2, 3, number=5, r=r)) == []
    assert _check(put, of_get(b"newer", 2, 3, number=6, r=r)) == []


def test_a_read_that_began_before_may_miss_it() -> None:
    assert _check(of_put(b"v", 0, 2, number=5), of_get(None, 1, 3)) == []
    assert _check(of_put(b"v", 0, 2, number=5), of_get(None, 2, 3)) == []


def test_the_newest_finished_write_counts_not_the_last() -> None:
    newest, last = of_put(b"b", 0, 1, number=9), of_put(b"a", 2, 3, number=5)
    assert _check(newest, last, of_get(b"a", 4, 5, number=5)) == ["I6"]
    assert _check(newest, last, of_get(b"b", 4, 5, number=9)) == []


@pytest.mark.parametrize(
    ("first_r", "second_r", "is_promised"), [(0, 0, True), (2, 3, True), (1, 2, False)]
)
def test_two_reads_in_a_row_never_go_back_at_majorities(
    first_r: int, second_r: int, is_promised: bool
) -> None:
    first = of_get(b"v", 0, 1, number=5, r=first_r)
    again = of_get(None, 2, 3, r=second_r)
    assert _check(first, again) == (["I6"] if is_promised else [])


def test_an_update_that_left_what_it_read_is_a_read_and_one_that_wrote_a_write() -> None:
    """Seed 306000: N=5, W=4, R=2. Three had what an UNLOCK read, and a get met two others."""
    left = of_update(Kind.UNLOCK, 0, 1, before=record(b"v", 5))
    wrote = of_update(Kind.APPEND, 0, 1, after=linked(b"v", 1, number=5))
    for facts, of_reads in ((evidence(), ["I6"]), (evidence(r=1, w=3), [])):
        assert _check(left, of_get(None, 2, 3), facts=facts) == of_reads
        assert _check(wrote, of_get(None, 2, 3), facts=facts) == ["I6"]


def test_regular_reads_may_go_back_while_a_write_is_under_way() -> None:
    first, again = of_get(b"v", 0, 1, number=5), of_get(None, 2, 3)
    assert _check(first, again, facts=evidence(r=1, w=3)) == []


def test_after_a_replica_forgot_nothing_is_promised() -> None:
    played = of_put(b"v", 0, 1, number=5), of_get(None, 2, 3)
    assert _check(*played, facts=evidence(forgot_ms={KEY: 2.5})) == []
    assert _check(*played, facts=evidence(forgot_ms={KEY: 3.5})) == ["I6"]


def test_a_read_may_be_older_if_a_copy_was_lost_while_it_went_on() -> None:
    played = of_put(b"v", 0, 1, number=5), of_get(None, 2, 4)
    for lost_ms, expected in ((1.5, ["I6"]), (3.0, []), (4.5, ["I6"])):
        assert _check(*played, facts=evidence(lost_ms={KEY: [lost_ms]})) == expected


def test_failed_requests_say_nothing() -> None:
    put, get = of_put(b"v", 0, 1, number=5), of_get(None, 2, 3)
    get.result = None
    assert _check(put, get) == []
