# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store is to the benchmarks: something that can be started, and then has addresses."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from bench.processes import Process


class Workbench(NamedTuple):
    """Where to run, and with what."""

    directory: Path
    """On the disk that is measured; empty at first."""
    python: str
    """The interpreter that has Quorate."""
    generator: str = ""
    """The program that asks."""

    def below(self, name: str) -> Workbench:
        """A directory in this one."""
        return self._replace(directory=self.directory / name)


class Running:
    """The processes of a started store; leaving it stops them, the last started first."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = list(ports)
        """Where load goes to."""
        self.processes: list[Process] = []
        self.filled: set[Hashable] = set()
        """Which keys a load has written."""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.stop()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]


class Deployment(Protocol):
    """A store with its settings: a value, equal ones are started once for a row."""

    @property
    def name(self) -> str:
        """For directories and progress."""

    def __hash__(self) -> int: ...

    def start(self, place: Workbench) -> AbstractContextManager[Running]:
        """Start it and wait until it serves; raises ProcessFailed."""


@contextmanager
def started(systems: Sequence[Deployment], place: Workbench) -> Iterator[list[Running]]:
    """All of them running; one that is given twice runs once. Raises ProcessFailed."""
    with ExitStack() as stack:
        running: dict[Deployment, Running] = {}
        for system in systems:
            if system not in running:
                running[system] = stack.enter_context(system.start(place.below(system.name)))
        yield [running[system] for system in systems]
