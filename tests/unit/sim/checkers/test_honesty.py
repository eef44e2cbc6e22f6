# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers say neither more nor less than what happened (P3)."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.errors import DeadlineExceeded, Outcome
from quorate.sim.checkers import honesty
from quorate.sim.history import ClientOperation, Kind
from quorate.sim.layouts import Holders
from tests.unit.sim.checkers.told import (
    evidence,
    history,
    of_get,
    of_put,
    of_update,
    record,
    version,
)

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


ROW = Holders((0, 1, 2))
LONGER = Holders((0, 1, 2, 3))


def _update(acks: int, replicas: int, *, layouts: list[list[Holders]], **settings: Any) -> bool:
    """Whether that an update was done, with so many acks, is honest of who had these layouts."""
    op = of_update(Kind.APPEND, 0, 1, after=record(b"v"))
    op.result = UpdateResult(None, record(b"v"), acks, replicas)
    told = evidence(had=lambda _: layouts, **settings)
    return not list(honesty.check(history(op), told))


@pytest.mark.parametrize(
    ("acks", "replicas", "is_honest"),
    [(1, 3, False), (2, 3, True), (2, 4, False), (3, 4, True), (4, 3, False), (5, 4, False)],
)
def test_acks_are_judged_by_the_layout_of_which_the_answer_tells(
    acks: int, replicas: int, *, is_honest: bool
) -> None:
    """Two are a majority of three; while a fourth comes three are needed."""
    assert _update(acks, replicas, layouts=[[ROW], [ROW, LONGER]]) is is_honest
    op = of_put(b"v", 0, 1)
    op.result = PutResult(V, acks, replicas)
    told = evidence(had=lambda _: [[ROW], [ROW, LONGER]])
    assert (not list(honesty.check(history(op), told))) is is_honest


@pytest.mark.parametrize("setting", ["set_w", "set_r"])
@pytest.mark.parametrize(("asked", "is_honest"), [(0, True), (1, False), (2, False), (3, True)])
def test_no_update_is_done_where_w_or_r_is_no_majority_of_a_row_to_come(
    setting: str, asked: int, *, is_honest: bool
) -> None:
    settings = {setting: asked}
    assert _update(3, 4, layouts=[[ROW, LONGER]], **settings) is is_honest


def test_an_update_may_have_begun_while_w_was_a_majority() -> None:
    assert _update(3, 4, layouts=[[ROW], [ROW, LONGER]], set_w=2, set_r=2)
    assert not _update(3, 4, layouts=[[ROW], [ROW, LONGER]], set_w=1)


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
