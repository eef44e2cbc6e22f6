# SPDX-License-Identifier: GPL-3.0-or-later
"""Hints of an earlier run that cannot be read when their member becomes known (I13)."""

from __future__ import annotations

import pytest

from quorate.core.exchanges.hints import RETRY_MS
from quorate.errors import StorageError
from tests.unit.core.exchanges.hint_log import A, Log
from tests.unit.core.exchanges.test_hints import Reopened


@pytest.mark.parametrize("readable", [0, 3, 6])
def test_what_cannot_be_counted_at_the_moment_is_counted_later_and_once(readable: int) -> None:
    """A member may come, and with it the look at its hints, while a node has no descriptors. What
    was kept for it has numbers; none may be given twice."""
    engine = Reopened()
    engine.error = StorageError("too many files")
    before = Log(engine=engine)
    before.add(A, 1, 2, 3, 4, 5, 6)
    before.close()
    engine.failing, engine.readable = 1, readable
    log = Log(engine=engine)
    assert [note.event for note in log.turn.notes] == ["hints_unreadable"]
    log.add(A, 7)
    log.close()
    assert log.turn.counters["hints_dropped"] == 1
    assert len(log.stored()) == 6
    log.turn.begin(RETRY_MS, 0, stamp_max=0)
    log.turn.ring()
    assert (log.count(A), log.hints.bytes) == (6, before.hints.bytes)
    assert log.sent(A) == [1, 2, 3, 4, 5, 6]
    log.ack(A)
    log.add(A, 8)
    log.close()
    assert log.replay(A) == [8]


def test_hints_under_a_later_name_are_looked_for_once_the_earlier_could_be_read() -> None:
    """They wait under the member's id; what was read in vain is the name of its URL."""
    engine = Reopened()
    before = Log(engine=engine)
    peer = before.boxes[A].peer
    peer.names = (*peer.names, 7)
    before.hints.rename()
    before.add(A, 1, 2)
    before.close()
    engine.error, engine.failing = StorageError("too many files"), 1
    log = Log(engine=engine)
    log.boxes[A].peer.names = peer.names
    log.hints.rename()
    assert log.count(A) == 0
    log.turn.begin(RETRY_MS, 0, stamp_max=0)
    log.turn.ring()
    assert log.count(A) == 2
    assert log.sent(A) == [1, 2]
