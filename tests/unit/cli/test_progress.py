# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a command is: a bar for eyes, a line now and then for logs, never in what is piped."""

from __future__ import annotations

import sys

import pytest

from quorate.cli import progress
from quorate.cli.progress import ProgressMeter
from tests.unit.cli.test_output import Terminal


class Clock:
    """A time that a test sets; stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of `ProgressMeter`."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_log_gets_a_line_every_ten_seconds_on_standard_error(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressMeter("seeds", total=2_000) as shown:
        for second in range(25):
            clock.now = float(second)
            shown.advance(f"{second} failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "quorate: 11 of 2,000 seeds, 10 failed",
        "quorate: 21 of 2,000 seeds, 20 failed",
    ]


def test_what_is_told_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressMeter("seeds", total=2) as shown:
        shown.tell("seed 1: [bold]a finding[/bold]")
    assert capsys.readouterr().out == "seed 1: [bold]a finding[/bold]\n"


def test_a_terminal_gets_a_bar_with_the_count_and_the_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressMeter("seeds", total=3) as shown:
        shown.advance("0 failed")
        shown.advance("1 failed")
        shown.tell("found")
    assert "2/3" in terminal.getvalue()
    assert "1 failed" in terminal.getvalue()
    assert "found" not in terminal.getvalue()
    assert capsys.readouterr().out == "found\n"


def test_on_one_terminal_a_finding_stands_whole_above_the_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A command in it can be copied: it is not broken where the terminal ends."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    command = "quorate sim --seed=1 --faults=kill,split,pause,rot,torn,drift"
    with ProgressMeter("seeds", total=3) as shown:
        shown.tell(f"again: {command}")
    assert f"again: {command}\n" in terminal.getvalue()


def test_where_the_bar_cannot_be_seen_a_finding_is_told_on_the_terminal_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Standard error goes to a file."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with ProgressMeter("seeds", total=3) as shown:
        shown.tell("found")
    assert terminal.getvalue() == "found\n"


def test_one_thing_alone_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ProgressMeter("seeds", total=1) as shown:
        shown.advance()
    assert terminal.getvalue() == ""


def test_where_the_end_is_not_known_the_count_alone_is_told(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressMeter("keys", total=None) as shown:
        shown.advance(count=1_000)
        clock.now = 10.0
        shown.advance("5 kB", count=1_000)
    assert capsys.readouterr().err == "quorate: 2,000 keys, 5 kB\n"
