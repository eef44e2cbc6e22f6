# SPDX-License-Identifier: GPL-3.0-or-later
"""What the parts of a node share during a step."""

from __future__ import annotations

from quorate.core.requests.turn import NOTE_AGAIN_MS, Turn
from quorate.core.values.versions import pack_version


def _turn(mono_ms: int = 0) -> Turn:
    turn = Turn()
    turn.begin(mono_ms, 7, stamp_max=9)
    return turn


def test_a_step_begins_with_nothing_said_and_the_time_as_given() -> None:
    turn = _turn()
    turn.note("info", "x")
    turn.wake_at(3)
    turn.begin(5, 8, stamp_max=9)
    assert (turn.mono_ms, turn.wall_ms, turn.answers, turn.notes) == (5, 8, [], [])
    assert turn.wake_ms is None
    assert pack_version(9, 77) <= turn.version_max < pack_version(10, 0)


def test_the_earliest_wake_counts() -> None:
    turn = _turn()
    for mono_ms in (30, 10, 20):
        turn.wake_at(mono_ms)
    assert turn.wake_ms == 10


def test_what_happens_with_every_message_of_a_peer_is_noted_once_in_a_while() -> None:
    """A log that a peer can fill is a way to stop a node."""
    noted = 0
    turn = Turn()
    for mono_ms in range(0, 3 * NOTE_AGAIN_MS, 100):
        turn.begin(mono_ms, 0, stamp_max=0)
        turn.note_rarely("warning", "refused", peer="http://n1:1", reason="no")
        turn.note_rarely("warning", "refused", peer="http://n2:1", reason="no")
        noted += len(turn.notes)
    assert noted == 2 * 3
