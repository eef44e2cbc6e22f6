# SPDX-License-Identifier: GPL-3.0-or-later
"""MULTI, EXEC, DISCARD, WATCH, UNWATCH."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.values.events import Get, Put, Update
from quorate.doors.access import Principal, Role
from quorate.doors.redis.session import ACKS_NONE
from quorate.doors.redis.table import COMMANDS
from quorate.doors.redis.transactions import ABORTED, NOT_QUEUED
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client, plain

Line = tuple[str | bytes | int, ...]


def run(client: Client, *lines: Line) -> Any:
    """The reply of EXEC after these commands, all in one piece."""
    client.send(["MULTI"], *lines, ["EXEC"])
    first, *queued, last = map(plain, client.replies())
    assert first == b"OK"
    assert queued == [b"QUEUED"] * len(lines)
    return [plain(each) for each in last] if isinstance(last, list) else last


def kinds(client: Client) -> list[type]:
    return [type(event) for event in client.store.events]


# --- one key -------------------------------------------------------------------------------------


def test_all_commands_on_one_key_are_one_read_modify_write(client: Client) -> None:
    assert run(client, ("INCR", "k"), ("INCRBY", "k", 9), ("EXPIRE", "k", 5), ("GET", "k")) == [
        *(1, 10, 1, b"10")
    ]
    assert kinds(client) == [Update]
    assert client.ask("TTL", "k") == 5


def test_each_command_sees_what_those_before_it_made(client: Client) -> None:
    client.store.fill(b"k", b"old")
    lines: list[Line] = [
        *(("GETDEL", "k"), ("EXISTS", "k", "k"), ("GET", "k"), ("APPEND", "k", "ab")),
        *(("STRLEN", "k"), ("SET", "k", "v", "NX"), ("SET", "k", "w", "XX", "GET")),
        *(("TYPE", "k"), ("TTL", "k"), ("MGET", "k", "k"), ("DEL", "k", "k"), ("PERSIST", "k")),
        *(("SETEX", "k", 10, "x"), ("PTTL", "k"), ("SET", "k", "y", "PXAT", 1), ("GET", "k")),
    ]
    assert run(client, *lines) == [
        *(b"old", 0, None, 2, 2, None, b"ab", b"string", -1, [b"w", b"w"], 1, 0),
        *(b"OK", 10_000, b"OK", None),
    ]
    assert kinds(client) == [Update]


def test_a_command_that_fails_leaves_the_others_as_in_redis(client: Client) -> None:
    client.store.fill(b"k", b"text")
    assert run(
        client,
        ("INCR", "k"),
        ("SET", "k", "1", "EX", "0"),
        ("SET", "k", "1"),
        ("INCRBY", "k", "x"),
        ("INCR", "k"),
    ) == [
        "ERR value is not an integer or out of range",
        "ERR invalid expire time in 'set' command",
        b"OK",
        "ERR value is not an integer or out of range",
        2,
    ]


def test_what_comes_to_nothing_writes_nothing(client: Client) -> None:
    assert run(client, ("SET", "k", "v", "NX"), ("GETDEL", "k")) == [b"OK", b"v"]
    assert client.store.records == {}
    record = client.store.fill(b"k", b"v")
    assert run(client, ("SETNX", "k", "w"), ("PERSIST", "k")) == [0, 0]
    assert client.store.records[b"k"] is record


def test_commands_without_a_key_may_be_part_of_it(client: Client) -> None:
    assert run(client, ("PING",), ("INCR", "k"), ("ECHO", "x")) == [b"PONG", 1, b"x"]
    assert run(client, ("PING", "a")) == [b"a"]
    assert run(client) == []


def test_one_key_that_is_only_read_is_read_and_one_that_is_only_set_is_set(client: Client) -> None:
    assert run(client, ("SET", "k", "v"), ("EXPIRE", "k", 9)) == [b"OK", 1]
    assert run(client, ("GET", "k"), ("TTL", "k")) == [b"v", 9]
    assert kinds(client) == [Put, Get]


def test_resp3_has_its_own_null_inside_and_for_a_lost_watch(client: Client) -> None:
    for protocol, null, lost in ((2, b"$-1\r\n", b"*-1\r\n"), (3, b"_\r\n", b"_\r\n")):
        client.ask("HELLO", protocol)
        client.ask("MULTI")
        client.ask("GETDEL", "none")
        assert client.ask_raw("EXEC") == b"*1\r\n" + null
        client.ask("WATCH", "w")
        client.store.fill(b"w", b"x")
        client.ask("MULTI")
        client.ask("INCR", "w")
        assert client.ask_raw("EXEC") == lost
        del client.store.records[b"w"]


@pytest.mark.parametrize("outcome", Outcome)
def test_a_transaction_that_failed_says_what_became_of_all_of_it(
    client: Client, outcome: Outcome
) -> None:
    client.store.fail_next = [QuorumUnreachable("too few replicas", outcome=outcome)]
    assert run(client, ("INCR", "k"), ("INCR", "k")) == (
        f"NOREPLICAS too few replicas (outcome={outcome.value})"
    )


def test_a_key_that_is_set_and_deleted_is_gone_whatever_was_there(client: Client) -> None:
    client.store.fill(b"a", b"old")
    for keys in (["a"], ["b", "c"]):
        lines: list[Line] = [*(("SET", key, "v") for key in keys), ("DEL", *keys)]
        assert run(client, *lines) == [*[b"OK"] * len(keys), len(keys)]
    assert client.ask("MGET", "a", "b", "c") == [None, None, None]


# --- several keys --------------------------------------------------------------------------------


def test_several_keys_may_be_read(client: Client) -> None:
    client.store.fill(b"a", b"1")
    client.store.fill(b"b", b"2")
    assert run(client, ("GET", "a"), ("MGET", "a", "c", "b"), ("EXISTS", "a", "b", "c")) == [
        *(b"1", [b"1", None, b"2"], 2)
    ]
    assert kinds(client) == [Get] * 3


def test_several_keys_may_be_written_whatever_was_there(client: Client) -> None:
    """What Django's cache does for `set_many`."""
    client.store.fill(b"d", b"old")
    assert run(
        client,
        ("MSET", "a", "1", "b", "2"),
        ("EXPIRE", "a", 60),
        ("EXPIRE", "b", 60),
        ("DEL", "c", "d"),
        ("SETEX", "e", 10, "x"),
    ) == [b"OK", 1, 1, 1, b"OK"]
    assert sorted(kinds(client), key=str) == [Put] * 3 + [Update] * 2
    assert client.ask("MGET", "a", "b", "c", "d", "e") == [b"1", b"2", None, None, b"x"]
    assert client.ask("TTL", "b") == 60


@pytest.mark.parametrize(
    "lines",
    [
        (("INCR", "a"), ("INCR", "b")),
        (("GET", "a"), ("SET", "b", "1")),
        (("SET", "a", "1"), ("SETNX", "b", "1")),
        (("SET", "a", "1"), ("EXPIRE", "b", 1)),
        (("GETDEL", "a"), ("SET", "b", "1")),
    ],
)
def test_anything_else_on_several_keys_is_refused_and_nothing_is_done(
    client: Client, lines: tuple[Line, ...]
) -> None:
    refusal = run(client, *lines)
    assert refusal.startswith("CROSSKEY Transaction discarded: on several keys it may")
    assert refusal.endswith("Without MULTI each command is exact by itself (outcome=not_applied)")
    assert client.store.events == []
    assert client.ask("EXEC") == "ERR EXEC without MULTI"


def test_writes_of_which_some_failed_are_unknown_together(client: Client) -> None:
    error = QuorumUnreachable("too few replicas", outcome=Outcome.NOT_APPLIED)
    client.store.fail_next = [error]
    assert run(client, ("SET", "a", "1"), ("SET", "b", "1")) == (
        "NOREPLICAS too few replicas (outcome=unknown)"
    )
    client.store.fail_next = [error, error]
    assert run(client, ("SET", "a", "1"), ("DEL", "b")) == (
        "NOREPLICAS too few replicas (outcome=not_applied)"
    )


def test_wait_counts_what_a_transaction_wrote(client: Client) -> None:
    for lines in ([("INCR", "k")], [("SET", "a", "1"), ("SET", "b", "1")], [("DEL", "a")]):
        assert client.ask("WAIT", 0, 0) == (2 if lines == [("INCR", "k")] else 1)
        run(client, *lines)
        assert client.connection.acks_min == 2
    assert client.ask("WAIT", 0, 0) == 1
    for lines in ([("PERSIST", "k")], [("DEL", "a"), ("DEL", "none")], [("GETDEL", "none")]):
        run(client, *lines)
        assert client.connection.acks_min == ACKS_NONE


# --- until EXEC ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (("NOPE",), "ERR unknown command 'NOPE', with args beginning with: "),
        (("GET",), "ERR wrong number of arguments for 'get' command"),
        (
            ("KEYS", "*"),
            "ERR Command not allowed inside a transaction: 'keys' (outcome=not_applied)",
        ),
    ],
)
def test_a_command_that_cannot_be_queued_aborts_the_transaction(
    client: Client, line: Line, reply: str
) -> None:
    client.send(["MULTI"], ["SET", "k", "v"], line, ["SET", "k", "w"], ["EXEC"], ["PING"])
    assert [plain(each) for each in client.replies()] == [
        *(b"OK", b"QUEUED", reply, b"QUEUED", ABORTED, b"PONG")
    ]
    assert client.store.events == []


NOT_PLANNED = [
    *(name for name, row in COMMANDS.items() if row.plan is None and row.name not in NOT_QUEUED)
]


@pytest.mark.parametrize("name", NOT_PLANNED)
def test_what_cannot_be_part_of_a_transaction_is_refused_before_exec(
    client: Client, name: bytes
) -> None:
    client.ask("MULTI")
    reply = client.ask(name, *["1"] * (abs(COMMANDS[name].arity) - 1))
    assert reply.startswith("ERR Command not allowed inside a transaction")
    assert client.ask("EXEC") == ABORTED


def test_nesting_and_watching_inside_are_refused_and_the_transaction_goes_on(
    client: Client,
) -> None:
    client.ask("MULTI")
    assert client.ask("MULTI") == "ERR MULTI calls can not be nested"
    assert client.ask("WATCH", "k") == "ERR WATCH inside MULTI is not allowed"
    assert client.ask("INCR", "k") == b"QUEUED"
    assert client.ask("EXEC") == [1]


def test_a_transaction_ends_at_discard_and_at_reset(client: Client) -> None:
    for end in ("DISCARD", "RESET"):
        client.ask("WATCH", "k")
        client.ask("MULTI")
        client.ask("DEL", "k")
        client.ask(end)
        assert client.ask("SET", "k", "v") == b"OK"
        assert (client.connection.block, client.connection.watch) == (None, None)
        assert client.ask("EXEC") == "ERR EXEC without MULTI"
        assert client.ask("DISCARD") == "ERR DISCARD without MULTI"


def test_client_list_tells_of_a_transaction(client: Client) -> None:
    assert b" flags=N " in client.ask("CLIENT", "INFO")
    other = Client(client.store, client.door)
    other.ask("MULTI")
    other.ask("PING")
    listed = client.ask("CLIENT", "LIST").splitlines()
    assert [(b" flags=x " in line, b" multi=1 " in line) for line in listed] == [
        *((False, False), (True, True))
    ]


def test_times_count_from_exec_on(client: Client) -> None:
    client.ask("MULTI")
    client.ask("SET", "k", "v", "EX", 10)
    client.store.now_ms += 5000
    client.ask("EXEC")
    assert client.ask("TTL", "k") == 10


def test_commands_before_and_behind_a_transaction_keep_their_order(client: Client) -> None:
    client.store.reads_last = True
    client.send(
        *(["SET", "k", "1"], ["MULTI"], ["INCR", "k"], ["EXEC"], ["GET", "k"], ["DEL", "k"]),
        *(["MULTI"], ["GET", "k"], ["EXEC"]),
    )
    assert client.replies() == [*(b"OK", b"OK", b"QUEUED", [2], b"2", 1, b"OK", b"QUEUED", [None])]


# --- rights --------------------------------------------------------------------------------------


def test_rights_are_asked_for_at_queueing(client: Client) -> None:
    client.connection.principal = Principal("ann", frozenset(Role) - {Role.READ})
    client.ask("MULTI")
    for line in (["GET", "k"], ["GETDEL", "k"], ["INCR", "k"], ["SET", "k", "v", "GET"]):
        assert client.ask(*line).startswith("NOPERM User ann has no permissions")
    assert client.ask("SET", "k", "v", "NX") == b"QUEUED"
    assert client.ask("EXEC") == ABORTED


def test_rights_that_were_lost_meanwhile_are_missing_at_exec(client: Client) -> None:
    client.ask("MULTI")
    for line in (["SET", "k", "v"], ["GET", "k"], ["GETDEL", "k"]):
        assert client.ask(*line) == b"QUEUED"
    client.connection.principal = Principal("ann", frozenset(Role) - {Role.READ})
    client.send(["EXEC"])
    (reply,) = client.replies()
    refusal = "NOPERM User ann has no permissions to run the '{}' command"
    assert [plain(each) for each in reply] == [
        *(b"OK", refusal.format("get"), refusal.format("getdel"))
    ]


# --- WATCH ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, b"v"])
def test_a_watched_key_that_stayed_lets_the_transaction_run(
    client: Client, value: bytes | None
) -> None:
    if value is not None:
        client.store.fill(b"k", value)
    assert client.ask("WATCH", "k") == b"OK"
    assert run(client, ("SET", "k", "w")) == [b"OK"]
    assert kinds(client) == [Get, Update]
    assert client.ask("GET", "k") == b"w"


@pytest.mark.parametrize(
    ("before", "after"), [(None, b"v"), (b"v", None), (b"v", b"w"), (b"v", b"v")]
)
@pytest.mark.parametrize("line", [("SET", "k", "x"), ("GET", "k")])
def test_a_watched_key_that_changed_stops_it(
    client: Client, before: bytes | None, after: bytes | None, line: Line
) -> None:
    client.store.fill(b"k", before)
    client.ask("WATCH", "k")
    record = client.store.fill(b"k", after)
    assert run(client, line) is None
    assert client.store.records[b"k"] is record
    # What was lost is forgotten: the next is free.
    assert run(client, line) is not None


def test_a_watched_key_that_expired_stops_it(client: Client) -> None:
    client.store.fill(b"k", b"v", expires_ms=client.store.wall_ms() + 1)
    client.ask("WATCH", "k")
    client.store.now_ms += 1
    assert run(client, ("SET", "k", "x")) is None


def test_a_key_that_is_watched_twice_counts_from_the_first_time(client: Client) -> None:
    client.ask("WATCH", "k", "k")
    client.ask("SET", "k", "mine")
    client.ask("WATCH", "k")
    assert run(client, ("GET", "k")) is None


def test_unwatch_and_exec_and_discard_end_all_watches(client: Client) -> None:
    for end in (["UNWATCH"], ["DISCARD"], ["EXEC"]):
        client.ask("WATCH", "k")
        if end != ["UNWATCH"]:
            client.ask("MULTI")
        client.ask(*end)
        client.ask("SET", "k", "changed")
        assert run(client, ("SET", "k", "x")) == [b"OK"]


def test_a_transaction_that_writes_may_watch_its_one_key_alone(client: Client) -> None:
    lines: list[Line] = [("SET", "k", "v"), ("INCR", "k")]
    for line in lines:
        client.ask("WATCH", "k", "other")
        events = len(client.store.events)
        assert run(client, line).startswith("CROSSKEY Transaction discarded: if it writes")
        assert len(client.store.events) == events
    client.ask("WATCH", "a")
    assert run(client, ("SET", "a", "1"), ("SET", "b", "1")).startswith("CROSSKEY")


def test_a_transaction_that_only_reads_compares_all_that_is_watched(client: Client) -> None:
    for changed in (None, b"a", b"b", b"c"):
        client.ask("WATCH", "a", "b", "c")
        if changed is not None:
            client.store.fill(changed, b"new")
        assert (run(client, ("GET", "a"), ("GET", "b")) is None) == (changed is not None)
    client.ask("WATCH", "a")
    client.store.fill(b"a", b"new")
    assert run(client) is None


def test_a_watch_that_failed_stops_the_transaction_though_it_was_sent_already(
    client: Client,
) -> None:
    client.store.fail_keys[b"k"] = QuorumUnreachable("too few replicas")
    client.send(["WATCH", "k"], ["MULTI"], ["INCR", "k"], ["EXEC"])
    failed, *_, last = map(plain, client.replies())
    assert (failed, last) == ("NOREPLICAS too few replicas", None)
    assert client.store.records == {}
