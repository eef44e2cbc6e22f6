# SPDX-License-Identifier: GPL-3.0-or-later
"""Problem documents: RFC 9457 with a code, an outcome and facts."""

from __future__ import annotations

import json

import pytest

from quorate.doors.http.problems import Problem, Refused, problem_of, problem_reply
from quorate.errors import (
    BY_CODE,
    NEVER_BEGUN,
    Outcome,
    Overloaded,
    QuorateError,
    QuorumUnreachable,
)


def test_a_problem_has_the_members_that_clients_rely_on() -> None:
    error = QuorumUnreachable("too few", outcome=Outcome.UNKNOWN, needed=2, live=1)
    assert json.loads(problem_of(error).encode()) == {
        "type": "urn:quorate:quorum_unreachable",
        "title": "Quorum unreachable",
        "status": 503,
        "detail": "too few",
        "code": "quorum_unreachable",
        "outcome": "unknown",
        "needed": 2,
        "live": 1,
    }


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
def test_the_outcome_is_the_errors_own_but_for_mistakes_which_were_not_applied(
    kind: type[QuorateError],
) -> None:
    """P3."""
    silent, unknown = kind("x"), kind("x", outcome=Outcome.UNKNOWN)
    if issubclass(kind, NEVER_BEGUN):
        assert problem_of(silent).outcome is Outcome.NOT_APPLIED
    else:
        assert "outcome" not in problem_of(silent).members()
        assert problem_of(unknown).outcome is Outcome.UNKNOWN


def test_a_fact_never_hides_a_member() -> None:
    problem = Problem(400, "code", "Title", "detail", facts={"status": 1, "code": "x", "more": 2})
    members = problem.members()
    assert (members["status"], members["code"], members["more"]) == (400, "code", 2)


def test_a_refusal_was_not_applied() -> None:
    problem = problem_of(Refused(417, "expectation_failed", "no"))
    assert (problem.status, problem.title) == (417, "Expectation failed")
    assert problem.outcome is Outcome.NOT_APPLIED


def test_503_says_when_to_try_again_and_others_do_not() -> None:
    assert b"Retry-After: 1\r\n" in problem_reply(Overloaded("too much")).lines
    assert b"Retry-After" not in problem_reply(Refused(404, "x", "y")).lines


def test_the_headers_of_a_refusal_go_with_it() -> None:
    reply = problem_reply(Refused(405, "x", "y", headers={"Allow": "GET,PUT"}))
    assert reply.lines.endswith(b"Allow: GET,PUT\r\n")
