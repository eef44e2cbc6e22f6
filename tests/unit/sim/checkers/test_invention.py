# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody wrote is found, wherever it turns up (I4)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.errors import Outcome, QuorumUnreachable
from quorate.sim.checkers import invention
from quorate.sim.history import ClientOperation, Evidence, History, Kind
from quorate.sim.tokens import behind, token_of
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    left,
    linked,
    of_get,
    of_put,
    of_update,
    token,
    version,
)

WRITTEN = token(b"v")


def _played(found: Record | None, *, asked_ms: float = 2, put_expires_ms: int = 0) -> History:
    """A put of WRITTEN, then a read that found a record."""
    put, get = of_put(WRITTEN, 1, 4), of_get(None, asked_ms, asked_ms + 1)
    put.expires_ms = put_expires_ms
    get.result = GetResult(found, 2)
    return history(put, get) if asked_ms > 1 else _told(put, get)


def _told(put: ClientOperation, get: ClientOperation) -> History:
    return history(get, put)


def _check(played: History, settled: Evidence | None = None) -> list[str]:
    return [each.told for each in invention.check(played, settled or evidence())]


@pytest.mark.parametrize("record", [None, Record(version(1), None), Record(version(1), WRITTEN)])
def test_what_was_written_may_be_read_and_left(record: Record | None) -> None:
    assert _check(_played(record), left(record, record, None)) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"?", "nobody made"),
        (WRITTEN[:-1] + b"!", "nobody made"),
        (token(b"v", key=b"other"), "was written to b'other'"),
        (token_of((118, 7, 0), KEY), "nobody wrote"),
        (token_of((9, 0, 0), KEY), "nobody wrote"),
        (behind(WRITTEN, (118, 0, 0), KEY), "took effect twice"),
        (behind(WRITTEN, (118, 0, 1), KEY), "nobody wrote"),
    ],
)
def test_a_value_that_nobody_wrote_is_found(value: bytes, told: str) -> None:
    record = Record(version(1), value)
    (read,) = _check(_played(record))
    (kept,) = _check(_played(None), left(None, record, None))
    assert told in read
    assert told in kept
    assert "left on n1" in kept


def test_a_value_that_was_read_before_it_was_written_is_found() -> None:
    (told,) = _check(_played(Record(version(1), WRITTEN), asked_ms=-1))
    assert "before it was written" in told


def test_an_expiry_that_was_lost_is_found() -> None:
    (told,) = _check(_played(Record(version(1), WRITTEN), put_expires_ms=77))
    assert "at 0 instead of [77]" in told
    assert _check(_played(Record(version(1), WRITTEN, 77), put_expires_ms=77)) == []


def test_a_value_may_be_read_with_an_expiry_that_somebody_asked_for_by_then() -> None:
    changed = linked(WRITTEN, 1, expires_ms=77)
    put, expire = of_put(WRITTEN, 1, 4), of_update(Kind.EXPIRE, 5, 8, after=changed)
    for asked_ms, expires_ms, count in ((6, 77, 0), (6, 78, 1), (2, 77, 1)):
        read = of_get(None, asked_ms, asked_ms + 1)
        read.result = GetResult(linked(WRITTEN, 1, expires_ms=expires_ms), 2)
        expire.result = None if expires_ms == 78 else expire.result
        assert len(_check(history(put, expire, read))) == count


APPENDED = behind(WRITTEN, (7, 0, 0), KEY)


def test_what_was_put_behind_a_value_is_somebodys_too() -> None:
    put = of_put(WRITTEN, 1, 4)
    append = of_update(Kind.APPEND, 5, 8, client=7, after=linked(APPENDED, 1))
    read = of_get(None, 9, 10)
    read.result = GetResult(linked(APPENDED, 1), 2)
    assert _check(history(put, append, read)) == []
    append.kind = Kind.EXPIRE
    assert "nobody wrote" in _check(history(put, append, read))[0]
    append.kind = Kind.LOCK
    assert "taken where there was one" in _check(history(put, append, read))[0]
    append.kind, append.result = Kind.APPEND, QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    assert "was refused" in _check(history(put, append, read))[0]


def test_a_version_with_two_contents_is_found() -> None:
    """I9: should one version ever mean two writes, it must not do so in silence."""
    same, other = Record(version(1), WRITTEN), Record(version(1), None)
    (told,) = _check(_played(same), left(same, other, same))
    assert "left on n1" in told
    assert _check(_played(same), left(same, same, Record(version(2), None))) == []
