# SPDX-License-Identifier: GPL-3.0-or-later
"""What connections share, and when a reply asks to be written."""

from __future__ import annotations

import pytest

from quorate.doors.errors import answer_for
from quorate.doors.redis.session import REPLY_AGE_MS_MAX, Pending, told
from quorate.errors import BY_CODE, Outcome
from tests.unit.doors.redis.turns import Client


def test_a_kept_reply_is_made_again_when_it_is_old_or_the_clock_steps_back(client: Client) -> None:
    made: list[int] = []

    def make() -> object:
        made.append(1)
        return {"count": len(made)}

    door, store = client.door, client.store
    assert (
        door.reply("name", 2, make) == door.reply("name", 2, make) == b"*2\r\n$5\r\ncount\r\n:1\r\n"
    )
    assert door.reply("name", 3, make) == b"%1\r\n$5\r\ncount\r\n:2\r\n"
    store.now_ms += REPLY_AGE_MS_MAX
    assert door.reply("name", 2, make).endswith(b":3\r\n")
    store.now_ms -= 1
    assert door.reply("name", 2, make).endswith(b":4\r\n")


def test_only_the_head_of_the_queue_asks_for_a_flush_and_only_once(client: Client) -> None:
    session = client.connection
    first, second, third = Pending(session), Pending(session), Pending(session)
    asked = [session.flush_asked]
    for pending in (second, first):
        pending.resolve(b"+OK\r\n")
        asked.append(session.flush_asked)
    session.flush()
    asked.append(session.flush_asked)
    assert asked == [False, False, True, False]
    assert client.transport.writes == [b"+OK\r\n+OK\r\n"]
    assert (session.queue.first, session.queue.last, session.queue.count) == (third, third, 1)


@pytest.mark.parametrize("code", BY_CODE)
def test_every_error_has_a_reply_with_its_prefix_and_its_outcome(code: str) -> None:
    error = BY_CODE[code]("what happened", outcome=Outcome.UNKNOWN, needed=2)
    prefix = answer_for(error).prefix
    assert (
        told(error, error.outcome)
        == f"-{prefix} what happened (outcome=unknown needed=2)\r\n".encode()
    )
    assert told(BY_CODE[code]("what\r\nhappened"), None) == f"-{prefix} what  happened\r\n".encode()
