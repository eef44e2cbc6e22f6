# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of both clients: held by one, renewed, given back, lost; against a real door."""

from __future__ import annotations

import asyncio
import threading

import pytest

from quorate.client import AsyncClient, LeaseLost, LeaseTaken
from quorate.client.async_leases import CLOCK_SKEW_SECONDS
from quorate.config import Config
from quorate.errors import DeadlineExceeded, InvalidRequest, Outcome, PreconditionFailed
from tests.http_served import Served
from tests.unit.client.conftest import Connect
from tests.unit.client.test_clients import url_of

SHORT = {"ttl": 2, "max_clock_skew": 1.8}
"""May be relied on for 0.2 s, and is renewed every 0.07 s."""


def test_the_skew_that_leases_allow_for_is_what_nodes_allow() -> None:
    assert Config().max_clock_skew_ms == 1000 * CLOCK_SKEW_SECONDS


def version_in(served: Served) -> str:
    return served.call(lambda: served.store.records[b"jobs"].version.hex())


def test_one_holds_it_and_the_next_ones_token_is_higher(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call, connect(url_of(served)) as other:
        with call.lock("jobs", ttl=10) as first:
            assert first.is_held
            assert 8 < first.seconds_left <= 9
            first.check()
            with pytest.raises(LeaseTaken) as failed, other.lock("jobs", timeout=0):
                pass
            assert failed.value.outcome is Outcome.NOT_APPLIED
            assert failed.value.facts["version"] == first.token
        assert first.seconds_left == 0
        with pytest.raises(LeaseLost):
            first.check()
        with other.lock("jobs") as second:
            assert second.token > first.token
            assert 28 < second.seconds_left <= 29
        assert call("get", "jobs") is None


def test_who_waits_gets_it_when_it_is_given_back(connect: Connect, served: Served) -> None:
    order: list[str] = []

    def wait() -> None:
        with connect(url_of(served)) as other, other.lock("jobs", timeout=10):
            order.append("second")

    with connect(url_of(served)) as call:
        waiting = threading.Thread(target=wait)
        with call.lock("jobs"):
            waiting.start()
            # It was refused once, at least.
            call.until(lambda: len(served.store.events) >= 2, what="the other's try")
            order.append("first")
        waiting.join(10)
    assert order == ["first", "second"]


def test_a_lease_that_ran_out_is_anothers(connect: Connect, served: Served) -> None:
    """As when the holder's machine is gone: nobody gives it back."""
    with connect(url_of(served)) as call:
        served.store.fill(b"jobs", b"gone", expires_ms=served.store.now_ms + 1)
        with pytest.raises(LeaseTaken), call.lock("jobs", timeout=0):
            pass
        served.store.now_ms += 1
        with call.lock("jobs", timeout=0) as lease:
            assert lease.is_held


def test_it_is_renewed_in_the_background_and_keeps_its_token(
    connect: Connect, served: Served
) -> None:
    with connect(url_of(served)) as call, call.lock("jobs", **SHORT) as lease:
        token = lease.token
        for _ in range(5):  # Longer than its first time.
            before = version_in(served)
            call.until(lambda before=before: version_in(served) > before, what="a renewal")  # type: ignore[misc]
            assert lease.is_held
        assert lease.token == token < version_in(served)
        assert served.store.records[b"jobs"].expires_ms == served.store.now_ms + 2000


def test_a_lease_that_another_one_took_is_lost_and_stays_with_that_one(
    connect: Connect, served: Served
) -> None:
    with connect(url_of(served)) as call:
        with pytest.raises(LeaseLost) as lost, call.lock("jobs", **SHORT) as lease:  # noqa: PT012
            served.call(lambda: served.store.fill(b"jobs", b"another"))
            call.until(lambda: not lease.is_held, what="the loss")
            with pytest.raises(LeaseLost, match="stop what it protects"):
                lease.check()
        assert isinstance(lost.value.__cause__, PreconditionFailed)
        assert call("get", "jobs").value == b"another"


def test_a_holder_that_is_cut_off_stops_before_anybody_else_may_begin(
    connect: Connect, served: Served
) -> None:
    with connect(url_of(served), timeout=0.2) as call:
        with pytest.raises(LeaseLost) as lost, call.lock("jobs", **SHORT) as lease:  # noqa: PT012
            served.store.failure = DeadlineExceeded("too slow", outcome=Outcome.NOT_APPLIED)
            call.until(lambda: not lease.is_held, what="the end of its time")
        assert isinstance(lost.value.__cause__, DeadlineExceeded)
        served.store.failure = None
        assert call("get", "jobs") is not None, "it expires by itself"


def test_a_renewal_whose_answer_was_lost_loses_no_lease(connect: Connect, served: Served) -> None:
    def renew_unseen() -> str:
        held = served.store.records[b"jobs"]
        return served.store.fill(b"jobs", held.value).version.hex()

    with connect(url_of(served)) as call:
        with call.lock("jobs", **SHORT) as lease:
            unseen = served.call(renew_unseen)
            call.until(lambda: version_in(served) > unseen, what="another renewal")
            assert lease.is_held
            served.call(renew_unseen)
        assert call("get", "jobs") is None, "given back all the same"


def test_an_error_within_is_not_hidden_by_the_loss(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        with pytest.raises(ZeroDivisionError), call.lock("jobs", **SHORT) as lease:  # noqa: PT012
            served.call(lambda: served.store.fill(b"jobs", b"another"))
            call.until(lambda: not lease.is_held, what="the loss")
            raise ZeroDivisionError
        assert call("get", "jobs").value == b"another"


def test_a_lease_of_no_time_is_refused(connect: Connect, served: Served) -> None:
    refused = pytest.raises(InvalidRequest, match="more than max_clock_skew, which is 1 s")
    with connect(url_of(served)) as call, refused, call.lock("jobs", ttl=1):
        pass
    assert served.store.events == []


def test_a_thread_or_task_does_not_outlive_its_lease(connect: Connect, served: Served) -> None:
    with connect(url_of(served)) as call:
        with call.lock("jobs", **SHORT):
            pass
        assert not any(each.name == "quorate-lease" for each in threading.enumerate())
        count = len(served.store.events)
        call("get", "jobs")
        assert len(served.store.events) == count + 1


def test_a_task_that_is_cancelled_gives_its_lease_back(served: Served) -> None:
    async def hold(client: AsyncClient, began: asyncio.Event) -> None:
        async with client.lock("jobs", ttl=2, max_clock_skew=1.8):
            began.set()
            await asyncio.Event().wait()

    async def test() -> None:
        async with AsyncClient(url_of(served)) as client:
            began = asyncio.Event()
            holder = asyncio.create_task(hold(client, began))
            await began.wait()
            assert await client.get("jobs") is not None
            holder.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holder
            assert await client.get("jobs") is None
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(test())
