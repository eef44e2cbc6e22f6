# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines that are thin, and what waits for those who do not read."""

from __future__ import annotations

import pytest

from tests.unit.host.wires import LATENCY_MS
from tests.unit.sim.pair import Pair, text


def test_a_thin_line_takes_its_time_and_its_backlog_waits_to_be_sent() -> None:
    pair = Pair()
    pair.there.bytes_per_ms = 1.0
    began_ms = pair.world.now
    pair.send(*range(100))
    sent = sum(len(text(number)) for number in range(100))
    assert pair.dialled.channel.get_write_buffer_size() == pair.there.queued_bytes == sent
    assert pair.taken.channel.get_write_buffer_size() == 0
    pair.run(100)
    assert pair.there.queued_bytes == sent - 100
    pair.run(1_000)
    assert pair.heard == list(range(100))
    assert sent <= pair.taken.told[-1].ms - began_ms <= sent + LATENCY_MS + 0.01


def test_the_backlog_of_a_broken_connection_does_not_delay_the_next() -> None:
    pair = Pair()
    pair.there.bytes_per_ms = 1.0
    pair.dialled.channel.write(bytes(100_000))
    pair.run(10)
    pair.dialled.channel.abort()
    pair.run(10)
    pair.dialled, pair.taken = pair.connect()
    pair.send(1)
    pair.run()
    assert pair.heard == [1]


def test_the_end_of_one_connection_leaves_the_backlog_of_another() -> None:
    pair = Pair()
    other, _ = pair.connect()
    pair.there.bytes_per_ms = 1.0
    pair.dialled.channel.write(bytes(1_000))
    other.channel.write(bytes(500))
    other.channel.abort()
    assert pair.there.queued_bytes == 1_000
    pair.dialled.channel.write(bytes(100))
    pair.run(1_100 + LATENCY_MS)
    assert len(pair.taken.data) == 1_100


def test_the_backlog_to_a_process_that_died_does_not_delay_the_next_connection() -> None:
    pair = Pair()
    pair.there.bytes_per_ms = 1.0
    pair.dialled.channel.write(bytes(100_000))
    pair.run()
    pair.target.die()
    pair.target.revive()
    pair.run()
    pair.dialled, pair.taken = pair.connect()
    pair.send(1)
    pair.run()
    assert pair.heard == [1]


def test_what_waits_on_a_lost_connection_is_queued_no_more() -> None:
    pair = Pair()
    pair.target.is_deaf = True
    pair.send(1)
    pair.run()
    assert pair.there.queued_bytes > 0
    pair.source.pause()
    pair.there.reset()
    assert pair.there.queued_bytes == 0


@pytest.mark.parametrize("hold", ["cut", "pause", "deaf", "unaccepted"])
def test_what_is_held_up_counts_as_not_sent_until_it_is_taken(hold: str) -> None:
    pair = Pair()
    if hold == "unaccepted":
        pair.target.has_files = False
        pair.dialled = pair.dial()
        pair.run()
    elif hold == "cut":
        pair.there.cut()
    else:
        pair.target.is_paused = hold == "pause"
        pair.target.is_deaf = hold == "deaf"
    pair.dialled.channel.write(bytes(1_000))
    pair.dialled.channel.write(bytes(100))
    pair.run()
    assert pair.dialled.channel.get_write_buffer_size() == pair.there.queued_bytes == 1_100
    pair.there.heal()
    pair.target.has_files, pair.target.is_deaf = True, False
    pair.target.resume()
    pair.run()
    assert pair.dialled.channel.get_write_buffer_size() == pair.there.queued_bytes == 0
    assert len(pair.accepted[-1].data) == 1_100
