# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleted stays deleted (I11)."""

from __future__ import annotations

import pytest

from quorate.sim.checkers import deletes
from quorate.sim.history import ClientOperation, Evidence
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    left,
    of_derived,
    of_get,
    of_put,
    record,
)


def _check(*operations: ClientOperation, facts: Evidence | None = None) -> list[str]:
    return [
        each.invariant for each in list(deletes.check(history(*operations), facts or evidence()))
    ]


def _deleted(**changes: int) -> tuple[ClientOperation, ClientOperation]:
    return of_put(b"v", 0, 1, number=1), of_put(None, 2, 3, number=2, **changes)


def test_a_deleted_value_that_is_read_again_is_found() -> None:
    assert _check(*_deleted(), of_get(b"v", 4, 5, number=1)) == ["I11"]
    assert _check(*_deleted(), of_get(None, 4, 5)) == []


def test_a_read_that_began_before_the_delete_was_over_may_miss_it() -> None:
    assert _check(*_deleted(), of_get(b"v", 2.5, 5, number=1)) == []


def test_a_write_that_was_not_over_before_may_be_read() -> None:
    for put in (of_put(b"v", 0, 2.5), of_put(b"v", 4, 5)):
        assert _check(put, of_put(None, 2, 3, number=2), of_get(b"v", 6, 7)) == []
    unknown, delete = _deleted()
    unknown.result = None
    assert _check(unknown, delete, of_get(b"v", 6, 7)) == []


@pytest.mark.parametrize(("put_w", "delete_w", "r"), [(1, 0, 0), (0, 1, 3), (0, 0, 1)])
def test_fewer_replicas_promise_nothing(put_w: int, delete_w: int, r: int) -> None:
    put, delete = of_put(b"v", 0, 1, w=put_w), of_put(None, 2, 3, number=2, w=delete_w)
    assert _check(put, delete, of_get(b"v", 4, 5, r=r)) == []


def test_a_deleted_value_that_is_left_is_found() -> None:
    assert _check(*_deleted(), facts=left(record(b"v", 1))) == ["I11"]
    assert _check(*_deleted(), facts=left(record(None, 2))) == []
    assert _check(*_deleted(), facts=left(record(b"v", 1), in_budget=False)) == []


def test_after_a_replica_forgot_nothing_is_promised() -> None:
    read = of_get(b"v", 4, 5, number=1)
    assert _check(*_deleted(), read, facts=evidence(forgot_ms={KEY: 4.5})) == []
    assert _check(*_deleted(), read, facts=evidence(forgot_ms={KEY: 5.5})) == ["I11"]


def test_nothing_is_promised_of_what_went_on_while_a_copy_was_lost() -> None:
    read = of_get(b"v", 4, 5, number=1)
    for lost_ms, expected in ((2.5, []), (3.5, ["I11"]), (4.5, [])):
        facts = evidence(lost_ms={KEY: [lost_ms]})
        assert _check(*_deleted(), read, facts=facts) == expected


def test_what_was_deleted_as_it_was_read_stays_deleted() -> None:
    getdel = of_derived(None, 2, 3, number=2, seen=1)
    read = of_get(b"v", 4, 5, number=1)
    assert _check(of_put(b"v", 0, 1), getdel, read) == ["I11"]
    # Who read by few replicas may have deleted something older.
    getdel.r = 1
    assert _check(of_put(b"v", 0, 1), getdel, read) == []


def test_a_value_that_was_carried_on_meanwhile_may_be_read() -> None:
    put, delete = of_put(b"v", 0, 1), of_put(None, 2, 4, number=2)
    read = of_get(b"v", 5, 6, number=3)
    for asked_ms, done_ms, count in ((1.5, 1.8, 1), (1.5, 2.5, 0), (3, 4.5, 0)):
        expire = of_derived(b"v", asked_ms, done_ms, number=3, seen=1)
        assert _check(put, expire, delete, read) == ["I11"] * count
    expire = of_derived(b"v", 1.5, 1.8, number=3, seen=1)
    expire.result = None
    assert _check(put, expire, delete, read) == []
