# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis: a primary, and two replicas that follow it; load goes to the primary."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.processes import Process, make_directory, program, wait_for
from bench.systems import Running, Workbench
from quorate.cli.processes import free_ports

USER = "redis"


@dataclass(frozen=True, kw_only=True)
class Redis:
    """Without snapshots: what is kept on disk is the append-only file, if any."""

    appendfsync: str = ""
    """`always` or `no`; empty: no append-only file, all is in memory only."""

    @property
    def name(self) -> str:
        return f"redis-{self.appendfsync or 'memory'}"

    @contextmanager
    def start(self, place: Workbench) -> Iterator[Running]:
        """Started, and both replicas have caught up."""
        ports = free_ports(3)
        with Running(ports[:1]) as running:
            for port in ports:
                running.processes.append(self._server(place, port, primary=ports[0]))
            wait_for(lambda: _has_replicas(ports[0], 2), running.processes, what=self.name)
            yield running

    def _server(self, place: Workbench, port: int, *, primary: int) -> Process:
        directory = make_directory(place.directory / str(port), user=USER)
        command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--dir", str(directory), "--save", "", "--repl-diskless-sync-delay", "0"]
        if self.appendfsync:
            command += ["--appendonly", "yes", "--appendfsync", self.appendfsync]
        if port != primary:
            command += ["--replicaof", "127.0.0.1", str(primary)]
        return Process(command, log=directory / "log", user=USER)


def _has_replicas(port: int, count: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.sendall(b"INFO replication\r\n")
        return connection.recv(1 << 16).count(b"state=online") == count
