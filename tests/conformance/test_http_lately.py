# SPDX-License-Identifier: GPL-3.0-or-later
"""What is costly to answer in a large cluster is made once in its time, however many ask."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from quorate.core.values.events import Change
from quorate.core.values.status import Status
from quorate.doors.http import lately
from quorate.doors.http.lately import Lately
from quorate.errors import Overloaded
from tests.fake_store import FakeStore
from tests.http_served import Served, get

MEMBERS = 1000
ASKED = 100


class LargeStore(FakeStore):
    """Of a cluster of MEMBERS nodes, that counts how often its status is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.known = {f"http://127.0.0.1:{8000 + index}" for index in range(MEMBERS)}
        self.taken = 0

    def status(self) -> Status:
        self.taken += 1
        return super().status()

    def plans(self) -> int:
        """How many plans were made."""
        return sum(isinstance(each, Change) for each in self.events)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(lately, "AGE_SECONDS", 1000.0)
    with Served(LargeStore()) as served:
        yield served


def test_metrics_are_rendered_once_in_their_time(large: Served) -> None:
    store = large.store
    assert isinstance(store, LargeStore)
    before = store.taken
    with large.client() as client:
        bodies = {get(client, "/metrics").body for _ in range(ASKED)}
    assert [body.count(b"quorate_member_up{") for body in bodies] == [MEMBERS]
    assert store.taken - before == 1


def test_what_the_cluster_comes_to_is_planned_once_in_its_time_and_for_each_layout(
    large: Served,
) -> None:
    store = large.store
    assert isinstance(store, LargeStore)
    with large.client() as client:
        for _ in range(ASKED):
            assert get(client, "/topology").status == 200
        assert store.plans() == 1
        store.epoch += 1
        assert get(client, "/topology").status == 200
        assert store.plans() == 2


def test_a_plan_that_fails_is_made_again_for_the_next(large: Served) -> None:
    store = large.store
    assert isinstance(store, LargeStore)
    with large.client() as client:
        store.failure = Overloaded("much")
        assert get(client, "/topology").status == 503
        store.failure = None
        assert get(client, "/topology").status == 200
    assert store.plans() == 2


def test_all_who_wait_get_the_same_and_one_that_goes_away_ends_it_for_nobody() -> None:
    made = 0

    async def make() -> int:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return made

    async def ask() -> list[int]:
        kept: Lately[int] = Lately()
        asked = [asyncio.ensure_future(kept.get(make)) for _ in range(3)]
        await asyncio.sleep(0)
        asked[0].cancel()
        return await asyncio.gather(*asked[1:])

    assert asyncio.run(ask()) == [1, 1]


def test_what_is_older_than_its_time_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, made = 0.0, 0
    monkeypatch.setattr(lately, "monotonic", lambda: now_s)

    async def make() -> int:
        nonlocal made
        made += 1
        return made

    async def ask() -> None:
        nonlocal now_s
        kept: Lately[int] = Lately()
        for at_s, expected in ((5.0, 1), (5.9, 1), (6.0, 2), (6.5, 2), (7.0, 3)):
            now_s = at_s
            assert await kept.get(make) == expected

    asyncio.run(ask())
