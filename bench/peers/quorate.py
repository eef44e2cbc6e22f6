# SPDX-License-Identifier: GPL-3.0-or-later
"""Quorate itself: some nodes that know each other from the start."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.request import Request

from bench.generator import BASIC, PASSWORD, USER
from bench.processes import Process, make_directory, wait_for
from bench.systems import Running, Workbench
from quorate.cli.processes import free_ports
from quorate.security.certificates import authority_of
from quorate.security.passwords import hash_password
from quorate.security.secret import new_secret, write_secret
from quorate.security.users import User, Users, write_users


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
    has_tls: bool = False
    """Whether clients may come inside TLS."""
    users: str = ""
    """Whether clients have to log in, and what who does so may: `roles` for all keys, or `patterns`
    for those that a pattern has."""

    @property
    def name(self) -> str:
        dead = f"-{self.dead}dead" if self.dead else ""
        secret = "-secret" if self.has_secret else ""
        more = secret + ("-tls" if self.has_tls else "") + (self.users and f"-{self.users}")
        return f"quorate-{self.nodes}{dead}-r{self.r}-w{self.w}-{self.durability}{more}"

    @contextmanager
    def start(self, place: Workbench) -> Iterator[Running]:
        """Started, and those to die dead and known to be."""
        ports = free_ports(self.nodes)
        alive = ports[: self.nodes - self.dead]
        make_directory(place.directory, user=None)
        if self.has_secret:
            write_secret(place.directory / "secret", new_secret())
        if self.has_tls:
            pair = authority_of(new_secret(), cluster="bench").mint_node(1)
            (place.directory / "tls.pem").write_bytes(pair.certificate)
            (place.directory / "tls.key").write_bytes(pair.key)
        if self.users:
            write_users(place.directory / "users.toml", Users({USER: _user(self.users)}))
        with Running(alive) as running:
            for port in ports:
                running.processes.append(self._node(place, port, ports))
            wait_for(lambda: _all_see(ports, self.nodes), running.processes, what=self.name)
            for _ in range(self.dead):
                running.processes.pop().kill()
            wait_for(lambda: _all_see(alive, len(alive)), running.processes, what=self.name)
            yield running

    def start_again(self, running: Running, place: Workbench) -> None:
        """Kill the first node and start it anew; return when it serves."""
        running.processes.pop(0).kill()
        port = running.ports[0]
        running.processes.insert(0, self._process(place, port, running.ports))
        wait_for(lambda: _is_ready(port), running.processes, what=self.name)

    def join(self, running: Running, place: Workbench) -> int:
        """Start one node more, which becomes a member by itself; load goes on to the others.
        Returns its port."""
        (port,) = free_ports(1)
        running.processes.append(self._node(place, port, running.ports, knows="-join"))
        return port

    def is_moving(self, port: int) -> bool:
        """Whether copies are on their way by what the node there knows. OSError: no answer yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/topology", timeout=2) as answer:
            return bool(json.load(answer)["phase"] == "moving")

    def _node(
        self, place: Workbench, port: int, ports: list[int], *, knows: str = "-nodes"
    ) -> Process:
        make_directory(place.directory / str(port), user=None)
        return self._process(place, port, ports, knows=knows)

    def _process(
        self, place: Workbench, port: int, ports: list[int], *, knows: str = "-nodes"
    ) -> Process:
        directory = place.directory / str(port)
        nodes = ",".join(f"http://127.0.0.1:{each}" for each in ports)
        command = [place.python, "-m", "quorate", "serve", f"-port={port}", f"{knows}={nodes}"]
        command += [f"-R={self.r}", f"-W={self.w}", f"-durability={self.durability}"]
        command += [f"-data={directory / 'data'}", "-log-level=warning"]
        if self.has_secret:
            command.append(f"-secret-file={place.directory / 'secret'}")
        if self.has_tls:
            command += [f"-tls-{part}={place.directory}/tls.{end}" for part, end in _TLS_FILES]
            # Beside plain connections, which write the keys and ask who is there.
            command.append("-tls=optional")
        if self.users:
            command.append(f"-users={place.directory / 'users.toml'}")
        return Process(command, log=directory / "log")


_TLS_FILES: Final = (("cert", "pem"), ("key", "key"))


def _user(kind: str) -> User:
    return User(
        name=USER,
        password=hash_password(PASSWORD.encode()),
        roles=("read", "write"),
        keys=("quorate-bench:*",) if kind == "patterns" else None,
    )


def _all_see(ports: list[int], up: int) -> bool:
    """Whether each of these nodes is ready and sees so many up, itself included."""
    return all(_seen_up(port) == up for port in ports)


def _is_ready(port: int) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
        return True


def _seen_up(port: int) -> int:
    _is_ready(port)
    # Heeded where clients have to log in.
    asked = Request(f"http://127.0.0.1:{port}/nodes", headers={"Authorization": BASIC})
    with urllib.request.urlopen(asked, timeout=2) as answer:
        return sum(node["state"] in ("self", "up") for node in json.load(answer))
