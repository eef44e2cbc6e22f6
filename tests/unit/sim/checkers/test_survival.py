# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left must be the newest of what was written (I1, I3, I14)."""

from __future__ import annotations

from quorate.core.values.events import PutResult
from quorate.errors import DeadlineExceeded, Outcome
from quorate.sim.checkers import survival
from quorate.sim.history import ClientOperation, Evidence
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    left,
    of_get,
    of_put,
    record,
    version,
)

OLD, NEW = record(b"old", 1), record(b"new", 2)


def _writes() -> tuple[ClientOperation, ClientOperation]:
    return of_put(b"old", 0, 1, number=1), of_put(b"new", 2, 3, number=2)


def _check(facts: Evidence, *operations: ClientOperation) -> list[str]:
    return [each.invariant for each in survival.check(history(*operations), facts)]


def test_the_newest_acknowledged_write_is_left() -> None:
    assert _check(left(NEW, NEW, NEW), *_writes()) == []
    assert _check(left(OLD, None, NEW), *_writes()) == []


def test_a_lost_write_is_found() -> None:
    assert _check(left(OLD, OLD, OLD), *_writes()) == ["I1"]
    assert _check(left(None, None, None), *_writes()) == ["I1"]


def test_beyond_the_budget_writes_may_be_lost_but_nothing_third_is_left() -> None:
    lost = {"in_budget": False, "forgot_ms": {KEY: 0.0}}
    assert _check(left(OLD, **lost), *_writes()) == []
    assert _check(left(None, **lost), *_writes()) == []
    assert _check(left(record(b"third"), **lost), *_writes()) == ["I3"]


def test_a_record_that_no_write_explains_is_found() -> None:
    assert _check(left(record(b"third", 3)), *_writes()) == ["I3"]
    assert _check(left(record(None, 3)), *_writes()) == ["I3"]
    # Its value was written, but not under this stamp.
    assert _check(left(record(b"old", 3)), *_writes()) == ["I3"]


def test_a_write_of_unknown_outcome_may_be_left_and_may_be_lost() -> None:
    old, new = _writes()
    for result in (None, DeadlineExceeded("", outcome=Outcome.UNKNOWN)):
        new.result = result
        assert _check(left(record(b"new", 9)), old, new) == []
        assert _check(left(OLD), old, new) == []
        assert _check(left(None), old, new) == ["I1"]


def test_a_refused_write_is_never_left() -> None:
    old, new = _writes()
    new.result = DeadlineExceeded("", outcome=Outcome.NOT_APPLIED)
    assert _check(left(NEW), old, new) == ["I3"]


def test_the_first_stamp_of_a_write_that_has_two_may_be_left_where_copies_were_lost() -> None:
    put = of_put(b"v", 0, 1)
    put.result = PutResult(version(5), 2, 3, restamped=True)
    assert _check(left(record(b"v", 3), in_budget=False), put) == []
    assert _check(left(record(b"v", 3)), put) == ["I1"]
    assert _check(left(record(b"v", 9), in_budget=False), put) == ["I3"]


def test_what_was_read_is_not_left_lowered() -> None:
    read = of_get(b"new", 4, 5, number=2)
    unknown = of_put(b"new", 2, 3)
    unknown.result = None
    old = of_put(b"old", 0, 1, number=1)
    assert _check(left(OLD), old, unknown, read) == ["I14"]
    assert _check(left(NEW), old, unknown, read) == []
    assert _check(left(OLD, forgot_ms={KEY: 9.0}), old, unknown, read) == []


def test_a_key_of_which_nothing_is_known_is_not_judged() -> None:
    assert _check(evidence(), *_writes()) == []
