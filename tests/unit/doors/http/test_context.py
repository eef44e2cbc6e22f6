# SPDX-License-Identifier: GPL-3.0-or-later
"""`ask`: a request for which a Future is worth its price."""

from __future__ import annotations

import asyncio

import pytest

from quorate.core.values.events import Join, JoinResult, LocalGet, LocalResult
from quorate.doors.http.context import ask
from quorate.errors import NotReady
from tests.fake_store import FakeStore
from tests.unit.conftest import Run

JOINED = "http://127.0.0.1:9000"


def test_the_result_of_the_request_is_returned(run: Run) -> None:
    async def main() -> None:
        store = FakeStore()
        joined = await ask(store, lambda waiter: Join(waiter, JOINED), JoinResult)
        assert not joined.known
        assert len(store.events) == 1

    run(main())


def test_what_failed_is_raised(run: Run) -> None:
    async def main() -> None:
        store = FakeStore()
        store.failure = NotReady("starting")
        with pytest.raises(NotReady, match="starting"):
            await ask(store, lambda waiter: LocalGet(waiter, b"k"), LocalResult)

    run(main())


def test_a_result_of_another_kind_is_a_fault_of_ours(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(AssertionError, match="LocalResult where JoinResult belongs"):
            await ask(FakeStore(), lambda waiter: LocalGet(waiter, b"k"), JoinResult)

    run(main())


def test_a_result_for_a_request_that_nobody_waits_for_any_more_is_let_go(run: Run) -> None:
    async def main() -> None:
        store = FakeStore()
        asking = asyncio.ensure_future(
            ask(store, lambda waiter: LocalGet(waiter, b"k"), LocalResult)
        )
        await asyncio.sleep(0)
        assert store.events
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        # The answer comes in the next turn of the loop.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())
