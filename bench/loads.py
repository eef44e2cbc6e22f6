# SPDX-License-Identifier: GPL-3.0-or-later
"""Load generators: each asks a running store for as much as it gives, and tells what that was.

The generator is always a process of its own. While it runs, the processor time that it and the
store use is sampled: a generator that fills a core measures itself, and the store's time for an
operation does not depend on what the generator costs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from bench.processes import Failed, Process, cpu_seconds
from bench.systems import Place, Running

_ROOT: Final = str(Path(__file__).parents[1])
CONNECTIONS: Final = 64
VALUE_BYTES: Final = 64
_PATH: Final = os.pathsep.join(path for path in (_ROOT, os.environ.get("PYTHONPATH")) if path)
WORKERS: Final = 2
"""Processes of `quorate bench`. One alone fills a core, and Redis would seem no faster than it."""
_BUSY: Final = 0.9
_SAMPLE_SECONDS: Final = 0.2
_TAIL_SHARE: Final = 0.2
"""Of a measurement's seconds: as long may a generator take to add up what it saw and to end."""
_PATIENCE_SECONDS: Final = 180.0
"""For what a generator does besides its seconds of measuring, writing the keys above all..."""
_PATIENCE_PER_KEY: Final = 2e-4
"""...and for each of them."""


class Measured(NamedTuple):
    """One measurement."""

    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: int
    generator_cores: float
    """Processor time that the generator used, for each second."""
    generators: int
    """Its processes."""
    store_us: float
    """Processor time, in microseconds, that all of the store used for an operation."""
    processors: int = os.cpu_count() or 1
    """What the generator and the store share."""

    @property
    def is_generator_bound(self) -> bool:
        """Whether a cheaper generator might have found more: its processes were near their own
        limit, or the machine was near its own and most of it went to the generator. The latter
        hides how fast a cheap store is, and so flatters what it is compared with."""
        store_cores = self.store_us * self.per_second / 1e6
        is_full = self.generator_cores + store_cores > _BUSY * self.processors
        is_worn_out = self.generator_cores > _BUSY * self.generators
        return is_worn_out or (is_full and self.generator_cores > store_cores)


class Load(Protocol):
    """What a store is asked for, and by what."""

    @property
    def name(self) -> str:
        """For the table of all values."""

    def measure(self, running: Running, place: Place, *, seconds: float) -> Measured:
        """Ask for so many seconds; raises Failed."""


@dataclass(frozen=True, kw_only=True)
class QuorateBench:
    """`quorate bench`, against Quorate or anything else that speaks its protocols."""

    reads: float = 0.0
    protocol: str = "resp"
    pipeline: int = 1
    wait: int = 0
    keys: int = 100_000
    rate: int = 0
    """Requests per second, whatever becomes of them; 0: as many as are answered."""
    value_bytes: int = VALUE_BYTES
    connections: int = CONNECTIONS
    route: bool = False
    preload: bool = True
    """Whether all keys are written first, if any is to be read."""

    @property
    def name(self) -> str:
        parts = [f"quorate bench {self.protocol}"]
        parts += [f"pipeline {self.pipeline}"] if self.pipeline > 1 else []
        parts += [f"WAIT {self.wait}"] if self.wait else []
        parts += [f"{self.connections} connections"] if self.connections != CONNECTIONS else []
        parts += ["routed"] if self.route else []
        return ", ".join(parts)

    def measure(self, running: Running, place: Place, *, seconds: float) -> Measured:
        workers = min(WORKERS, self.connections)
        command = [place.python, "-m", "quorate", "bench", running.urls, "--json"]
        command += [f"--connections={self.connections}", f"--value-bytes={self.value_bytes}"]
        command += [f"--reads={self.reads}", f"--protocol={self.protocol}", f"--keys={self.keys}"]
        command += [f"--pipeline={self.pipeline}", f"--wait={self.wait}", f"--workers={workers}"]
        command += [f"--duration={round(seconds * 1000)}ms"]
        command += ["--route=yes"] if self.route else []
        command += [] if self.preload else ["--preload=no"]
        if self.rate:
            command += [f"--rate={self.rate}"]
        # It ends with 3 when there were errors: those are counted.
        output, usage = drive(
            command,
            running,
            place,
            seconds=seconds,
            patience=_PATIENCE_SECONDS + _PATIENCE_PER_KEY * self.keys,
            accept=(0, 3),
        )
        return measured(json.loads(output), usage, generators=workers)


def generate(
    protocol: str, running: Running, place: Place, *, seconds: float, reads: bool = False
) -> Measured:
    """What `bench.generator` measures; raises Failed."""
    command = [sys.executable, "-m", "bench.generator", protocol, f"--seconds={seconds}"]
    command += [f"--connections={CONNECTIONS}", f"--value-bytes={VALUE_BYTES}"]
    command += ["--reads"] if reads else []
    command += ["--ports", *map(str, running.ports)]
    output, usage = drive(command, running, place, seconds=seconds)
    return measured(json.loads(output), usage, generators=1)


class Usage(NamedTuple):
    """Processor seconds per second while it was measured."""

    generator_cores: float
    store_cores: float


def drive(
    command: Sequence[str],
    running: Running,
    place: Place,
    *,
    seconds: float,
    patience: float = _PATIENCE_SECONDS,
    accept: Sequence[int] = (0,),
) -> tuple[str, Usage]:
    """What the generator printed, and what was used while it measured; raises Failed, also if a
    process of the store ended meanwhile: the others would be faster without it."""
    log = place.directory / f"generator-{time.monotonic_ns()}.log"
    output = log.with_suffix(".out")
    process = Process(command, log=log, output=output, environment={"PYTHONPATH": _PATH})
    samples: list[tuple[float, float, float]] = []
    until = time.monotonic() + seconds + patience
    try:
        while process.exit_code is None and time.monotonic() < until:
            own, store = cpu_seconds([process.pid]), cpu_seconds(running.pids)
            samples.append((time.monotonic(), own, store))
            time.sleep(_SAMPLE_SECONDS)
        process.wait(0.1, accept=accept)
    finally:
        process.stop()
    for each in running.processes:
        if each.exit_code is not None:
            raise Failed(each.obituary())
    return output.read_text(encoding="utf-8"), usage_of(samples, seconds=seconds)


def usage_of(samples: Sequence[tuple[float, float, float]], *, seconds: float) -> Usage:
    """From samples of the time and of the processor seconds of generator and store until then, up
    to the generator's end. Failed if they are too few.

    A generator may write keys before it measures, and adds up afterwards: what counts is between,
    where it surely measured.
    """
    end = samples[-1][0]
    within = [each for each in samples if seconds >= end - each[0] >= _TAIL_SHARE * seconds]
    if len(within) < 2 or within[-1][2] == within[0][2]:
        raise Failed(f"{seconds:g}s were too short to see what the store used")
    took, own, store = (last - first for first, last in zip(within[0], within[-1], strict=True))
    return Usage(own / took, store / took)


def measured(report: dict[str, Any], usage: Usage, *, generators: int) -> Measured:
    """A report in the shape of `quorate bench --json`; Failed if nothing was answered in time.

    Besides errors, reads that found nothing and requests that were due but not sent count as such:
    neither may happen here.
    """
    every = report["all"]
    if not every["per_second"]:
        raise Failed(f"nothing was answered: {report['errors']}")
    return Measured(
        per_second=every["per_second"],
        p50_ms=every["p50_ms"],
        p99_ms=every["p99_ms"],
        p999_ms=every["p999_ms"],
        errors=sum(report["errors"].values()) + report.get("misses", 0) + report.get("backlog", 0),
        generator_cores=usage.generator_cores,
        generators=generators,
        store_us=usage.store_cores * 1e6 / every["per_second"],
    )
