# SPDX-License-Identifier: GPL-3.0-or-later
"""What is refused rather than faked."""

from __future__ import annotations

import pytest

from tests.unit.doors.redis.turns import Client, plain

REFUSED = (
    "ERR '{}' needs an atomic read-modify-write, which this release does not have"
    " (outcome=not_applied)"
)


@pytest.mark.parametrize(
    "line",
    [
        "SETNX k v",
        "GETSET k v",
        "INCR k",
        "INCRBY k 1",
        "INCRBYFLOAT k nan",
        "DECR k",
        "DECRBY k -9223372036854775808",
        "APPEND k v",
        "SETRANGE k 536870912 v",
        "MSETNX a 1 a 2",
        "WATCH k",
    ],
)
def test_what_needs_an_atomic_read_modify_write_is_refused_and_changes_nothing(
    client: Client, line: str
) -> None:
    client.store.fill(b"k", b"text")
    name, *arguments = line.split()
    assert client.ask(name, *arguments) == REFUSED.format(name.lower())
    assert client.store.events == []


@pytest.mark.parametrize("option", ["NX", "XX", "nx"])
def test_a_conditional_set_is_refused(client: Client, option: str) -> None:
    for extra in ((), ("EX", "10"), ("GET",)):
        assert client.ask("SET", "k", "v", option, *extra) == REFUSED.format("set with NX or XX")
    assert client.store.events == []


def test_the_number_of_arguments_is_judged_first(client: Client) -> None:
    assert client.ask("INCR") == "ERR wrong number of arguments for 'incr' command"


def test_a_transaction_runs_nothing_and_says_so_to_each_command_and_at_exec(
    client: Client,
) -> None:
    client.send(["MULTI"], ["SET", "k", "v"], ["GET", "k"], ["NOPE"], ["EXEC"], ["PING"])
    first, *refusals, end, after = map(plain, client.replies())
    assert (first, after) == (b"OK", b"PONG")
    assert refusals[:2] == ["ERR MULTI is not supported yet, so this command was not run"] * 2
    assert end == "EXECABORT Transaction discarded: MULTI is not supported yet"
    assert client.store.events == []


def test_a_long_transaction_keeps_nothing(client: Client) -> None:
    client.send(["MULTI"], *[["SET", "k", "v"]] * 20_000, ["DISCARD"], ["GET", "k"])
    replies = client.replies()
    assert len(replies) == 20_003
    assert replies[-2:] == [b"OK", None]


def test_a_block_ends_at_discard_and_at_reset(client: Client) -> None:
    for end in ("DISCARD", "RESET"):
        client.ask("MULTI")
        assert client.ask("MULTI") == "ERR MULTI calls can not be nested"
        client.ask(end)
        assert client.ask("SET", "k", "v") == b"OK"
    assert client.ask("EXEC") == "ERR EXEC without MULTI"
    assert client.ask("DISCARD") == "ERR DISCARD without MULTI"


@pytest.mark.parametrize(
    "line",
    [
        "DEBUG SLEEP 1",
        "SHUTDOWN",
        "SLAVEOF a 1",
        "EVAL x 0",
        "LPUSH k v",
        "HSET k f v",
    ],
)
def test_commands_for_other_types_and_for_operators_are_unknown(client: Client, line: str) -> None:
    name, *arguments = line.split()
    assert client.ask(name, *arguments).startswith(f"ERR unknown command '{name}', with args")
