# SPDX-License-Identifier: GPL-3.0-or-later
"""Each target for a moment; `./scripts/fuzz` goes on for hours."""

from __future__ import annotations

import random

import pytest

from quorate.errors import PeerProtocolError
from quorate.wire.frames import GreetingParser
from tests.fuzz.__main__ import first_fault, main
from tests.fuzz.mutants import Mutants
from tests.fuzz.targets import TARGETS, Target

COUNT = 3_000


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_claimed_of_a_parser_holds_for_any_bytes(name: str) -> None:
    assert first_fault(TARGETS[name], seed=f"0 0 {name}", count=COUNT) is None


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_takes_some_of_what_it_is_given(name: str) -> None:
    """One that refuses all would be tried at its first look alone."""
    target, mutants = TARGETS[name], Mutants(TARGETS[name].seeds, random.Random(1))
    assert any([target.run(each) for each in target.seeds])
    assert sum([target.run(mutants.make()) for _ in range(COUNT)]) >= 10


def test_an_input_is_found_of_which_a_claim_does_not_hold() -> None:
    def run(data: bytes) -> bool:
        if data.startswith(b"QRT1"):
            GreetingParser().feed(data)
        return True

    fault = first_fault(Target(run, [b"QRT", b"1" * 20]), seed="1", count=100_000)
    assert fault is not None
    with pytest.raises(PeerProtocolError):
        GreetingParser().feed(fault)


def test_an_input_that_takes_long_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    def run(data: bytes) -> bool:
        if len(data) > 3:
            sum(range(50_000_000))
        return False

    assert first_fault(Target(run, [b"abc"]), seed="1", count=1000) is not None
    assert "more than" in capsys.readouterr().err


def test_a_run_ends_with_its_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.__main__.ROUND", 100)
    assert main(["stun", "port", "--count", "350"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "round 0: 200 inputs",
        "round 1: 400 inputs",
    ]
