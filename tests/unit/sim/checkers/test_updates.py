# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that are not what an edit makes, and requests that took effect twice, are found."""

from __future__ import annotations

import pytest

from quorate.core.values.events import UpdateResult
from quorate.core.values.record import Record
from quorate.sim.checkers import updates
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.tokens import Name, behind, token_of
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    left,
    linked,
    of_update,
    record,
    token,
)

V = token(b"v")


def _name(attempt: int = 0) -> Name:
    return 900, 0, attempt


def _check(*operations: ClientOperation, settled: Record | None = None) -> list[str]:
    return [each.told for each in updates.check(history(*operations), left(settled))]


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        (Kind.APPEND, record(V), linked(behind(V, _name(), KEY), 1)),
        (Kind.APPEND, None, linked(token_of(_name(), KEY), 1)),
        (Kind.INCREMENT, record(V), linked(behind(V, _name(), KEY, counts=1), 1)),
        (Kind.LOCK, None, linked(token_of(_name(), KEY), 1, expires_ms=7)),
        (Kind.LOCK, record(V), None),
        (Kind.CAS, record(V), None),
        (Kind.UNLOCK, None, None),
        (Kind.GETDEL, record(V), linked(None, 1, expires_ms=99)),
        (Kind.EXPIRE, record(V), linked(V, 1, expires_ms=7)),
        (Kind.EXPIRE, record(V), None),
    ],
)
def test_an_answer_is_what_the_edit_makes(
    kind: Kind, before: Record | None, after: Record | None
) -> None:
    assert _check(of_update(kind, 0, 1, before=before, after=after)) == []
    (wrong,) = _check(of_update(kind, 0, 1, before=before, after=linked(b"other", 1)))
    assert "its edit makes" in wrong


def test_a_version_lies_in_the_chain_of_what_was_found() -> None:
    value = behind(V, _name(), KEY)
    for after in (record(value, 2), linked(value, 1, number=2), linked(value, 3)):
        (told,) = _check(of_update(Kind.APPEND, 0, 1, before=linked(V, 3), after=after))
        assert "its version" in told


def _attempt(number: int, asked_ms: float, before: Record, link: int) -> ClientOperation:
    value = behind(before.value, _name(number), KEY)
    op = of_update(Kind.APPEND, asked_ms, asked_ms + 1, before=before, after=linked(value, link))
    op.attempt, op.request = number, 5
    return op


def test_a_request_that_took_effect_twice_is_found_though_one_attempt_was_not_answered() -> None:
    first = _attempt(0, 0, record(V), 1)
    assert first.wrote is not None
    second = _attempt(1, 2, first.wrote, 2)
    assert _check(first) == _check(second) == []
    (told,) = _check(first, second)
    assert "took effect, and again" in told
    first.result = None
    assert _check(first) == _check(second, first)[1:] == []
    (told,) = _check(first, second, settled=linked(behind(V, _name(0), KEY), 1))
    assert "took effect, and again" in told


def test_a_request_that_was_found_to_be_done_took_no_effect() -> None:
    first = _attempt(0, 0, record(V), 1)
    again = _attempt(1, 2, record(V), 1)
    again.result = UpdateResult(None, first.wrote, 0, 3, is_repeated=True)
    assert _check(first, again) == []
    assert list(updates.check(history(first, again), evidence())) == []
