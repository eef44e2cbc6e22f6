# SPDX-License-Identifier: GPL-3.0-or-later
"""`scripts/start-local`: what it has a node started with, and what it makes."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Parser

SCRIPT = Path(__file__).parents[2] / "scripts" / "start-local"
NODES = "-nodes=http://10.0.0.1:9000,http://10.0.0.2:9000"


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """Stands for `quorate`: says what it is given; its secret is a word."""
    program(tmp_path, "quorate", 'if [ "$1" = secret ]; then echo hidden; else echo "$@"; fi')
    return tmp_path / "quorate"


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


@pytest.mark.parametrize("name", ["run.ps1", "start-local.ps1"])
def test_what_is_for_powershell_is_such_a_script(name: str) -> None:
    parser = Parser(Language(tree_sitter_powershell.language()))
    assert not parser.parse((SCRIPT.parent / name).read_bytes()).root_node.has_error
    assert parser.parse(b'exit $(Join-Path "a').root_node.has_error


def test_what_is_told_of_powershell_has_each_argument_in_quotes() -> None:
    """It divides `-nodes=http://a:8000,http://b:8000` at the colon and at the comma."""
    text = SCRIPT.with_suffix(".ps1").read_text()
    (told,) = re.findall(r"^# +\./scripts/start-local\.ps1 (.*)$", text, re.MULTILINE)
    assert re.fullmatch("'-nodes=[^']+'", told)


def test_without_the_other_nodes_it_says_what_to_give(command: Path) -> None:
    done = start(command, ADDRESS="10.0.0.1")
    assert done.returncode == 2
    assert "-nodes=http://10.0.0.1:8000,http://ANOTHER:8000" in done.stderr


def program(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)


def given_address(done: subprocess.CompletedProcess[str]) -> str:
    """Where it has the node listen; AssertionError if that is not where it has others dial it."""
    assert done.returncode == 0, done.stderr
    told = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    assert told["-advertise"] == "http://" + told["-listen"]
    return told["-listen"]


def test_on_linux_the_address_is_the_source_of_the_default_route(command: Path) -> None:
    said = "192.0.2.1 via 10.1.2.254 dev wlan0 src 10.1.2.3 uid 1000 "
    wanted = '[ "$*" = "-4 route get 192.0.2.1" ] || exit 1'
    program(command.parent, "ip", f"{wanted}\nprintf '%s\\n    cache \\n' '{said}'")
    done = start(command, NODES, PATH=f"{command.parent}:{os.environ['PATH']}")
    assert given_address(done) == "10.1.2.3:8000"


ROUTE_ON_MACOS = """\
   route to: default
destination: default
       mask: default
    gateway: 192.168.7.1
  interface: en5
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>"""


@pytest.fixture
def macos(command: Path) -> Path:
    """The directory of all programs there are: no `ip`, and what macOS has in its place."""
    programs = command.parent / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "sed", "mv"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    wanted = '[ "$*" = "-n get default" ] || exit 1'
    program(programs, "route", f"{wanted}\necho '{ROUTE_ON_MACOS}'")
    wanted = '[ "$*" = "getifaddr en5" ] || exit 1'
    program(programs, "ipconfig", f"{wanted}\necho 192.168.7.20")
    return programs


def test_on_macos_the_address_is_that_of_the_default_routes_interface(
    command: Path, macos: Path
) -> None:
    assert given_address(start(command, NODES, PATH=str(macos))) == "192.168.7.20:8000"


def test_on_macos_without_a_route_it_is_told_to_say_its_address(command: Path, macos: Path) -> None:
    program(macos, "route", "echo 'route: writing to routing socket: not in table' >&2\nexit 1")
    done = start(command, NODES, PATH=str(macos))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "start-local: this machine has no default route: set ADDRESS to its address"
    ]


def test_a_machine_without_a_route_is_told_to_say_its_address(command: Path) -> None:
    program(command.parent, "ip", "exit 2")
    done = start(command, NODES, PATH=f"{command.parent}:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "set ADDRESS" in done.stderr
