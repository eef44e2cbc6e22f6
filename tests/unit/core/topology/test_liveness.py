# SPDX-License-Identifier: GPL-3.0-or-later
"""Heartbeats: three misses in a row mark a peer down, one answer marks it up."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from quorate.core.topology.liveness import BEAT_MS_MAX, MESH_MAX, OWING_MAX, SAMPLE, Liveness
from quorate.core.topology.peer import Ground, Peer
from quorate.core.turn import Turn
from quorate.core.values.events import PeerFrame, Put
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
from quorate.sim.cluster import id_of, settings_of
from tests.unit.core.alone import Alone, Asker
from tests.unit.core.parts import peer_of

BEAT_MS = 2_000


class Beats:
    """One peer under heartbeats, with the time in hand."""

    def __init__(self, **settings: int) -> None:
        self.turn = Turn()
        self.peer = peer_of("http://n1:1", turn=self.turn)
        self.peer.ground = Ground.LISTED
        self.peer.is_linked = True
        self.pinged: list[Peer] = []
        self.liveness = Liveness(
            settings_of(0, [0, 1], **settings),
            self.turn,
            [self.peer],
            ping=self.pinged.extend,
            owes=lambda _peer, _ms: False,
            random=Random(1),
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


# --- beyond a few --------------------------------------------------------------------------------


class Many:
    """Many linked peers under heartbeats; those in `silent` do not answer."""

    def __init__(self, count: int) -> None:
        self.turn = Turn()
        self.peers = [peer_of(f"http://n{i}:1", i, turn=self.turn) for i in range(count)]
        for peer in self.peers:
            peer.is_linked = True
        self.pinged: list[Peer] = []
        self.owing: set[Peer] = set()
        """Who has left a request unanswered."""
        self.silent: set[Peer] = set()
        self.liveness = Liveness(
            settings_of(0, [0, 1], heartbeat_ms=BEAT_MS),
            self.turn,
            self.peers,
            ping=self.pinged.extend,
            owes=lambda peer, _ms: peer in self.owing,
            random=Random(1),
        )

    def beat(self) -> list[Peer]:
        """The next heartbeat, and the answers to it; who was pinged."""
        self.pinged.clear()
        wake_ms = self.turn.wake_ms()
        assert wake_ms is not None
        self.turn.begin(wake_ms, 0, stamp_max=0)
        self.turn.ring()
        for peer in self.pinged:
            if peer not in self.silent:
                self.liveness.heard(peer)
        return list(self.pinged)

    def down(self) -> set[Peer]:
        return {peer for peer in self.peers if not peer.is_up}


def test_few_nodes_ping_all_and_many_a_sample_each_in_its_turn() -> None:
    few = Many(MESH_MAX - 1)
    assert few.beat() == few.beat() == few.peers
    many = Many(5 * SAMPLE)
    pinged = [many.beat() for _ in range(5)]
    assert [len(each) for each in pinged] == [SAMPLE] * 5
    assert {peer for each in pinged for peer in each} == set(many.peers)
    assert pinged[0] != many.peers[:SAMPLE]


def test_who_was_not_pinged_has_missed_nothing() -> None:
    many = Many(100)
    for _ in range(100):
        many.beat()
    assert many.down() == set()
    assert not any(peer.misses for peer in many.peers)


def test_who_missed_a_ping_is_pinged_again_until_it_answers() -> None:
    many = Many(100)
    peer = many.peers[7]
    many.silent.add(peer)
    while peer not in many.beat():
        pass
    for misses in range(1, 6):
        assert peer in many.beat()
        assert peer.misses == misses
    assert many.down() == {peer}
    many.silent.clear()
    assert peer in many.beat()
    assert many.down() == set()


def test_who_lets_a_request_wait_is_pinged_at_once() -> None:
    many = Many(1_000)
    many.beat()
    peer = many.peers[7]
    many.silent.add(peer)
    many.owing.add(peer)
    for _ in range(4):
        assert many.down() == set()
        assert peer in many.beat()
    assert many.down() == {peer}


def test_those_that_owe_an_answer_are_pinged_a_few_at_a_time_and_all_of_them_in_time() -> None:
    many = Many(1_000)
    many.beat()
    many.owing = many.silent = set(many.peers[:200])
    for _ in range(300):
        assert len(many.beat()) <= OWING_MAX + SAMPLE
    assert many.down() == many.silent


def test_a_zone_that_is_cut_off_is_marked_down_and_nobody_else() -> None:
    many = Many(60)
    many.beat()
    many.silent = set(many.peers[::3])
    for _ in range(60):
        many.beat()
    assert many.down() == many.silent


def test_a_node_that_hears_few_marks_nobody_down_and_beats_more_slowly() -> None:
    many = Many(100)
    many.beat()
    many.silent = set(many.peers)
    times = []
    for _ in range(20):
        many.beat()
        times.append(many.turn.mono_ms)
        assert many.down() == set()
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps[:3] == [BEAT_MS, 2 * BEAT_MS, 4 * BEAT_MS]
    assert set(gaps[3:]) == {BEAT_MS_MAX}
    assert [note.event for note in many.turn.notes] == []
    assert "8 of the 8 that it asked last are silent" in many.liveness.hears_few
    many.silent.clear()
    many.beat()
    many.beat()
    assert many.liveness.hears_few == ""
    assert many.turn.wake_ms() == many.turn.mono_ms + BEAT_MS


def test_a_node_that_hears_few_says_so_once_and_is_not_ready_in_the_end() -> None:
    alone = Alone(MESH_MAX + 1, heartbeat_ms=BEAT_MS)
    alone.link(*range(1, MESH_MAX + 1))
    readiness = []
    for beats in (1, 1, 2):
        alone.step(after_ms=beats * BEAT_MS)
        readiness.append(alone.node.status().ready)
    assert readiness == [True, True, False]
    status = alone.node.status()
    assert status.reason == status.waits[0] == alone.node.liveness.hears_few
    assert alone.notes.count("few_peers_heard") == 1
    assert "peer_down" not in alone.notes


def test_whom_no_link_leads_to_is_down_in_time_and_not_pinged() -> None:
    many = Many(100)
    peer = many.peers[7]
    many.liveness.unlinked(peer)
    for _ in range(30):
        assert peer not in many.beat()
    assert many.down() == {peer}


def test_what_is_to_be_heard_at_once_is_told_to_all_of_few_and_to_those_it_concerns() -> None:
    few, many = Many(3), Many(100)
    few.liveness.tell([few.peers[0]])
    assert few.pinged == few.peers
    many.liveness.unlinked(many.peers[1])
    many.liveness.tell([None, many.peers[0], many.peers[1]])
    assert many.pinged == [many.peers[0]]
