# SPDX-License-Identifier: GPL-3.0-or-later
"""How connections come to be, and who takes them when."""

from __future__ import annotations

from collections import Counter

import pytest

from quorate.sim.dial import AGAIN_MS
from tests.unit.host.wires import LATENCY_MS, Heard
from tests.unit.sim.pair import Pair, numbers, text


def test_a_dial_takes_the_way_there_and_back_and_the_acceptor_hears_of_it_too() -> None:
    pair = Pair()
    began_ms = pair.world.now
    dialled = pair.dial()
    pair.run()
    assert began_ms < dialled.told[0].ms <= began_ms + 2 * LATENCY_MS
    assert pair.accepted[-1].told[0].ms == dialled.told[0].ms


def test_a_dial_to_a_dead_process_fails_and_one_to_a_silent_machine_goes_on_asking() -> None:
    pair = Pair()
    pair.target.die()
    dialled = pair.dial()
    pair.run()
    assert dialled.words == ["failed"]
    pair.target.revive()
    pair.target.die(is_silent=True)
    dialled = pair.dial()
    pair.run(10_000)
    assert dialled.words == []
    pair.target.revive()
    pair.run(AGAIN_MS[1])
    assert dialled.words == ["made"]


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_dial_into_a_cut_of_either_direction_goes_on_asking(direction: str) -> None:
    pair = Pair()
    wire = pair.there if direction == "there" else pair.back
    wire.cut()
    dialled = pair.dial()
    pair.run(10_000)
    assert dialled.words == []
    wire.heal()
    pair.run(AGAIN_MS[1])
    assert dialled.words == ["made"]


def test_a_dial_that_is_cancelled_tells_nothing_whenever_that_is() -> None:
    outcomes = Counter[bool]()
    for seed in range(100):
        pair = Pair(seed)
        dialled = Heard(pair.source)
        dial = pair.source.dial("n1", dialled)
        pair.run(seed / 50)
        dial.cancel()
        outcomes[dialled.is_made] += 1
        count = len(dialled.told)
        pair.run(100)
        assert len(dialled.told) == count
        assert len(pair.source.sockets) == len(pair.target.sockets) == 1 + dialled.is_made
    assert len(outcomes) == 2


def test_a_dial_that_is_cancelled_before_anybody_answered_reaches_nobody() -> None:
    pair = Pair()
    pair.source.dial("n1", Heard(pair.source)).cancel()
    pair.there.cut()
    dial = pair.source.dial("n1", Heard(pair.source))
    pair.run(100)
    dial.cancel()
    pair.there.heal()
    pair.run(100)
    assert len(pair.accepted) == 1


def test_a_dial_that_is_cancelled_in_a_pause_is_heard_by_the_other_end_as_lost() -> None:
    pair = Pair()
    dialled = Heard(pair.source)
    dial = pair.source.dial("n1", dialled)
    pair.source.pause()
    pair.run()
    dial.cancel()
    pair.source.resume()
    pair.run()
    assert dialled.told == []
    assert pair.accepted[-1].words == ["made", "lost"]
    assert len(pair.source.sockets) == 1


def test_a_dialler_that_dies_hears_nothing() -> None:
    for ms in (0.0, 0.5, 1.0, 1.5, 2.0):
        pair = Pair()
        dialled = pair.dial()
        pair.run(ms)
        count = len(dialled.told)
        pair.source.die()
        pair.source.revive()
        pair.run(100)
        assert len(dialled.told) == count
        assert pair.source.sockets == {}


# --- processes that do not take ----------------------------------------------------------------


def test_a_paused_process_reads_later_in_one_piece_what_its_kernel_took() -> None:
    pair = Pair()
    pair.target.pause()
    pair.send(1, 2)
    pair.run(100)
    assert pair.heard == []
    assert pair.dialled.channel.get_write_buffer_size() == len(text(1) + text(2))
    pair.target.resume()
    pair.send(3)
    pair.run()
    assert pair.heard == [1, 2, 3]
    assert text(1) + text(2) in [each.what for each in pair.taken.told]
    assert pair.dialled.channel.get_write_buffer_size() == 0


def test_what_comes_between_the_end_of_a_pause_and_the_first_read_waits_its_turn() -> None:
    pair = Pair()
    pair.target.pause()
    pair.send(1)
    pair.run()
    pair.target.is_paused = False
    pair.send(2)
    pair.run()
    pair.target.read()
    assert pair.heard == [1, 2]


def test_a_paused_process_takes_connections_later_though_they_look_made() -> None:
    pair = Pair()
    pair.target.pause()
    pair.dialled = pair.dial()
    pair.run()
    assert pair.dialled.is_made
    pair.send(1)
    pair.run(100)
    assert len(pair.accepted) == 1
    pair.target.resume()
    pair.run()
    assert len(pair.accepted) == 2
    assert [each.what for each in pair.accepted[1].told] == ["made", text(1)]


def test_a_connection_that_was_given_up_while_it_waited_is_taken_and_heard_as_lost() -> None:
    """A listening kernel keeps it, with the bytes that came."""
    pair = Pair()
    pair.target.pause()
    pair.dialled = pair.dial()
    pair.run()
    pair.send(1)
    pair.dialled.channel.close()
    pair.run(100)
    pair.target.resume()
    pair.run()
    assert [each.what for each in pair.accepted[1].told] == ["made", text(1), "lost"]
    assert len(pair.target.sockets) == 1


def test_a_paused_dialler_hears_later_that_it_is_connected_and_lost() -> None:
    for seed in range(20):
        pair = Pair(seed)
        dialled = pair.dial()
        pair.source.pause()
        pair.run()
        pair.target.die()
        pair.run(100)
        assert dialled.told == []
        pair.source.resume()
        pair.run()
        assert dialled.words == ["made", "lost"]
        assert pair.source.sockets == {}


def test_a_deaf_process_hears_nothing_not_even_an_end_but_accepts_nobody_either() -> None:
    pair = Pair()
    other, other_taken = pair.connect()
    pair.target.is_deaf = True
    pair.send(1)
    other.channel.abort()
    late = pair.dial()
    pair.run(100)
    assert late.is_made
    assert pair.taken.told == pair.taken.told[:1]
    assert other_taken.words == ["made"]
    assert len(pair.accepted) == 2
    pair.target.is_deaf = False
    pair.target.read()
    assert pair.heard == [1]
    assert other_taken.words == ["made", "lost"]
    assert len(pair.accepted) == 3


def test_a_deaf_process_hears_the_end_of_what_it_ended() -> None:
    pair = Pair()
    pair.target.is_deaf = True
    pair.send(1)
    pair.run()
    pair.taken.channel.abort()
    pair.run()
    assert pair.taken.words == ["made", "lost"]
    assert pair.heard == []


def test_a_process_that_is_deaf_when_a_pause_ends_still_reads_nothing() -> None:
    pair = Pair()
    pair.target.is_deaf = True
    pair.target.pause()
    pair.send(1)
    pair.run()
    pair.target.resume()
    pair.run()
    assert pair.heard == []


def test_a_process_without_file_descriptors_takes_nobody_until_it_has_some() -> None:
    pair = Pair()
    pair.target.has_files = False
    pair.dialled = pair.dial()
    pair.run()
    pair.send(1)
    pair.run()
    assert pair.dialled.is_made
    assert len(pair.accepted) == 1
    pair.target.has_files = True
    pair.target.read()
    assert numbers(pair.accepted[1].data) == [1]
