# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.growth import GROWTHS, Growth, Point, grow
from bench.loads import Measured, QuorateBench
from bench.systems import Place, Running
from tests.bench.fakes import PACE, FakeSystem, measured


@dataclass(frozen=True, kw_only=True)
class FakeBench(QuorateBench):
    """Finds as many a second as it has keys, and notes what it was asked."""

    asked: list[str] = field(default_factory=list)

    def measure(self, running: Running, place: Place, *, seconds: float) -> Measured:
        del running, place
        what = "GET" if self.reads else "SET"
        written = " after writing" if self.reads and self.preload else ""
        self.asked.append(f"{what} {self.keys} {seconds:g}s{written}")
        return measured(self.keys + int(self.reads))


def test_each_point_has_a_cluster_of_its_own_that_is_warm_when_measured(tmp_path: Path) -> None:
    events: list[str] = []
    asked: list[str] = []
    points = [
        Point(str(count), FakeSystem("us", events), FakeBench(keys=count, asked=asked))
        for count in (10, 20)
    ]
    found = grow(Growth("keys", "keys", points), Place(tmp_path, "python"), PACE)
    assert events == ["start us in us", "stop us"] * 2
    assert asked[:4] == ["GET 10 3s after writing", "GET 10 9s", "SET 10 3s", "SET 10 9s"]
    assert [each.per_second for each in found.writes] == [10, 20]
    assert [each.per_second for each in found.reads] == [11, 21]


def test_a_quick_run_writes_few_keys(tmp_path: Path) -> None:
    load = FakeBench(keys=10)
    row = Growth("keys", "keys", [Point("10", FakeSystem("us", []), load)])
    found = grow(row, Place(tmp_path, "python"), PACE._replace(is_quick=True, records=5))
    assert found.writes[0].per_second == 5


def test_rows_ask_what_grows_as_far_as_it_is_promised() -> None:
    last = {row.name: row.points[-1] for row in GROWTHS}
    assert last["connections"].load.connections == 5_000
    assert last["keys"].load.keys == 10_000_000
    assert last["values"].load.value_bytes == 1 << 20
    assert last["nodes"].load.connections == 149
