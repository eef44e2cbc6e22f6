# SPDX-License-Identifier: GPL-3.0-or-later
"""How long copies take to move, by how fast they were seen to."""

from __future__ import annotations

import msgspec

from quorate.core.values.wish import Preview, Share
from quorate.doors.http.pace import APART_S, STILL_S, WINDOW_S, CopyPace, Eta
from tests.fake_store import FakeStore

COPY_BYTES = 1_000


class Bench:
    """A pace under a clock of its own."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.pace = CopyPace(lambda: self.now)

    def look(
        self, copies: int, *, left: int = 0, epoch: int = 9, after: float = 0.0, size: int = -1
    ) -> Eta:
        self.now += after
        size = copies * COPY_BYTES if size < 0 else size
        return self.pace.look(goal="all", epoch=epoch, copies=copies, size=size, left=left)

    def of(self, phase: str, copies: int, *, weight: int = 1, after: float = 0.0) -> Eta:
        """Of a cluster that is at this, whose only member is to have such a weight."""
        self.now += after
        status = msgspec.structs.replace(FakeStore().status(), phase=phase)
        share = Share(
            url="http://a:1",
            id="1",
            zone="",
            weight=weight,
            before=1024,
            after=1024 - copies,
            gains=0,
            gives=copies,
        )
        coming = Preview(
            epoch=9,
            replication=3,
            shares=[share],
            copies=copies,
            bytes=copies * COPY_BYTES,
            endangered=0,
            gone=0,
            crowded=[],
            unanswered=[],
            weakened=[],
            level=1,
        )
        return self.pace.of(status, coming)


def test_nobody_can_tell_before_copies_were_seen_to_move() -> None:
    bench = Bench()
    assert bench.pace.estimate(700, 700_000) == Eta(None, None, False)
    assert bench.look(700) == Eta(None, None, False)
    assert bench.look(699, after=APART_S / 2) == Eta(None, None, False), "too soon after the first"


def test_two_looks_tell_the_pace_and_how_long_the_rest_takes() -> None:
    bench = Bench()
    bench.look(700)
    assert bench.look(650, epoch=11, after=5.0) == Eta(65, 10 * COPY_BYTES, False)
    assert bench.look(600, epoch=13, after=5.0) == Eta(60, 10 * COPY_BYTES, False)
    assert bench.look(0, epoch=15, after=5.0).seconds == 0


def test_what_members_have_got_of_a_step_counts_before_the_step_is_done() -> None:
    bench = Bench()
    bench.look(700, left=64)
    assert bench.look(700, left=44, after=2.0) == Eta(68, 10 * COPY_BYTES, False)
    assert bench.look(636, epoch=10, after=4.4) == Eta(64, 10 * COPY_BYTES, False)


def test_what_members_tell_late_is_no_progress() -> None:
    bench = Bench()
    bench.look(700)
    assert bench.look(700, left=30, after=1.0).seconds is None
    assert bench.look(700, left=64, after=1.0).seconds is None
    assert bench.look(700, left=61, after=1.0).seconds == 697


def test_looks_that_come_often_tell_the_pace_of_the_last_minutes_alone() -> None:
    bench = Bench()
    copies = 3_000
    for _ in range(int(4 * WINDOW_S)):
        copies -= 1
        bench.look(copies, after=APART_S / 2)
    assert len(bench.pace._looks) <= WINDOW_S / APART_S + 1
    for _ in range(int(WINDOW_S) + 2):
        copies -= 4
        told = bench.look(copies, after=APART_S)
    assert told.bytes_s == 4 * COPY_BYTES


def test_how_fast_copies_moved_is_an_estimate_of_what_moves_later() -> None:
    bench = Bench()
    bench.look(700)
    bench.look(650, after=5.0)
    assert bench.pace.estimate(100, 100 * COPY_BYTES) == Eta(10, 10 * COPY_BYTES, True)
    grown = bench.pace.estimate(100, 200 * COPY_BYTES)
    assert grown == Eta(20, 10 * COPY_BYTES, True), "copies of twice the size"
    assert bench.pace.estimate(0, 0) == Eta(None, None, False)
    bench.now += 10 * WINDOW_S
    assert bench.look(40) == Eta(4, 10 * COPY_BYTES, True), "looks of another move are no measure"


def test_another_course_is_measured_anew() -> None:
    bench = Bench()
    bench.look(100)
    bench.look(50, after=5.0)
    assert bench.look(500, epoch=11, after=5.0) == Eta(50, 10 * COPY_BYTES, True)
    assert bench.look(400, epoch=13, after=5.0) == Eta(20, 20 * COPY_BYTES, False)


def test_a_smaller_course_after_one_that_was_cancelled_is_no_progress() -> None:
    """Else the next plan would be told a pace at which nothing ever moved."""
    for phase in ("stable", "waiting", "forming"):
        bench = Bench()
        bench.of("moving", 700)
        assert bench.of(phase, 700, after=2.0).seconds is None
        assert bench.of("moving", 100, after=2.0).seconds is None
        assert bench.pace.estimate(100, 100 * COPY_BYTES) == Eta(None, None, False)
        assert bench.of("moving", 80, after=2.0) == Eta(8, 10 * COPY_BYTES, False)


def test_a_smaller_course_that_nobody_looked_in_between_is_no_progress() -> None:
    bench = Bench()
    bench.of("moving", 700)
    assert bench.of("moving", 100, weight=0, after=2.0).seconds is None
    assert bench.of("moving", 80, weight=0, after=2.0) == Eta(8, 10 * COPY_BYTES, False)


def test_where_nothing_comes_any_more_nobody_can_tell() -> None:
    bench = Bench()
    bench.look(100)
    bench.look(50, after=5.0)
    bench.look(50, after=WINDOW_S + 1)
    assert bench.look(50, after=STILL_S - 1) == Eta(5, 10 * COPY_BYTES, True)
    assert bench.look(50, after=1.0) == Eta(None, None, False)
    assert bench.look(49, after=1.0).seconds is not None


def test_where_it_is_not_known_what_copies_take_the_pace_is_of_copies() -> None:
    bench = Bench()
    bench.look(100, size=0)
    assert bench.look(80, after=2.0, size=0) == Eta(8, None, False)
    assert bench.pace.estimate(30, 30 * COPY_BYTES) == Eta(3, None, True)
