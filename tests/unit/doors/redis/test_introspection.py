# SPDX-License-Identifier: GPL-3.0-or-later
"""COMMAND and what it tells of the table."""

from __future__ import annotations

from typing import Any

import pytest

from quorate.doors.redis.table import COMMANDS
from tests.unit.doors.redis.turns import Client


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
