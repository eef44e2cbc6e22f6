# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that compare nothing: limits of the machine, memory, and latency over a long time."""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench.generator import summary
from bench.loads import Load, Measured, QuorateBench, generate
from bench.peers.quorate import Quorate
from bench.processes import Process, make_directory, resident_bytes, wait_for
from bench.rounds import WARM_UP_SECONDS, Bound, Pace, started
from bench.systems import Place, Running, System
from quorate.cli.processes import free_ports

RECORD_BYTES: Final = 100
IDLE_CONNECTIONS: Final = 2_000
WAL_ENTRY_BYTES: Final = 150


class Value(NamedTuple):
    """What one round found."""

    value: float
    measured: Measured | None = None
    """What it was worked out from, if load was."""


class Single(NamedTuple):
    """A row with one side."""

    name: str
    what: str
    how: str
    unit: str
    measure: Callable[[Place, Pace], Sequence[Value]]
    bound: Bound = Bound()
    is_long: bool = False


class Told(NamedTuple):
    """A single row that was measured."""

    row: Single
    values: Sequence[Value]


# --- limits --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """One of `bench.servers`."""

    kind: str

    @property
    def name(self) -> str:
        return f"bare-{self.kind}"

    @contextmanager
    def start(self, place: Place) -> Iterator[Running]:
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


class EchoLoad:
    """A value there and back."""

    name: Final = "bench.generator echo"

    def measure(self, running: Running, place: Place, *, seconds: float) -> Measured:
        return generate("echo", running, place, seconds=seconds)


def throughput_of(system: System, load: Load) -> Callable[[Place, Pace], Sequence[Value]]:
    """Measures operations per second."""

    def measure(place: Place, pace: Pace) -> Sequence[Value]:
        with started([system], place, pace.tell) as (running,):
            load.measure(running, place, seconds=min(WARM_UP_SECONDS, pace.seconds))
            found = [load.measure(running, place, seconds=pace.seconds) for _ in range(pace.rounds)]
        return [Value(each.per_second, each) for each in found]

    return measure


def sync_loop(place: Place, pace: Pace) -> Sequence[Value]:
    """Appends of about a log entry's size, each with its fdatasync, one after another."""
    path = place.directory / "log"
    return [_sync_round(path, pace.seconds) for _ in range(pace.rounds)]


def _sync_round(path: Path, seconds: float) -> Value:
    entry, latencies = b"v" * WAL_ENTRY_BYTES, []
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        now = time.perf_counter()
        end = now + seconds
        while now < end:
            begun = now
            os.write(file, entry)
            os.fdatasync(file)
            now = time.perf_counter()
            latencies.append(now - begun)
    finally:
        os.close(file)
    found = summary(latencies, seconds=seconds)
    measured = Measured(
        per_second=found["per_second"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        p999_ms=found["p999_ms"],
        errors=0,
        generator_cores=0.0,
        generators=1,
        store_us=0.0,
    )
    return Value(measured.per_second, measured)


# --- memory --------------------------------------------------------------------------------------


def memory_of_records(system: System) -> Callable[[Place, Pace], Sequence[Value]]:
    """Measures MB resident on the largest node once all records were written."""

    def measure(place: Place, pace: Pace) -> Sequence[Value]:
        fill = QuorateBench(reads=1.0, keys=pace.records, value_bytes=RECORD_BYTES)
        with started([system], place, pace.tell) as (running,):
            measured = fill.measure(running, place, seconds=1)
            resident = max(resident_bytes(pid) for pid in running.pids)
        return [Value(resident / 1e6, measured)]

    return measure


def memory_of_connections(system: System) -> Callable[[Place, Pace], Sequence[Value]]:
    """Measures kB resident for a connection that said PING and then nothing."""

    def measure(place: Place, pace: Pace) -> Sequence[Value]:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with started([system], place, pace.tell) as (running,):
            before = resident_bytes(running.pids[0])
            connections = [_idle_connection(running.ports[0]) for _ in range(IDLE_CONNECTIONS)]
            after = resident_bytes(running.pids[0])
            for connection in connections:
                connection.close()
        return [Value((after - before) / 1e3 / IDLE_CONNECTIONS)]

    return measure


def _idle_connection(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(b"*1\r\n$4\r\nPING\r\n")
    connection.recv(64)
    return connection


# --- starting ------------------------------------------------------------------------------------


def start_up(system: Quorate) -> Callable[[Place, Pace], Sequence[Value]]:
    """Measures seconds until a killed node with many records serves again."""

    def measure(place: Place, pace: Pace) -> Sequence[Value]:
        fill = QuorateBench(reads=1.0, keys=pace.records, value_bytes=RECORD_BYTES)
        found = []
        with started([system], place, pace.tell) as (running,):
            fill.measure(running, place, seconds=1)
            for _ in range(pace.rounds):
                begun = time.monotonic()
                system.start_again(running, place.below(system.name))
                found.append(Value(time.monotonic() - begun))
        return found

    return measure


# --- a long time ---------------------------------------------------------------------------------


def tail(system: System, load: QuorateBench) -> Callable[[Place, Pace], Sequence[Value]]:
    """Measures p99.9 over p50 at half of the highest rate."""
    return partial(_tail, system, load)


def _tail(system: System, load: QuorateBench, place: Place, pace: Pace) -> Sequence[Value]:
    with started([system], place, pace.tell) as (running,):
        load.measure(running, place, seconds=min(WARM_UP_SECONDS, pace.seconds))
        most = load.measure(running, place, seconds=pace.seconds).per_second
        pace.tell(f"  at most {most:,.0f}/s; now half of it for {pace.long_seconds:,.0f}s")
        half = replace(load, rate=round(most / 2))
        found = half.measure(running, place, seconds=pace.long_seconds)
    return [Value(found.p999_ms / found.p50_ms, found)]
