# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is served past its expiry, but for what clocks are wrong by (I16)."""

from __future__ import annotations

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.sim.checkers import expiry
from tests.unit.sim.checkers.told import (
    EPOCH_MS,
    evidence,
    history,
    of_derived,
    of_get,
    of_put,
    version,
)

EXPIRES_MS = EPOCH_MS + 100


def _check(done_ms: float, *, record_expires_ms: int, slow_by_ms: int = 0, skew_ms: int = 0) -> int:
    """Violations of a read of a value that expires at 100, by a clock that is slow."""
    put, get = of_put(b"v", 0, 1), of_get(b"v", 2, done_ms)
    put.expires_ms = EXPIRES_MS
    get.result = GetResult(Record(version(1), b"v", record_expires_ms), 2)
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
    assert list(expiry.check(history(of_put(b"v", 0, 1), of_get(b"v", 9e9, 9e9)), evidence())) == []


def _after_a_change(expires_ms: int, *, number: int, is_unknown: bool = False) -> int:
    """Violations of a read at 150 of a value that expires at 100, or when a change of that says."""
    put, read = of_put(b"v", 0, 1), of_get(b"v", 2, 150)
    expire = of_derived(b"v", 2, 3, number=2, seen=1, expires_ms=expires_ms)
    put.expires_ms = EXPIRES_MS
    read.result = GetResult(Record(version(number), b"v", expires_ms), 2)
    if is_unknown:
        expire.result = None
    return len(list(expiry.check(history(put, expire, read), evidence())))


def test_a_value_is_served_as_long_as_the_write_says_that_was_read() -> None:
    for expires_ms in (0, EXPIRES_MS + 100):
        assert _after_a_change(expires_ms, number=2) == 0
        assert _after_a_change(expires_ms, number=1) == 1
        assert _after_a_change(expires_ms, number=1, is_unknown=True) == 0
