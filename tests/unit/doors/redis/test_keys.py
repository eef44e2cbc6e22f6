# SPDX-License-Identifier: GPL-3.0-or-later
"""DEL, EXISTS, TYPE and their kin."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Put
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client


@pytest.mark.parametrize("name", ["DEL", "UNLINK"])
def test_del_writes_a_tombstone_for_each_key_and_counts_those_that_were_there(
    client: Client, name: str
) -> None:
    client.store.fill(b"a", b"1")
    client.store.fill(b"dead", None)
    client.store.fill(b"old", b"1", expires_ms=1)
    assert client.ask(name, "a", "b", "dead", "old", "a") == 1
    puts = [event for event in client.written if isinstance(event, Put)]
    assert sorted(put.key for put in puts) == [b"a", b"b", b"dead", b"old"]
    assert all(put.value is None and put.derived_from is None for put in puts)
    assert client.ask("EXISTS", "a") == 0


def test_exists_and_touch_count_a_key_as_often_as_it_is_named(client: Client) -> None:
    client.store.fill(b"a", b"")
    assert client.ask("EXISTS", "a", "b", "a") == 2
    assert client.ask("TOUCH", "a", "b") == 1


def test_type_is_string_or_none(client: Client) -> None:
    client.store.fill(b"a", b"1")
    assert client.ask_raw("TYPE", "a") == b"+string\r\n"
    assert client.ask_raw("TYPE", "b") == b"+none\r\n"


def test_a_del_that_failed_after_another_key_was_deleted_says_unknown(client: Client) -> None:
    error = QuorumUnreachable("too few replicas", outcome=Outcome.NOT_APPLIED)
    client.store.fail_next = [error]
    assert client.ask("DEL", "a", "b") == "NOREPLICAS too few replicas (outcome=unknown)"
