# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of commands, how a command is found in it, and what COMMAND tells of it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from quorate.doors.redis.command import Access, Command
from quorate.doors.redis.table import COMMANDS, SPELLED, find
from tests.unit.doors.redis.turns import Client

PROMISED = (
    "PING ECHO HELLO AUTH QUIT RESET SELECT CLIENT COMMAND INFO CONFIG TIME DBSIZE SET GET GETEX"
    " GETDEL SETEX PSETEX MGET MSET DEL UNLINK EXISTS TOUCH STRLEN GETRANGE TYPE TTL PTTL"
    " EXPIRETIME PEXPIRETIME EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST SCAN KEYS RANDOMKEY WAIT"
    " FLUSHDB CLUSTER READONLY READWRITE"
    " SETNX INCR DECR INCRBY DECRBY INCRBYFLOAT APPEND SETRANGE GETSET WATCH"
)
SUBCOMMANDS = {
    "CLIENT": "ID GETNAME SETNAME SETINFO INFO LIST NO-EVICT",
    "COMMAND": "LIST COUNT INFO DOCS",
    "CONFIG": "GET",
    "CLUSTER": "SLOTS SHARDS NODES INFO MYID KEYSLOT COUNTKEYSINSLOT",
}
WITH_ARITY = [command for command in COMMANDS.values() if abs(command.arity) > 1]


def name_of(command: Command) -> str:
    return command.name


def test_every_promised_command_has_a_row() -> None:
    assert [name for name in PROMISED.split() if name.encode() not in COMMANDS] == []
    for name, subcommands in SUBCOMMANDS.items():
        known = COMMANDS[name.encode()].subcommands
        assert [sub for sub in subcommands.split() if sub.encode() not in known] == []


def test_every_row_is_found_by_the_spellings_that_clients_use() -> None:
    for name, command in COMMANDS.items():
        assert name == command.name.upper().encode()
        spellings = (name, name.lower(), name.capitalize())
        assert all(find([spelling]) is command for spelling in spellings)
        # What is not spelled out here is found in two more steps.
        assert all((spelling in SPELLED) is (not command.subcommands) for spelling in spellings)
        assert command.summary
        assert not command.summary.endswith(".")


def test_key_positions_and_access_agree() -> None:
    for command in COMMANDS.values():
        touches = command.access not in (Access.NONE, Access.ALONE)
        assert bool(command.keys.first) == touches, command.name
        if command.access in (Access.READ, Access.WRITE):
            # The connection takes the key at 1 without asking.
            assert (command.keys.first, command.keys.last) == (1, 1), command.name
            assert abs(command.arity) >= 2, command.name


@pytest.mark.parametrize("command", WITH_ARITY, ids=name_of)
def test_too_few_arguments_are_refused_in_redis_words(client: Client, command: Command) -> None:
    words = [command.name] + ["1"] * (abs(command.arity) - 2)
    assert client.ask(*words) == f"ERR wrong number of arguments for '{command.name}' command"
    assert client.store.events == []


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS.values() if command.arity > 0], ids=name_of
)
def test_too_many_arguments_are_refused_in_redis_words(client: Client, command: Command) -> None:
    words = [command.name] + ["1"] * command.arity
    assert client.ask(*words) == f"ERR wrong number of arguments for '{command.name}' command"


@pytest.mark.parametrize("command", COMMANDS.values(), ids=name_of)
def test_every_command_answers_exactly_once_whatever_its_arguments(command: Command) -> None:
    for argument, count in product((b"0", b"-1", b"", b"*\xff\r\n", b"HELP"), range(6)):
        client = Client()
        client.send([command.name, *[argument] * count], ["RESET"])
        replies = client.replies()
        expected = 1 if command.name == "quit" else 2
        assert len(replies) == expected, (argument, count)
        assert replies[1:] == [b"RESET"][: expected - 1]


def test_command_describes_the_whole_table(client: Client) -> None:
    entries = client.ask("COMMAND")
    assert len(entries) == client.ask("COMMAND", "COUNT") == len(COMMANDS)
    assert sorted(entry[0].decode() for entry in entries) == sorted(
        command.name for command in COMMANDS.values()
    )
    assert all(len(entry) == 10 for entry in entries)


def test_command_info_describes_keys_as_redis_does(client: Client) -> None:
    get, none, mset, sub = client.ask("COMMAND", "INFO", "get", "nope", "MSET", "client|id")
    assert none is None
    assert get[:6] == [b"get", 2, [b"readonly"], 1, 1, 1]
    assert mset[:6] == [b"mset", -3, [b"write"], 1, -1, 2]
    assert sub[:2] == [b"client|id", 2]
    client.ask("HELLO", 3)
    (entry,) = client.ask("COMMAND", "INFO", "mset")
    (spec,) = entry[8]
    assert spec[b"begin_search"] == {b"type": b"index", b"spec": {b"index": 1}}
    assert spec[b"find_keys"][b"spec"] == {b"lastkey": -1, b"keystep": 2, b"limit": 0}


def test_command_docs_are_by_name(client: Client) -> None:
    client.ask("HELLO", 3)
    docs = client.ask("COMMAND", "DOCS", "get", "client", "nope")
    assert sorted(docs) == [b"client", b"get"]
    assert docs[b"get"][b"group"] == b"string"
    assert b"client|id" in docs[b"client"][b"subcommands"]
    assert len(client.ask("COMMAND", "DOCS")) == len(COMMANDS)


def test_command_list_filters_by_pattern(client: Client) -> None:
    assert sorted(client.ask("COMMAND", "LIST", "FILTERBY", "PATTERN", "GET*")) == [
        b"get", b"getdel", b"getex", b"getrange", b"getset",
    ]  # fmt: skip
    assert len(client.ask("COMMAND", "LIST")) == len(COMMANDS)
    assert client.ask("COMMAND", "LIST", "FOO") == "ERR syntax error"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (("MSET", "a", "1", "b", "2"), [b"a", b"b"]),
        (("get", "k"), [b"k"]),
        (("DEL", "a", "b"), [b"a", b"b"]),
        (("PING", "x"), "ERR The command has no key arguments"),
        (("NOPE", "x"), "ERR Invalid command specified"),
        (("GET", "a", "b"), "ERR Invalid number of arguments specified for command"),
    ],
)
def test_command_getkeys_finds_the_keys(client: Client, line: tuple[str, ...], answer: Any) -> None:
    assert client.ask("COMMAND", "GETKEYS", *line) == answer
