# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests for many keys: how many at a time, and what is told of failures."""

from __future__ import annotations

import pytest

from quorate.config import KEY_BYTES_MAX
from quorate.doors.flow import VALUE_BYTES_LARGE
from quorate.doors.redis.gather import PARTS_MAX, PartsTally
from quorate.doors.redis.session import WINDOW_FIRST, Pending
from quorate.errors import DeadlineExceeded, Outcome, Overloaded, QuorateError
from tests.unit.doors.redis.turns import Client

BUSY = Overloaded("too much", outcome=Outcome.NOT_APPLIED)
LATE = DeadlineExceeded("too late", outcome=Outcome.UNKNOWN)
UNREAD = DeadlineExceeded("too late to read")


def reply(client: Client, tally: PartsTally) -> tuple[bytes, str]:
    """What a command of these parts is answered with, and counted as."""
    assert tally.error is not None
    pending = Pending(client.connection)
    pending.resolve_failed(tally.error, wrote=tally.wrote)
    return pending.reply, pending.outcome


@pytest.mark.parametrize("failures", [(BUSY, LATE), (LATE, BUSY), (UNREAD, LATE), (LATE, UNREAD)])
def test_a_part_that_may_have_been_applied_leaves_the_whole_unknown(
    client: Client,
    failures: tuple[QuorateError, ...],
) -> None:
    tally = PartsTally()
    for error in failures:
        tally.failed(error)
    assert reply(client, tally) == (b"-TIMEOUT too late (outcome=unknown)\r\n", "unknown")


@pytest.mark.parametrize("error", [BUSY, LATE, UNREAD])
def test_a_part_that_was_written_leaves_the_whole_unknown(
    client: Client, error: QuorateError
) -> None:
    tally = PartsTally()
    tally.failed(error)
    tally.wrote = True
    told, outcome = reply(client, tally)
    assert told.endswith(b" (outcome=unknown)\r\n")
    assert outcome == "unknown"


def test_the_whole_is_not_applied_only_if_every_part_is(client: Client) -> None:
    tally = PartsTally()
    for error in (UNREAD, BUSY, BUSY):
        tally.failed(error)
    assert reply(client, tally) == (b"-BUSY too much (outcome=not_applied)\r\n", "not_applied")
    unread = PartsTally()
    unread.failed(UNREAD)
    assert reply(client, unread) == (b"-TIMEOUT too late to read\r\n", "failed")


def test_mset_of_a_refused_and_an_unanswered_key_is_unknown(client: Client) -> None:
    client.store.fail_next = [BUSY, LATE]
    assert client.ask("MSET", "a", "1", "b", "2") == "TIMEOUT too late (outcome=unknown)"
    client.store.fail_next = [LATE, BUSY]
    assert client.ask("MSET", "a", "1", "b", "2") == "TIMEOUT too late (outcome=unknown)"
    client.store.fail_next = [BUSY, BUSY]
    assert client.ask("MSET", "a", "1", "b", "2") == "BUSY too much (outcome=not_applied)"


def test_del_of_a_deleted_key_and_an_unread_one_is_unknown(client: Client) -> None:
    client.store.fail_keys = {b"b": UNREAD}
    assert client.ask("DEL", "a", "b") == "TIMEOUT too late to read (outcome=unknown)"


def test_no_more_parts_are_under_way_than_may_be_and_all_are_done_in_the_end(
    client: Client,
) -> None:
    keys = [f"k{i}" for i in range(10 * PARTS_MAX)]
    client.send(["DEL", *keys])
    under_way = parts_by_turn(client)
    assert under_way[0] == WINDOW_FIRST
    assert max(under_way) == PARTS_MAX
    assert client.answered() == [0]
    assert len(client.written) == len(keys)


def parts_by_turn(client: Client) -> list[int]:
    """Requests under way at the beginning of each turn until all is done."""
    found = []
    while not client.store.is_idle:
        found.append(client.store.status().inflight)
        client.store.turn()
    return [count for count in found if count]


@pytest.mark.parametrize("command", ["MGET", "EXISTS"])
def test_after_a_large_value_the_next_part_is_read_alone(client: Client, command: str) -> None:
    keys = [f"k{i}" for i in range(100)]
    for key in keys:
        client.store.fill(key.encode(), b"v" * VALUE_BYTES_LARGE)
    client.send([command, *keys])
    under_way = parts_by_turn(client)
    assert under_way == [WINDOW_FIRST] + [1] * (100 - WINDOW_FIRST)


@pytest.mark.parametrize("wrong", [b"", b"k" * (KEY_BYTES_MAX + 1)], ids=["empty", "too large"])
@pytest.mark.parametrize("command", ["MSET", "DEL", "UNLINK", "MGET", "EXISTS", "TOUCH"])
def test_all_keys_are_checked_before_anything_is_asked(
    client: Client, command: str, wrong: bytes
) -> None:
    arguments = [b"a", b"1", wrong, b"2"] if command == "MSET" else [b"a", wrong]
    answer = client.ask(command, *arguments)
    assert answer.startswith("ERR ")
    assert "outcome=not_applied" in answer
    assert client.store.events == []


def test_all_values_are_checked_before_any_is_written(client: Client) -> None:
    large = bytes(client.store.config.value_bytes_max + 1)
    answer = client.ask("MSET", "a", "1", "b", large)
    assert answer.startswith("ERR the value is too large (outcome=not_applied ")
    assert client.store.events == []
