# SPDX-License-Identifier: GPL-3.0-or-later
"""What links do to frames: all that TCP may do, and all that it never does (N1 - N8, N25)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Event, LinkDown, LinkUp, PeerFrame, Welcome
from quorate.core.values.messages import PROTOCOL_VERSION, Frame, Greeting, Mutate, Pong
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.sim.network import SILENCE_MS, Link, Noise
from quorate.sim.trace import Journal
from quorate.sim.world import World


class Machine:
    """An end that keeps what it is told."""

    def __init__(self, world: World, number: int) -> None:
        self.url = f"http://n{number}:1"
        self.is_running = True
        self.is_listening = True
        self.cluster = "quorate"
        self.events: list[Event] = []
        self.came_ms: list[float] = []
        self._number = number
        self._world = world

    def greeting(self) -> Greeting:
        return Greeting(PROTOCOL_VERSION, self.cluster, self.url, self._number + 1, 0, b"", "0.0.0")

    def receive(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, PeerFrame):
            self.came_ms.append(self._world.now)

    def end(self, reason: str) -> None:
        self.ended = reason

    def heard(self) -> list[int]:
        """The numbers of the frames that came, in order."""
        frames = [event.frame for event in self.events if isinstance(event, PeerFrame)]
        return [frame.clock for frame in frames]

    def count(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.events)


class Pair:
    """Two machines and the links between them, up."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.journal = Journal(self.world, None)
        self.source, self.target = Machine(self.world, 0), Machine(self.world, 1)
        self.there = Link(self.world, self.journal, self.source, self.target, (1.0,))
        self.back = Link(self.world, self.journal, self.target, self.source, (1.0,))
        self.there.back, self.back.back = self.back, self.there
        self.there.dial()
        self.back.dial()
        self.run(100)
        assert self.up() == [True, True]

    def up(self) -> list[bool]:
        """Whether there and back are up."""
        return [self.there.is_up, self.back.is_up]

    def run(self, ms: float) -> None:
        self.world.run_to(self.world.now + ms)

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.there.send(Frame(1, number, [Pong(number)]))


def test_frames_arrive_in_order_within_the_latency() -> None:
    pair = Pair()
    began_ms = pair.world.now
    pair.send(*range(50))
    pair.run(10)
    assert pair.target.heard() == list(range(50))
    assert pair.target.came_ms[-1] <= began_ms + 1.01


def test_what_arrives_is_what_was_sent_and_no_object_of_the_sender() -> None:
    pair = Pair()
    mutate = Mutate(1, [(row_of(b"k"), Record(pack_version(1, 1), b"v"))])
    pair.there.send(Frame(1, 2, [mutate]))
    pair.run(10)
    event = pair.target.events[-1]
    assert isinstance(event, PeerFrame)
    assert event == PeerFrame(pair.source.url, Frame(1, 2, [mutate]))
    assert event.frame.messages[0] is not mutate


def test_a_link_comes_up_with_a_welcome_and_an_end_that_differs_is_refused() -> None:
    pair = Pair()
    assert [type(event) for event in pair.source.events] == [Welcome, LinkUp]
    pair.target.cluster = "another"
    pair.there.reset()
    pair.run(1_000)
    assert pair.source.count(LinkUp) == 1
    assert "cluster name differs" in pair.there.refusal
    pair.target.cluster = "quorate"
    pair.run(100)
    assert pair.source.count(LinkUp) == 2


# --- cuts and breaks ---------------------------------------------------------------------------


def test_a_cut_holds_frames_back_and_a_heal_delivers_them_late_and_in_order() -> None:
    pair = Pair()
    pair.send(1, 2)
    pair.there.cut()
    pair.send(3)
    pair.run(1_000)
    assert pair.target.heard() == []
    pair.there.heal()
    pair.send(4)
    pair.run(10)
    assert pair.target.heard() == [1, 2, 3, 4]


def test_a_cut_of_one_direction_leaves_the_other() -> None:
    pair = Pair()
    pair.there.cut()
    pair.back.send(Frame(1, 7, []))
    pair.run(10)
    assert pair.source.heard() == [7]


def test_a_long_cut_of_one_direction_breaks_both_links_and_none_comes_up_before_it_ends() -> None:
    """Nothing is confirmed in either (`transport.sockets`)."""
    pair = Pair()
    pair.there.cut()
    pair.run(SILENCE_MS[0] - 1)
    assert pair.up() == [True, True]
    pair.run(SILENCE_MS[1] - SILENCE_MS[0] + 1_000)
    assert pair.up() == [False, False]
    assert pair.target.count(LinkDown) == pair.source.count(LinkDown) == 1
    pair.there.heal()
    pair.run(100)
    assert pair.up() == [True, True]


def test_a_cut_that_ended_in_time_breaks_nothing() -> None:
    pair = Pair()
    pair.there.cut()
    pair.run(11_000)
    pair.there.heal()
    pair.there.cut()
    pair.run(11_000)
    pair.there.heal()
    pair.run(20_000)
    assert pair.source.count(LinkDown) == 0


def test_a_reset_loses_an_unknown_suffix_and_the_link_comes_back() -> None:
    counts = set[int]()
    for seed in range(40):
        pair = Pair(seed)
        pair.there.latency_ms = (20.0,)
        for number in range(10):
            pair.send(number)
            pair.run(1)
        pair.there.reset()
        pair.run(200)
        assert pair.target.heard() == list(range(len(pair.target.heard())))
        counts.add(len(pair.target.heard()))
        assert pair.there.is_up
        assert pair.source.count(LinkDown) == 1
    assert len(counts) > 5


def test_nothing_of_a_broken_link_comes_after_something_of_the_next() -> None:
    for seed in range(40):
        pair = Pair(seed)
        pair.there.latency_ms = (200.0,)
        pair.send(*range(5))
        pair.there.reset()
        pair.there.latency_ms = (0.1,)
        while not pair.there.is_up:
            pair.run(1)
        pair.send(10)
        pair.run(500)
        assert pair.target.heard() == sorted(pair.target.heard())
        assert 10 in pair.target.heard()


def test_frames_to_a_dead_process_are_lost() -> None:
    pair = Pair()
    pair.send(1)
    pair.target.is_running = pair.target.is_listening = False
    pair.there.reset(is_target_dead=True)
    pair.run(100)
    pair.target.is_running = pair.target.is_listening = True
    pair.run(100)
    pair.send(2)
    pair.run(10)
    assert pair.target.heard() == [2]


def test_a_half_open_link_swallows_frames_until_silence_is_noticed() -> None:
    pair = Pair()
    pair.there.forget()
    pair.send(1)
    pair.run(SILENCE_MS[0] - 1)
    assert pair.there.is_up
    assert pair.journal.faults["frame swallowed"] == 1
    pair.run(SILENCE_MS[1] - SILENCE_MS[0] + 1_000)
    assert pair.source.count(LinkDown) == 1
    pair.send(2)
    pair.run(10)
    assert pair.target.heard() == [2]


def test_a_half_open_link_is_noticed_at_once_when_the_machine_is_back() -> None:
    pair = Pair()
    pair.there.forget()
    pair.there.found_out()
    assert pair.source.count(LinkDown) == 1
    pair.run(100)
    pair.send(2)
    pair.run(10)
    assert pair.target.heard() == [2]
    pair.there.found_out()
    assert pair.source.count(LinkDown) == 1, "it is sound now"


# --- slow and full lines -----------------------------------------------------------------------


def test_a_paused_process_reads_later_what_its_kernel_took() -> None:
    pair = Pair()
    pair.target.is_listening = False
    pair.send(1, 2)
    pair.run(100)
    assert pair.target.heard() == []
    pair.target.is_listening = True
    pair.there.resume()
    pair.send(3)
    pair.run(10)
    assert pair.target.heard() == [1, 2, 3]


@pytest.mark.parametrize("hold", ["cut", "pause", "thin"])
def test_an_outbox_that_runs_over_breaks_the_link(hold: str) -> None:
    """I26: bytes wait for a peer that does not read, but not without limit."""
    pair = Pair()
    pair.there.outbox_bytes_max = 1_000
    if hold == "cut":
        pair.there.cut()
    elif hold == "pause":
        pair.target.is_listening = False
    else:
        pair.there.bytes_per_ms = 0.1
    for number in range(1_000):
        pair.send(number)
        pair.run(2)
        assert pair.there.queued_bytes < 1_200
        if not pair.there.is_up:
            break
    assert pair.source.count(LinkDown) == 1
    assert pair.journal.faults["frame overflow"] == 1


def test_a_thin_line_takes_its_time() -> None:
    pair = Pair()
    pair.there.bytes_per_ms = 1.0
    began_ms = pair.world.now
    pair.send(*range(10))
    assert pair.there.queued_bytes > 100
    pair.run(1_000)
    assert pair.target.heard() == list(range(10))
    assert pair.target.came_ms[-1] - began_ms > 100


# --- noise -------------------------------------------------------------------------------------


def _in_noise(noise: Noise, *, run_ms: float = 300.0) -> Pair:
    pair = Pair()
    pair.there.noise = noise
    for number in range(1_000):
        pair.send(number)
        pair.run(0.3)
    pair.run(run_ms)
    return pair


def test_loss_takes_single_frames() -> None:
    pair = _in_noise(Noise(loss=0.2))
    heard = pair.target.heard()
    assert heard == sorted(heard)
    assert len(heard) == 1_000 - pair.journal.faults["frame lost"]
    assert 700 < len(heard) < 900
    assert pair.there.is_up


def test_duplicates_come_twice() -> None:
    pair = _in_noise(Noise(duplicate=0.2))
    heard = pair.target.heard()
    assert sorted(set(heard)) == list(range(1_000))
    assert len(heard) - 1_000 == pair.journal.faults["frame duplicated"] > 100


def test_reordered_frames_all_come_and_out_of_order() -> None:
    pair = _in_noise(Noise(reorder=0.2))
    heard = pair.target.heard()
    assert heard != sorted(heard)
    assert sorted(heard) == list(range(1_000))


def test_a_late_duplicate_comes_minutes_later_over_a_link_that_broke_meanwhile() -> None:
    """N25."""
    pair = Pair()
    pair.there.noise = Noise(late=1.0, late_ms=(120_000.0, 180_000.0))
    pair.send(5)
    pair.run(10)
    pair.there.noise = None
    pair.there.reset()
    pair.run(100_000)
    assert pair.target.heard() == [5]
    pair.run(100_000)
    assert pair.target.heard() == [5, 5]


def test_a_damaged_frame_is_never_heard_and_breaks_the_link() -> None:
    """The checksum finds every flipped bit."""
    for seed in range(100):
        pair = Pair(seed)
        pair.there.noise = Noise(damage=1.0)
        pair.send(1)
        pair.run(2)
        assert pair.source.count(LinkDown) == 1
        assert pair.target.heard() == []
        pair.there.noise = None
        pair.run(100)
        pair.send(2)
        pair.run(10)
        assert pair.target.heard() == [2]
