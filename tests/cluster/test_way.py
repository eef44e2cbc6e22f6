# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a PUT through the code, as a trace of three nodes has it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.processes import Cluster, NodeProcess, wait_until

ROOT = Path(__file__).parents[2]
PUT = b"PUT /kv?key=k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nv"


class TracedNode(NodeProcess):
    """A node that tells which modules it enters."""

    def __init__(self, directory: Path, port: int, flags: list[str]) -> None:
        super().__init__(directory, port, flags)
        self.told = directory / f"{port}.told"
        self._count = 0

    def start(self) -> None:
        self.told.mkdir()
        command = [sys.executable, "-m", "tests.cluster.traced_node", str(self.told), "serve"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.flags],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def entered(self) -> set[str]:
        """The modules entered since this was asked last."""
        self._count += 1
        file = self.told / str(self._count)
        self.signal(signal.SIGUSR1)
        wait_until(file.exists, within_s=10, what="the modules are told")
        return {*file.read_text().split()}


class TracedCluster(Cluster):
    """Three of them, which have nothing to do but what they are asked."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "-heartbeat=1m")
        self.traced = [TracedNode(directory, each.port, each.flags) for each in self.nodes]
        self.nodes = [*self.traced]

    def put(self, client: socket.socket) -> set[str]:
        """The modules that a PUT enters on all nodes."""
        for node in self.traced:
            node.entered()
        client.sendall(PUT)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
        return set().union(*[node.entered() for node in self.traced])


def told_in_architecture(before: str = "") -> set[str]:
    """The modules that the way names, or those of them that stand behind these characters."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    _, _, way = text.partition("## A PUT's way\n")
    way, _, _ = way.partition("\nA GET ")
    names = re.findall(rf"{re.escape(before)}`([a-z]+(?:/[a-z_]+)+)", way)
    return {name for name in names if (ROOT / f"src/quorate/{name}.py").exists()}


def test_the_modules_of_the_way_are_as_many_as_it_says() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    count, read = len(told_in_architecture()), len(told_in_architecture("**"))
    assert f"These are {count} modules" in text
    assert f"The {read} modules in bold" in text
    assert re.search(rf"The\s+other {count - read} are leaves", text)


@pytest.mark.plain
def test_the_way_of_a_put_is_told_as_it_is(tmp_path: Path) -> None:
    """On a connection that stands, and without what the nodes do now and then by themselves."""
    cluster = TracedCluster(tmp_path)
    with cluster:
        address = ("localhost", cluster.nodes[0].port)
        with socket.create_connection(address, timeout=10) as client:
            traces = [cluster.put(client) for _ in range(8)]
    assert set.intersection(*traces) == told_in_architecture()
