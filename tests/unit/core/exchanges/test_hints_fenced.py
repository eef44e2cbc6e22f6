# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints for a replica that has locked what is older (I13)."""

from __future__ import annotations

from quorate.core.exchanges.hints import FENCED_MS, REPLAY_ITEMS_MAX
from tests.unit.core.exchanges.hint_log import A, Log


def test_hints_that_a_lock_keeps_out_go_behind_the_others() -> None:
    log = Log()
    log.add(A, *range(REPLAY_ITEMS_MAX + 1))
    log.close()
    log.replay(A)
    log.ack(A, fenced=[1])
    assert log.count(A) == 2
    assert log.turn.counters["hints_replayed"] == REPLAY_ITEMS_MAX - 1
    assert log.sent(A) == [REPLAY_ITEMS_MAX], "what is put behind is not stored yet"
    log.close()
    log.ack(A)
    assert log.sent(A) == [1]
    log.ack(A)
    log.close()
    assert (log.count(A), log.stored()) == (0, [])
    assert not log.turn.counters["hints_dropped"]


def test_where_a_lock_keeps_out_all_they_are_sent_again_much_later() -> None:
    log = Log()
    log.add(A, 1, 2)
    log.close()
    log.replay(A)
    log.ack(A, fenced=[0, 1])
    log.close()
    log.turn.mono_ms += FENCED_MS - 1
    assert log.replay(A) == []
    log.turn.mono_ms += 1
    log.turn.ring()
    assert log.sent(A) == [1, 2]


def test_one_that_a_lock_keeps_out_for_good_is_dropped_and_counted() -> None:
    log = Log()
    log.add(A, 1, 2)
    log.close()
    log.replay(A)
    log.ack(A, refused=1, fenced=[0, 1])
    log.close()
    assert (log.count(A), log.turn.counters["hints_refused"]) == (1, 1)
