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


def test_a_reader_that_leaves_early_is_no_traceback_and_no_missing_key() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "quorate", "version"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("get foo >&-", "cannot write the output: it is closed"),
        ("put foo bar >&-", "cannot write the output: it is closed"),
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
    def broken(_config: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("quorate.app.run", broken)
    with pytest.raises(OSError, match="Input/output error"):
        run("serve")
