# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd: three members; load goes to the leader, which spares it the way from a follower to it."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.loads import Measured, generate
from bench.processes import Failed, Process, make_directory, program, wait_for
from bench.systems import Place, Running
from quorate.cli.processes import free_ports

USER = "etcd"
MEMBERS = 3


@dataclass(frozen=True, kw_only=True)
class Etcd:
    """Three members, each as it comes: every write is synced before it is acknowledged."""

    @property
    def name(self) -> str:
        return "etcd"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
        """Started, with a leader that all follow."""
        clients, peers = free_ports(MEMBERS), free_ports(MEMBERS)
        cluster = ",".join(f"m{n}=http://127.0.0.1:{port}" for n, port in enumerate(peers))
        with Running(clients) as running:
            for number in range(MEMBERS):
                urls = (f"http://127.0.0.1:{clients[number]}", f"http://127.0.0.1:{peers[number]}")
                running.processes.append(_member(place, f"m{number}", urls, cluster))
            wait_for(lambda: all(map(_is_healthy, clients)), running.processes, what=self.name)
            wait_for(lambda: bool(_leaders(clients)), running.processes, what="a leader")
            running.ports = _leaders(clients)
            yield running


def _member(place: Place, name: str, urls: tuple[str, str], cluster: str) -> Process:
    directory = make_directory(place.directory / name, user=USER)
    client, peer = urls
    command = [program("etcd"), "--name", name, "--data-dir", str(directory / "data")]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
    command += ["--logger", "zap", "--log-level", "error"]
    return Process(command, log=directory / "log", user=USER)


def _is_healthy(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
        return bool(json.load(answer)["health"] == "true")


def _leaders(ports: list[int]) -> list[int]:
    """Those that are the leader: one, or none."""
    return [port for port in ports if _is_leader(port)]


def _is_leader(port: int) -> bool:
    url = f"http://127.0.0.1:{port}/v3/maintenance/status"
    with urllib.request.urlopen(url, b"{}", timeout=2) as answer:
        status = json.load(answer)
    return bool(status["leader"] == status["header"]["member_id"])


@dataclass(frozen=True, kw_only=True)
class EtcdLoad:
    """Puts, or linearizable gets, by `bench.generator`."""

    reads: bool = False
    protocol: str = "etcd-grpc"

    @property
    def name(self) -> str:
        return f"bench.generator {self.protocol}"

    def measure(self, running: Running, place: Place, *, seconds: float) -> Measured:
        found = generate(self.protocol, running, place, seconds=seconds, reads=self.reads)
        if _leaders(running.ports) != running.ports:
            raise Failed("another member became the leader: load went the long way, by a follower")
        return found
