# SPDX-License-Identifier: GPL-3.0-or-later
"""Quorate itself: some nodes that know each other from the start."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.processes import Process, make_directory, wait_for
from bench.systems import Place, Running
from quorate.cli.processes import free_ports
from quorate.security.secret import new_secret, write_secret


@dataclass(frozen=True, kw_only=True)
class Quorate:
    """A cluster with three replicas of each key."""

    nodes: int = 3
    dead: int = 0
    """Nodes killed once all were up; load goes to the others."""
    r: int = 2
    w: int = 2
    durability: str = "os"
    has_secret: bool = False
    """Whether links between nodes are inside TLS."""

    @property
    def name(self) -> str:
        dead = f"-{self.dead}dead" if self.dead else ""
        secret = "-secret" if self.has_secret else ""
        return f"quorate-{self.nodes}{dead}-r{self.r}-w{self.w}-{self.durability}{secret}"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        """Started, and those to die dead and known to be."""
        ports = free_ports(self.nodes)
        alive = ports[: self.nodes - self.dead]
        if self.has_secret:
            write_secret(place.directory / "secret", new_secret())
        with Running(alive) as running:
            for port in ports:
                running.processes.append(self._node(place, port, ports))
            wait_for(lambda: _all_see(ports, self.nodes), running.processes, what=self.name)
            for _ in range(self.dead):
                running.processes.pop().kill()
            wait_for(lambda: _all_see(alive, len(alive)), running.processes, what=self.name)
            yield running

    def start_again(self, running: Running, place: Place) -> None:
        """Kill the first node and start it anew; return when it serves."""
        running.processes.pop(0).kill()
        port = running.ports[0]
        running.processes.insert(0, self._process(place, port, running.ports))
        wait_for(lambda: _is_ready(port), running.processes, what=self.name)

    def _node(self, place: Place, port: int, ports: list[int]) -> Process:
        make_directory(place.directory / str(port), user=None)
        return self._process(place, port, ports)

    def _process(self, place: Place, port: int, ports: list[int]) -> Process:
        directory = place.directory / str(port)
        nodes = ",".join(f"http://127.0.0.1:{each}" for each in ports)
        command = [place.python, "-m", "quorate", "serve", f"-port={port}", f"-nodes={nodes}"]
        command += [f"-R={self.r}", f"-W={self.w}", f"-durability={self.durability}"]
        command += [f"-data={directory / 'data'}", "-log-level=warning"]
        if self.has_secret:
            command.append(f"-secret-file={place.directory / 'secret'}")
        return Process(command, log=directory / "log")


def _all_see(ports: list[int], up: int) -> bool:
    """Whether each of these nodes is ready and sees so many up, itself included."""
    return all(_seen_up(port) == up for port in ports)


def _is_ready(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
        return True


def _seen_up(port: int) -> int:
    _is_ready(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/nodes", timeout=2) as answer:
        return sum(node["state"] in ("self", "up") for node in json.load(answer))
