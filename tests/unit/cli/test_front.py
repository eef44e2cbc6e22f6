# SPDX-License-Identifier: GPL-3.0-or-later
"""Help for everything, and mistakes answered with one line and exit code 2. FEATURES S02."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from quorate.cli.commands import BY_NAME, COMMANDS
from quorate.config import FLAGS
from tests.unit.cli.conftest import Run


def test_s02_help_lists_every_command() -> None:
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
def test_s02_each_commands_help_lists_every_flag_with_its_default(
    command: object, run: Run
) -> None:
    found = next(each for each in COMMANDS if each is command)
    ran = run(found.name, "--help")
    assert ran.code == 0
    text = " ".join(ran.out.decode().split())
    for flag in FLAGS if found.name == "serve" else found.flags:
        for name in (flag.name, *flag.aliases):
            assert f"--{name}" in text
        if flag.default:
            assert f"[default: {flag.default}]" in text


def test_set_is_put_and_del_is_delete() -> None:
    assert BY_NAME["set"].name == "put"
    assert BY_NAME["del"].name == "delete"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["xyzzy"], "no such command: xyzzy; see quorate --help"),
        (["gett", "x"], "no such command: gett; did you mean get?"),
        (["get", "x", "--tagret=a:1"], "No such option '--tagret'"),
        (["get", "x", "--time=1s"], "No such option '--time'"),
        (["get"], "get: no key"),
        (["get", "a", "b"], "get: one argument too many: 'b'"),
        (["put", "a"], "put: no value"),
        (["nodes", "extra"], "unexpected extra argument (extra)"),
        (["get", "--key"], "--key needs a value"),
        (["get", "x", "--json=maybe"], "does not take a value"),
        (["get", "x", "--target=nonsense"], "--target: 'nonsense' has no port"),
        (["get", "x", "--nodes=ftp://a:1"], "--nodes: 'ftp://a:1': only http"),
        (["get", "x", "--timeout=5"], "--timeout: 5 has no unit: write 5s or 5ms"),
        (["get", "x", "--timeout=0s"], "--timeout: must be more than nothing"),
        (["get", "x", "--R=two"], "--R: 'two' is no whole number from 1 up"),
        (["put", "x", "y", "--W=0"], "--W: '0' is no whole number from 1 up"),
        (["put", "x", "y", "--ttl=1.5"], "--ttl: '1.5' is no whole number"),
        (["keys", "--limit=-1"], "--limit: '-1' is no whole number"),
        (["serve", "extra"], "serve: one argument too many: 'extra'"),
        (["dev", "--nodes-count=99"], "--nodes-count: at most 16"),
        (["dev", "--base-port=65535"], "--base-port: ports end at 65535"),
        (["bench", "--protocol=smtp"], "--protocol: 'smtp' is neither resp nor http"),
        (["bench", "--reads=2"], "--reads: '2' is no share from 0 to 1"),
        (["bench", "--duration=5"], "--duration: 5 has no unit"),
        (["bench", "--value-bytes=x"], "--value-bytes: 'x' is no size"),
        (["bench", "--protocol=http", "--wait=1"], "--wait: only Redis has WAIT"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy_and_exit_code_2(
    arguments: list[str], said: str, run: Run
) -> None:
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, b"")
    assert said in ran.err
    assert ran.err.startswith("quorate: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", [["serve"], []])
def test_row_74_all_faults_of_the_settings_are_shown_one_line_each_and_nothing_starts(
    command: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run(*command, "-prot=1", "-W=9", "-R=0", "-engine=mysql", "-hb", "2")
    assert (ran.code, ran.out) == (2, b"")
    lines = ran.err.splitlines()
    assert len(lines) == 5
    for name in ("-prot: ", "-W: ", "-R: ", "-engine: ", "-hb: "):
        assert any(line.startswith(f"quorate: {name}") for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_version_is_a_command_and_a_flag(run: Run) -> None:
    assert run("version").out == run("--version").out
    assert run("--version", "--json").out.startswith(b'{"version": ')


def test_an_interrupt_is_130_and_shows_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("quorate.cli.serve.run_version", interrupted)
    ran = run("version")
    assert (ran.code, ran.err) == (130, "")


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m quorate --help | true", shell=True, capture_output=True, check=False
    )
    assert done.stderr == b""
