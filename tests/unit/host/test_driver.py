# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns: what is gathered, in which order effects happen, when there is one though nothing came,
and what one fault may cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest

from quorate.core.values.events import (
    Durable,
    LocalResult,
    PeerFrame,
    PutResult,
    Result,
    StorageState,
)
from quorate.core.values.messages import Mutate, Mutated, Ping, Pong
from quorate.core.values.slots import row_of
from quorate.errors import (
    Corrupt,
    DiskFull,
    Overloaded,
    QuorumUnreachable,
    StorageBusy,
    StorageError,
)
from quorate.host.links import HANDSHAKE_MS, REFUSAL_CHARS_MAX
from quorate.host.storing import BUSY_RETRY_MS, FULL_RETRY_MS
from quorate.sim.cluster import url_of
from tests.unit.host.fakes import FakeChannel, FakeClient
from tests.unit.host.stage import NEVER_MS, Stage, record

ONE, TWO = url_of(1), url_of(2)
BEAT_MS = 1_000
"""Nothing else is due in the first seconds of a node."""


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- the turn ----------------------------------------------------------------------------------


def test_all_that_came_in_one_turn_of_the_loop_is_one_step(stage: Stage) -> None:
    asked = [stage.submit_ask() for _ in range(3)]
    assert stage.steps == []
    stage.turn()
    assert stage.steps == [asked]
    stage.submit_ask()
    stage.turn()
    assert len(stage.steps) == 2


def test_whatever_comes_first_schedules_a_turn_and_the_rest_is_for_that() -> None:
    stage = Stage(3)
    stage.link(1)
    comings: list[Callable[[], object]] = [
        lambda: stage.hear(1, Ping(1, [], 0, 0)),
        stage.submit_ask,
        lambda: stage.driver.flush_soon(stage.client),
    ]
    for first in comings:
        first()
        for each in comings:
            each()
        assert stage.system.calls == 1
        stage.turn()
    assert len(stage.steps) == 3


def test_a_turn_answers_stores_sends_and_flushes_in_that_order() -> None:
    stage = Stage(3)
    stage.link(1, 2)
    stage.hear(1, Ping(1, [], 0, 0))
    stage.submit_ask()
    stage.submit_store(1)
    stage.driver.flush_soon(stage.client)
    stage.turn()
    assert stage.story == ["done client", "write", "step", f"send {ONE}", "flush client"]


def test_a_turn_is_one_frame_to_each_peer_what_follows_from_storing_included() -> None:
    stage = Stage(3, needs_sync=False)
    one, two = stage.link(1, 2)
    stage.put(b"k", w=1)
    stage.forget()
    one.written.clear()
    two.written.clear()
    stage.hear(1, Ping(7, [], 0, 0), Mutate(8, [(row_of(b"a"), record(1))]))
    stage.hear(2, Mutate(9, [(row_of(b"b"), record(2))]))
    stage.turn()
    (batch,) = stage.marks
    assert [type(event) for event in stage.steps[0]] == [PeerFrame, PeerFrame]
    assert stage.steps[1:] == [[Durable(batch)]]
    (to_one,), (to_two,) = stage.frames(one), stage.frames(two)
    assert to_one.messages == [Pong(7), Mutated(8, [], [])]
    assert to_two.messages == [Mutated(9, [], [])]
    header = stage.driver.node.frame_header()
    assert [(frame.epoch, frame.clock) for frame in (to_one, to_two)] == [header, header]


def test_a_step_on_what_is_durable_may_store_again_in_the_same_turn() -> None:
    stage = Stage(3, needs_sync=False)
    one, two = stage.link(1, 2)
    replica = stage.driver.node.parts.replica
    replica.when_durable(lambda: replica.put_meta(b"what follows", b"from it"))
    client = stage.put(b"k", w=1)
    first, second = stage.marks
    assert stage.steps[1:] == [[Durable(first)], [Durable(second)]]
    assert stage.story.count("write") == 2
    assert isinstance(client.answers[0], PutResult)
    for channel in (one, two):
        (frame,) = stage.frames(channel)
        assert [type(message) for message in frame.messages] == [Mutate]
        assert (frame.epoch, frame.clock) == stage.driver.node.frame_header()


def test_a_sink_is_flushed_once_a_turn_however_often_it_asks(stage: Stage) -> None:
    other = FakeClient(stage.story, "other")
    for each in (stage.client, other, stage.client):
        stage.driver.flush_soon(each)
    stage.turn()
    assert stage.story == ["flush client", "flush other"]
    stage.driver.flush_soon(stage.client)
    stage.turn()
    assert stage.story == ["flush client", "flush other", "flush client"]


def test_within_a_turn_the_time_is_that_of_its_beginning(stage: Stage) -> None:
    class Asking(FakeClient):
        told: ClassVar[list[int]] = []

        def flush(self) -> None:
            super().flush()
            stage.system.ms += 7
            self.told.append(stage.driver.wall_ms())

    began_ms = stage.driver.wall_ms()
    stage.driver.flush_soon(Asking(stage.story))
    stage.turn()
    assert Asking.told == [began_ms]
    assert stage.driver.wall_ms() == began_ms + 7


def test_what_is_answered_in_a_turn_is_flushed_in_it_and_asks_for_no_other(stage: Stage) -> None:
    class Answered(FakeClient):
        def done(self, result: Result) -> None:
            super().done(result)
            stage.driver.flush_soon(self)

    class Last(FakeClient):
        def flush(self) -> None:
            super().flush()
            assert stage.system.calls == 0

    stage.submit_ask(Answered(stage.story))
    stage.driver.flush_soon(Last(stage.story, "last"))
    stage.turn()
    assert stage.story == ["done client", "step", "flush last", "flush client"]


def test_what_an_answer_leads_to_is_for_the_next_turn(stage: Stage) -> None:
    class Asking(FakeClient):
        def done(self, result: Result) -> None:
            super().done(result)
            stage.submit_ask(FakeClient(stage.story, "next"))

    stage.submit_ask(Asking(stage.story))
    stage.turn()
    assert stage.story == ["done client", "step", "done next", "step"]


def test_what_comes_while_a_turn_is_made_is_for_the_next(stage: Stage) -> None:
    class Asking(FakeClient):
        def flush(self) -> None:
            super().flush()
            if self.answers:
                stage.submit_ask(FakeClient(stage.story, "next"))
                self.answers.clear()

    client = Asking(stage.story)
    asked = stage.submit_ask(client)
    stage.driver.flush_soon(client)
    stage.turn()
    assert stage.steps[0] == [asked]
    assert len(stage.steps) == 2
    assert stage.story == ["done client", "step", "flush client", "done next", "step"]


def test_durable_is_said_only_after_the_sync_that_covers_the_batch(stage: Stage) -> None:
    """P1."""
    stage.store(1)
    stage.store(2)
    assert (stage.system.syncs, stage.client.answers) == (1, [])
    assert not [event for event in stage.events if isinstance(event, Durable)]
    first, second = stage.marks
    stage.system.end_sync()
    assert stage.events[-1] == Durable(first)
    assert len(stage.client.answers) == 1
    stage.system.end_sync()
    assert stage.events[-1] == Durable(second)
    assert len(stage.client.answers) == 2


def test_a_batch_refused_for_a_full_disk_is_stored_later_and_the_node_hears_of_it(
    stage: Stage,
) -> None:
    stage.engine.refusal = DiskFull("no space")
    # Both are under way when the node hears that there is no space.
    stage.submit_store(1)
    stage.submit_store(2)
    stage.turn()
    assert stage.events[-1] == StorageState("disk_full", "no space")
    stage.store(3)
    assert isinstance(stage.client.answers[-1], DiskFull)
    stage.engine.refusal = None
    stage.system.run(FULL_RETRY_MS)
    assert stage.events[-1] == StorageState()
    assert stage.engine.keys == [b"row-1", b"row-2"]
    stage.system.end_syncs()
    assert stage.events[-1:] == [Durable(stage.marks[-1])]
    assert [type(answer) for answer in stage.client.answers] == [DiskFull, LocalResult, LocalResult]
    assert stage.system.ends == []


def test_what_may_wait_is_what_requests_may_bring_and_something_for_peers() -> None:
    """P7."""
    stage = Stage(waiting_bytes_spare=1_000, inflight_bytes_max=2_000)
    stage.engine.refusal = DiskFull("no space")
    stage.submit_store(1, size=1_000)
    stage.submit_store(2, size=1_000)
    stage.submit_store(3, size=1)
    stage.turn()
    assert isinstance(stage.client.answers[0], Overloaded)
    assert stage.system.ends == []
    stage = Stage(waiting_bytes_spare=100, inflight_bytes_max=2_000)
    stage.engine.refusal = DiskFull("no space")
    stage.submit_store(1, size=1_000)
    stage.submit_store(2, size=1_000)
    stage.turn()
    assert stage.system.ends == ["more than 2100 bytes wait for the storage engine"]


def test_a_disk_that_confirms_nothing_for_the_time_of_a_request_is_told_to_the_node() -> None:
    stage = Stage(timeout_ms=20)
    stage.store(1)
    stage.system.run(19)
    assert len(stage.steps) == 1
    stage.system.run(1)
    reason = "the disk has not confirmed a sync for 0.02 s"
    assert stage.events[-1] == StorageState("storage_busy", reason)
    stage.system.end_sync()
    assert stage.events[-2:] == [StorageState(), Durable(stage.marks[-1])]


# --- faults ------------------------------------------------------------------------------------


def test_a_sink_that_raises_costs_nobody_else_the_flush(stage: Stage) -> None:
    clients = [FakeClient(stage.story, str(number)) for number in range(3)]
    clients[1].is_broken_in = "flush"
    for client in clients:
        stage.driver.flush_soon(client)
    stage.turn()
    assert stage.story == ["flush 0", "flush 1", "fault connection_failed", "flush 2"]
    assert [client.is_aborted for client in clients] == [False, True, False]
    assert stage.system.ends == []


def test_a_waiter_that_raises_costs_only_its_own_answer() -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    broken = FakeClient(stage.story, "broken")
    broken.is_broken_in = "done"
    stage.submit_ask(broken)
    stage.submit_ask()
    stage.submit_store(1)
    stage.hear(1, Ping(1, [], 0, 0))
    stage.turn()
    assert stage.client.answers == [LocalResult(None)]
    assert stage.engine.keys == [b"row-1"]
    assert stage.said(one, Pong) == [Pong(1)]
    assert [what for what, _ in stage.system.faults] == ["answer_failed"]
    assert stage.system.ends == []


def test_a_fault_in_a_step_stops_stepping_storing_and_answering(stage: Stage) -> None:
    stage.driver.submit(Durable(99))
    stage.driver.flush_soon(stage.client)
    stage.turn()
    # First the end, then the telling.
    assert stage.story == ["end", "fault internal_fault"]
    (reason,) = stage.system.ends
    assert reason.startswith("internal fault: AssertionError(")
    assert "durable mark 99 out of order" in reason
    stage.submit_store(1)
    stage.submit_ask()
    stage.driver.flush_soon(stage.client)
    stage.system.run(60_000)
    assert len(stage.story) == 2


def test_a_fault_in_a_timer_ends_the_node_once_and_so_does_a_second() -> None:
    stage = Stage(3)
    stage.engine.refusal = StorageBusy("write stall")
    stage.store(1)
    stage.engine.refusal = MemoryError()
    stage.system.run(BUSY_RETRY_MS)
    assert stage.system.ends == ["internal fault: MemoryError()"]
    assert stage.story[-2:] == ["end", "fault internal_fault"]
    # A link's time to greet is over, and that raises.
    silent = FakeChannel(stage.system, stage.dial_to(1).connection, ONE)
    silent.is_broken_in = "close"
    stage.system.run(HANDSHAKE_MS)
    assert (len(stage.system.faults), len(stage.system.ends)) == (2, 1)
    assert stage.engine.keys == []


def test_a_failed_sync_ends_the_node_and_nothing_is_acknowledged_after_it(stage: Stage) -> None:
    """A sync that failed is never tried again."""
    stage.store(1)
    stage.submit_ask()
    stage.system.end_sync(StorageError("Input/output error"))
    assert stage.system.ends == ["the disk did not confirm a sync: Input/output error"]
    answers = len(stage.client.answers)
    stage.store(2)
    stage.submit_ask()
    stage.system.run(60_000)
    assert len(stage.client.answers) == answers
    assert not [event for event in stage.events if isinstance(event, Durable)]
    assert (stage.engine.keys, stage.system.is_syncing) == ([b"row-1"], False)
    assert stage.system.faults == []


def test_what_was_submitted_before_the_end_is_not_stepped_after_it(stage: Stage) -> None:
    stage.store(1)
    stage.driver.submit(Durable(99))
    stage.driver.close()
    stage.turn()
    assert len(stage.steps) == 1
    assert (stage.system.ends, stage.system.faults) == ([], [])


def test_a_broken_engine_ends_the_node_once_and_nothing_more_is_sent(stage: Stage) -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    stage.engine.refusal = Corrupt("bad block")
    read = FakeClient(stage.story, "reader")
    stage.submit_store(1)
    stage.submit_ask(read)
    stage.hear(1, Ping(1, [], 0, 0))
    stage.turn()
    stage.store(2)
    assert stage.system.ends == ["the storage engine failed: bad block"]
    assert len(stage.steps) == 1
    assert stage.frames(one) == []
    # What it read is true, whatever became of the rest.
    assert len(read.answers) == 1
    assert stage.client.answers == []


def test_a_peer_that_has_our_url_too_ends_the_node() -> None:
    stage = Stage(3)
    twin = stage.driver.node.parts.process + 1
    for _ in range(30):
        stage.answer(1, refusal="two nodes with one URL", reached=twin).lose()
        stage.system.run(1_000)
    assert stage.system.ends == [
        f"two nodes with one identity: another process has the URL {url_of(0)} or a copy of this "
        "data directory"
    ]


def test_why_a_peer_refuses_is_shown_cut_short_and_escaped_whatever_it_says() -> None:
    """P7: it is kept for as long as the link is down, and clients are told of it."""
    stage = Stage(3)
    stage.answer(1, refusal="\x1b" + "no" * 5_000)
    stage.system.run(1)
    (refusal,) = [each.refusal for each in stage.driver.status().members if each.url == url_of(1)]
    assert refusal == r"\x1b" + ("no" * 5_000)[: REFUSAL_CHARS_MAX - 1]


# --- the alarm ---------------------------------------------------------------------------------


def test_the_node_is_stepped_when_it_asked_to_be_though_nothing_happens() -> None:
    stage = Stage(heartbeat_ms=BEAT_MS)
    assert stage.system.due_ms == [BEAT_MS]
    stage.system.run(BEAT_MS - 1)
    assert stage.steps == []
    stage.system.run(1)
    assert stage.steps == [[]]
    stage.system.run(BEAT_MS - 1)
    assert stage.steps == [[]]
    stage.system.run(1)
    assert stage.steps == [[], []]


def test_an_earlier_alarm_replaces_a_later_one_and_a_later_one_is_set_when_that_was(
    stage: Stage,
) -> None:
    """A write whose replicas are not there: its time-out is the next that happens."""
    stage = Stage(3, heartbeat_ms=3_500)
    for index in (1, 2):
        stage.dial_to(index).connection.dial_failed("nobody is ever dialled there")
    stage.system.run(0)
    assert max(stage.system.due_ms) == 3_500
    writer = stage.put(b"k", w=3)
    assert 3_500 not in stage.system.due_ms
    assert 3_000 in stage.system.due_ms
    stage.forget()
    stage.system.run(2_999)
    assert [] not in stage.steps
    stage.system.run(1)
    assert stage.steps == [[]]
    assert isinstance(writer.answers[0], QuorumUnreachable)
    assert 500 in stage.system.due_ms


def test_an_alarm_that_the_node_needs_no_more_costs_an_empty_step_and_sets_the_next() -> None:
    stage = Stage(heartbeat_ms=BEAT_MS)
    client = stage.put(b"k", timeout_ms=100)
    stage.system.end_syncs()
    assert isinstance(client.answers[0], PutResult)
    stage.forget()
    stage.system.run(500)
    assert stage.steps == [[]]
    assert min(stage.system.due_ms) == BEAT_MS - 500
    stage.forget()
    stage.system.run(BEAT_MS - 500)
    assert stage.steps == [[]]


def test_an_alarm_is_set_once_for_many_turns() -> None:
    stage = Stage(heartbeat_ms=60_000)
    timers = stage.system.timers
    for _ in range(10):
        stage.submit_ask()
        stage.turn()
        stage.system.run(10)
    assert len(stage.steps) == 10
    assert stage.system.timers == timers


def test_an_alarm_that_comes_too_early_is_set_again() -> None:
    stage = Stage(heartbeat_ms=BEAT_MS)
    stage.system.early_ms = 2.0
    stage.system.run(BEAT_MS)
    stage.forget()
    stage.system.run(BEAT_MS - 2)
    assert stage.steps == []
    stage.system.run(2)
    assert stage.steps == [[]]


def test_a_turn_that_comes_first_does_what_the_alarm_was_for() -> None:
    stage = Stage(heartbeat_ms=BEAT_MS)
    stage.system.ms += BEAT_MS
    stage.submit_ask()
    stage.turn()
    assert len(stage.steps) == 1
    stage.system.run(0)
    # The alarm of before finds nothing to do but to set the next.
    assert len(stage.steps) == 1
    assert stage.system.due_ms == [BEAT_MS]


def test_a_node_that_is_closed_is_never_stepped() -> None:
    stage = Stage(heartbeat_ms=60_000)
    stage.submit_ask()
    stage.driver.close()
    assert stage.system.due_ms == []
    stage.submit_ask()
    stage.system.run(NEVER_MS)
    assert stage.story == []
    assert stage.system.ends == []


def test_a_turn_in_which_the_node_ends_sets_no_alarm() -> None:
    # The first: there is no alarm yet, and a node that begins is to be stepped at once.
    stage = Stage(refusal=Corrupt("bad block"))
    assert stage.system.ends == ["the storage engine failed: bad block"]
    assert stage.system.due_ms == []


def test_closing_does_not_wait_for_a_stuck_disk(stage: Stage) -> None:
    stage.store(1)
    stage.driver.close()
    stage.submit_ask()
    stage.turn()
    stage.system.end_sync()
    assert len(stage.steps) == 1
    assert stage.client.answers == []
    assert stage.system.ends == []
