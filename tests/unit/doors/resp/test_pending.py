# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures as replies, and requests that many keys share."""

from __future__ import annotations

import pytest

from quorate.doors.errors import answer_for
from quorate.doors.resp.pending import PARTS_MAX, failure
from quorate.errors import BY_CODE, Outcome, QuorumUnreachable
from tests.unit.doors.resp.turns import Client


@pytest.mark.parametrize("code", BY_CODE)
def test_every_error_has_a_reply_with_its_prefix_and_its_outcome(code: str) -> None:
    error = BY_CODE[code]("what happened", outcome=Outcome.UNKNOWN, needed=2)
    prefix = answer_for(error).prefix
    assert failure(error) == f"-{prefix} what happened (outcome=unknown needed=2)\r\n".encode()
    assert failure(BY_CODE[code]("what\r\nhappened")) == f"-{prefix} what  happened\r\n".encode()


@pytest.mark.parametrize(
    ("outcome", "told"),
    [(Outcome.NOT_APPLIED, b"unknown"), (Outcome.UNKNOWN, b"unknown"), (None, b"")],
)
def test_a_part_that_was_not_applied_leaves_the_whole_unknown(
    outcome: Outcome | None, told: bytes
) -> None:
    reply = failure(QuorumUnreachable("no", outcome=outcome), partly=True)
    assert reply == b"-NOREPLICAS no" + (b" (outcome=%b)" % told if told else b"") + b"\r\n"


def test_no_more_parts_are_under_way_than_may_be_and_all_are_done_in_the_end(
    client: Client,
) -> None:
    keys = [f"k{i}" for i in range(10 * PARTS_MAX)]
    client.send(["DEL", *keys])
    most = 0
    while not client.store.is_idle:
        most = max(most, client.store.status().inflight)
        client.store.turn()
    assert most == PARTS_MAX
    assert client.answered() == [0]
    assert len(client.written) == len(keys)
