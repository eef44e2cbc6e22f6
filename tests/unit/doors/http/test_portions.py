# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a batch of many megabytes makes the node do in one turn of the loop. Bytes are counted,
not time."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from quorate.doors.http import batch, keys
from quorate.doors.http.portions import PORTION_BYTES, Portions
from tests.fake_store import FakeStore
from tests.http_served import Served, post

VALUE = b"\xff" * (100 << 10)
COUNT = 60
TURN_BYTES_MAX = (PORTION_BYTES + 2 * len(VALUE)) * 4 // 3
"""As base64 is a third longer than the value, of which the portion may be."""


class Turns:
    """The bytes worked on in each turn of a loop."""

    def __init__(self) -> None:
        self.worst = 0
        self.whole = 0
        self._now = 0

    def did(self, size: int) -> None:
        self._now += size
        self.whole += size
        self.worst = max(self.worst, self._now)

    def begin(self) -> None:
        """In each turn; it goes on for ever."""
        self._now = 0
        asyncio.get_running_loop().call_soon(self.begin)

    def counting(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def counted(given: Any) -> Any:
            result = function(given)
            self.did(max(size_of(given), size_of(result)))
            return result

        return counted


def size_of(value: Any) -> int:
    return len(value if isinstance(value, bytes | str) else getattr(value, "base64", ""))


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    turns = Turns()
    monkeypatch.setattr(batch, "from_text", turns.counting(keys.from_text))
    monkeypatch.setattr(batch, "to_text", turns.counting(keys.to_text))
    monkeypatch.setattr(msgspec.json, "encode", turns.counting(msgspec.json.encode))
    return turns


def test_the_values_of_a_batch_are_checked_a_portion_in_a_turn(turns: Turns) -> None:
    value = {"base64": base64.b64encode(VALUE).decode()}
    operations = [{"op": "put", "key": f"{each}", "value": value} for each in range(COUNT)]
    body = json.dumps({"operations": operations}).encode()
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        served.call(turns.begin)
        answer = post(client, "/batch", body)
    assert {each["status"] for each in json.loads(answer.body)["results"]} == {200}
    assert {record.value for record in store.records.values()} == {VALUE}
    assert turns.whole > COUNT * len(VALUE)
    assert turns.worst <= TURN_BYTES_MAX


def test_the_values_that_a_batch_gets_are_written_a_portion_in_a_turn(turns: Turns) -> None:
    store = FakeStore()
    for each in range(COUNT):
        store.fill(b"%d" % each, VALUE)
    operations = [{"op": "get", "key": f"{each}"} for each in range(COUNT)]
    body = json.dumps({"operations": operations}).encode()
    with Served(store) as served, served.client() as client:
        served.call(turns.begin)
        answer = post(client, "/batch", body)
        served.until(lambda: served.http._replies.used == 0)
    results = json.loads(answer.body)["results"]
    assert {base64.b64decode(each["value"]["base64"]) for each in results} == {VALUE}
    assert "transfer-encoding" not in answer.headers
    assert turns.whole > 2 * COUNT * len(VALUE), "made into text, and that into the answer"
    assert turns.worst <= TURN_BYTES_MAX


def test_tasks_that_share_portions_do_one_in_a_turn_together() -> None:
    turns = Turns()

    async def work(portions: Portions, size: int) -> None:
        for _ in range(5):
            await portions.take(size)
            turns.did(size)

    async def run() -> None:
        turns.begin()
        portions = Portions()
        await asyncio.gather(*(work(portions, PORTION_BYTES // 4) for _ in range(10)))
        assert turns.worst == PORTION_BYTES
        await work(portions, 3 * PORTION_BYTES)

    asyncio.run(run())
    assert turns.worst == 3 * PORTION_BYTES, "one that is larger has a turn of its own"
