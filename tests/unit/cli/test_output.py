# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for eyes on a terminal, lines for `cut` in a pipe; failures and their exit codes."""

from __future__ import annotations

import io
import json
import sys

import pytest

from quorate.cli.output import complain, print_facts, print_json, print_table, report
from quorate.client import TlsFailed, Unreachable
from quorate.client.calls import packed
from quorate.errors import BY_CODE, Outcome, QuorateError, QuorumUnreachable, Unauthenticated


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


def test_what_is_wrong_with_tls_is_2_too_and_says_itself_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(TlsFailed("no answer from a: give its CA"), is_json=False) == 2
    assert capsys.readouterr().err == "quorate: no answer from a: give its CA\n"


def test_who_is_not_known_hears_how_to_log_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(Unauthenticated("who asks?"), is_json=False) == 3
    told = capsys.readouterr().err
    assert "who asks is said by --secret-file (of nodes that are named without http://)" in told
    assert "--user and --password-file" in told


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
