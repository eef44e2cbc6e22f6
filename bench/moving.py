# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client feels of copies that move to a node which joined."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import Final, Protocol

from bench.generator import Measured, StoreLoad
from bench.processes import wait_for
from bench.rounds import Measure, Pacing, RowFound, Side
from bench.singles import RECORD_BYTES
from bench.systems import Deployment, Running, Workbench, started

SLICE_SECONDS: Final = 5.0
"""A measurement while copies move; then it is looked whether they still do."""
ONE_CLIENT: Final = StoreLoad(reads=0.5, connections=1, value_bytes=RECORD_BYTES)


class Joinable(Deployment, Protocol):
    """What can be given one node more while it is loaded."""

    def join(self, running: Running, place: Workbench) -> int:
        """Start the node, and return its port."""

    def is_moving(self, port: int) -> bool:
        """Whether copies are on their way by what the node there knows. OSError: no answer yet."""


def growing(system: Joinable, one_client: StoreLoad = ONE_CLIENT) -> Measure:
    """Measures p99 of one client while copies move to one node more, over its quiet p99."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        load = replace(one_client, keys=pace.records)
        seconds = min(SLICE_SECONDS, pace.seconds)
        with started([system], place) as (running,):
            load.fill(running, place)
            before = [load.measure(running, place, seconds=seconds) for _ in range(pace.rounds)]
            port = system.join(running, place.below(system.name))
            wait_for(lambda: system.is_moving(port), running.processes, what="copies move")
            begun, moving = time.monotonic(), list[Measured]()
            while not moving or system.is_moving(port):
                moving.append(load.measure(running, place, seconds=seconds))
            took = time.monotonic() - begun
            after = [load.measure(running, place, seconds=seconds) for _ in range(pace.rounds)]
        quiet = median(each.seen.p99_ms for each in before)
        pace.tell(f"  moved within {took:.0f} s")
        return RowFound(
            [each.seen.p99_ms / quiet for each in moving],
            [
                Side(f"{system.name}, {load.name}, before", before),
                Side(f"while copies move, which took {took:.0f} s", moving),
                Side("after", after),
            ],
        )

    return measure
