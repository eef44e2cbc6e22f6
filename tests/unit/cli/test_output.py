# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for eyes on a terminal, lines for `cut` in a pipe."""

from __future__ import annotations

import io
import sys

import pytest

from quorate.cli.output import json_text, print_json, print_table


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


def test_json_is_one_line_that_any_terminal_can_show(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"key": json_text("clé".encode()), "value": json_text(b"\xff")})
    assert capsys.readouterr().out == '{"key": "cl\\u00e9", "value": {"base64": "/w=="}}\n'
