# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store is to the benchmarks: something that can be started, and then has addresses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from bench.processes import Process


class Place(NamedTuple):
    """Where to run."""

    directory: Path
    """On the disk that is measured; empty at first."""
    python: str
    """The interpreter that has Quorate: nodes and the load generator run on it."""

    def below(self, name: str) -> Place:
        """A directory in this one."""
        return self._replace(directory=self.directory / name)


class Running:
    """The processes of a started store; leaving it stops them, the last started first."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = list(ports)
        """Where load goes to."""
        self.processes: list[Process] = []

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self.processes):
            process.stop()

    @property
    def urls(self) -> str:
        """As `quorate bench` takes them."""
        return ",".join(f"http://127.0.0.1:{port}" for port in self.ports)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


class System(Protocol):
    """A store with its settings: a value, equal ones are started once for a row."""

    @property
    def name(self) -> str:
        """For directories and progress."""

    def __hash__(self) -> int: ...

    def start(self, place: Place) -> AbstractContextManager[Running]:
        """Start it and wait until it serves; raises Failed."""
