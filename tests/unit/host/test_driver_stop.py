# SPDX-License-Identifier: GPL-3.0-or-later
"""The orderly stop: what is waited for, in which order, how long, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.values.events import Durable, LinkDown, LocalResult, Note, PutResult, Stop
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.slots import row_of
from quorate.errors import Corrupt, DiskFull, NotReady, Outcome, StorageBusy, StorageError
from quorate.host.driver import DRAIN_MS, LINGER_MS, SETTLE_MS
from quorate.host.links import FLUSH_MS
from quorate.host.storing import BUSY_RETRY_MS
from quorate.sim.cluster import id_of, url_of
from quorate.storage.engine import ENTRY_BYTES, bytes_of
from tests.unit.host.batches import batch
from tests.unit.host.fakes import FakeChannel, FakeClient
from tests.unit.host.stage import NEVER_MS, Stage, record

ONE, TWO = url_of(1), url_of(2)
LEFT = Note("warning", "stopped_with_requests_in_flight", {"count": 2})


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- requests in flight ------------------------------------------------------------------------


def test_an_idle_node_without_peers_stops_when_it_has_refused_for_long_enough(stage: Stage) -> None:
    stage.tell_to_stop()
    stage.system.run(LINGER_MS - 1)
    assert (stage.stops, stage.events) == (0, [Stop()])
    stage.system.run(1)
    assert (stage.stops, stage.events) == (1, [Stop()])
    assert stage.system.due_ms == []
    assert (stage.system.notes, stage.system.ends) == ([], [])
    stage.system.run(60_000)
    assert (len(stage.steps), stage.stops) == (1, 1)


def test_a_node_that_stops_refuses_requests_while_its_links_are_up() -> None:
    """Whose connection is closed instead cannot know what became of a write on its way here."""
    stage = Stage(3)
    (one,) = stage.link(1)
    stage.tell_to_stop()
    stage.system.run(LINGER_MS - 1)
    late = FakeClient(stage.story, "late")
    stage.submit_store(1, client=late)
    stage.system.run(0)
    (refused,) = late.answers
    assert isinstance(refused, NotReady)
    assert refused.outcome is Outcome.NOT_APPLIED
    assert not one.is_closed
    stage.system.run(1)
    assert one.is_closed


def test_a_request_is_refused_that_comes_just_before_the_links_end(stage: Stage) -> None:
    late = FakeClient(stage.story, "late")

    def ask() -> None:
        stage.submit_store(1, client=late)

    stage.system.later(LINGER_MS, ask)
    stage.tell_to_stop()
    stage.system.run(LINGER_MS)
    assert isinstance(late.answers[0], NotReady)
    assert stage.stops == 1


def test_draining_waits_for_the_last_request_in_flight(stage: Stage) -> None:
    stage.store(1)
    stage.store(2)
    stage.stop()
    stage.system.run(1_000)
    stage.system.end_sync()
    stage.system.run(1_000)
    assert (len(stage.client.answers), stage.stops) == (1, 0)
    stage.system.end_sync()
    stage.system.run(0)
    assert (len(stage.client.answers), stage.stops) == (2, 1)
    assert stage.system.notes == []
    stage.system.run(DRAIN_MS)
    assert stage.stops == 1


def test_what_came_before_the_stop_is_served_and_what_comes_after_is_refused(stage: Stage) -> None:
    late = FakeClient(stage.story, "late")
    stage.submit_store(1)
    stage.stop()
    stage.submit_store(2, client=late)
    stage.turn()
    assert isinstance(late.answers[0], NotReady)
    assert stage.stops == 0
    stage.system.end_sync()
    stage.system.run(0)
    assert stage.client.answers == [LocalResult(record(1), applied=True)]
    assert stage.stops == 1


def test_draining_gives_up_in_time_and_says_how_many_it_left(stage: Stage) -> None:
    stage = Stage(timeout_ms=NEVER_MS)
    stage.store(1)
    stage.store(2)
    stage.stop()
    stage.system.run(DRAIN_MS - 1)
    assert (stage.stops, stage.system.notes) == (0, [])
    stage.system.run(1)
    assert (stage.stops, stage.system.notes) == (1, [LEFT])
    stage.system.end_sync()
    stage.system.run(60_000)
    assert (stage.stops, stage.system.ends, stage.client.answers) == (1, [], [])


def test_answers_of_the_last_turn_are_flushed(stage: Stage) -> None:
    stage.submit_ask()
    stage.driver.flush_soon(stage.client)
    stage.stop()
    stage.system.run(0)
    assert stage.story == ["done client", "step", "flush client", "stopped"]


# --- links -------------------------------------------------------------------------------------


def test_links_are_ended_when_nothing_is_in_flight_and_then_the_node_is(stage: Stage) -> None:
    stage = Stage(3)
    channels = stage.link(1, 2)
    stage.store(1)
    stage.stop()
    stage.turn()
    assert not any(channel.is_closed for channel in channels)
    stage.system.end_sync()
    assert all(channel.is_closed for channel in channels)
    assert stage.events[-2:] == [LinkDown(id_of(1)), LinkDown(id_of(2))]
    for channel in channels:
        assert stage.stops == 0
        assert not any(back.is_aborted for _, back in stage.incoming.values())
        channel.lose()
        stage.system.run(0)
    assert stage.stops == 1
    assert all(back.is_aborted for _, back in stage.incoming.values())
    assert not any(channel.is_aborted for channel in channels)


def test_what_was_sent_has_its_time_to_leave_and_no_more() -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    stage.stop()
    stage.system.run(FLUSH_MS - 1)
    assert (one.is_closed, one.is_aborted, stage.stops) == (True, False, 0)
    stage.system.run(1)
    assert (one.is_aborted, stage.stops) == (True, 1)


def test_peers_that_are_not_there_are_not_waited_for_nor_dialled_any_more() -> None:
    stage = Stage(3)
    stage.dial_to(2).connection.dial_failed("")
    stage.stop()
    stage.system.run(0)
    assert stage.stops == 1
    assert stage.dial_to(1).is_cancelled
    dials = len(stage.system.dials)
    stage.system.run(60_000)
    assert len(stage.system.dials) == dials


def test_what_a_turn_has_to_send_is_sent_before_the_links_are_ended() -> None:
    stage = Stage(3, needs_sync=False)
    (one,) = stage.link(1)
    stage.hear(1, Mutate(8, [(row_of(b"a"), record(1))]))
    stage.stop()
    stage.turn()
    assert stage.said(one, Mutated) == [Mutated(8, [], [])]
    assert stage.story == ["write", "step", "step", f"send {ONE}", f"close {ONE}", "step"]


# --- the engine --------------------------------------------------------------------------------


def hinting(*, is_last_first: bool = False, needs_sync: bool = True) -> Stage:
    """A node that has asked one peer for a write that the other has confirmed."""
    stage = Stage(3, needs_sync=needs_sync)
    stage.system.is_last_first = is_last_first
    one, _ = stage.link(1, 2)
    writer = stage.put(b"k")
    stage.system.end_syncs()
    (mutate,) = stage.said(one, Mutate)
    stage.hear(1, Mutated(mutate.batch, [], []))
    stage.turn()
    stage.system.end_syncs()
    assert isinstance(writer.answers[0], PutResult)
    return stage


def hints_in(stage: Stage) -> int:
    return len(list(stage.engine.scan_hints(b"", b"\xff")))


@pytest.mark.parametrize("is_last_first", [False, True])
def test_hints_that_the_end_of_a_link_makes_are_stored(*, is_last_first: bool) -> None:
    """However soon the links are gone, and whichever of the calls to come comes first."""
    stage = hinting(is_last_first=is_last_first)
    assert hints_in(stage) == 0
    for index in (1, 2):
        channel_to(stage, index).is_gone_on_close = True
    stage.stop()
    stage.system.run(SETTLE_MS)
    assert (hints_in(stage), stage.stops) == (1, 1)
    assert LinkDown(id_of(2)) in stage.events
    assert stage.system.notes == []


def channel_to(stage: Stage, index: int) -> FakeChannel:
    """That of our link to a peer."""
    return stage.channels[url_of(index)]


def test_what_is_told_last_is_stored_though_the_engine_refuses_it_at_first() -> None:
    """An orderly stop during a write stall loses no hint."""
    stage = hinting()
    stage.engine.refusal = StorageBusy("write stall")
    stage.stop()
    stage.turn()
    for index in (1, 2):
        channel_to(stage, index).lose()
    stage.system.run(SETTLE_MS / 2)
    assert (hints_in(stage), stage.stops) == (0, 0)
    stage.engine.refusal = None
    stage.system.run(2 * BUSY_RETRY_MS)
    assert (hints_in(stage), stage.stops) == (1, 1)
    assert "stopped_with_writes_waiting" not in stage.system.events
    assert stage.story[-1] == "stopped"


def test_what_the_engine_does_not_take_before_the_end_is_told() -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    stage.engine.refusal = DiskFull("no space left but the reserve")
    stage.hear(1, Mutate(8, [(row_of(b"row-1"), record(1))]))
    stage.stop()
    stage.turn()
    one.lose()
    stage.system.run(SETTLE_MS - 1)
    assert (stage.stops, stage.system.events) == (0, ["storage_refuses_writes"])
    stage.system.run(BUSY_RETRY_MS)
    assert stage.stops == 1
    # The record, how many keys there are now, and the ceiling of the clock.
    size = bytes_of(batch(1)) + 2 * (ENTRY_BYTES + 8) + len(b"keys") + len(b"ceiling")
    assert stage.system.notes[1:] == [
        Note("warning", "stopped_with_writes_waiting", {"bytes": size})
    ]
    stage.engine.refusal = None
    stage.system.run(60_000)
    assert (stage.engine.keys, stage.stops) == ([], 1)


def test_links_are_ended_before_the_engine_is_waited_for() -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    stage.engine.refusal = StorageBusy("write stall")
    stage.hear(1, Mutate(8, [(row_of(b"a"), record(1))]))
    stage.stop()
    stage.turn()
    stage.engine.refusal = None
    stage.system.run(BUSY_RETRY_MS)
    assert (stage.engine.keys, one.is_closed, stage.stops) == ([b"a"], True, 0)
    stage.system.run(FLUSH_MS)
    assert stage.stops == 1


def test_a_stop_that_nothing_of_can_be_logged_is_one() -> None:
    stage = Stage(3, timeout_ms=NEVER_MS)
    stage.system.is_log_broken = True
    stage.store(1)
    stage.engine.refusal = DiskFull("no space")
    stage.submit_store(2)
    stage.stop()
    stage.system.run(DRAIN_MS + SETTLE_MS + BUSY_RETRY_MS)
    assert stage.stops == 1
    # Of the full disk, of the request in flight, of what waits.
    assert stage.driver.counters()["log_lines_lost"] == stage.system.lines_lost == 3
    assert (stage.system.ends, stage.system.faults) == ([], [])


# --- a node that fails -------------------------------------------------------------------------


def fail_sync(stage: Stage) -> None:
    stage.system.end_sync(StorageError("Input/output error"))


def fail_step(stage: Stage) -> None:
    stage.driver.submit(Durable(99))
    stage.turn()


FAILURES = pytest.mark.parametrize("fail", [fail_sync, fail_step])


def in_flight() -> Stage:
    """A node with a link and a request that waits for the disk."""
    stage = Stage(3)
    stage.link(1)
    stage.store(1)
    return stage


@FAILURES
def test_a_node_that_has_failed_only_ends_its_links(fail: Callable[[Stage], None]) -> None:
    stage = in_flight()
    fail(stage)
    assert (len(stage.system.ends), stage.stops) == (1, 0)
    one = channel_to(stage, 1)
    assert not one.is_closed
    stage.stop()
    assert (one.is_closed, stage.stops) == (True, 0)
    stage.turn()
    assert stage.stops == 0
    one.lose()
    stage.turn()
    assert_stopped_once(stage)


@FAILURES
def test_a_node_that_fails_while_it_refuses_requests_waits_no_more(
    fail: Callable[[Stage], None],
) -> None:
    stage = in_flight()
    stage.tell_to_stop()
    stage.turn()
    assert not channel_to(stage, 1).is_closed
    fail(stage)
    assert channel_to(stage, 1).is_closed
    stage.system.run(FLUSH_MS)
    assert_stopped_once(stage)


@FAILURES
def test_draining_ends_with_the_node(fail: Callable[[Stage], None]) -> None:
    stage = in_flight()
    stage.stop()
    stage.turn()
    assert not channel_to(stage, 1).is_closed
    fail(stage)
    assert channel_to(stage, 1).is_closed
    stage.system.run(FLUSH_MS)
    # That requests are in flight is no news of a node that failed.
    assert stage.system.notes == []
    assert_stopped_once(stage)


def test_a_node_that_fails_in_the_very_turn_in_which_it_has_drained_stops_once() -> None:
    stage = Stage(3)
    stage.link(1)
    stage.engine.refusal = Corrupt("bad block")
    stage.hear(1, Mutate(8, [(row_of(b"a"), record(1))]))
    stage.stop()
    stage.system.run(FLUSH_MS)
    assert_stopped_once(stage)


@FAILURES
def test_a_node_that_fails_while_its_links_end_stops_once(fail: Callable[[Stage], None]) -> None:
    stage = Stage(3)
    stage.link(1)
    stage.hear(1, Mutate(8, [(row_of(b"a"), record(1))]))
    stage.stop()
    stage.turn()
    assert channel_to(stage, 1).is_closed
    assert stage.system.is_syncing
    fail(stage)
    stage.system.run(FLUSH_MS)
    assert_stopped_once(stage)


@FAILURES
def test_a_node_that_fails_while_the_engine_is_waited_for_waits_no_more(
    fail: Callable[[Stage], None],
) -> None:
    stage = Stage(3)
    stage.link(1)
    stage.engine.refusal = DiskFull("no space")
    stage.hear(1, Mutate(8, [(row_of(b"a"), record(1))]))
    stage.stop()
    stage.turn()
    channel_to(stage, 1).lose()
    stage.turn()
    assert (stage.stops, stage.system.is_syncing) == (0, True)
    fail(stage)
    stage.system.run(BUSY_RETRY_MS)
    assert stage.system.events[-1] == "stopped_with_writes_waiting"
    assert_stopped_once(stage)


@FAILURES
def test_a_node_that_has_stopped_does_not_fail(fail: Callable[[Stage], None]) -> None:
    stage = Stage(3)
    stage.link(1)
    stage.hear(1, Mutate(8, [(row_of(b"a"), record(1))]))
    stage.stop()
    stage.system.run(FLUSH_MS)
    assert (stage.stops, stage.system.is_syncing) == (1, True)
    fail(stage)
    stage.system.run(60_000)
    assert (stage.stops, stage.system.ends, stage.system.faults) == (1, [], [])


def test_a_fault_in_the_ending_of_links_does_not_keep_the_node_from_its_end() -> None:
    """Whoever waits for the end would else wait for ever."""
    stage = Stage(3)
    (one,) = stage.link(1)
    one.is_broken_in = "close"
    stage.stop()
    stage.system.run(0)
    assert [what for what, _ in stage.system.faults] == ["internal_fault"]
    assert_stopped_once(stage)


def test_nor_does_one_in_a_node_that_has_failed_before() -> None:
    stage = in_flight()
    fail_sync(stage)
    stage.stop()
    # The link's time to end is over, and that raises.
    channel_to(stage, 1).is_broken_in = "abort"
    stage.system.run(FLUSH_MS)
    assert [what for what, _ in stage.system.faults] == ["internal_fault"]
    assert_stopped_once(stage)


def assert_stopped_once(stage: Stage) -> None:
    """It ended once, and was told so once, whatever comes."""
    assert (len(stage.system.ends), stage.stops) == (1, 1)
    steps = len(stage.steps)
    stage.system.run(60_000)
    assert (len(stage.system.ends), stage.stops, len(stage.steps)) == (1, 1, steps)
