# SPDX-License-Identifier: GPL-3.0-or-later
"""The knee is found where a make-believe server has it."""

from __future__ import annotations

import msgspec
import pytest

from quorate.bench.plan import LoadPlan
from quorate.bench.result import BenchResult
from quorate.bench.sweep import find_rates, sweep_connections, sweep_rates
from tests.unit.bench.plans import plan, result

ONE = result(1000)


class Server:
    """Answers up to `most` per second, the more slowly the more is asked."""

    def __init__(self, most: float = 10_000.0, *, slow_from: float = float("inf")) -> None:
        self.most = most
        self.slow_from = slow_from
        self.asked: list[LoadPlan] = []
        self.interrupted_at = 0
        """The number of the measurement, from 1, that is interrupted."""

    def measure(self, plan: LoadPlan) -> BenchResult:
        """What comes out of a plan."""
        self.asked.append(plan)
        wanted = plan.rate or plan.connections * 1000.0
        p99_ms = 50.0 if wanted >= self.slow_from else 1.0
        summary = msgspec.structs.replace(ONE.all, per_second=min(wanted, self.most), p99_ms=p99_ms)
        is_complete = len(self.asked) != self.interrupted_at
        return msgspec.structs.replace(ONE, plan=plan, all=summary, is_complete=is_complete)


def test_the_knee_of_connections_is_where_more_bring_no_more() -> None:
    server = Server(10_000)
    swept = sweep_connections(plan(), [16, 1, 64, 4], server.measure)
    assert [each.plan.connections for each in swept.points] == [1, 4, 16, 64]
    assert (swept.of, swept.knee) == ("connections", 64.0)


def test_a_knee_that_is_not_reached_is_none() -> None:
    assert sweep_connections(plan(), [1, 2, 4], Server().measure).knee is None
    assert sweep_rates(plan(), [1000, 2000], Server().measure).knee is None


def test_there_are_no_more_workers_than_connections() -> None:
    server = Server()
    sweep_connections(plan(workers=2), [1, 4], server.measure)
    assert [each.workers for each in server.asked] == [1, 2]


@pytest.mark.parametrize("server", [Server(10_000), Server(1e6, slow_from=11_000)])
def test_the_knee_of_rates_is_where_they_are_not_kept_or_p99_leaps(server: Server) -> None:
    swept = sweep_rates(plan(), [20_000, 5_000, 10_000], server.measure)
    assert [each.plan.rate for each in swept.points] == [5_000, 10_000, 20_000]
    assert (swept.of, swept.knee) == ("rate", 20_000)


def test_rates_are_doubled_until_the_knee_and_then_narrowed_down() -> None:
    server = Server(11_000)
    swept = find_rates(plan(), server.measure)
    rates = [each.rate for each in server.asked]
    assert rates == [1000, 2000, 4000, 8000, 16_000, 12_000, 10_000]
    assert [each.plan.rate for each in swept.points] == sorted(rates)
    assert swept.knee == 12_000


def test_a_server_that_cannot_keep_the_first_rate_has_its_knee_there() -> None:
    server = Server(500)
    assert find_rates(plan(), server.measure).knee == 1000
    assert len(server.asked) == 1


def test_a_server_without_a_knee_is_not_asked_for_ever() -> None:
    server = Server(1e12)
    assert find_rates(plan(), server.measure).knee is None
    assert len(server.asked) == 11


def test_an_interrupted_sweep_has_the_points_so_far() -> None:
    server = Server()
    server.interrupted_at = 2
    assert len(sweep_rates(plan(), [1000, 2000, 3000], server.measure).points) == 2
    server = Server()
    server.interrupted_at = 2
    assert len(sweep_connections(plan(), [1, 2, 3], server.measure).points) == 2
    server = Server()
    server.interrupted_at = 2
    assert len(find_rates(plan(), server.measure).points) == 2
