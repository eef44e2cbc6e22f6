# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that ask how the cost of an operation changes as something grows.

Each point starts a cluster of its own, writes all keys, and is measured once, reading and then
writing. So a point's figures differ by what else the machine did; a trend over many does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from bench.generator import CONNECTIONS, StoreLoad
from bench.peers.quorate import Quorate
from bench.rounds import WARM_UP_SECONDS, BenchRow, Measure, Pacing, RowFound, Side
from bench.systems import Deployment, Workbench, started

_THREE: Final = Quorate()
_DATA_BYTES: Final = 100 << 20
"""Of all values together, where values are large."""
_KEYS_MIN: Final = 100


class GrowthPoint(NamedTuple):
    """One size of what grows."""

    label: str
    system: Deployment
    load: StoreLoad


def grow(points: Sequence[GrowthPoint]) -> Measure:
    """Measures writes and reads at every point; in a quick run at the first and the last."""

    def measure(place: Workbench, pace: Pacing) -> RowFound:
        chosen = (points[0], points[-1]) if pace.is_quick else points
        sides: list[Side] = []
        for number, point in enumerate(chosen):
            there = place.below(str(number))
            there.directory.mkdir()
            sides += _measure_point(point, there, pace)
        return RowFound((), sides)

    return measure


def _measure_point(point: GrowthPoint, place: Workbench, pace: Pacing) -> Iterator[Side]:
    load = point.load
    if pace.is_quick:
        load = replace(load, keys=min(load.keys, pace.records))
    with started([point.system], place) as (running,):
        for kind, reads in (("GET", 1.0), ("SET", 0.0)):
            asked = replace(load, reads=reads)
            asked.measure(running, place, seconds=min(WARM_UP_SECONDS, pace.seconds))
            found = asked.measure(running, place, seconds=pace.seconds)
            pace.tell(f"  {point.label}: {kind} {found.store_us:.0f} us")
            yield Side(f"{point.label}: {kind}", [found])


def _connections(count: int) -> GrowthPoint:
    return GrowthPoint(f"{count:,}", _THREE, StoreLoad(connections=count))


def _keys(count: int) -> GrowthPoint:
    return GrowthPoint(f"{count:,}", _THREE, StoreLoad(keys=count))


def _value(label: str, size: int) -> GrowthPoint:
    keys = max(_DATA_BYTES // size, _KEYS_MIN)
    return GrowthPoint(label, _THREE, StoreLoad(value_bytes=size, keys=min(keys, 100_000)))


def _nodes(count: int) -> GrowthPoint:
    connections = CONNECTIONS * count // _THREE.nodes
    label = f"{count} nodes, {connections} connections"
    return GrowthPoint(label, Quorate(nodes=count), StoreLoad(connections=connections, route=True))


POINTS: Final = {
    "connections": [*map(_connections, (1, 8, 64, 512, 5_000))],
    "keys": [*map(_keys, (10_000, 100_000, 1_000_000, 10_000_000))],
    "values": [
        *(_value("64 B", 64), _value("1 KiB", 1 << 10), _value("16 KiB", 16 << 10)),
        *(_value("64 KiB", 64 << 10), _value("1 MiB", 1 << 20)),
    ],
    "nodes": [*map(_nodes, (3, 5, 7))],
}
_HOW: Final = "three nodes of their own for each"
_HOWS: Final = {"nodes": "as many connections to each, each key asked of a replica"}
GROWTHS: Final = [
    BenchRow(f"grow-{name}", name, _HOWS.get(name, _HOW), grow(points), is_long=True)
    for name, points in POINTS.items()
]
