# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleted stays deleted (I11)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult
from quorate.sim.checkers import deletes
from quorate.sim.history import ClientOperation, Evidence, Kind
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    left,
    linked,
    of_get,
    of_put,
    of_update,
    record,
    token,
)

V = token(b"v")


def _check(*operations: ClientOperation, facts: Evidence | None = None) -> list[str]:
    return [
        each.invariant for each in list(deletes.check(history(*operations), facts or evidence()))
    ]


def _deleted(**changes: int) -> tuple[ClientOperation, ClientOperation]:
    return of_put(V, 0, 1, number=1), of_put(None, 2, 3, number=2, **changes)


def test_a_deleted_value_that_is_read_again_is_found() -> None:
    assert _check(*_deleted(), of_get(V, 4, 5, number=1)) == ["I11"]
    assert _check(*_deleted(), of_get(None, 4, 5)) == []


def test_a_read_that_began_before_the_delete_was_over_may_miss_it() -> None:
    assert _check(*_deleted(), of_get(V, 2.5, 5, number=1)) == []


def test_a_write_that_was_not_over_before_may_be_read() -> None:
    for put in (of_put(V, 0, 2.5), of_put(V, 4, 5)):
        assert _check(put, of_put(None, 2, 3, number=2), of_get(V, 6, 7)) == []
    unknown, delete = _deleted()
    unknown.result = None
    assert _check(unknown, delete, of_get(V, 6, 7)) == []


@pytest.mark.parametrize(("put_w", "delete_w", "r"), [(1, 0, 0), (0, 1, 3), (0, 0, 1)])
def test_fewer_replicas_promise_nothing(put_w: int, delete_w: int, r: int) -> None:
    put, delete = of_put(V, 0, 1, w=put_w), of_put(None, 2, 3, number=2, w=delete_w)
    assert _check(put, delete, of_get(V, 4, 5, r=r)) == []


def test_a_deleted_value_that_is_left_is_found() -> None:
    assert _check(*_deleted(), facts=left(record(V, 1))) == ["I11"]
    assert _check(*_deleted(), facts=left(record(None, 2))) == []
    assert _check(*_deleted(), facts=left(record(V, 1), in_budget=False)) == []


def test_after_a_replica_forgot_nothing_is_promised() -> None:
    read = of_get(V, 4, 5, number=1)
    assert _check(*_deleted(), read, facts=evidence(forgot_ms={KEY: 4.5})) == []
    assert _check(*_deleted(), read, facts=evidence(forgot_ms={KEY: 5.5})) == ["I11"]


def test_nothing_is_promised_of_what_went_on_while_a_copy_was_lost() -> None:
    read = of_get(V, 4, 5, number=1)
    for lost_ms, expected in ((2.5, []), (3.5, ["I11"]), (4.5, [])):
        facts = evidence(lost_ms={KEY: [lost_ms]})
        assert _check(*_deleted(), read, facts=facts) == expected


def test_what_was_deleted_as_it_was_read_stays_deleted() -> None:
    getdel = of_update(Kind.GETDEL, 2, 3, before=record(V), after=linked(None, 1))
    read = of_get(V, 4, 5, number=1)
    assert _check(of_put(V, 0, 1), getdel, read) == ["I11"]


def test_what_an_update_found_is_read() -> None:
    update = of_update(Kind.CAS, 4, 5, before=record(V))
    assert _check(*_deleted(), update) == ["I11"]


def test_a_value_that_got_another_expiry_meanwhile_may_be_read() -> None:
    put, delete = of_put(V, 0, 1), of_put(None, 2, 4, number=2)
    changed = linked(V, 1, expires_ms=9)
    read = of_get(V, 5, 6)
    read.result = GetResult(changed, 2)
    for asked_ms, done_ms, count in ((1.5, 1.8, 1), (1.5, 2.5, 0), (3, 4.5, 0)):
        expire = of_update(Kind.EXPIRE, asked_ms, done_ms, after=changed)
        assert _check(put, expire, delete, read) == ["I11"] * count
    expire = of_update(Kind.EXPIRE, 1.5, 1.8, after=changed)
    expire.result = None
    assert _check(put, expire, delete, read) == []
