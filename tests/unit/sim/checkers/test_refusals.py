# SPDX-License-Identifier: GPL-3.0-or-later
"""A write that was refused is nowhere (I5)."""

from __future__ import annotations

from quorate.errors import Outcome, QuorumUnreachable
from quorate.sim.checkers import refusals
from quorate.sim.checkers.refusals import Handed
from quorate.sim.history import ClientOperation, Evidence, Kind
from quorate.sim.tokens import behind
from tests.records import altered
from tests.unit.sim.checkers import steps
from tests.unit.sim.checkers.steps import Stage, given
from tests.unit.sim.checkers.told import (
    KEY,
    evidence,
    history,
    left,
    of_get,
    of_put,
    of_update,
    record,
    token,
)

V, W = token(b"v"), token(b"w")


def _check(outcome: Outcome, facts: Evidence, *reads: ClientOperation) -> list[str]:
    put = of_put(V, 0, 1)
    put.result = QuorumUnreachable("", outcome=outcome)
    return [each.told for each in refusals.check(history(put, *reads), facts)]


def test_a_refused_value_that_is_read_is_found() -> None:
    (told,) = _check(Outcome.NOT_APPLIED, evidence(), of_get(V, 2, 3))
    assert "was read by" in told
    assert _check(Outcome.NOT_APPLIED, evidence(), of_get(W, 2, 3), of_get(None, 4, 5)) == []


def test_a_refused_value_that_is_left_is_found() -> None:
    (told,) = _check(Outcome.NOT_APPLIED, left(None, None, record(V)))
    assert "is left" in told
    assert _check(Outcome.NOT_APPLIED, left(None, record(None), record(W))) == []


def test_a_refused_value_that_was_given_to_a_replica_is_found() -> None:
    (told,) = _check(Outcome.NOT_APPLIED, evidence(handed=frozenset({(118, 0, 0)})))
    assert "was given to a replica" in told
    assert _check(Outcome.NOT_APPLIED, evidence(handed=frozenset({(119, 0, 0)}))) == []


def test_an_unknown_value_may_be_anywhere() -> None:
    anywhere = left(record(V), handed=frozenset({(118, 0, 0)}))
    assert _check(Outcome.UNKNOWN, anywhere, of_get(V, 2, 3)) == []


def test_a_refused_delete_leaves_nothing_to_know_it_by() -> None:
    delete = of_put(None, 0, 1)
    delete.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    played = history(delete, of_get(None, 2, 3, number=1))
    assert list(refusals.check(played, left(record(None)))) == []


def test_what_a_refused_update_put_behind_a_value_is_found() -> None:
    value = behind(V, (7, 0, 0), KEY)
    update = of_update(Kind.APPEND, 2, 3, client=7)
    update.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    played = history(of_put(V, 0, 1), update, of_get(value, 4, 5))
    assert len(list(refusals.check(played, left(record(value))))) == 2


def test_what_is_stored_sent_or_hinted_was_given_to_a_replica(stage: Stage) -> None:
    handed = Handed()
    handed.look(
        stage.step(
            0, stored=[steps.record(1, token(b"a"))], sent=[given(1, steps.record(2, token(b"b")))]
        )
    )
    handed.look(stage.step(0, hinted=[(b"name", given(2, steps.record(3, token(b"c"))))]))
    handed.look(stage.step(0, stored=[steps.record(4, None)]))
    handed.look(stage.step(0, stored=[altered(steps.record(5, token(b"a")), expires_ms=7)]))
    assert handed.names() == {(97, 0, 0), (98, 0, 0), (99, 0, 0)}
    assert handed.found == []
