# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from bench.growth import POINTS, GrowthPoint, grow
from bench.systems import Workbench
from tests.bench.fakes import PACE, FakeLoad, FakeSystem


def points(events: list[str], *counts: int) -> list[GrowthPoint]:
    return [
        GrowthPoint(str(count), FakeSystem("us", events), FakeLoad(keys=count, events=events))
        for count in counts
    ]


def test_each_point_has_a_cluster_of_its_own_that_is_warm_when_measured(tmp_path: Path) -> None:
    events: list[str] = []
    found = grow(points(events, 10, 20))(Workbench(tmp_path, "python"), PACE)
    loads = [" GET 3s", " GET 9s", " 3s", " 9s"]
    assert events == ["start us in us", *loads, "stop us"] * 2
    assert not found.values
    assert [(side.name, side.measured[0].seen.per_second) for side in found.sides] == [
        *(("10: GET", 11), ("10: SET", 10), ("20: GET", 21), ("20: SET", 20)),
    ]


def test_a_quick_run_writes_few_keys_at_the_first_and_the_last_point(tmp_path: Path) -> None:
    pace = PACE._replace(is_quick=True, records=15)
    found = grow(points([], 10, 15, 20))(Workbench(tmp_path, "python"), pace)
    rates = [side.measured[0].seen.per_second for side in found.sides]
    assert rates == [11, 10, 16, 15]


def test_rows_ask_what_grows_as_far_as_it_is_promised() -> None:
    last = {name: points[-1].load for name, points in POINTS.items()}
    assert last["connections"].connections == 5_000
    assert last["keys"].keys == 10_000_000
    assert last["values"].value_bytes == 1 << 20
    assert last["nodes"].connections == 149
