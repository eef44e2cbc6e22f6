# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys are drawn with the chances that they should have."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.bench import distributions
from quorate.bench.distributions import THETA, Zipf, keys_of
from tests.unit.bench.plans import plan

MANY = Zipf(10_000_000)


def shares(count: int) -> list[float]:
    """What each rank should have, the obvious way."""
    weights = [(rank + 1) ** -THETA for rank in range(count)]
    total = sum(weights)
    return [weight / total for weight in weights]


def share_of(zipf: Zipf, rank: int) -> float:
    """The part of all chances that stand for `rank`, by bisection at both ends."""

    def first(wanted: int) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if zipf.rank(middle) >= wanted else (middle, high)
        return high

    end = 1.0 if rank == zipf.rank(1 - 2**-53) else first(rank + 1)
    return end - (first(rank) if rank else 0.0)


@pytest.mark.parametrize("count", [1, 2, 5, 300])
def test_each_rank_of_zipf_has_exactly_its_share(count: int) -> None:
    zipf = Zipf(count)
    found = [share_of(zipf, rank) for rank in range(count)]
    assert found == pytest.approx(shares(count), rel=1e-9)


def test_ranks_past_the_table_have_their_shares_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a table of 20 of 300. The integral is off by 1 / (12 rank ** 2) at most."""
    monkeypatch.setattr(distributions, "_HEAD", 20)
    zipf = Zipf(300)
    found = [share_of(zipf, rank) for rank in range(300)]
    assert found == pytest.approx(shares(300), rel=1 / (12 * 20**2))


def test_ten_million_ranks_have_the_shares_that_all_summed_up_would_give() -> None:
    """Sampled at points whose true rank is known from Euler and Maclaurin's sum."""
    count = 10_000_000

    def sum_to(rank: int) -> float:
        if rank <= 1000:
            head: float = sum(each**-THETA for each in range(1, rank + 1))
            return head
        power = 1 - THETA
        edges = rank**-THETA / 2 - 1000**-THETA / 2
        slopes = THETA * (1000 ** -(THETA + 1) - rank ** -(THETA + 1)) / 12
        tail: float = (rank**power - 1000**power) / power + edges + slopes
        return sum_to(1000) + tail

    total = sum_to(count)
    for rank in (1, 2, 10, 1000, 65_536, 65_537, 100_000, 1_000_000, 9_999_999):
        middle = (sum_to(rank - 1) + sum_to(rank)) / 2 / total
        assert MANY.rank(middle) == rank - 1


@given(st.floats(0, 1, exclude_max=True))
def test_no_rank_is_out_of_range(chance: float) -> None:
    assert 0 <= MANY.rank(chance) < 10_000_000


def drawn(count: int, *, worker: int = 0, **changes: object) -> list[int]:
    draw = keys_of(plan(**changes), worker=worker).read
    return [draw() for _ in range(count)]


def test_uniform_keys_are_all_there_and_none_is_preferred() -> None:
    counts = Counter(drawn(20_000, keys=20))
    assert set(counts) == set(range(20))
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_zipfian_keys_are_scattered_and_have_the_chances_of_their_ranks() -> None:
    counts = Counter(drawn(50_000, keys=1000, distribution="zipfian"))
    ranked = [count for _, count in counts.most_common()]
    expected = shares(1000)
    for rank in range(5):
        assert ranked[rank] / 50_000 == pytest.approx(expected[rank], rel=0.1)
    hottest = sorted(key for key, _ in counts.most_common(10))
    assert hottest != list(range(10))
    assert set(counts) <= set(range(1000))


def test_each_once_is_each_exactly_once_over_all_workers() -> None:
    both = [
        drawn(500, worker=worker, workers=2, keys=1000, distribution="once") for worker in (0, 1)
    ]
    assert sorted(both[0] + both[1]) == list(range(1000))
    assert both[0] != sorted(both[0])


def test_once_begins_again_when_all_were_there() -> None:
    keys = drawn(20, keys=10, distribution="once")
    assert keys[:10] == keys[10:]


def test_workers_draw_different_keys_and_runs_the_same() -> None:
    first, second = drawn(50, worker=0, workers=2), drawn(50, worker=1, workers=2)
    assert first != second
    assert first == drawn(50, worker=0, workers=2)


def test_inserted_keys_are_new_and_no_two_workers_make_the_same() -> None:
    made = []
    for worker in range(3):
        write = keys_of(plan(writes="insert", workers=3, keys=100), worker=worker).write
        made += [write() for _ in range(10)]
    assert sorted(made) == list(range(100, 130))


def test_latest_prefers_what_was_inserted_and_reads_nothing_that_may_not_be_there_yet() -> None:
    of = plan(writes="insert", distribution="latest", keys=100, connections=1, pipeline=1)
    keys = keys_of(of, worker=0)
    assert all(0 <= keys.read() < 100 for _ in range(1000))
    assert [keys.write() for _ in range(50)] == list(range(100, 150))
    counts = Counter(keys.read() for _ in range(20_000))
    # Of the newest, one may be under way on the only connection, one is being drawn.
    assert max(counts) == counts.most_common(1)[0][0] == 147
    assert counts[147] / 20_000 == pytest.approx(shares(100)[0], rel=0.1)
    assert min(counts) >= 48
