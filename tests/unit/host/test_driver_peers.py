# SPDX-License-Identifier: GPL-3.0-or-later
"""What a driver logs, or cannot, and what it tells doors and peers."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.outbox import STEP_BYTES_MAX
from quorate.core.values.events import (
    Batch,
    Join,
    LinkDown,
    LinkUp,
    Met,
    Note,
    PeerFrame,
    Put,
)
from quorate.core.values.messages import Greeting, Ping, Pong, Read, ReadAnswer
from quorate.core.values.slots import row_of
from quorate.errors import DiskFull
from quorate.host.driver import ROOM_BYTES, ROOM_MS
from quorate.sim.clock import EPOCH_MS
from quorate.sim.cluster import id_of, url_of
from quorate.wire.frames import GreetingParser
from tests.unit.host.fakes import FakeChannel, FakeClient
from tests.unit.host.stage import Stage, record

ONE, TWO = url_of(1), url_of(2)
MEBIBYTE = 1 << 20


def greeting_in(channel: FakeChannel) -> Greeting:
    """What a stranger was answered."""
    greeting = GreetingParser().feed(channel.written[0])
    assert greeting is not None
    return greeting


@pytest.fixture
def stage() -> Stage:
    return Stage()


# --- the log -----------------------------------------------------------------------------------


def test_notes_are_logged_and_changes_of_peers_reach_the_links() -> None:
    stage = Stage(3, heartbeat_ms=100, down_after=1)
    assert [dial.url for dial in stage.system.dials] == [ONE, TWO]
    stage.link(1)
    stage.system.run(100)
    assert stage.system.notes == [Note("warning", "peer_down", {"peer": TWO, "misses": 1})]
    stage.driver.submit(Join(stage.client, url_of(3)))
    stage.turn()
    assert [dial.url for dial in stage.system.dials] == [ONE, TWO, url_of(3)]


def test_a_note_that_cannot_be_logged_costs_a_counted_line_and_nothing_else() -> None:
    stage = Stage(3, heartbeat_ms=100, down_after=1)
    stage.system.is_log_broken = True
    (one,) = stage.link(1)
    stage.system.run(100)
    assert stage.driver.counters()["log_lines_lost"] == stage.system.lines_lost == 1
    stage.submit_ask()
    stage.submit_store(1)
    stage.turn()
    stage.system.end_sync()
    stage.hear(1, Ping(1, [], 0, 0))
    stage.turn()
    assert len(stage.client.answers) == 2
    assert stage.said(one, Pong) == [Pong(1)]
    assert (stage.system.ends, stage.system.faults, stage.system.notes) == ([], [], [])


def test_storage_that_cannot_log_its_trouble_goes_on(stage: Stage) -> None:
    stage.system.is_log_broken = True
    stage.engine.refusal = DiskFull("no space")
    stage.store(1)
    stage.engine.refusal = None
    stage.system.run(60_000)
    stage.system.end_syncs()
    stage.system.run(60_000)
    # For want of space, and then for a sync that took long: that writes were refused, and taken.
    assert stage.driver.counters()["log_lines_lost"] == stage.system.lines_lost == 4
    assert len(stage.client.answers) == 1
    assert (stage.system.ends, stage.system.faults) == ([], [])


def test_links_that_cannot_log_go_on() -> None:
    stage = Stage(3)
    stage.system.is_log_broken = True
    stage.answer(1, cluster="another").lose()
    refused = stage.call(1, protocol_min=99, protocol_max=99)
    assert refused.is_closed
    broken = stage.call(2)
    incoming, _ = stage.incoming[TWO]
    incoming.data_received(b"no frame, whatever it is")
    assert broken.is_aborted
    stage.turn()
    assert stage.driver.counters()["log_lines_lost"] == stage.system.lines_lost == 3
    assert (stage.system.ends, stage.system.faults) == ([], [])
    stage.system.run(5_000)
    stage.answer(1)
    stage.turn()
    assert LinkUp(id_of(1)) in stage.events


# --- answers that wait until they are read ------------------------------------------------------


def _put_off(stage: Stage) -> FakeChannel:
    """A peer that does not read asked for more than one step answers. The channel to it."""
    (one,) = stage.link(1)
    row = row_of(b"k")
    stage.engine.write(Batch([(row, record(1, size=MEBIBYTE))], [], []))
    one.queued_bytes = ROOM_BYTES + 1
    stage.hear(1, Read(7, [row] * 9, []))
    stage.turn()
    assert _answered(stage, one) == STEP_BYTES_MAX // MEBIBYTE
    return one


def _answered(stage: Stage, channel: FakeChannel) -> int:
    return sum([len(answer.records) for answer in stage.said(channel, ReadAnswer)])


def test_what_was_put_off_is_served_once_the_peer_has_read_what_it_was_sent() -> None:
    stage = Stage(3)
    one = _put_off(stage)
    stage.system.run(10 * ROOM_MS)
    assert _answered(stage, one) < 9
    one.queued_bytes = ROOM_BYTES
    stage.system.run(ROOM_MS)
    assert _answered(stage, one) == 9
    timers = stage.system.timers
    stage.system.run(10 * ROOM_MS)
    assert stage.system.timers == timers, "nobody is looked at any more"


def test_a_peer_that_is_gone_is_not_waited_for_to_read() -> None:
    stage = Stage(3)
    _put_off(stage).lose()
    stage.system.run(10 * ROOM_MS)
    assert not stage.driver.node.serving.put_off
    assert not stage.driver._is_looking_for_room


# --- what doors and peers ask ------------------------------------------------------------------


def test_the_status_has_what_all_parts_count(stage: Stage) -> None:
    stage.driver.journal.frames_sent = 7
    counters = stage.driver.status().counters
    assert (counters["cache_hits"], counters["frames_sent"]) == (5, 7)
    assert counters["log_lines_lost"] == 0
    assert stage.driver.status().url == url_of(0)
    node_counts = stage.driver.node.status().counters
    assert node_counts.items() <= counters.items()


def test_doors_are_told_the_time_and_the_layout(stage: Stage) -> None:
    stage.system.run(250)
    assert stage.driver.wall_ms() == EPOCH_MS + int(stage.system.ms)
    topology = stage.driver.topology()
    assert topology is not None
    assert topology.urls == [url_of(0)]


def test_a_peer_that_welcomes_us_is_told_to_the_node_before_its_link() -> None:
    stage = Stage(3)
    stage.answer(1)
    stage.turn()
    met, up = stage.events
    assert isinstance(met, Met)
    assert met.greeting.url == ONE
    assert up == LinkUp(id_of(1))


def test_a_link_that_is_lost_is_told_to_the_node() -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    one.lose()
    stage.turn()
    assert stage.events == [LinkDown(id_of(1))]


def test_frames_of_a_peer_are_events_in_order_and_have_a_turn() -> None:
    stage = Stage(3)
    (one,) = stage.link(1)
    stage.hear(1, Ping(1, [], 0, 0))
    stage.hear(1, Ping(2, [], 0, 0))
    stage.turn()
    assert [event.peer for event in stage.events if isinstance(event, PeerFrame)] == [id_of(1)] * 2
    (frame,) = stage.frames(one)
    assert frame.messages == [Pong(1), Pong(2)]


def test_a_stranger_is_told_why_it_is_refused_and_which_process_its_url_leads_to() -> None:
    stage = Stage(3)
    stage.link(1)
    # Another process than the one that our link to its URL leads to.
    refused = stage.call(1, process=999)
    answer = greeting_in(refused)
    assert answer.reached == 101
    assert "two nodes with one URL" in answer.refusal
    assert refused.is_closed
    welcome = stage.call(2)
    answer = greeting_in(welcome)
    assert (answer.reached, answer.refusal, welcome.is_closed) == (0, "", False)
    assert answer.process == stage.driver.node.parts.process


def test_a_copy_of_a_peers_directory_at_another_url_is_told_which_process_its_id_leads_to() -> None:
    stage = Stage(3)
    stage.answer(1)
    refused = stage.call(2, node_id=id_of(1))
    assert (greeting_in(refused).reached, refused.is_closed) == (101, True)


def test_a_link_of_another_process_than_ours_leads_to_is_ended_when_ours_comes_up() -> None:
    stage = Stage(3)
    other, same = stage.call(1, process=999), stage.call(2)
    stage.answer(1)
    stage.answer(2)
    assert (other.is_aborted, same.is_aborted) == (True, False)


def test_a_peer_that_dials_us_is_dialled_at_once() -> None:
    stage = Stage(3)
    stage.dial_to(1).connection.dial_failed("")
    dials = len(stage.system.dials)
    stage.call(1)
    stage.system.run(0)
    assert [dial.url for dial in stage.system.dials[dials:]] == [ONE]


def test_a_step_is_seen_when_its_batch_is_with_the_engine_and_nothing_was_sent() -> None:
    stage = Stage(3)
    stage.link(1, 2)
    client = FakeClient(stage.story, "writer")
    stage.driver.submit(Put(client, b"k", b"v"))
    stage.turn()
    wanted = ["write", "step", f"send {ONE}", f"send {TWO}"]
    assert stage.story == wanted
