# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is served past its expiry, but for what clocks are wrong by (I16)."""

from __future__ import annotations

from quorate.core.events import GetResult
from quorate.core.record import Record
from quorate.sim.checkers import expiry
from tests.unit.sim.checkers.told import EPOCH_MS, evidence, history, of_get, of_put, version

EXPIRES_MS = EPOCH_MS + 100


def _check(done_ms: float, *, record_expires_ms: int, slow_by_ms: int = 0, skew_ms: int = 0) -> int:
    """Violations of a read of a value that expires at 100, by a clock that is slow."""
    put, get = of_put(b"v", 0, 1), of_get(b"v", 2, done_ms)
    put.expires_ms = EXPIRES_MS
    get.result = GetResult(Record(version(1), b"v", record_expires_ms), 2)
    get.wall_ms -= slow_by_ms
    return len(expiry.check(history(put, get), evidence(wall_skew_ms=skew_ms)))


def test_a_value_is_served_until_it_expires() -> None:
    assert _check(50, record_expires_ms=EXPIRES_MS) == 0
    assert _check(101, record_expires_ms=EXPIRES_MS) == 0


def test_a_value_whose_expiry_was_lost_is_found_when_it_is_served_later() -> None:
    assert _check(50, record_expires_ms=0) == 0
    assert _check(150, record_expires_ms=0) == 1
    assert _check(150, record_expires_ms=EXPIRES_MS + 200) == 1


def test_a_slow_clock_serves_longer_by_what_it_is_wrong_and_no_more() -> None:
    assert _check(150, record_expires_ms=EXPIRES_MS, slow_by_ms=60, skew_ms=60) == 0
    assert _check(150, record_expires_ms=EXPIRES_MS, slow_by_ms=60, skew_ms=40) == 1


def test_a_value_without_expiry_is_served_for_ever() -> None:
    assert expiry.check(history(of_put(b"v", 0, 1), of_get(b"v", 9e9, 9e9)), evidence()) == []
