# SPDX-License-Identifier: GPL-3.0-or-later
"""Help for everything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from quorate.cli.commands import COMMANDS
from quorate.config import SETTINGS
from tests.unit.cli.conftest import Run


def test_help_lists_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quorate", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    for command in COMMANDS:
        assert f"  {command.name} " in done.stdout


@pytest.mark.parametrize("arguments", [[], ["-h"], ["-help"], ["--help", "--json"]])
def test_help_is_also_what_nothing_and_its_short_forms_show(arguments: list[str], run: Run) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.err) == (0, "")
    assert b"Commands:" in ran.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_commands_help_lists_every_flag_with_its_default(command: object, run: Run) -> None:
    found = next(each for each in COMMANDS if each is command)
    ran = run(found.name, "--help")
    assert ran.code == 0
    text = " ".join(ran.out.decode().split())
    for flag in SETTINGS if found.name == "serve" else found.flags:
        for name in (flag.name, *flag.aliases):
            assert f"--{name}" in text
        if flag.default:
            assert f"[default: {flag.default}]" in text


def completed(**variables: str) -> str:
    """What the command prints to a shell that completes its words."""
    line = [sys.executable, "-c", "import sys\nfrom quorate.cli import main\nsys.exit(main())"]
    done = subprocess.run(
        line, capture_output=True, text=True, check=True, env={**os.environ, **variables}
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_what_it_completes_with(shell: str) -> None:
    source = completed(_QUORATE_COMPLETE=f"{shell}_source")
    assert f"_QUORATE_COMPLETE={shell}_complete" in source


def test_tab_completes_commands_and_flags() -> None:
    asked = {"_QUORATE_COMPLETE": "bash_complete"}
    told = completed(**asked, COMP_WORDS="quorate ge", COMP_CWORD="1")
    assert told.splitlines() == ["plain,get"]
    told = completed(**asked, COMP_WORDS="quorate get --targ", COMP_CWORD="2")
    assert told.splitlines() == ["plain,--target"]


def test_help_is_a_command_too(run: Run) -> None:
    assert run("help").out == run("help", "help").out == run("--help").out
    for command in COMMANDS:
        assert run("help", command.name).out == run(command.name, "--help").out
    assert run("help", "set").out == run("put", "--help").out


def test_help_says_other_names_and_exit_codes(run: Run) -> None:
    text = run("--help").out.decode()
    assert "set is put, del is delete" in text
    for meaning in (
        "0  done",
        "1  the key is not there",
        "2  no node could be reached, the command line is wrong, or the output cannot be written",
        "3  the cluster refused; the message says whether a write may survive",
    ):
        assert f"\n    {meaning}\n" in text


def test_the_help_of_bench_says_that_its_keys_stay(run: Run) -> None:
    text = " ".join(run("bench", "--help").out.decode().split())
    assert "keys that begin with `quorate-bench:`, and leaves them in the store" in text
