# SPDX-License-Identifier: GPL-3.0-or-later
"""The command as a process: interrupts, and outputs that take nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.http_served import Served
from tests.unit.cli.conftest import Run

needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def test_an_interrupt_is_130_and_shows_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("quorate.cli.serve.run_version", interrupted)
    ran = run("version")
    assert (ran.code, ran.err) == (130, "")


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["help", "get"]], ids=" ".join)
def test_a_reader_that_leaves_early_is_no_fault_as_with_other_tools(
    arguments: list[str],
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "quorate", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("get foo >&-", "cannot write the output: it is closed"),
        ("put foo bar >&-", "cannot write the output: it is closed"),
        ("--help >&-", "cannot write the output: it is closed"),
        ("put foo - <&-", "standard input: it is closed"),
    ],
)
def test_what_is_closed_is_one_line_and_2_and_nothing_is_written(
    arguments: str, told: str, served: Served, target: str
) -> None:
    command = f"{sys.executable} -m quorate {target} {arguments}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"quorate: {told}\n")
    assert served.store.events == []


@pytest.mark.parametrize("arguments", ["get foo", "sim --seeds=1 --jobs=1"])
def test_without_standard_error_a_command_does_what_it_does(
    arguments: str, served: Served, target: str
) -> None:
    served.store.fill(b"foo", b"bar")
    flags = target if arguments.startswith("get") else ""
    command = f"{sys.executable} -m quorate {arguments} {flags} 2>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout


def test_no_file_gets_the_number_of_what_is_closed() -> None:
    """A node would write its log to whatever has the number of standard error."""
    program = (
        "import os; from quorate.cli import main; main(['version']);"
        " first = os.open('/dev/zero', os.O_RDONLY); raise SystemExit(40 + first)"
    )
    command = f'{sys.executable} -c "{program}" <&- >&- 2>&-'
    assert subprocess.run(command, shell=True, check=False).returncode == 43


@needs_dev_full
@pytest.mark.parametrize(
    "arguments",
    [
        ["put", "foo", "bar"],
        ["get", "foo"],
        ["get", "foo", "--json"],
        ["get", "large"],
        ["delete", "other"],
        ["keys"],
        ["nodes"],
        ["explain", "foo", "--json"],
        ["--json", "get", "foo", "--flub"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_an_output_that_cannot_be_written_is_one_line_and_2(
    arguments: list[str], served: Served, target: str
) -> None:
    served.store.fill(b"foo", b"bar")
    served.store.fill(b"large", b"x" * 1_000_000)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "quorate", target, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "quorate: cannot write the output: No space left on device\n"


def test_a_failure_of_the_node_itself_keeps_its_trace(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_config: object, _ignored: object, *, secret: str) -> int:
        del secret
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("quorate.app.run", broken)
    with pytest.raises(OSError, match="Input/output error"):
        run("serve")
