# SPDX-License-Identifier: GPL-3.0-or-later
"""What TCP never does to frames, and pieces, which it always does."""

from __future__ import annotations

from quorate.sim.noise import Noise
from quorate.wire.frames import MAGIC
from tests.unit.host.wires import Heard
from tests.unit.sim.pair import Pair, numbers


def _in_noise(noise: Noise, *, run_ms: float = 300.0) -> Pair:
    pair = Pair()
    pair.there.noise = noise
    for number in range(1_000):
        pair.send(number)
        pair.run(0.3)
    pair.run(run_ms)
    assert not pair.dialled.is_lost
    return pair


def test_loss_takes_single_frames() -> None:
    pair = _in_noise(Noise(loss=0.2))
    assert pair.heard == sorted(pair.heard)
    assert len(pair.heard) == 1_000 - pair.recorder.faults["frame lost"]
    assert 700 < len(pair.heard) < 900


def test_duplicates_come_twice() -> None:
    pair = _in_noise(Noise(duplicate=0.2))
    assert sorted(set(pair.heard)) == list(range(1_000))
    assert len(pair.heard) - 1_000 == pair.recorder.faults["frame duplicated"] > 100


def test_reordered_frames_all_come_and_out_of_order() -> None:
    pair = _in_noise(Noise(reorder=0.2))
    assert pair.heard != sorted(pair.heard)
    assert sorted(pair.heard) == list(range(1_000))


def test_a_reordered_frame_of_a_broken_connection_is_lost_with_the_others() -> None:
    pair = Pair()
    pair.there.noise = Noise(reorder=1.0, reorder_ms=1_000.0)
    pair.send(*range(20))
    pair.run()
    pair.dialled.channel.abort()
    pair.run()
    count = len(pair.heard)
    pair.run(2_000)
    assert len(pair.heard) == count < 20


def test_a_reordered_frame_that_meets_a_cut_is_lost() -> None:
    pair = Pair()
    pair.there.noise = Noise(reorder=1.0)
    pair.send(1)
    pair.there.cut()
    pair.run(100)
    pair.there.heal()
    pair.run(100)
    assert pair.heard == []


def test_a_late_duplicate_comes_minutes_later_over_a_connection_that_is_new() -> None:
    pair = Pair()
    pair.there.noise = Noise(late=1.0, late_ms=(120_000.0, 180_000.0))
    pair.send(5)
    pair.run()
    pair.there.noise = None
    pair.there.reset()
    pair.run()
    first = pair.taken
    again, pair.taken = pair.connect()
    again.channel.write(MAGIC + b">")
    pair.run(100_000)
    assert (numbers(first.data), pair.heard) == ([5], [])
    pair.run(100_000)
    assert (numbers(first.data), pair.heard) == ([5], [5])


def test_a_damaged_frame_differs_in_one_bit_and_in_each_seed_in_another() -> None:
    places = set[tuple[int, int]]()
    for seed in range(100):
        pair = Pair(seed)
        pair.there.noise = Noise(damage=1.0)
        pair.dialled.channel.write(bytes(40))
        pair.run()
        ((place, value),) = [(i, byte) for i, byte in enumerate(pair.taken.data) if byte]
        assert len(pair.taken.data) == 40
        assert value.bit_count() == 1
        places.add((place, value))
    assert len(places) > 50


def test_pieces_are_all_that_was_written_a_few_bytes_at_a_time() -> None:
    pair = _in_noise(Noise(pieces=0.5))
    assert pair.heard == list(range(1_000))
    pieces = [each.what for each in pair.taken.told if isinstance(each.what, bytes)]
    assert 1_300 < len(pieces) < 3_000
    assert 400 < pair.recorder.faults["frame in pieces"] < 600


def test_who_ends_a_connection_in_the_first_piece_hears_none_after_it() -> None:
    class Ends(Heard):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.channel.abort()

    for seed in range(20):
        pair = Pair(seed)
        ends = Ends(pair.target)
        pair.target.accepts = lambda ends=ends: ends  # type: ignore[misc]
        pair.there.noise = Noise(pieces=1.0)
        pair.dialled = pair.dial()
        pair.run()
        pair.dialled.channel.write(bytes(100))
        pair.run()
        assert len(ends.told) == 3


def test_greetings_are_spared() -> None:
    pair = Pair()
    pair.there.noise = Noise(1.0, 1.0, 1.0, 1.0, 1.0)
    pair.dialled.channel.write(MAGIC + bytes(20))
    pair.run(1_000)
    assert pair.taken.data == MAGIC + bytes(20)


def test_the_same_seed_makes_the_same_of_it() -> None:
    def run(seed: int) -> list[tuple[float, bytes | str]]:
        pair = Pair(seed)
        pair.there.noise = Noise(0.1, 0.1, 0.1, 0.1, 0.1, 0.5, late_ms=(1.0, 50.0))
        pair.send(*range(100))
        pair.run(20)
        pair.dialled.channel.abort()
        pair.run(100)
        return [(each.ms, each.what) for each in pair.taken.told]

    assert run(1) == run(1)
    assert run(1) != run(2)
