# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that takes writes and confirms none of them, or fails to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.processes import NodeProcess, fetch, wait_until
from tests.ports import free_port


class StuckNode(NodeProcess):
    """A node whose disk is stuck while `stuck` exists."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(directory, port, ["-timeout=300ms"])
        self.stuck = directory / "stuck"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.cluster.stuck_node", str(self.stuck), "serve"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.flags],
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[StuckNode]:
    port = free_port()
    node = StuckNode(tmp_path, port)
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready")
    yield node
    if node.is_running:
        node.kill()


def put(node: StuckNode, key: str) -> int:
    return fetch(f"{node.url}/kv?key={key}", method="PUT", body=b"x")[0]


def is_unhealthy(node: StuckNode) -> bool:
    answers = [fetch(f"{node.url}{path}") for path in ("/readyz", "/internal/ping")]
    return all(status == 503 and b"not confirmed a sync" in body for status, body in answers)


def stick(node: StuckNode) -> None:
    """Let the disk be stuck, and the node find out."""
    assert put(node, "before") == 200
    node.stuck.touch()
    assert put(node, "during") == 503
    wait_until(lambda: is_unhealthy(node), within_s=10, what="unhealthy")


def test_a_node_with_a_stuck_disk_is_unhealthy_serves_reads_and_recovers(node: StuckNode) -> None:
    stick(node)
    assert fetch(f"{node.url}/healthz")[0] == 200
    assert fetch(f"{node.url}/kv?key=before") == (200, b"x")
    assert put(node, "refused") == 503
    node.stuck.unlink()
    wait_until(node.is_ready, within_s=10, what="ready again")
    assert put(node, "after") == 200


def test_a_node_with_a_stuck_disk_stops_when_it_is_told_to(node: StuckNode) -> None:
    """In bounded time, with the exit code of a failure."""
    stick(node)
    assert node.stop() == 1
    assert "did not confirm" in node.log.read_text()


def test_a_second_signal_ends_a_node_that_waits_for_its_disk(node: StuckNode) -> None:
    stick(node)
    node.signal(signal.SIGTERM)
    wait_until(lambda: is_deaf(node), within_s=10, what="no longer listening")
    node.signal(signal.SIGTERM)
    assert node.wait() == 128 + signal.SIGTERM


def is_deaf(node: StuckNode) -> bool:
    try:
        socket.create_connection(("127.0.0.1", node.port)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_failed_sync_ends_the_node_as_a_failure_and_not_as_one_that_never_started(
    node: StuckNode,
) -> None:
    """Stop, and do not try again; what was acknowledged is there later."""
    assert put(node, "before") == 200
    node.stuck.write_text("fails")
    with contextlib.suppress(OSError):
        assert put(node, "during") == 503
    assert node.wait() == 1
    assert node.log.read_text().count("Input/output error") == 1
    node.stuck.unlink()
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready")
    assert fetch(f"{node.url}/kv?key=before") == (200, b"x")
