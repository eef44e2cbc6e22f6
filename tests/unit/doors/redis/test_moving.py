# SPDX-License-Identifier: GPL-3.0-or-later
"""RENAME, RENAMENX, COPY."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from quorate.core.values.events import Get, Update
from quorate.doors.access import Principal, Role
from quorate.doors.redis.moving import TRIES_MAX
from quorate.errors import InvalidRequest, Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client


def test_rename_moves_value_and_expiry_and_writes_before_it_deletes(client: Client) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"a", b"v", expires_ms=expires)
    client.store.fill(b"b", b"old")
    assert client.ask("RENAME", "a", "b") == b"OK"
    assert [(type(event), event.key) for event in client.store.events] == [  # type: ignore[union-attr]
        *((Get, b"a"), (Update, b"b"), (Update, b"a"))
    ]
    assert client.ask("MGET", "a", "b") == [None, b"v"]
    assert client.ask("PEXPIRETIME", "b") == expires


@pytest.mark.parametrize("command", ["RENAME a b", "RENAMENX a b", "COPY a b", "COPY a b REPLACE"])
def test_what_is_copied_expires_when_the_first_does(client: Client, command: str) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"a", b"v", expires_ms=expires)
    client.ask(*command.split())
    assert client.ask("PEXPIRETIME", "b") == expires


@pytest.mark.parametrize("command", ["RENAME", "RENAMENX", "COPY"])
def test_admission_counts_the_copy(client: Client, command: str) -> None:
    client.store.fill(b"a", b"v" * 5000)
    client.ask(command, "a", "b")
    _, copy, *_ = client.store.events
    assert isinstance(copy, Update)
    assert copy.size == 5000


def test_where_no_read_modify_write_can_be_done_nothing_is_copied_either(client: Client) -> None:
    """W below a majority, say: plain writes are done."""
    client.store.fill(b"a", b"v")
    refusal = InvalidRequest("-W is set to less", outcome=Outcome.NOT_APPLIED)
    with patch.object(client.store, "_update", return_value=refusal):
        for name in ("RENAME", "RENAMENX"):
            assert str(client.ask(name, "a", "b")) == "ERR -W is set to less (outcome=not_applied)"
    assert b"b" not in client.store.records


def test_renamenx_leaves_a_key_that_is_there(client: Client) -> None:
    client.store.fill(b"a", b"v")
    client.store.fill(b"b", b"old")
    assert client.ask("RENAMENX", "a", "b") == 0
    assert client.ask("MGET", "a", "b") == [b"v", b"old"]
    assert client.ask("RENAMENX", "a", "c") == 1
    assert client.ask("MGET", "a", "c") == [None, b"v"]


def test_a_rename_to_the_same_name_changes_nothing(client: Client) -> None:
    for name, reply in (("RENAME", b"OK"), ("RENAMENX", 0)):
        assert client.ask(name, "k", "k") == "ERR no such key"
        client.store.fill(b"k", b"v")
        assert client.ask(name, "k", "k") == reply
        assert client.written == []
        client.store.fill(b"k", None)


@pytest.mark.parametrize("name", ["RENAME", "RENAMENX"])
def test_what_is_not_there_cannot_be_renamed(client: Client, name: str) -> None:
    client.store.fill(b"old", b"v", expires_ms=1)
    client.store.fill(b"b", b"stays")
    for key in ("none", "old"):
        assert client.ask(name, key, "b") == "ERR no such key"
    assert client.ask("GET", "b") == b"stays"


@pytest.mark.parametrize("name", ["RENAME", "RENAMENX"])
def test_what_is_written_meanwhile_is_moved_too(client: Client, name: str) -> None:
    client.store.fill(b"a", b"1")
    client.send([name, "a", "b"])
    client.store.turn()
    client.store.fill(b"a", b"2")
    assert client.replies() == [b"OK" if name == "RENAME" else 1]
    assert client.ask("MGET", "a", "b") == [None, b"2"]


def test_what_is_deleted_meanwhile_is_moved_as_it_was(client: Client) -> None:
    client.store.fill(b"a", b"1")
    client.send(["RENAME", "a", "b"])
    client.store.turn()
    client.store.fill(b"a", None)
    assert client.replies() == [b"OK"]
    assert client.ask("MGET", "a", "b") == [None, b"1"]


def test_a_renamenx_never_takes_the_name_from_another_that_came_between(client: Client) -> None:
    client.store.fill(b"a", b"1")
    client.send(["RENAMENX", "a", "b"])
    client.store.turn()
    client.store.turn()
    client.store.fill(b"a", b"2")
    client.store.fill(b"b", b"another's")
    assert client.replies() == [0]
    assert client.ask("MGET", "a", "b") == [b"2", b"another's"]


def test_a_key_that_is_written_all_the_time_is_given_up_and_both_are_there(client: Client) -> None:
    client.store.fill(b"a", b"1")
    client.send(["RENAME", "a", "b"])
    while not client.store.is_idle:
        client.store.turn()
        client.store.fill(b"a", b"more")
    (reply,) = client.answered()
    assert str(reply) == (
        "ERR the key is written all the time: it was copied and is still there (outcome=unknown)"
    )
    assert sum(isinstance(event, Get) for event in client.store.events) == TRIES_MAX
    assert client.ask("MGET", "a", "b") == [b"more", b"more"]


def test_what_failed_says_what_became_of_both_writes(client: Client) -> None:
    error = QuorumUnreachable("too few replicas", outcome=Outcome.NOT_APPLIED)
    record = client.store.fill(b"a", b"1")
    client.store.fail_keys[b"a"] = QuorumUnreachable("too few replicas")
    told = "NOREPLICAS too few replicas (outcome={})"
    assert client.ask("RENAME", "a", "b") == told.format("not_applied")
    client.store.fail_keys.clear()
    client.store.fail_next = [error]
    assert client.ask("RENAME", "a", "b") == told.format("not_applied")
    client.send(["RENAME", "a", "b"])
    client.store.turn()
    client.store.turn()
    client.store.fail_next = [error]
    (reply,) = client.replies()
    assert str(reply) == told.format("unknown")
    assert client.store.records[b"a"] is record
    assert client.ask("GET", "b") == b"1"


def test_copy_keeps_the_original_and_replaces_only_if_told(client: Client) -> None:
    expires = client.store.wall_ms() + 5000
    client.store.fill(b"a", b"v", expires_ms=expires)
    client.store.fill(b"b", b"old")
    assert client.ask("COPY", "a", "b") == 0
    assert client.ask("COPY", "a", "b", "db", 0, "replace") == 1
    assert client.ask("COPY", "a", "c") == 1
    assert client.ask("MGET", "a", "b", "c") == [b"v"] * 3
    assert client.ask("PEXPIRETIME", "c") == expires
    assert client.ask("COPY", "none", "d") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("a", "a"), "ERR source and destination objects are the same"),
        (("a", "b", "DB", "1"), "ERR DB index is out of range"),
        (("a", "b", "DB", "x"), "ERR value is not an integer or out of range"),
        (("a", "b", "DB"), "ERR syntax error"),
        (("a", "b", "FOO"), "ERR syntax error"),
    ],
)
def test_copy_refuses_what_redis_refuses(client: Client, words: tuple[str, ...], told: str) -> None:
    assert client.ask("COPY", *words) == told
    assert client.store.events == []


@pytest.mark.parametrize("name", ["RENAME", "RENAMENX", "COPY"])
def test_a_key_that_can_be_none_is_refused_before_anything_is_written(
    client: Client, name: str
) -> None:
    for keys in (("a", ""), ("", "a"), ("a", "k" * 1025)):
        assert "(outcome=not_applied" in client.ask(name, *keys)
    assert client.store.events == []


@pytest.mark.parametrize("name", ["RENAME", "RENAMENX", "COPY"])
def test_who_may_not_read_a_key_may_not_copy_it_to_where_it_may(client: Client, name: str) -> None:
    client.connection.principal = Principal("ann", frozenset(Role) - {Role.READ})
    assert client.ask(name, "a", "b").startswith("NOPERM User ann has no permissions to run")
    assert client.store.events == []


def test_the_order_of_a_pipeline_holds_for_both_keys(client: Client) -> None:
    client.store.reads_last = True
    client.send(
        ["SET", "a", "1"], ["RENAME", "a", "b"], ["GET", "b"], ["GET", "a"], ["SET", "a", 2]
    )
    assert client.replies() == [b"OK", b"OK", b"1", None, b"OK"]
