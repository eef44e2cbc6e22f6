# SPDX-License-Identifier: GPL-3.0-or-later
"""A page of keys has what was there throughout, and nothing older (I34)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import ScanResult
from quorate.core.values.messages import ScannedRow
from quorate.core.values.slots import row_of
from quorate.errors import DeadlineExceeded, Outcome, QuorumUnreachable
from quorate.sim.checkers import listings
from quorate.sim.history import ClientOperation, Evidence, Kind, Page
from tests.unit.sim.checkers.told import (
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
    assert _check(_page(one, two)) == []
    assert "out of order" in _check(_page(two, one))[0]
    assert "out of order" in _check(_page(one, one))[0]
    assert "too many" in _check(_page(one, two, three, four))[0]
    assert "cursors" in _check(_page(one, two, cursor=one.row))[0]
    ended = Page(0, b"", 3, 0, 10.0, 12.0, ScanResult([one, two], one.row, True))
    assert "cursors" in _check(ended)[0]
