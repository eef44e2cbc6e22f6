# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns: what is gathered, in which order effects happen, and what one fault may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import cast

import pytest
from structlog.testing import capture_logs

from quorate.config import Config
from quorate.core.node import Node
from quorate.core.values.events import (
    Durable,
    Effects,
    Event,
    Get,
    LocalResult,
    Note,
    Stop,
    StorageState,
)
from quorate.core.values.messages import Message, Pong
from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError
from quorate.runtime import storing
from quorate.runtime.driver import Driver
from tests.unit.runtime.conftest import Run
from tests.unit.runtime.fakes import (
    FakeClient,
    FakeEngine,
    FakeLinks,
    ScriptedNode,
    batch,
    turns,
    until,
)

ANSWER = LocalResult(None)
ONE, TWO = "http://one", "http://two"


class Stage:
    """A driver between fakes."""

    def __init__(self, *, needs_sync: bool = True, timeout_ms: int = 60_000) -> None:
        self.story: list[str] = []
        self.engine = FakeEngine(self.story, needs_sync=needs_sync)
        self.node = ScriptedNode(self.story)
        self.links = FakeLinks(self.story)
        self.client = FakeClient(self.story)
        self.failures: list[str] = []
        self.driver = Driver(
            Config(timeout_ms=timeout_ms),
            cast(Node, self.node),
            self.engine,
            on_failure=self.failures.append,
        )

    async def start(self) -> None:
        """Take the driver through its first, empty, turn."""
        self.driver.start(self.links)
        await turns()
        self.node.steps.clear()
        self.story.clear()

    def then(
        self,
        *,
        mark: int = 0,
        sends: dict[str, list[Message]] | None = None,
        answers: list[FakeClient] | None = None,
        wake_ms: int | None = None,
        inflight: int = 0,
    ) -> None:
        """What the next step returns; with a mark, a batch of that number."""
        effects = Effects()
        effects.batch, effects.mark = (batch(mark), mark) if mark else (None, 0)
        effects.sends = sends or {}
        effects.answers = [(client, ANSWER) for client in answers or []]
        effects.wake_ms = wake_ms
        self.node.script.append(effects)
        self.node.inflight = inflight

    def ask(self) -> Event:
        """Submit a request."""
        event = Get(self.client, b"k")
        self.driver.submit(event)
        return event


@pytest.fixture
def play(run: Run) -> Callable[[Callable[[Stage], Coroutine[object, object, None]]], None]:
    """Run a test with a stage, which is closed afterwards."""

    def play_on(main: Callable[[Stage], Coroutine[object, object, None]], **facts: bool) -> None:
        async def whole() -> None:
            stage = Stage(**facts)
            await stage.start()
            await main(stage)
            stage.driver.close()

        run(whole())

    return play_on


Play = Callable[..., None]


def test_all_that_came_in_one_turn_of_the_loop_is_one_step(play: Play) -> None:
    async def main(stage: Stage) -> None:
        asked = [stage.ask() for _ in range(3)]
        assert stage.node.steps == []
        await turns()
        assert stage.node.steps == [asked]

    play(main)


def test_a_turn_answers_stores_sends_and_flushes_in_that_order(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.then(mark=1, sends={ONE: [Pong(1)]}, answers=[stage.client])
        stage.ask()
        stage.driver.flush_soon(stage.client)
        await turns()
        wanted = ["step", "done client", "write", f"send {ONE}", "flush client"]
        assert stage.story[: len(wanted)] == wanted

    play(main)


def test_a_turn_is_one_frame_to_each_peer_what_follows_from_storing_included(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.then(mark=1, sends={ONE: [Pong(1)]})
        stage.then(mark=2, sends={ONE: [Pong(2)], TWO: [Pong(3)]}, answers=[stage.client])
        stage.ask()
        await turns()
        assert [events[-1] for events in stage.node.steps[1:]] == [Durable(1), Durable(2)]
        sent = {url: (frame.epoch, frame.clock, frame.messages) for url, frame in stage.links.sent}
        assert sent == {ONE: (3, 7, [Pong(1), Pong(2)]), TWO: (3, 7, [Pong(3)])}
        assert len(stage.links.sent) == 2
        assert stage.client.answers == [ANSWER]

    play(main, needs_sync=False)


def test_a_sink_is_flushed_once_a_turn_however_often_it_asks(play: Play) -> None:
    async def main(stage: Stage) -> None:
        other = FakeClient(stage.story, "other")
        for each in (stage.client, other, stage.client):
            stage.driver.flush_soon(each)
        await turns()
        assert stage.story == ["flush client", "flush other"]

    play(main)


def test_durable_is_said_only_after_the_sync_that_covers_the_batch(play: Play) -> None:
    """P1."""

    async def main(stage: Stage) -> None:
        stage.engine.gate.clear()
        stage.then(mark=1)
        stage.ask()
        await until(lambda: stage.engine.syncs == 1)
        stage.then(mark=2)
        stage.ask()
        await turns()
        assert not [event for event in stage.node.events if isinstance(event, Durable)]
        stage.engine.gate.set()
        await until(lambda: stage.node.events[-1] == Durable(2))
        assert stage.node.events[-2] == Durable(1)

    play(main)


def test_a_batch_refused_for_a_full_disk_is_stored_later_and_the_node_hears_of_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RELIABILITY 72, N14."""
    monkeypatch.setattr(storing, "FULL_RETRY_S", 0.01)

    async def main(stage: Stage) -> None:
        stage.engine.refusal = DiskFull("no space")
        stage.then(mark=1)
        stage.ask()
        await until(lambda: StorageState("disk_full", "no space") in stage.node.events)
        stage.then(mark=2)
        stage.ask()
        await turns()
        stage.engine.refusal = None
        await until(lambda: Durable(2) in stage.node.events)
        assert stage.engine.rows == [b"row-1", b"row-2"]
        assert StorageState() in stage.node.events
        assert stage.failures == []

    play(main)


def test_a_disk_that_confirms_nothing_for_the_time_of_a_request_is_told_to_the_node(
    run: Run,
) -> None:
    """S24."""

    async def main() -> None:
        stage = Stage(timeout_ms=20)
        await stage.start()
        stage.engine.gate.clear()
        stage.then(mark=1)
        stage.ask()
        reason = "the disk has not confirmed a sync for 0.02 s"
        await until(lambda: StorageState("storage_busy", reason) in stage.node.events)
        stage.engine.gate.set()
        await until(lambda: StorageState() in stage.node.events)
        stage.driver.close()

    run(main())


# --- faults ------------------------------------------------------------------------------------


def test_a_sink_that_raises_costs_nobody_else_the_flush(play: Play) -> None:
    async def main(stage: Stage) -> None:
        clients = [FakeClient(stage.story, str(number)) for number in range(3)]
        clients[1].is_broken_in = "flush"
        with capture_logs() as lines:
            for client in clients:
                stage.driver.flush_soon(client)
            await turns()
        assert stage.story == ["flush 0", "flush 1", "flush 2"]
        assert [client.is_aborted for client in clients] == [False, True, False]
        assert [line["event"] for line in lines] == ["connection_failed"]
        assert stage.failures == []

    play(main)


def test_a_waiter_that_raises_costs_only_its_own_answer(play: Play) -> None:
    async def main(stage: Stage) -> None:
        broken = FakeClient(stage.story, "broken")
        broken.is_broken_in = "done"
        stage.then(mark=1, sends={ONE: [Pong(1)]}, answers=[broken, stage.client])
        with capture_logs() as lines:
            stage.ask()
            await turns()
        assert stage.client.answers == [ANSWER]
        assert len(stage.links.sent) == 1
        assert [line["event"] for line in lines] == ["answer_failed"]
        assert stage.failures == []

    play(main)


def test_a_fault_in_a_step_stops_stepping_storing_and_answering(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.node.script.append(RuntimeError("invariant"))
        with capture_logs() as lines:
            stage.ask()
            stage.driver.flush_soon(stage.client)
            await turns()
            stage.then(mark=1, answers=[stage.client])
            stage.ask()
            await turns()
        assert stage.story == ["step"]
        assert stage.failures == ["internal fault: RuntimeError('invariant')"]
        assert lines[0]["event"] == "step_failed"

    play(main)


def test_a_failed_sync_ends_the_node_and_nothing_is_acknowledged_after_it(play: Play) -> None:
    """RELIABILITY 72: fsync failure means stop."""

    async def main(stage: Stage) -> None:
        stage.engine.sync_error = StorageError("Input/output error")
        stage.then(mark=1)
        stage.ask()
        await until(lambda: stage.failures)
        stage.ask()
        await turns()
        assert stage.failures == ["the disk did not confirm a sync: Input/output error"]
        assert len(stage.node.steps) == 1
        assert stage.engine.syncs == 1

    play(main)


def test_a_broken_engine_ends_the_node_once(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.engine.refusal = Corrupt("bad block")
        stage.then(mark=1)
        stage.ask()
        await turns()
        stage.ask()
        await turns()
        assert stage.failures == ["the storage engine failed: bad block"]
        assert len(stage.node.steps) == 1

    play(main)


# --- time, notes, the end ----------------------------------------------------------------------


def test_the_node_is_stepped_when_it_asked_to_be_though_nothing_happens(play: Play) -> None:
    async def main(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        stage.then(wake_ms=int(loop.time() * 1000) + 60_000)
        stage.ask()
        await turns()
        # An earlier time replaces a later one.
        stage.then(wake_ms=int(loop.time() * 1000) + 20)
        stage.ask()
        await turns()
        due = loop.time() + 0.015
        assert len(stage.node.steps) == 2
        await until(lambda: len(stage.node.steps) == 3)
        assert stage.node.steps[2] == []
        assert loop.time() >= due
        await turns()
        assert len(stage.node.steps) == 3

    play(main)


def test_notes_are_logged_and_changes_of_peers_reach_the_links(play: Play) -> None:
    async def main(stage: Stage) -> None:
        effects = Effects()
        effects.notes = [Note("warning", "peer_down", {"peer": ONE})]
        effects.peers = [ONE, TWO]
        stage.node.script.append(effects)
        with capture_logs() as lines:
            stage.ask()
            await turns()
        assert lines == [{"log_level": "warning", "event": "peer_down", "peer": ONE}]
        assert stage.links.peers == [ONE, TWO]

    play(main)


def test_draining_waits_for_the_last_request_in_flight(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.then(inflight=1)
        stage.ask()
        await turns()
        draining = asyncio.ensure_future(stage.driver.drain(30))
        await until(lambda: Stop() in stage.node.events)
        await turns()
        assert not draining.done()
        stage.then(inflight=0)
        stage.driver.submit(Durable(1))
        await draining

    play(main)


def test_draining_gives_up_in_time_and_says_how_many_it_left(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.node.inflight = 2
        with capture_logs() as lines:
            await stage.driver.drain(0.01)
        assert lines == [
            {"log_level": "warning", "event": "stopped_with_requests_in_flight", "count": 2}
        ]

    play(main)


def test_draining_ends_with_the_node(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.engine.sync_error = StorageError("Input/output error")
        stage.engine.gate.clear()
        stage.then(mark=1, inflight=1)
        stage.ask()
        await until(lambda: stage.engine.syncs == 1)
        draining = asyncio.ensure_future(stage.driver.drain(3_600))
        await until(lambda: Stop() in stage.node.events)
        stage.engine.gate.set()
        await draining
        assert stage.failures == ["the disk did not confirm a sync: Input/output error"]

    play(main)


def test_what_is_told_last_is_stored_though_the_engine_refuses_it_at_first(play: Play) -> None:
    """An orderly stop during a write stall loses no hint."""

    async def main(stage: Stage) -> None:
        stage.engine.refusal = StorageBusy("write stall")
        stage.then(mark=1)
        stage.ask()
        settling = asyncio.ensure_future(stage.driver.settle(3_600))
        await turns()
        assert not settling.done()
        stage.engine.refusal = None
        await settling
        assert stage.engine.rows == [b"row-1"]

    play(main)


def test_what_the_engine_does_not_take_before_the_end_is_told(play: Play) -> None:
    async def main(stage: Stage) -> None:
        stage.engine.refusal = DiskFull("no space left but the reserve")
        stage.then(mark=1)
        stage.ask()
        with capture_logs() as lines:
            await stage.driver.settle(0.02)
        assert [line["event"] for line in lines] == [
            "storage_refuses_writes",
            "stopped_with_writes_waiting",
        ]

    play(main)


def test_closing_does_not_wait_for_a_stuck_disk(play: Play) -> None:
    """S24."""

    async def main(stage: Stage) -> None:
        stage.engine.gate.clear()
        stage.then(mark=1)
        stage.ask()
        await until(lambda: stage.engine.syncs == 1)
        stage.driver.close()
        stage.engine.gate.set()
        stage.ask()
        await turns()
        assert len(stage.node.steps) == 1
        assert stage.failures == []

    play(main)
