# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from bench.moving import growing
from bench.systems import Running, Workbench
from tests.bench.fakes import PACE, FakeLoad, FakeSystem


class FakeJoinable(FakeSystem):
    """Joined by a node that says, look after look, whether copies move; None: no answer."""

    def __init__(self, events: list[str], looks: list[bool | None]) -> None:
        super().__init__("us", events)
        self._looks = iter(looks)

    def join(self, running: Running, place: Workbench) -> int:
        self.events.append(f"join {running.ports} in {place.directory.name}")
        return 4

    def is_moving(self, port: int) -> bool:
        assert port == 4
        found = next(self._looks)
        if found is None:
            raise ConnectionRefusedError
        return found


class FilledLoad(FakeLoad):
    def fill(self, running: Running, place: Workbench) -> None:
        del running, place
        self.events.append(f"write {self.keys}")


def test_a_client_is_measured_before_copies_move_until_they_have_and_after(tmp_path: Path) -> None:
    events: list[str] = []
    looks = [None, False, False, True, *[True] * 3, False]
    load = FilledLoad(events=events, p99s=[1, 2, 3, 4, 6, 8, 10, 1, 1, 1])
    system = FakeJoinable(events, looks)
    place = Workbench(tmp_path, "python")
    found = growing(system, load)(place, PACE._replace(records=50))
    quiet = ["5s"] * 3
    assert [each.strip() for each in events] == [
        *("start us in us", "write 50", *quiet, "join [] in us"),
        *(*["5s"] * 4, *quiet, "stop us"),
    ]
    assert found.values == pytest.approx([2, 3, 4, 5])
    assert [[each.seen.p99_ms for each in side.measured] for side in found.sides] == [
        *([1, 2, 3], [4, 6, 8, 10], [1, 1, 1])
    ]
