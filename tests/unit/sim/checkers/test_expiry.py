# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is served past its expiry, but for what clocks are wrong by (I16)."""

from __future__ import annotations

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.sim.checkers import expiry
from quorate.sim.history import Kind
from tests.unit.sim.checkers.told import (
    EPOCH_MS,
    evidence,
    history,
    linked,
    of_get,
    of_put,
    of_update,
    record,
    token,
    version,
)

EXPIRES_MS = EPOCH_MS + 100
V = token(b"v")


def _check(done_ms: float, *, record_expires_ms: int, slow_by_ms: int = 0, skew_ms: int = 0) -> int:
    """Violations of a read of a value that expires at 100, by a clock that is slow."""
    put, get = of_put(V, 0, 1), of_get(V, 2, done_ms)
    put.expires_ms = EXPIRES_MS
    get.result = GetResult(Record(version(1), V, record_expires_ms), 2)
    get.wall_ms -= slow_by_ms
    return len(list(expiry.check(history(put, get), evidence(wall_skew_ms=skew_ms))))


def test_a_value_is_served_until_it_expires() -> None:
    assert _check(50, record_expires_ms=EXPIRES_MS) == 0
    assert _check(101, record_expires_ms=EXPIRES_MS) == 0


def test_whole_milliseconds_excuse_one_and_no_more() -> None:
    assert [_check(late, record_expires_ms=0) for late in (101, 102)] == [0, 1]


def test_a_value_whose_expiry_was_lost_is_found_when_it_is_served_later() -> None:
    assert _check(50, record_expires_ms=0) == 0
    assert _check(150, record_expires_ms=0) == 1
    assert _check(150, record_expires_ms=EXPIRES_MS + 200) == 1


def test_a_slow_clock_serves_longer_by_what_it_is_wrong_and_no_more() -> None:
    assert _check(150, record_expires_ms=EXPIRES_MS, slow_by_ms=60, skew_ms=60) == 0
    assert _check(150, record_expires_ms=EXPIRES_MS, slow_by_ms=60, skew_ms=40) == 1


def test_a_value_without_expiry_is_served_for_ever() -> None:
    assert list(expiry.check(history(of_put(V, 0, 1), of_get(V, 9e9, 9e9)), evidence())) == []


def _after_a_change(expires_ms: int, *, link: int, is_unknown: bool = False) -> int:
    """Violations of a read at 150 of a value that expires at 100, or when a change of that says."""
    put, read = of_put(V, 0, 1), of_get(V, 2, 150)
    expire = of_update(Kind.EXPIRE, 2, 3, after=linked(V, 2, expires_ms=expires_ms))
    put.expires_ms = EXPIRES_MS
    read.result = GetResult(linked(V, link, expires_ms=expires_ms), 2)
    if is_unknown:
        expire.result = None
    return len(list(expiry.check(history(put, expire, read), evidence())))


def test_a_value_is_served_as_long_as_the_last_change_of_its_expiry_says() -> None:
    for expires_ms in (0, EXPIRES_MS + 100):
        assert _after_a_change(expires_ms, link=2) == 0
        assert _after_a_change(expires_ms, link=1) == 1
        assert _after_a_change(expires_ms, link=1, is_unknown=True) == 0


def test_what_an_update_found_was_served_when_it_was_asked() -> None:
    put = of_put(V, 0, 1)
    put.expires_ms = EXPIRES_MS
    for asked_ms, count in ((90, 0), (150, 1)):
        update = of_update(Kind.CAS, asked_ms, 200, before=record(V, expires_ms=EXPIRES_MS))
        assert len(list(expiry.check(history(put, update), evidence()))) == count
