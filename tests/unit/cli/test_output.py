# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for eyes on a terminal, lines for `cut` in a pipe."""

from __future__ import annotations

import io
import sys

import pytest

from quorate.cli.output import print_facts, print_json, print_table
from quorate.client.calls import packed


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_tabs_and_a_dash_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["url", "keys"], [["http://a:1", 3], ["http://b:2", None]])
    assert capsys.readouterr().out == "url\tkeys\nhttp://a:1\t3\nhttp://b:2\t-\n"


def test_a_terminal_gets_an_aligned_table_with_the_same_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_table(["url", "note"], [["http://a:1", "[bold]not markup[/bold]"]])
    shown = terminal.getvalue()
    assert "\t" not in shown
    for cell in ("url", "note", "http://a:1", "[bold]not markup[/bold]"):
        assert cell in shown


def test_a_terminal_that_is_too_narrow_still_gets_every_cell_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "20")
    print_table(["url", "keys"], [["http://" + "a" * 300 + ":8000", 123456789]])
    lines = [line.rstrip() for line in terminal.getvalue().splitlines()]
    assert f"http://{'a' * 300}:8000  123456789" in lines
    assert len(lines) == 3


def test_facts_are_tabs_in_a_pipe_and_aligned_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_facts({"slot": 7, "partition": 12})
    assert capsys.readouterr().out == "slot\t7\npartition\t12\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_facts({"slot": 7, "partition": 12})
    assert terminal.getvalue() == "slot       7\npartition  12\n"


def test_json_is_one_line_that_any_terminal_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"key": packed("clé".encode()), "value": packed(b"\xff")})
    assert capsys.readouterr().out == '{"key": "cl\\u00e9", "value": {"base64": "/w=="}}\n'
