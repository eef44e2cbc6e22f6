# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as child processes: none is forgotten, and none dies unheard."""

from __future__ import annotations

import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.cli import processes
from quorate.cli.processes import Children, NodeFailed, busy_ports, free_ports, stoppable
from tests.ports import free_port
from tests.unit.client.scripted import WAIT_SECONDS, wait_until


@pytest.fixture
def ports() -> Iterator[int]:
    """Free ports."""
    return iter(free_port, None)


def children(directory: Path, *modes: str) -> Children:
    """Fake nodes of these modes, in the order of their start."""
    left = list(modes)

    def command(port: int) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tests.unit.cli.fake_node",
            str(port),
            left.pop(0),
            str(directory),
        ]

    return Children(directory, command, is_temporary=False)


def test_nodes_are_ready_when_start_returns_and_gone_when_the_with_ends(
    tmp_path: Path, ports: Iterator[int]
) -> None:
    chosen = [next(ports), next(ports)]
    with children(tmp_path, "well", "well") as nodes:
        nodes.start(chosen)
        assert all(child.is_ready() for child in nodes.all)
        assert [child.exit_code for child in nodes.all] == [None, None]
    assert [child.exit_code for child in nodes.all] == [-signal.SIGTERM] * 2
    assert busy_ports(chosen) == []


def test_a_node_that_dies_at_its_start_is_reported_with_the_end_of_its_log(
    tmp_path: Path, ports: Iterator[int]
) -> None:
    with children(tmp_path, "well", "dies") as nodes:
        chosen = [next(ports), next(ports)]
        with pytest.raises(NodeFailed, match=f"port {chosen[1]} ended with code 7") as raised:
            nodes.start(chosen)
        assert "    cannot go on" in str(raised.value)
        assert str(tmp_path) in str(raised.value)
    assert all(child.exit_code is not None for child in nodes.all)


def test_a_node_that_never_gets_ready_is_given_up(
    tmp_path: Path, ports: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "READY_SECONDS", 0.2)
    with (
        children(tmp_path, "starting") as nodes,
        pytest.raises(NodeFailed, match="not ready within"),
    ):
        nodes.start([next(ports)])
    assert nodes.all[0].exit_code is not None


def test_a_node_that_ignores_the_request_to_stop_is_killed(
    tmp_path: Path, ports: Iterator[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.2)
    with children(tmp_path, "stubborn") as nodes:
        nodes.start([next(ports)])
    assert nodes.all[0].exit_code == -signal.SIGKILL


def test_a_node_that_dies_later_is_told_of_and_the_others_run_on(
    tmp_path: Path, ports: Iterator[int]
) -> None:
    told: list[str] = []
    with children(tmp_path, "well", "well") as nodes:
        nodes.start([next(ports), next(ports)])
        watcher = threading.Thread(target=nodes.watch, args=(told.append,))
        watcher.start()
        nodes.all[0]._process.kill()
        wait_until(lambda: len(told) == 1, what="the first obituary")
        assert nodes.all[1].is_ready()
        nodes.all[1]._process.kill()
        watcher.join(WAIT_SECONDS)
    assert not watcher.is_alive()
    for child, text in zip(nodes.all, told, strict=True):
        assert text.endswith(f"\nstart it again with: {shlex.join(child.command)}")
        assert str(child.port) in child.command
    assert [str(child.port) in text for child, text in zip(nodes.all, told, strict=True)] == [
        True,
        True,
    ]


def test_a_killed_node_can_be_started_again_and_keeps_its_log(
    tmp_path: Path, ports: Iterator[int]
) -> None:
    with children(tmp_path, "well") as nodes:
        nodes.start([next(ports)])
        (child,) = nodes.all
        child.kill()
        assert child.exit_code == -signal.SIGKILL
        with pytest.raises(NodeFailed, match="ended with code -9"):
            child.wait_ready(until=time.monotonic() + WAIT_SECONDS)
        child.start_again()
        child.wait_ready(until=time.monotonic() + WAIT_SECONDS)
        assert child.log.read_text().count("fake node on") == 2


def test_a_paused_node_answers_nobody_until_it_is_resumed(
    tmp_path: Path, ports: Iterator[int]
) -> None:
    with children(tmp_path, "well") as nodes:
        nodes.start([next(ports)])
        (child,) = nodes.all
        child.pause()
        assert not child.is_ready()
        child.resume()
        child.wait_ready(until=time.monotonic() + WAIT_SECONDS)


def test_signals_interrupt_and_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_port_is_busy_while_somebody_listens(ports: Iterator[int]) -> None:
    port = next(ports)
    with socket.create_server(("127.0.0.1", port)):
        assert busy_ports([port]) == [port]
    assert busy_ports([port]) == []


def test_free_ports_are_different_and_free_and_no_outgoing_connection_gets_them() -> None:
    ports = free_ports(3)
    assert max(ports) < 32_768
    assert len(set(ports)) == 3
    assert busy_ports(ports) == []
