# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that ask how the cost of an operation changes as something grows.

Each point starts a cluster of its own, writes all keys, and is measured once, reading and then
writing. So a point's figures differ by what else the machine did; a trend over many does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from bench.loads import CONNECTIONS, Measured, QuorateBench
from bench.peers.quorate import Quorate
from bench.rounds import WARM_UP_SECONDS, Pace, started
from bench.systems import Place, System

_THREE: Final = Quorate()
_DATA_BYTES: Final = 100 << 20
"""Of all values together, where values are large."""
_KEYS_MIN: Final = 100


class Point(NamedTuple):
    """One size of what grows."""

    label: str
    system: System
    load: QuorateBench


class Growth(NamedTuple):
    """What grows, point by point."""

    name: str
    """One word, for `--only`."""
    what: str
    points: Sequence[Point]


class Grown(NamedTuple):
    """A row that was measured; `writes` and `reads` are by point."""

    row: Growth
    writes: Sequence[Measured]
    reads: Sequence[Measured]


def grow(row: Growth, place: Place, pace: Pace) -> Grown:
    """Measure every point; raises Failed."""
    writes, reads = [], []
    for number, point in enumerate(row.points):
        there = place.below(str(number))
        there.directory.mkdir()
        with started([point.system], there, pace.tell) as (running,):
            load = point.load
            if pace.is_quick:
                load = replace(load, keys=min(load.keys, pace.records))
            get, put = replace(load, reads=1.0), replace(load, reads=0.0)
            get.measure(running, there, seconds=min(WARM_UP_SECONDS, pace.seconds))
            get = replace(get, preload=False)
            reads.append(get.measure(running, there, seconds=pace.seconds))
            put.measure(running, there, seconds=min(WARM_UP_SECONDS, pace.seconds))
            writes.append(put.measure(running, there, seconds=pace.seconds))
        pace.tell(f"  {point.label}: {writes[-1].store_us:.0f}, {reads[-1].store_us:.0f} us")
    return Grown(row, writes, reads)


def _connections(count: int) -> Point:
    return Point(f"{count:,}", _THREE, QuorateBench(connections=count))


def _keys(count: int) -> Point:
    return Point(f"{count:,}", _THREE, QuorateBench(keys=count))


def _value(label: str, size: int) -> Point:
    keys = max(_DATA_BYTES // size, _KEYS_MIN)
    return Point(label, _THREE, QuorateBench(value_bytes=size, keys=min(keys, 100_000)))


def _nodes(count: int) -> Point:
    connections = CONNECTIONS * count // _THREE.nodes
    label = f"{count} nodes, {connections} connections"
    return Point(label, Quorate(nodes=count), QuorateBench(connections=connections, route=True))


GROWTHS: Final = (
    Growth("connections", "connections", [*map(_connections, (1, 8, 64, 512, 5_000))]),
    Growth("keys", "keys", [*map(_keys, (10_000, 100_000, 1_000_000, 10_000_000))]),
    Growth(
        "values",
        "value",
        [
            _value(label, size)
            for label, size in (
                ("64 B", 64),
                ("1 KiB", 1 << 10),
                ("16 KiB", 16 << 10),
                ("64 KiB", 64 << 10),
                ("1 MiB", 1 << 20),
            )
        ],
    ),
    Growth(
        "nodes",
        "nodes, as many connections to each, each key asked of a replica",
        [*map(_nodes, (3, 5, 7))],
    ),
)
