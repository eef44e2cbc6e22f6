# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of keys has what was there throughout, and nothing older (I34)."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.values.events import PutResult, ScanResult
from quorate.core.values.messages import ScannedRow
from quorate.core.values.slots import key_of, row_of
from quorate.errors import DeadlineExceeded, Outcome, QuorumUnreachable
from quorate.sim.checkers import listings
from quorate.sim.history import ClientOperation, Evidence, Kind, Page
from tests.unit.sim.checkers.told import (
    EPOCH_MS,
    KEY,
    evidence,
    history,
    linked,
    of_get,
    of_put,
    of_update,
    token,
    version,
)

V = token(b"v")
ROW = row_of(KEY)


def _listed(number: int, row: bytes = ROW) -> ScannedRow:
    return ScannedRow(row, version(number), True, 0)


def _page(*rows: ScannedRow, cursor: bytes = b"", complete: bool = True, r: int = 0) -> Page:
    """All that is behind the cursor, as it was told between 10 and 12 ms."""
    result = ScanResult(list(rows), b"", complete)
    return Page(0, cursor, 3, r, asked_ms=10.0, over_ms=12.0, result=result)


def _check(page: Page, *operations: ClientOperation, facts: Evidence | None = None) -> list[str]:
    told = history(*operations)
    told.pages = [page]
    return [each.told for each in listings.check(told, facts or evidence())]


def test_what_was_there_is_to_be_listed_in_its_last_version() -> None:
    puts = of_put(V, 0, 1, number=1), of_put(V, 2, 3, number=2)
    assert _check(_page(_listed(2)), *puts) == []
    assert "older than" in _check(_page(_listed(1)), *puts)[0]
    assert "does not list" in _check(_page(), *puts)[0]


def test_what_was_deleted_is_not() -> None:
    writes = of_put(V, 0, 1, number=1), of_put(None, 2, 3, number=2)
    assert _check(_page(), *writes) == []
    assert "older than" in _check(_page(_listed(1)), *writes)[0]


def test_a_write_that_was_not_over_before_promises_nothing() -> None:
    assert _check(_page(), of_put(V, 0, 10.5)) == []
    assert _check(_page(_listed(1)), of_put(V, 0, 1), of_put(V, 9, 11, number=2)) == []


def _unknown(op: ClientOperation) -> ClientOperation:
    op.result = DeadlineExceeded("late", outcome=Outcome.UNKNOWN)
    return op


def test_what_may_have_been_taken_away_meanwhile_need_not_be_there() -> None:
    put = of_put(V, 0, 1)
    lasting, fading = of_put(V, 4, 11), of_put(V, 4, 11)
    fading.expires_ms = 5
    expired = of_put(V, 0, 1)
    expired.expires_ms = 5
    assert _check(_page(), expired) == []
    for hidden in (
        of_put(None, 4, 11, number=2),
        _unknown(of_put(None, 2, 3)),
        _unknown(of_update(Kind.GETDEL, 2, 3)),
        _unknown(of_update(Kind.EXPIRE, 2, 3)),
        fading,
    ):
        assert _check(_page(), put, hidden) == [], hidden
    refused = of_put(None, 2, 3)
    refused.result = QuorumUnreachable("few", outcome=Outcome.NOT_APPLIED)
    for kept in (
        refused,
        lasting,
        _unknown(of_update(Kind.INCREMENT, 2, 3)),
        of_get(V, 2, 11, number=1),
        of_put(None, 13, 14, number=2),
    ):
        assert "does not list" in _check(_page(), put, kept)[0], kept


def test_a_delete_that_few_have_may_be_met() -> None:
    put, few = of_put(V, 0, 1, number=1), of_put(None, 2, 3, number=2, w=1)
    assert _check(_page(), put, few) == []
    assert _check(_page(_listed(1)), put, few) == []
    assert "does not list" in _check(_page(), of_put(None, 0, 1, w=1), of_put(V, 2, 3, number=2))[0]


def test_what_an_update_made_is_to_be_listed() -> None:
    made = linked(V, 1)
    update = of_update(Kind.APPEND, 2, 3, after=made)
    assert "older than" in _check(_page(_listed(1)), of_put(V, 0, 1), update)[0]
    row = ScannedRow(ROW, made.version, True, 0)
    assert _check(_page(row), of_put(V, 0, 1), update) == []


@pytest.mark.parametrize(
    "page",
    [
        _page(complete=False),
        _page(r=1),
        _page(cursor=ROW),
        Page(0, b"", 3, 0, 10.0, 12.0, ScanResult([], ROW[:2], True)),
        Page(0, b"", 3, 0, 10.0, 12.0, DeadlineExceeded("late")),
        Page(0, b"", 3, 0, 10.0),
    ],
)
def test_pages_that_say_less_promise_less(page: Page) -> None:
    assert _check(page, of_put(V, 0, 1)) == []


def test_after_a_replica_forgot_nothing_is_promised() -> None:
    assert _check(_page(), of_put(V, 0, 1), facts=evidence(forgot_ms={KEY: 5.0})) == []
    assert _check(_page(), of_put(V, 0, 1), facts=evidence(lost_ms={KEY: [11.0]})) == []
    assert _check(_page(), of_put(V, 0, 1), facts=evidence(lost_ms={KEY: [5.0]}))


def test_keys_come_in_order_once_and_between_the_cursors() -> None:
    one, two, three, four = (_listed(1, ROW + bytes([each])) for each in range(4))
    keys = evidence(replicas={key_of(each.row): [0, 1, 2] for each in (one, two, three, four)})
    assert _check(_page(one, two), facts=keys) == []
    assert "out of order" in _check(_page(two, one), facts=keys)[0]
    assert "out of order" in _check(_page(one, one), facts=keys)[0]
    assert "too many" in _check(_page(one, two, three, four), facts=keys)[0]
    assert "cursors" in _check(_page(one, two, cursor=one.row), facts=keys)[0]
    ended = Page(0, b"", 3, 0, 10.0, 12.0, ScanResult([one, two], one.row, True))
    assert "cursors" in _check(ended, facts=keys)[0]


@pytest.mark.parametrize("cursor", [ROW, ROW[:2]])
def test_a_page_comes_forward(cursor: bytes) -> None:
    stays = Page(0, ROW, 3, 0, 10.0, 12.0, ScanResult([], cursor, True))
    assert "does not come forward" in _check(stays)[0]
    stays.result = ScanResult([], ROW + b"\0", True)
    assert _check(stays) == []


@pytest.mark.parametrize("complete", [True, False])
def test_what_is_listed_is_live_and_somebody_wrote_it_before(*, complete: bool) -> None:
    def told(listed: ScannedRow, *operations: ClientOperation, **facts: Any) -> str:
        page = _page(listed, complete=complete)
        return ", ".join(_check(page, *operations, facts=evidence(**facts)))

    put, deleted = of_put(V, 0, 1), of_put(None, 2, 3, number=2)
    assert told(_listed(1), put) == ""
    assert "is deleted" in told(ScannedRow(ROW, version(1), False, 0), put)
    assert "is deleted" in told(_listed(2), put, deleted)
    assert "no client wrote" in told(_listed(2), put)
    assert "no client wrote" in told(_listed(2), put, of_put(V, 13, 14, number=2))
    assert "no client wrote" in told(_listed(1, row_of(b"another")))
    assert "is deleted" in told(_listed(2), put, deleted, forgot_ms={KEY: 1.0})


def test_a_version_that_nobody_was_told_may_be_one_whose_end_nobody_knows() -> None:
    put = of_put(V, 0, 1)
    assert _check(_page(_listed(5)), put, _unknown(of_put(V, 4, 11))) == []
    again = of_put(V, 0, 11, number=3)
    again.result = PutResult(version(3), 2, 3, restamped=True)
    assert _check(_page(_listed(2)), put, again) == []
    refused = of_put(V, 4, 5)
    refused.result = QuorumUnreachable("few", outcome=Outcome.NOT_APPLIED)
    assert "no client wrote" in _check(_page(_listed(5)), put, refused)[0]


def test_what_had_expired_by_any_clock_is_not_listed() -> None:
    put = of_put(V, 0, 1)
    put.expires_ms = EPOCH_MS + 8
    told = ScannedRow(ROW, version(1), True, put.expires_ms)
    assert "had expired" in _check(_page(told), put)[0]
    assert "had expired" in _check(_page(_listed(1)), put)[0]
    assert _check(_page(told), put, facts=evidence(wall_skew_ms=3)) == []


def test_once_every_replica_can_be_read_each_page_is_complete() -> None:
    put, whole = of_put(V, 0, 1), evidence(whole_from_ms=9.0)
    assert _check(_page(_listed(1)), put, facts=whole) == []
    assert "can be read" in _check(_page(_listed(1), complete=False), put, facts=whole)[0]
    for result in (None, DeadlineExceeded("late")):
        page = Page(0, b"", 3, 0, asked_ms=10.0, over_ms=12.0, result=result)
        assert "can be read" in _check(page, put, facts=whole)[0]
        assert _check(page, put) == []
