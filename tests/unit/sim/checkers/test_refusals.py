# SPDX-License-Identifier: GPL-3.0-or-later
"""A write that was refused is nowhere (I5)."""

from __future__ import annotations

from msgspec.structs import replace

from quorate.core.values.events import GetResult
from quorate.core.values.record import Record
from quorate.errors import Outcome, QuorumUnreachable
from quorate.sim.checkers import refusals
from quorate.sim.checkers.refusals import Handed
from quorate.sim.history import ClientOperation, Evidence
from tests.unit.sim.checkers import steps
from tests.unit.sim.checkers.steps import Stage, given
from tests.unit.sim.checkers.told import (
    evidence,
    history,
    left,
    of_derived,
    of_get,
    of_put,
    record,
    version,
)


def _check(outcome: Outcome, facts: Evidence, *reads: ClientOperation) -> list[str]:
    put = of_put(b"v", 0, 1)
    put.result = QuorumUnreachable("", outcome=outcome)
    return [each.told for each in refusals.check(history(put, *reads), facts)]


def test_a_refused_value_that_is_read_is_found() -> None:
    (told,) = _check(Outcome.NOT_APPLIED, evidence(), of_get(b"v", 2, 3))
    assert "was read by" in told
    assert _check(Outcome.NOT_APPLIED, evidence(), of_get(b"w", 2, 3), of_get(None, 4, 5)) == []


def test_a_refused_value_that_is_left_is_found() -> None:
    (told,) = _check(Outcome.NOT_APPLIED, left(None, None, record(b"v")))
    assert "is left on n2" in told
    assert _check(Outcome.NOT_APPLIED, left(None, record(None), record(b"w"))) == []


def test_a_refused_value_that_was_given_to_a_replica_is_found() -> None:
    (told,) = _check(Outcome.NOT_APPLIED, evidence(handed=frozenset({(b"v", 0)})))
    assert "was given to a replica" in told
    assert _check(Outcome.NOT_APPLIED, evidence(handed=frozenset({(b"w", 0)}))) == []


def test_an_unknown_value_may_be_anywhere() -> None:
    anywhere = left(record(b"v"), handed=frozenset({(b"v", 0)}))
    assert _check(Outcome.UNKNOWN, anywhere, of_get(b"v", 2, 3)) == []


def test_a_refused_delete_leaves_nothing_to_know_it_by() -> None:
    delete = of_put(None, 0, 1)
    delete.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    played = history(delete, of_get(None, 2, 3, number=1))
    assert list(refusals.check(played, left(record(None)))) == []


def _expired_at(expires_ms: int) -> ClientOperation:
    """A change of the expiry that was refused."""
    op = of_derived(b"v", 2, 3, number=1, seen=1, expires_ms=expires_ms)
    op.result = QuorumUnreachable("", outcome=Outcome.NOT_APPLIED)
    return op


def test_a_refused_change_of_a_value_is_known_by_its_expiry() -> None:
    put, refused, read = of_put(b"v", 0, 1), _expired_at(77), of_get(b"v", 4, 5)
    assert list(refusals.check(history(put, refused, read), left(record(b"v")))) == []
    read.result = GetResult(Record(version(2), b"v", 77), 2)
    facts = left(record(b"v", expires_ms=77), handed=frozenset({(b"v", 77)}))
    assert len(list(refusals.check(history(put, refused, read), facts))) == 3


def test_what_another_write_says_too_is_not_judged() -> None:
    other = of_derived(b"v", 2, 3, number=1, seen=1, expires_ms=77)
    played = history(of_put(b"v", 0, 1), _expired_at(77), other)
    assert list(refusals.check(played, left(record(b"v", expires_ms=77)))) == []


def test_what_is_stored_sent_or_hinted_was_given_to_a_replica(stage: Stage) -> None:
    handed = Handed()
    handed.look(
        stage.step(0, stored=[steps.record(1, b"a")], sent=[given(1, steps.record(2, b"b"))])
    )
    handed.look(stage.step(0, hinted=[(b"name", given(2, steps.record(3, b"c")))]))
    handed.look(stage.step(0, stored=[steps.record(4, None)]))
    handed.look(stage.step(0, stored=[replace(steps.record(5, b"a"), expires_ms=7)]))
    assert handed.contents() == {(b"a", 0), (b"b", 0), (b"c", 0), (b"a", 7)}
    assert handed.found == []
