# SPDX-License-Identifier: GPL-3.0-or-later
"""Heartbeats: three misses in a row mark a peer down, one answer marks it up."""

from __future__ import annotations

import pytest

from quorate.core.topology.peer import Ground, Liveness, Peer
from quorate.core.turn import Turn
from quorate.core.values.events import LinkUp, PeerFrame, Put
from quorate.core.values.messages import (
    Frame,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Pong,
    Read,
    ReadAnswer,
    ScannedRows,
    ScanRows,
)
from quorate.sim.cluster import id_of, settings_of, url_of
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.parts import peer_of

BEAT_MS = 2_000


class Beats:
    """One peer under heartbeats, with the time in hand."""

    def __init__(self, **settings: int) -> None:
        self.turn = Turn()
        self.peer = peer_of("http://n1:1", turn=self.turn)
        self.peer.ground = Ground.LISTED
        self.pinged: list[Peer] = []
        self.liveness = Liveness(
            settings_of(0, [0, 1], **settings),
            self.turn,
            [self.peer],
            self.pinged.extend,
        )

    def beat(self, ms: int = BEAT_MS) -> list[Peer]:
        """Let time pass to the next heartbeat; who was pinged."""
        self.pinged.clear()
        self.turn.begin(self.turn.mono_ms + ms, 0, stamp_max=0)
        self.turn.ring()
        return list(self.pinged)

    def notes(self) -> list[str]:
        return [note.event for note in self.turn.notes]


@pytest.fixture
def beats() -> Beats:
    beats = Beats()
    beats.beat(0)
    return beats


def test_every_heartbeat_pings_everyone_and_says_when_the_next_is(beats: Beats) -> None:
    assert beats.beat(BEAT_MS - 1) == []
    assert beats.turn.wake_ms() == BEAT_MS
    assert beats.beat(1) == [beats.peer]
    assert beats.turn.wake_ms() == 2 * BEAT_MS


def test_a_ping_tells_all_members_that_a_node_knows() -> None:
    alone = Alone(3, heartbeat_ms=BEAT_MS)
    alone.step(alone.met(1), LinkUp(id_of(1)))
    (ping,) = alone.take(1, Ping)
    assert [each.url for each in ping.members] == [url_of(index) for index in range(3)]


def test_two_misses_and_an_answer_leave_a_peer_up(beats: Beats) -> None:
    for _ in range(3):
        beats.beat()
        beats.beat()
        assert beats.peer.is_up
        beats.liveness.heard(beats.peer)
        beats.beat()
        assert beats.peer.misses == 0


def test_the_third_miss_in_a_row_marks_a_peer_down_once(beats: Beats) -> None:
    misses = []
    for _ in range(5):
        beats.beat()
        misses.append((beats.peer.misses, beats.peer.is_up, beats.notes()))
    assert misses == [
        (1, True, []),
        (2, True, []),
        (3, False, ["peer_down"]),
        (4, False, []),
        (5, False, []),
    ]


def test_a_down_peer_is_pinged_for_ever_and_one_answer_brings_it_back(beats: Beats) -> None:
    for _ in range(50):
        assert len(beats.beat()) == 1
    beats.liveness.heard(beats.peer)
    assert beats.peer.is_up
    assert beats.notes() == ["peer_up"]
    assert beats.peer.last_answer_ms == beats.turn.mono_ms


@pytest.mark.parametrize("down_after", [1, 5])
def test_the_threshold_is_a_setting(down_after: int) -> None:
    beats = Beats(down_after=down_after)
    beats.beat(0)
    for _ in range(down_after):
        assert beats.peer.is_up
        beats.beat()
    assert not beats.peer.is_up


def test_a_process_that_was_stopped_calls_nobody_down_at_once(beats: Beats) -> None:
    """One missed beat, not as many as would have been."""
    beats.beat(60_000)
    assert beats.peer.misses == 1
    assert beats.beat(0) == []


def test_a_peer_that_answers_is_worth_asking_in_that_very_step() -> None:
    """I25: what its answer leads to may need it (a second stamp, a write-back)."""
    alone = Alone(3, heartbeat_ms=BEAT_MS, down_after=1)
    alone.link(1, 2)
    for _ in range(2):
        alone.step(after_ms=BEAT_MS)
        alone.hear(2, Pong(1))
    assert not alone.peer(1).is_reachable
    frame = Frame(alone.node.membership.epoch, 0, [Pong(1)])
    alone.step(PeerFrame(id_of(1), frame), Put(Asker(), b"k", b"v"))
    assert len(alone.take(1, Mutate)) == 1
    assert alone.node.parts.turn.counters["hints_stored"] == 0


@pytest.mark.parametrize(
    ("message", "is_up"),
    [
        (Mutated(1, [], []), True),
        (ReadAnswer(1, [], [], []), True),
        (ScannedRows(1, [], more=False), True),
        (Pong(1), True),
        (OtherEpoch(1, []), True),
        (Ping(1, [], 0, 0), False),
        (Mutate(1, []), False),
        (Read(1, [], []), False),
        (ScanRows(1, 0, b"", b"", 1), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_answers_alone_show_that_both_directions_work(message: Message, is_up: bool) -> None:
    """Whoever only asks may not hear us."""
    alone = Alone(2, heartbeat_ms=BEAT_MS, down_after=1)
    alone.link(1)
    for _ in range(2):
        alone.step(after_ms=BEAT_MS)
        alone.hear(1, message)
    assert alone.peer(1).is_up is is_up
