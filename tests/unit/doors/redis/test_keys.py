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
    assert all(put.value is None for put in puts)
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


def test_object_tells_what_redis_would_and_what_is_not_tracked_is_an_error(client: Client) -> None:
    for key, value in {b"int": b"12", b"short": b"v" * 44, b"long": b"v" * 45}.items():
        client.store.fill(key, value)
    found = [client.ask("OBJECT", "ENCODING", key) for key in ("int", "short", "long", "none")]
    assert found == [b"int", b"embstr", b"raw", None]
    assert client.ask("OBJECT", "REFCOUNT", "int") == 1
    assert client.ask("OBJECT", "REFCOUNT", "none") is None
    assert client.ask("OBJECT", "FREQ", "int").startswith("ERR An LFU maxmemory policy is not")
    assert client.ask("OBJECT", "IDLETIME", "int") == "ERR idle time not tracked."


def test_memory_usage_is_about_what_a_key_takes(client: Client) -> None:
    client.store.fill(b"k", b"v" * 1000)
    assert 1001 < client.ask("MEMORY", "USAGE", "k") < 1100
    assert client.ask("MEMORY", "USAGE", "k", "SAMPLES", "0") == client.ask("MEMORY", "USAGE", "k")
    assert client.ask("MEMORY", "USAGE", "none") is None
    assert client.ask("MEMORY", "USAGE", "k", "SAMPLES") == "ERR syntax error"


def test_a_question_about_a_key_waits_for_a_write_of_it(client: Client) -> None:
    client.store.reads_last = False
    client.send(["SET", "k", "1"], ["OBJECT", "ENCODING", "k"])
    assert client.replies() == [b"OK", b"int"]
