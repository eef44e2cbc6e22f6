# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error of the taxonomy is one line and an exit code."""

from __future__ import annotations

import json

import pytest

from quorate.cli.failures import complain, report
from quorate.client import Unreachable
from quorate.errors import BY_CODE, Outcome, QuorateError, QuorumUnreachable


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_an_answered_error_is_one_line_and_3(
    kind: type[QuorateError], outcome: Outcome | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(kind("what happened", outcome=outcome, needed=2), is_json=False) == 3
    out, said = capsys.readouterr()
    assert out == ""
    assert said.startswith("quorate: what happened (needed=2)")
    assert said.count("\n") == 1
    assert ("may have been written" in said) is (outcome is Outcome.UNKNOWN)
    assert ("nothing was written" in said) is (outcome is Outcome.NOT_APPLIED)
    is_safe = outcome is Outcome.NOT_APPLIED and kind.retryable
    assert ("trying again is safe" in said) is is_safe


def test_unreachable_is_2_and_says_what_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Unreachable("no answer"), is_json=False) == 2
    assert "check --target or --nodes" in capsys.readouterr().err


@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_json_has_all_that_is_known_and_the_line_stays(
    outcome: Outcome | None, capsys: pytest.CaptureFixture[str]
) -> None:
    error = QuorumUnreachable("too few", outcome=outcome, needed=2, live=1)
    assert report(error, is_json=True) == 3
    out, said = capsys.readouterr()
    assert json.loads(out) == {
        "error": {
            "code": "quorum_unreachable",
            "detail": "too few",
            "outcome": outcome.value if outcome else None,
            "retryable": True,
            "needed": 2,
            "live": 1,
        }
    }
    assert said.startswith("quorate: too few (needed=2 live=1)")


def test_what_the_cluster_has_no_part_in_is_one_line_each_and_one_json_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complain("one\n    more\ntwo", code="settings", is_json=True) == 2
    out, said = capsys.readouterr()
    assert json.loads(out)["error"]["detail"] == "one\n    more\ntwo"
    assert said == "quorate: one\n    more\nquorate: two\n"
