# SPDX-License-Identifier: GPL-3.0-or-later
"""What wires do to connections: all that TCP may do, and all that it never does.

The processes here only note what they hear.
"""

from __future__ import annotations

import pytest

from quorate.sim.network import BREAK_MS, SILENCE_MS
from quorate.sim.noise import Noise
from tests.unit.host.wires import LATENCY_MS, Heard, Host
from tests.unit.sim.pair import Pair, numbers, text

# --- bytes -------------------------------------------------------------------------------------


def test_bytes_arrive_in_order_within_the_latency_in_the_pieces_that_were_written() -> None:
    pair = Pair()
    began_ms = pair.world.now
    pair.send(*range(50))
    pair.run()
    assert [each.what for each in pair.taken.told] == ["made", *map(text, range(50))]
    assert pair.taken.told[-1].ms <= began_ms + LATENCY_MS + 0.01


def test_both_ends_speak_and_neither_hears_itself() -> None:
    pair = Pair()
    pair.send(1)
    pair.taken.channel.write(b"answer")
    pair.run()
    assert (pair.heard, pair.dialled.data) == ([1], b"answer")
    assert pair.dialled.channel.get_extra_info("peername") == ("n1", 0)
    assert pair.taken.channel.get_extra_info("peername") == ("n0", 0)
    assert pair.taken.channel.get_extra_info("socket") is None


def test_connections_between_two_machines_do_not_mix() -> None:
    pair = Pair()
    other, other_taken = pair.connect()
    pair.send(1)
    other.channel.write(text(2))
    other.channel.abort()
    pair.send(3)
    pair.run()
    assert pair.heard == [1, 3]
    assert pair.taken.words == pair.dialled.words == ["made"]
    assert other_taken.words == ["made", "lost"]


# --- cuts --------------------------------------------------------------------------------------


def test_a_cut_holds_bytes_back_and_a_heal_delivers_them_late_and_in_order() -> None:
    pair = Pair()
    pair.send(1, 2)
    pair.there.cut()
    pair.send(3)
    pair.run(1_000)
    assert pair.heard == []
    pair.there.heal()
    pair.send(4)
    pair.run()
    assert pair.heard == [1, 2, 3, 4]


def test_nothing_overtakes_what_a_cut_held_whenever_it_heals() -> None:
    for seed in range(60):
        pair = Pair(seed)
        pair.there.latency_ms = (5.0,)
        sent = 0
        for _ in range(6):
            pair.there.cut()
            for _ in range(4):
                pair.send(sent)
                sent += 1
                pair.run(1.3)
            pair.there.heal()
            pair.run(0.7)
        pair.dialled.channel.close()
        pair.run(100)
        assert pair.heard == list(range(sent))
        assert pair.taken.words == ["made", "lost"]


def test_a_cut_of_one_direction_leaves_the_other() -> None:
    pair = Pair()
    pair.there.cut()
    pair.taken.channel.write(text(7))
    pair.run()
    assert numbers(pair.dialled.data) == [7]


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_long_cut_breaks_both_ends_of_all_connections_between_the_two(direction: str) -> None:
    """Nothing is confirmed in either direction (`runtime.sockets`)."""
    pair = Pair()
    third = Host(pair, "n2")
    elsewhere = Heard(third)
    third.dial("n1", elsewhere)
    pair.run()
    from_target = Heard(pair.target)
    pair.target.dial("n0", from_target)
    pair.run()
    ends = [pair.dialled, pair.taken, from_target, pair.accepted[-1]]
    began_ms = pair.world.now
    (pair.there if direction == "there" else pair.back).cut()
    pair.run(SILENCE_MS[0] - 1)
    assert [end.is_lost for end in ends] == [False] * 4
    pair.run(SILENCE_MS[1] - SILENCE_MS[0] + 1)
    for end in ends:
        assert end.words == ["made", "lost"]
        assert SILENCE_MS[0] <= end.told[-1].ms - began_ms <= SILENCE_MS[1]
    assert not elsewhere.is_lost
    assert len(pair.source.sockets) == 0
    assert len(pair.target.sockets) == 1


def test_a_cut_that_ended_in_time_breaks_nothing() -> None:
    pair = Pair()
    for _ in range(2):
        pair.there.cut()
        pair.run(11_000)
        pair.there.heal()
    pair.run(20_000)
    pair.send(1)
    pair.run()
    assert (pair.heard, pair.dialled.words) == ([1], ["made"])


def test_what_a_cut_held_of_a_connection_that_broke_is_lost_for_ever() -> None:
    pair = Pair()
    pair.there.cut()
    pair.send(1)
    pair.run()
    pair.dialled.channel.abort()
    pair.run(1_000)
    assert pair.taken.words == ["made"], "it hears of it as of all else: later"
    pair.there.heal()
    pair.run()
    assert pair.taken.words == ["made", "lost"]
    assert pair.heard == []


# --- breaks ------------------------------------------------------------------------------------


def test_a_reset_loses_an_unknown_suffix_and_may_tear_a_write_at_both_ends() -> None:
    counts, torn = set[int](), 0
    for seed in range(80):
        pair = Pair(seed)
        pair.there.latency_ms = (20.0,)
        for number in range(20):
            pair.send(number)
            pair.run(0.5)
        began_ms = pair.world.now
        pair.there.reset()
        pair.run(200)
        assert pair.heard == list(range(len(pair.heard)))
        assert b"".join(map(text, range(20))).startswith(pair.taken.data)
        counts.add(len(pair.heard))
        torn += not pair.taken.data.endswith(b">") and pair.taken.data != b""
        assert pair.dialled.words == pair.taken.words == ["made", "lost"]
        assert pair.dialled.told[-1].ms == began_ms
        assert pair.taken.told[-1].ms <= began_ms + BREAK_MS + 0.01
        assert pair.recorder.faults["frame torn"] <= 1
        assert pair.source.sockets == pair.target.sockets == {}
    assert len(counts) > 5
    assert torn > 10


def test_a_reset_breaks_only_what_the_source_asked_for() -> None:
    pair = Pair()
    from_target = Heard(pair.target)
    pair.target.dial("n0", from_target)
    pair.run()
    pair.there.reset()
    pair.run()
    assert pair.dialled.is_lost
    assert not from_target.is_lost
    assert not pair.accepted[-1].is_lost


def test_an_abort_loses_a_suffix_and_both_ends_are_told_once() -> None:
    counts = set[int]()
    for seed in range(40):
        pair = Pair(seed)
        pair.there.latency_ms = (20.0,)
        for number in range(20):
            pair.send(number)
            pair.run(0.5)
        pair.taken.channel.write(b"on its way")
        pair.dialled.channel.abort()
        assert pair.dialled.channel.is_closing()
        assert not pair.dialled.is_lost, "never told from inside the call that asked for it"
        pair.run(200)
        pair.dialled.channel.abort()
        pair.run(200)
        assert pair.dialled.words == pair.taken.words == ["made", "lost"]
        assert pair.dialled.data == b""
        assert pair.heard == list(range(len(pair.heard)))
        counts.add(len(pair.heard))
    assert len(counts) > 5


def test_a_write_on_a_connection_that_the_kernel_lost_goes_nowhere() -> None:
    pair = Pair()
    pair.source.pause()
    pair.there.reset()
    pair.run()
    assert pair.dialled.words == ["made"]
    assert not pair.dialled.channel.is_closing(), "the process does not know yet"
    pair.send(1)
    pair.source.resume()
    pair.run()
    assert pair.heard == []
    assert pair.recorder.faults["frame swallowed"] == 1
    assert pair.dialled.words == ["made", "lost"]


def test_who_writes_to_a_kernel_that_knows_no_such_connection_is_told_so() -> None:
    pair = Pair()
    pair.back.cut()
    pair.target.die()
    pair.run()
    assert not pair.dialled.is_lost
    pair.send(1)
    pair.run()
    assert not pair.dialled.is_lost, "nothing gets through to it"
    pair.back.heal()
    pair.run()
    assert pair.dialled.words == ["made", "lost"]
    assert pair.heard == []


def test_what_was_under_way_to_a_dead_process_is_lost_and_the_other_end_hears_of_its_death() -> (
    None
):
    pair = Pair()
    pair.send(1)
    pair.target.die()
    pair.run()
    assert pair.dialled.words == ["made", "lost"]
    assert pair.heard == []
    assert pair.taken.words == ["made"], "there is nobody to be told"
    pair.target.revive()
    pair.dialled, pair.taken = pair.connect()
    pair.send(2)
    pair.run()
    assert pair.heard == [2]


def test_a_dead_process_loses_an_unknown_end_of_what_it_wrote() -> None:
    counts = set[int]()
    for seed in range(40):
        pair = Pair(seed)
        pair.there.latency_ms = (20.0,)
        for number in range(20):
            pair.send(number)
            pair.run(0.5)
        pair.source.die()
        pair.run(100)
        assert pair.heard == list(range(len(pair.heard)))
        assert pair.taken.words == ["made", "lost"]
        counts.add(len(pair.heard))
    assert len(counts) > 5


def test_a_silent_death_is_noticed_when_nothing_was_confirmed_for_long() -> None:
    pair = Pair()
    pair.target.die(is_silent=True)
    pair.send(1)
    pair.run(SILENCE_MS[0] - 1)
    assert not pair.dialled.is_lost
    assert pair.dialled.channel.get_write_buffer_size() == len(text(1)), "nothing is confirmed"
    pair.run(SILENCE_MS[1] - SILENCE_MS[0] + 1)
    assert pair.dialled.words == ["made", "lost"]


def test_a_half_open_connection_swallows_bytes_until_silence_is_noticed_at_both_ends() -> None:
    pair = Pair()
    pair.there.forget()
    pair.send(1)
    pair.taken.channel.write(text(2))
    pair.run(SILENCE_MS[0] - 1)
    assert pair.dialled.words == pair.taken.words == ["made"]
    assert pair.recorder.faults["frame swallowed"] == 2
    pair.run(SILENCE_MS[1] - SILENCE_MS[0] + 1)
    assert pair.dialled.words == pair.taken.words == ["made", "lost"]
    assert pair.heard == []
    assert pair.dialled.data == b""


def test_a_half_open_connection_is_noticed_at_once_when_the_machine_is_back() -> None:
    pair = Pair()
    pair.there.forget()
    sound, sound_taken = pair.connect()
    pair.there.found_out()
    pair.run()
    assert pair.dialled.words == ["made", "lost"]
    assert sound.words == sound_taken.words == ["made"]


def test_a_half_open_connection_that_is_ended_is_lost_at_once() -> None:
    pair = Pair()
    pair.there.forget()
    pair.dialled.channel.abort()
    pair.run()
    assert pair.dialled.words == ["made", "lost"]
    assert pair.taken.words == ["made"], "nothing gets there"
    pair.run(SILENCE_MS[1])
    assert pair.dialled.words == pair.taken.words == ["made", "lost"]


def test_closing_a_half_open_connection_tells_the_other_end_nothing() -> None:
    pair = Pair()
    pair.there.forget()
    pair.dialled.channel.close()
    pair.run(SILENCE_MS[0] - 100)
    assert pair.taken.words == ["made"]


def test_a_process_that_was_paused_hears_some_of_what_came_before_a_break() -> None:
    counts = set[int]()
    for seed in range(40):
        pair = Pair(seed)
        pair.target.pause()
        for number in range(10):
            pair.send(number)
            pair.run()
        pair.there.reset()
        pair.run()
        pair.target.resume()
        pair.run()
        assert pair.heard == list(range(len(pair.heard)))
        assert pair.taken.words == ["made", "lost"]
        counts.add(len(pair.heard))
    assert len(counts) > 5


def test_a_process_that_ends_while_it_hears_hears_nothing_more() -> None:
    class Ends(Heard):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            pair.target.die()

    for is_paused in (False, True):
        pair = Pair()
        ends = Ends(pair.target)
        pair.target.accepts = lambda: ends  # noqa: B023
        pair.dialled = pair.dial()
        pair.run()
        pair.there.noise = Noise(pieces=1.0)
        pair.target.is_paused = is_paused
        pair.dialled.channel.write(bytes(100))
        pair.run()
        pair.target.resume()
        pair.run()
        assert len(ends.told) == 2
        assert pair.dialled.words == ["made", "lost"]


# --- the end -----------------------------------------------------------------------------------


def test_close_lets_what_was_written_leave_and_takes_no_more() -> None:
    pair = Pair()
    pair.there.latency_ms = (20.0,)
    pair.send(*range(10))
    pair.taken.channel.write(b"answer")
    pair.dialled.channel.close()
    pair.dialled.channel.close()
    assert pair.dialled.channel.is_closing()
    pair.run(100)
    assert pair.heard == list(range(10))
    assert pair.dialled.data == b""
    assert pair.dialled.words == pair.taken.words == ["made", "lost"]


def test_what_was_written_before_a_close_is_read_whole_by_a_process_that_was_paused() -> None:
    for seed in range(20):
        pair = Pair(seed)
        pair.target.pause()
        pair.send(*range(10))
        pair.dialled.channel.close()
        pair.run(100)
        pair.target.resume()
        pair.run()
        assert pair.heard == list(range(10))
        assert pair.taken.words == ["made", "lost"]


def test_close_waits_for_a_cut_and_an_abort_ends_the_waiting() -> None:
    pair = Pair()
    pair.there.cut()
    pair.send(1)
    pair.dialled.channel.close()
    pair.run(1_000)
    assert pair.dialled.words == ["made"]
    pair.dialled.channel.abort()
    pair.run()
    assert pair.dialled.words == ["made", "lost"]


def test_a_connection_whose_bytes_make_the_process_raise_is_ended_and_that_is_told() -> None:
    class Raises(Heard):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raise ZeroDivisionError

    pair = Pair()
    raises = Raises(pair.target)
    pair.target.accepts = lambda: raises
    pair.dialled = pair.dial()
    pair.run()
    pair.send(1, 2)
    pair.run()
    assert raises.told[1].what == text(1)
    assert raises.words == ["made", "lost"]
    assert pair.dialled.words == ["made", "lost"]
    assert [type(each) for each in pair.target.faults] == [ZeroDivisionError]
