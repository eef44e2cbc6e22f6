# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to measure without a second side: limits of the machine, memory, starting, a long time."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.generator import Measured, StoreLoad
from bench.peers.quorate import Quorate
from bench.processes import Process, make_directory, resident_bytes, wait_for
from bench.rounds import WARM_UP_SECONDS, Measure, Pacing, RowFound, Side
from bench.systems import Deployment, Running, Workbench, started
from quorate.bench.latency import counted, summary
from quorate.cli.processes import free_ports

RECORD_BYTES: Final = 100
IDLE_CONNECTIONS: Final = 2_000
WAL_ENTRY_BYTES: Final = 150


@dataclass(frozen=True)
class Server:
    """One of `bench.servers`."""

    kind: str

    @property
    def name(self) -> str:
        return f"bare-{self.kind}"

    @contextmanager
    def start(self, place: Workbench) -> Iterator[Running]:
        """Started and listening."""
        port = free_ports(1)[0]
        log = make_directory(place.directory, user=None) / "log"
        command = [sys.executable, "-m", "bench.servers", self.kind, str(port)]
        root = str(Path(__file__).parents[1])
        with Running([port]) as running:
            running.processes.append(Process(command, log=log, environment={"PYTHONPATH": root}))
            wait_for(lambda: _listens(port), running.processes, what=self.name)
            yield running


def _listens(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def sync_loop(place: Workbench, pace: Pacing) -> RowFound:
    """Appends of about a log entry's size, each with its fdatasync, one after another."""
    path = place.directory / "log"
    rounds = [_sync_round(path, pace.seconds) for _ in range(pace.rounds)]
    return RowFound([each.seen.per_second for each in rounds], [Side("this process", rounds)])


def _sync_round(path: Path, seconds: float) -> Measured:
    entry, counts = b"v" * WAL_ENTRY_BYTES, Counter[int]()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        now = time.perf_counter()
        end = now + seconds
        while now < end:
            begun = now
            os.write(file, entry)
            os.fdatasync(file)
            now = time.perf_counter()
            counts[int((now - begun) * 1e6)] += 1
    finally:
        os.close(file)
    seen = summary([counted(counts, in_time=counts.total())], seconds=seconds)
    return Measured(seen, errors=0, generator_us=0.0, store_us=0.0)


def memory_of_records(system: Deployment) -> Measure:
    """Measures MB resident on the largest node once all records were written."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        with started([system], place) as (running,):
            _records(pace).fill(running, place)
            resident = max(resident_bytes(pid) for pid in running.pids)
        return RowFound([resident / 1e6])

    return measure


def _records(pace: Pacing) -> StoreLoad:
    return StoreLoad(keys=pace.records, value_bytes=RECORD_BYTES)


def memory_of_connections(system: Deployment) -> Measure:
    """Measures kB resident for a connection that said PING and then nothing."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        del pace
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with started([system], place) as (running,):
            before = resident_bytes(running.pids[0])
            connections = [_idle_connection(running.ports[0]) for _ in range(IDLE_CONNECTIONS)]
            after = resident_bytes(running.pids[0])
            for connection in connections:
                connection.close()
        return RowFound([(after - before) / 1e3 / IDLE_CONNECTIONS])

    return measure


def _idle_connection(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(b"*1\r\n$4\r\nPING\r\n")
    connection.recv(64)
    return connection


def start_up(system: Quorate) -> Measure:
    """Measures seconds until a killed node with many records serves again."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        found = []
        with started([system], place) as (running,):
            _records(pace).fill(running, place)
            for _ in range(pace.rounds):
                begun = time.monotonic()
                system.start_again(running, place.below(system.name))
                found.append(time.monotonic() - begun)
        return RowFound(found)

    return measure


def tail(system: Deployment, load: StoreLoad) -> Measure:
    """Measures p99.9 over p50 at half of the highest rate."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        with started([system], place) as (running,):
            load.measure(running, place, seconds=min(WARM_UP_SECONDS, pace.seconds))
            most = load.measure(running, place, seconds=pace.seconds).seen.per_second
            pace.tell(f"  at most {most:,.0f}/s; now half of it for {pace.long_seconds:,.0f}s")
            half = replace(load, rate=round(most / 2))
            found = half.measure(running, place, seconds=pace.long_seconds)
        side = Side(f"{system.name}, {half.name}", [found])
        return RowFound([found.seen.p999_ms / found.seen.p50_ms], [side])

    return measure
