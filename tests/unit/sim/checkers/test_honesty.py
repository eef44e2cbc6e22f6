# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers say neither more nor less than what happened (P3)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import GetResult, PutResult
from quorate.errors import DeadlineExceeded, Outcome
from quorate.sim.checkers import honesty
from quorate.sim.history import ClientOperation
from tests.unit.sim.checkers.told import evidence, history, of_get, of_put, version

V = version(1)


def _check(op: ClientOperation) -> bool:
    """Whether the answer is honest."""
    return not list(honesty.check(history(op), evidence()))


@pytest.mark.parametrize(
    ("result", "r", "is_honest"),
    [
        (GetResult(None, 2), 0, True),
        (GetResult(None, 3, 2), 0, True),
        (GetResult(None, 1), 0, False),
        (GetResult(None, 0), 1, False),
        (GetResult(None, 1), 1, True),
        (GetResult(None, 2), 3, False),
        (GetResult(None, 4), 0, False),
        (GetResult(None, 2, 4), 0, False),
    ],
)
def test_not_found_means_that_r_replicas_said_so(
    result: GetResult, r: int, is_honest: bool
) -> None:
    op = of_get(None, 0, 1, r=r)
    op.result = result
    assert _check(op) is is_honest


@pytest.mark.parametrize(
    ("result", "w", "is_honest"),
    [
        (PutResult(V, 2, 3), 0, True),
        (PutResult(V, 3, 3), 0, True),
        (PutResult(V, 1, 3), 0, False),
        (PutResult(V, 1, 3), 1, True),
        (PutResult(V, 2, 3), 3, False),
        (PutResult(V, 4, 3), 0, False),
        (PutResult(V, 2, 2), 0, False),
        (PutResult(b"", 2, 3), 0, False),
    ],
)
def test_a_write_has_as_many_acks_as_it_needs_and_no_more_than_replicas(
    result: PutResult, w: int, is_honest: bool
) -> None:
    op = of_put(b"v", 0, 1, w=w)
    op.result = result
    assert _check(op) is is_honest


def test_a_failed_write_says_whether_it_may_survive() -> None:
    op = of_put(b"v", 0, 1)
    for outcome in Outcome:
        op.result = DeadlineExceeded("", outcome=outcome)
        assert _check(op)
    op.result = DeadlineExceeded("")
    assert not _check(op)
    read = of_get(None, 0, 1)
    read.result = DeadlineExceeded("")
    assert _check(read)


def test_a_coordinator_that_lives_answers() -> None:
    op = of_put(b"v", 0, 1)
    op.result = None
    assert _check(op)
    (found,) = list(honesty.check(history(op), evidence(forgotten=[op])))
    assert "never answered" in found.told
