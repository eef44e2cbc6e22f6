# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of fake nodes that bench starts, what it does to them, and that none is left."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from quorate.cli import bench_dev
from quorate.cli.bench_dev import Churn, dev_cluster
from quorate.cli.processes import Child, NodeFailed, busy_ports
from tests.unit.cli.conftest import Run
from tests.unit.client.scripted import WAIT_SECONDS


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[int]]:
    """Fake nodes in place of real ones; the ports of each cluster that is started."""
    found: list[list[int]] = []
    (tmp_path / "value").write_bytes(b"x")

    def command(port: int, ports: list[int], _directory: Path) -> list[str]:
        if ports not in found:
            found.append(ports)
        return [sys.executable, "-m", "tests.unit.cli.fake_node", str(port), "well", str(tmp_path)]

    monkeypatch.setattr(bench_dev, "node_command", command)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return found


def test_nodes_are_started_measured_and_stopped(
    started: list[list[int]], run: Run, tmp_path: Path
) -> None:
    flags = ["--duration=300ms", "--connections=2", "--keys=10", "--protocol=http", "--json"]
    ran = run("bench", "--dev=2", *flags)
    result = json.loads(ran.out)
    (ports,) = started
    assert (ran.code, result["errors"]) == (0, {})
    assert result["plan"]["targets"] == [["localhost", port] for port in ports]
    assert result["all"]["requests"] > 0
    assert busy_ports(ports) == []
    assert not list(tmp_path.glob("quorate-bench-*"))


def test_faults_and_their_times_are_in_the_result(started: list[list[int]], run: Run) -> None:
    flags = ["--duration=1s", "--connections=2", "--keys=10", "--protocol=http"]
    ran = run("bench", "--dev=2", "--churn=pause", *flags, "--timeline=100ms", "--json")
    (fault,) = json.loads(ran.out)["faults"]
    assert (ran.code, fault["kind"]) == (0, "pause")
    assert fault["node"] == f"http://localhost:{started[0][-1]}"
    assert 0.25 <= fault["begun_s"] <= fault["ended_s"]


def test_a_node_that_does_not_start_is_a_failure(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def command(port: int, _ports: list[int], _directory: Path) -> list[str]:
        return [sys.executable, "-m", "tests.unit.cli.fake_node", str(port), "dies", str(tmp_path)]

    monkeypatch.setattr(bench_dev, "node_command", command)
    ran = run("bench", "--dev=1")
    assert ran.code == 3
    assert "ended with code 7" in ran.err


def test_flags_for_the_nodes_reach_them(started: list[list[int]]) -> None:
    with pytest.raises(NodeFailed), dev_cluster(1, ["--die"]):
        pass
    assert len(started) == 1


# --- churn -------------------------------------------------------------------------------------


class FakeNode(Child):
    """Says what was done to it."""

    def __init__(self, name: str, done: list[str]) -> None:
        self.url = name
        self._done = done
        self.is_broken = False

    def _note(self, what: str) -> None:
        self._done.append(f"{what} {self.url}")

    def kill(self) -> None:
        self._note("kill")

    def terminate(self) -> None:
        self._note("terminate")

    def finish(self, *, until: float) -> None:
        assert until > 0
        self._note("finish")

    def start_again(self) -> None:
        self._note("start")

    def pause(self) -> None:
        self._note("pause")

    def resume(self) -> None:
        self._note("resume")

    def wait_ready(self, *, until: float) -> None:
        assert until > 0
        if self.is_broken:
            raise NodeFailed("it is gone")
        self._note("ready")


def test_each_fault_is_done_and_undone_to_one_node_after_another() -> None:
    done: list[str] = []
    nodes = [FakeNode("a", done), FakeNode("b", done)]
    with Churn(nodes, ["kill", "pause", "restart"], seconds=0.3) as churn:
        churn.begin()
        churn._thread.join(WAIT_SECONDS)
    assert done == [
        *("kill b", "start b", "ready b"),
        *("pause a", "resume a", "ready a"),
        *("terminate b", "finish b", "start b", "ready b"),
    ]
    assert [(fault.kind, fault.node) for fault in churn.faults] == [
        ("kill", "b"),
        ("pause", "a"),
        ("restart", "b"),
    ]
    for place, fault in enumerate(churn.faults):
        assert 0.1 * place + 0.025 <= fault.begun_s <= fault.ended_s


def test_a_run_that_ends_early_leaves_no_node_paused() -> None:
    done: list[str] = []
    paused = threading.Event()

    class Node(FakeNode):
        def pause(self) -> None:
            super().pause()
            paused.set()

    with Churn([Node("a", done)], ["pause", "kill"], seconds=2.0) as churn:
        churn.begin()
        assert paused.wait(WAIT_SECONDS)
    assert done == ["pause a", "resume a", "ready a"]


def test_a_node_that_does_not_come_back_is_a_failure() -> None:
    node = FakeNode("a", [])
    node.is_broken = True
    churn = Churn([node], ["kill"], seconds=0.1)
    churn.begin()
    churn._thread.join(WAIT_SECONDS)
    with pytest.raises(NodeFailed, match="gone"):
        churn.__exit__()


def test_without_faults_nothing_is_started() -> None:
    with Churn([], [], seconds=1.0) as churn:
        pass
    assert churn.faults == []
