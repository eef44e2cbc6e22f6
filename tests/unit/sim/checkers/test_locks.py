# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that two had at once, or with one token, are found."""

from __future__ import annotations

from quorate.sim.checkers import locks
from quorate.sim.history import ClientOperation, Evidence, Kind
from tests.unit.sim.checkers.told import (
    EPOCH_MS,
    KEY,
    evidence,
    history,
    linked,
    of_put,
    of_update,
    token,
)

V = token(b"v")


def _lock(asked_ms: float, link: int, *, expires_ms: int = 100) -> ClientOperation:
    taken = linked(V, link, expires_ms=EPOCH_MS + expires_ms)
    return of_update(Kind.LOCK, asked_ms, asked_ms + 1, client=link, after=taken)


def _check(*operations: ClientOperation, facts: Evidence | None = None) -> list[str]:
    return [each.told for each in locks.check(history(*operations), facts or evidence())]


def test_a_lock_is_taken_again_once_it_has_run_out() -> None:
    assert _check(_lock(0, 1), _lock(150, 2)) == []
    (told,) = _check(_lock(0, 1), _lock(50, 2))
    assert "had not run out" in told
    assert _check(_lock(0, 1), _lock(50, 2), facts=evidence(wall_skew_ms=60)) == []
    assert _check(_lock(0, 1), _lock(50, 2), facts=evidence(forgot_ms={KEY: 9.0})) == []


def test_a_lock_that_was_given_back_is_taken_again() -> None:
    unlock = of_update(Kind.UNLOCK, 10, 11, before=linked(V, 1), after=linked(None, 2))
    assert _check(_lock(0, 1), unlock, _lock(50, 3)) == []


def test_two_never_have_one_token_and_tokens_increase() -> None:
    (told,) = _check(_lock(0, 1), _lock(150, 1))
    assert "one token" in told
    (told,) = _check(_lock(0, 2), _lock(150, 1))
    assert "earlier has the higher" in told


def test_a_key_to_which_something_else_was_done_is_not_judged() -> None:
    assert _check(_lock(0, 1), of_put(None, 10, 11, number=2), _lock(50, 2)) == []
