# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/start-local`: what it has a node started with, and what it makes."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "start-local"
NODES = "-nodes=http://10.0.0.1:9000,http://10.0.0.2:9000"


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """Stands for `quorate`: says what it is given; its secret is a word."""
    path = tmp_path / "quorate"
    path.write_text('#!/bin/sh\nif [ "$1" = secret ]; then echo hidden; else echo "$@"; fi\n')
    path.chmod(0o700)
    return path


def start(command: Path, *arguments: str, **given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        cwd=command.parent,
        env={"PATH": os.environ["PATH"], "QUORATE_COMMAND": str(command), **given},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_node_is_started_at_its_address_with_a_secret_that_is_made_once(command: Path) -> None:
    given = {"ADDRESS": "10.0.0.1", "PORT": "9000"}
    done = start(command, NODES, **given)
    assert done.stdout.split() == [
        *("serve", "-port=9000", "-listen=10.0.0.1:9000", "-advertise=http://10.0.0.1:9000"),
        *("-secret-file=./quorate-secret", NODES),
    ]
    secret = command.parent / "quorate-secret"
    assert secret.read_text() == "hidden\n"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert "copy it to the other machines" in done.stderr
    secret.write_text("kept\n")
    assert start(command, NODES, **given).stderr == ""
    assert secret.read_text() == "kept\n"


def test_without_the_other_nodes_it_says_what_to_give(command: Path) -> None:
    done = start(command, ADDRESS="10.0.0.1")
    assert done.returncode == 2
    assert "-nodes=http://10.0.0.1:8000,http://ANOTHER:8000" in done.stderr


def test_a_machine_without_a_route_is_told_to_say_its_address(command: Path) -> None:
    (command.parent / "ip").write_text("#!/bin/sh\nexit 2\n")
    (command.parent / "ip").chmod(0o700)
    done = start(command, NODES, PATH=f"{command.parent}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "set ADDRESS" in done.stderr
