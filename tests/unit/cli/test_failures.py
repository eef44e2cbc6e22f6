# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error of the taxonomy is one line and an exit code. FEATURES S05."""

from __future__ import annotations

import pytest

from quorate.cli.failures import report
from quorate.client import Unreachable
from quorate.errors import BY_CODE, Outcome, QuorateError


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=lambda kind: kind.code)
@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_an_answered_error_is_one_line_and_3(
    kind: type[QuorateError], outcome: Outcome | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(kind("what happened", outcome=outcome, needed=2)) == 3
    said = capsys.readouterr().err
    assert said.startswith("quorate: what happened (needed=2)")
    assert said.count("\n") == 1
    assert ("may have been written" in said) is (outcome is Outcome.UNKNOWN)
    assert ("trying again is safe" in said) is (outcome is Outcome.NOT_APPLIED)


def test_unreachable_is_2_and_says_what_to_check(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Unreachable("no answer")) == 2
    assert "check --target or --nodes" in capsys.readouterr().err
