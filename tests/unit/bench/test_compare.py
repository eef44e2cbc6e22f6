# SPDX-License-Identifier: GPL-3.0-or-later
"""Ratios and how sure they are, against figures worked out by other means."""

from __future__ import annotations

import random
from math import exp, gamma, log, pi, sqrt
from statistics import variance

import msgspec
import pytest

from quorate.bench.compare import Compared, compare, differing, student_t
from quorate.bench.result import BenchResult, together
from tests.unit.bench.plans import result

ONE = result(1000)


def rounds(*per_second: float) -> list[BenchResult]:
    """Rounds of this throughput."""
    summaries = [msgspec.structs.replace(ONE.writes, per_second=each) for each in per_second]
    return [msgspec.structs.replace(ONE, all=each, writes=each) for each in summaries]


def throughput(before: list[BenchResult], after: list[BenchResult]) -> Compared:
    return next(each for each in compare(before, after) if each.figure == "per_second")


def test_the_ratio_is_of_geometric_means() -> None:
    found = throughput(rounds(10, 40), rounds(40, 160))
    assert found.kind == "all"
    assert (found.before, found.after) == pytest.approx((20, 80))
    assert found.ratio == pytest.approx(4.0)


def exact_t(freedom: float) -> float:
    """By Simpson's rule over the density, and bisection."""
    scale = gamma((freedom + 1) / 2) / (sqrt(freedom * pi) * gamma(freedom / 2))

    def below(end: float) -> float:
        step = end / 2000
        values: list[float] = [
            (1 + (step * k) ** 2 / freedom) ** (-(freedom + 1) / 2) for k in range(2001)
        ]
        inner: float = 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2])
        return 0.5 + scale * step / 3 * (values[0] + inner + values[-1])

    low, high = 1.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < 0.975 else (low, middle)
    return low


@pytest.mark.parametrize("freedom", [1, 1.2, 1.5, 2, 2.5, 3, 4.7, 9, 29.5, 30, 31, 80])
def test_students_t_is_exact_at_whole_numbers_and_never_too_small(freedom: float) -> None:
    exact = exact_t(freedom)
    assert exact - 0.001 <= student_t(freedom) <= 1.2 * exact
    if freedom == int(freedom) <= 30:
        assert student_t(freedom) == pytest.approx(exact, abs=0.001)


def test_the_interval_is_welchs() -> None:
    old, new = [100, 104, 98, 101], [110, 121, 115]
    found = throughput(rounds(*old), rounds(*new))
    a, b = (variance(map(log, side)) / len(side) for side in (old, new))
    freedom = (a + b) ** 2 / (a**2 / 3 + b**2 / 2)
    half = student_t(freedom) * sqrt(a + b)
    assert found.low == pytest.approx(found.ratio / exp(half))
    assert found.high == pytest.approx(found.ratio * exp(half))
    assert found.is_sure


def test_the_other_way_round_is_the_inverse() -> None:
    one, other = rounds(100, 104, 98), rounds(110, 121, 115)
    there, back = throughput(one, other), throughput(other, one)
    assert there.low is not None
    assert back.high is not None
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.low == pytest.approx(1 / back.high)


def test_nothing_is_sure_after_one_round() -> None:
    found = throughput(rounds(100), rounds(200, 210))
    assert (found.low, found.high, found.is_sure) == (None, None, False)


def test_noise_alone_is_seldom_taken_for_a_difference() -> None:
    """Of 95 % intervals about one in twenty misses."""
    chance = random.Random(4)
    wrong = 0
    for _ in range(200):
        counts = [exp(chance.gauss(0, 0.1)) for _ in range(6)]
        wrong += throughput(rounds(*counts[:3]), rounds(*counts[3:])).is_sure
    assert wrong <= 20


def test_equal_rounds_are_equal_for_sure() -> None:
    found = throughput(rounds(100, 100), rounds(100, 100))
    assert (found.ratio, found.low, found.high, found.is_sure) == (1.0, 1.0, 1.0, False)


def test_rounds_within_a_file_count_like_files() -> None:
    one, other = rounds(100, 104, 98), rounds(110, 121, 115)
    assert compare([together(one)], [together(other)]) == compare(one, other)
    assert compare([*one, together(one)], other) == compare([*one, *one], other)


def test_an_interrupted_round_does_not_count() -> None:
    cut_short = [msgspec.structs.replace(each, is_complete=False) for each in rounds(1)]
    assert compare([*rounds(10, 12), *cut_short], rounds(20)) == compare(rounds(10, 12), rounds(20))


def test_what_was_not_measured_alike_is_named() -> None:
    one, other = result(1000, rate=5.0), result(1000, rate=5.0, targets=(), scenario="cold")
    assert differing([one], [one, other]) == []
    assert differing([one], [result(1000, connections=9)]) == ["connections", "rate"]


def test_figures_that_a_side_does_not_have_are_left_out() -> None:
    kinds = {each.kind for each in compare(rounds(10), rounds(10))}
    assert kinds == {"all", "writes"}
