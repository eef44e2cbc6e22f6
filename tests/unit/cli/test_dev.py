# SPDX-License-Identifier: GPL-3.0-or-later
"""quorate dev with fake nodes; with real ones it is tested in tests/cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate.cli import dev
from quorate.cli.processes import Children, busy_ports
from quorate.security.secret import read_secrets
from tests.ports import free_ports
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import wait_until


@pytest.fixture
def base() -> int:
    """The first of three free ports."""
    return free_ports(3)[0]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Fake nodes in place of real ones; the modes of those to be started, changed by tests."""
    modes = ["well", "well", "well"]

    def command(port: int, ports: list[int], _directory: Path) -> list[str]:
        mode = modes[ports.index(port)]
        return [sys.executable, "-m", "tests.unit.cli.fake_node", str(port), mode, str(tmp_path)]

    monkeypatch.setattr(dev, "node_command", command)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return modes


@pytest.mark.usefixtures("fake")
def test_once_shows_a_put_and_a_get_and_leaves_nothing_behind(
    run: Run, base: int, tmp_path: Path
) -> None:
    ran = run("dev", "--once", f"--base-port={base}")
    out = ran.out.decode()
    assert (ran.code, ran.err) == (0, "")
    assert f"put greeting through http://localhost:{base}: on 2 replicas" in out
    assert f"get greeting through http://localhost:{base + 2}: hello from quorate" in out
    assert busy_ports([base, base + 1, base + 2]) == []
    assert not list(tmp_path.glob("quorate-dev-*"))


@pytest.mark.usefixtures("fake")
def test_a_directory_that_was_given_is_made_and_kept(run: Run, base: int, tmp_path: Path) -> None:
    kept = tmp_path / "made" / "here"
    assert run("dev", "--once", f"--base-port={base}", f"--dir={kept}").code == 0
    logs = {f"{base + step}.log" for step in range(3)}
    assert {path.name for path in kept.iterdir()} == {*logs, "secret"}


@pytest.mark.usefixtures("fake")
def test_its_nodes_have_a_secret_that_stays_the_same(run: Run, base: int, tmp_path: Path) -> None:
    assert run("dev", "--once", f"--base-port={base}", f"--dir={tmp_path / 'a'}").code == 0
    file = tmp_path / "a" / "secret"
    text = file.read_text()
    assert len(read_secrets(text)) == 1
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("dev", "--once", f"--base-port={base}", f"--dir={tmp_path / 'a'}").code == 0
    assert file.read_text() == text
    assert f"--secret-file={file}" in (tmp_path / "a" / f"{base}.log").read_text()


@pytest.mark.usefixtures("fake")
def test_a_directory_that_cannot_be_made_is_one_line(run: Run, base: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for where in (tmp_path / "file", tmp_path / "file" / "sub"):
        ran = run("dev", "--once", f"--base-port={base}", f"--dir={where}")
        assert (ran.code, ran.err) == (2, f"quorate: --dir: Not a directory: {where}\n")


def test_a_busy_port_is_named_and_nothing_is_started(run: Run, base: int) -> None:
    with socket.create_server(("127.0.0.1", base + 1)):
        ran = run("dev", "--once", f"--base-port={base}")
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == f"quorate: port {base + 1} is in use: choose another --base-port\n"


def test_several_busy_ports_are_named_in_one_line(run: Run, base: int) -> None:
    with (
        socket.create_server(("127.0.0.1", base)),
        socket.create_server(("127.0.0.1", base + 2)),
    ):
        ran = run("dev", "--once", f"--base-port={base}", "--json")
    said = f"ports {base}, {base + 2} are in use: choose another --base-port"
    assert (ran.code, ran.err) == (2, f"quorate: {said}\n")
    error = json.loads(ran.out)["error"]
    assert (error["code"], error["detail"]) == ("port_in_use", said)


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        (["well", "dies", "well"], "ended with code 7"),
        (["well", "well", "forgets"], "did not find what was put"),
    ],
)
def test_a_demonstration_that_fails_is_not_0(
    modes: list[str], said: str, run: Run, base: int, fake: list[str]
) -> None:
    fake[:] = modes
    ran = run("dev", "--once", f"--base-port={base}")
    assert ran.code == 3
    assert said in ran.err
    assert busy_ports([base, base + 1, base + 2]) == []


def test_the_number_of_nodes_can_be_chosen(run: Run, base: int, fake: list[str]) -> None:
    fake[:] = ["well"]
    ran = run("dev", "--once", f"--base-port={base}", "--nodes-count=1")
    assert ran.code == 0
    assert ran.out.startswith(b"starting 1 node; ")


def test_what_grows_has_three_nodes_and_room_for_one_more_port(run: Run, base: int) -> None:
    ran = run("dev", "--grow", f"--base-port={base}", "--nodes-count=2")
    said = "quorate: --grow: it takes 3 nodes, of which one can leave\n"
    assert (ran.code, ran.err) == (2, said)
    assert run("dev", "--grow", "--base-port=65533").code == 2
    with socket.create_server(("127.0.0.1", base + 3)):
        ran = run("dev", "--grow", f"--base-port={base}")
    assert ran.err == f"quorate: port {base + 3} is in use: choose another --base-port\n"


def test_what_is_counted_is_in_the_right_number(capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, str | int] = {
        "key": "k",
        "put_through": "a",
        "get_through": "b",
        "value": "v",
    }
    dev._tell({**shown, "acks": 1})
    dev._tell({**shown, "acks": 2})
    said = capsys.readouterr().out
    assert "put k through a: on 1 replica\n" in said
    assert "put k through a: on 2 replicas\n" in said


@pytest.mark.usefixtures("fake")
def test_when_all_nodes_have_ended_the_last_line_says_so(
    run: Run, base: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Children.watch

    def kill_and_watch(nodes: Children, tell: Callable[[str], None]) -> None:
        for child in nodes.all:
            child.terminate()
        watch(nodes, tell)

    monkeypatch.setattr(Children, "watch", kill_and_watch)
    kept = run("dev", f"--base-port={base}", f"--dir={tmp_path / 'kept'}")
    assert kept.code == 3
    assert kept.err.count("start it again with: ") == 3
    assert kept.err.endswith("\nquorate: all nodes have ended\n")
    removed = run("dev", f"--base-port={base}").err.splitlines()[-1]
    assert removed.startswith("quorate: all nodes have ended; ")
    assert removed.endswith(" is removed")


def test_lines_to_try_can_be_pasted_whether_or_not_the_command_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bin_path = tmp_path / "with space"
    bin_path.mkdir()
    monkeypatch.setenv("PATH", str(bin_path))
    monkeypatch.setattr(sys, "executable", str(bin_path / "python"))
    assert dev._quorate() == f"'{bin_path}/python' -m quorate"
    command = bin_path / "quorate"
    command.touch(mode=0o755)
    assert dev._quorate() == "quorate"
    monkeypatch.setenv("PATH", "/nowhere")
    dev._invite(["http://localhost:8000"])
    said = capsys.readouterr().out
    assert f"  '{command}' get foo --target=http://localhost:8000\n" in said
    assert "  curl -X PUT --data-binary bar 'http://localhost:8000/kv?key=foo'\n" in said


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 0),
        (signal.SIGTERM, 0),
        (signal.SIGHUP, 0),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_signal_stops_all_nodes_and_removes_the_temporary_directory(
    number: signal.Signals, code: int, base: int, tmp_path: Path
) -> None:
    """Even that which a process does not hear."""
    program = (
        "import sys; from quorate.cli import dev, main;"
        "dev.node_command = lambda port, ports, directory:"
        " [sys.executable, '-m', 'tests.unit.cli.fake_node', str(port), 'well', str(directory)];"
        "dev._demonstrate = lambda urls: None; dev._tell = print;"
        f"sys.exit(main(['dev', '--base-port={base}']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        shown = _until(iter(process.stdout.readline, ""), "Ctrl-C stops all.")
        assert f"  http://localhost:{base + 2}\n" in shown
        assert any("redis-cli" in line for line in shown)
        process.send_signal(number)
        assert process.stdout.read() == ""
        assert process.wait(10) == code
    wait_until(lambda: busy_ports([base, base + 1, base + 2]) == [], what="all ports free")
    wait_until(lambda: not list(tmp_path.iterdir()), what="nothing left")


def _until(lines: Iterator[str], last: str) -> list[str]:
    found: list[str] = []
    for line in lines:
        found.append(line)
        if line.startswith(last):
            return found
    raise AssertionError(f"ended before {last!r}: {found}")


def test_a_node_is_started_with_the_same_list_and_a_directory_of_its_own(tmp_path: Path) -> None:
    command = dev.node_command(8001, [8000, 8001], tmp_path)
    assert command[:4] == [sys.executable, "-m", "quorate", "serve"]
    assert command[4:] == [
        "--port=8001",
        "--nodes=http://localhost:8000,http://localhost:8001",
        f"--data={tmp_path / '8001'}",
    ]
