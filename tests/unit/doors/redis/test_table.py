# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of commands, how a command is found in it, and what COMMAND tells of it."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from quorate.config import KEY_BYTES_MAX, Config
from quorate.doors.flow import SMALL_REPLY_BYTES
from quorate.doors.limits import FREE_BYTES, REQUEST_SECONDS
from quorate.doors.redis.cluster import SLOT_KEYS_MAX
from quorate.doors.redis.command import Access, Command
from quorate.doors.redis.glob import NAME_PATTERN_BYTES_MAX, PATTERN_BYTES_MAX
from quorate.doors.redis.moving import TRIES_MAX
from quorate.doors.redis.plans import LOOKED_BYTES_MAX
from quorate.doors.redis.scan import KEYS_MAX, ROWS_MAX
from quorate.doors.redis.server import CONFIG_PATTERNS_MAX
from quorate.doors.redis.strings import MGET_BYTES_MAX
from quorate.doors.redis.table import COMMANDS, NAMES_MAX, SPELLED, find
from quorate.doors.redis.transactions import (
    QUEUED_MAX,
    SHOWN_BYTES_MAX,
    WATCHED_BYTES_MAX,
    WATCHED_MAX,
)
from quorate.wire.resp import ARGS_MAX, COMMAND_BULKS_MAX, INLINE_BYTES_MAX
from tests.unit.doors.redis.turns import Client

DOCUMENT = Path("docs/redis.md").read_text()
WITH_ARITY = [command for command in COMMANDS.values() if abs(command.arity) > 1]


def name_of(command: Command) -> str:
    return command.name


def rows(heading: str) -> dict[str, str]:
    """First and second cell of the table under a heading."""
    lines = DOCUMENT.split(heading)[1].split("\n\n")[0].splitlines()[2:]
    cells = [line.split("|") for line in lines if line.startswith("|")]
    return {row[1].strip(): row[2] for row in cells}


def words(cell: str) -> set[bytes]:
    """The words in backticks, but for those in brackets."""
    plain = re.sub(r"\(.*?\)", "", cell)
    return {word.encode() for code in re.findall("`(.*?)`", plain) for word in code.split()}


def test_the_document_lists_every_command_and_no_other() -> None:
    listed = set().union(*map(words, rows("| group | commands |").values()))
    containers = {name for name, command in COMMANDS.items() if command.subcommands}
    assert listed | containers == set(COMMANDS)
    assert not listed & containers


def test_the_document_lists_every_subcommand_and_no_other() -> None:
    found: dict[bytes, set[bytes]] = {}
    for names, cell in rows("| with | these |").items():
        containers = re.findall("`(.*?)`", names)
        codes = re.findall("`([A-Z -]+)`", cell)
        if len(containers) == 1:
            found[containers[0].encode()] = set().union(*(set(c.encode().split()) for c in codes))
        else:
            for name, code in zip(containers, codes, strict=True):
                found[name.encode()] = set(code.encode().split())
    assert found == {
        name: set(command.subcommands) for name, command in COMMANDS.items() if command.subcommands
    }


def test_the_limits_in_the_document_are_those_in_force() -> None:
    limits = rows("| what | at most |")

    def says(what: str, *numbers: int) -> bool:
        return all(f"{number:,}" in limits[what] for number in numbers)

    config = Config()
    mib = 1 << 20
    assert says("a key", KEY_BYTES_MAX)
    assert says("a value, and any other argument", config.value_bytes_max // mib)
    assert says("arguments of a command", ARGS_MAX, COMMAND_BULKS_MAX)
    assert says("an inline command", INLINE_BYTES_MAX // 1024)
    patterns = (PATTERN_BYTES_MAX, NAME_PATTERN_BYTES_MAX, CONFIG_PATTERNS_MAX)
    assert says("a pattern", *patterns)
    assert says("names in `COMMAND INFO` and `DOCS`", NAMES_MAX)
    assert says("values in one `MGET`", MGET_BYTES_MAX // mib)
    assert says("keys in one answer", KEYS_MAX, ROWS_MAX, SLOT_KEYS_MAX)
    assert says("commands in a transaction", QUEUED_MAX, FREE_BYTES // 1024, int(REQUEST_SECONDS))
    assert says("values that a transaction shows", SHOWN_BYTES_MAX // mib, LOOKED_BYTES_MAX // mib)
    assert says("watched keys", WATCHED_MAX, WATCHED_BYTES_MAX // 1024)
    assert says("tries of a `RENAME`", TRIES_MAX)
    replies = "replies that clients have not taken, of all together"
    assert says(replies, config.reply_bytes_max // mib, SMALL_REPLY_BYTES // 1024)
    arriving = "requests that arrive, of all together"
    assert says(arriving, config.inflight_bytes_max // mib)
    assert says("silence", int(REQUEST_SECONDS))


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
        b"get", b"getbit", b"getdel", b"getex", b"getrange", b"getset",
    ]  # fmt: skip
    assert len(client.ask("COMMAND", "LIST")) == len(COMMANDS)
    assert client.ask("COMMAND", "LIST", "FOO") == "ERR syntax error"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (("MSET", "a", "1", "b", "2"), [b"a", b"b"]),
        (("get", "k"), [b"k"]),
        (("DEL", "a", "b"), [b"a", b"b"]),
        (("COPY", "a", "b", "REPLACE"), [b"a", b"b"]),
        (("SETBIT", "k", "1", "1"), [b"k"]),
        (("QUORATE.CAS", "k", "", "v"), [b"k"]),
        (("QUORATE.LEASE", "acquire", "k", "me", "1000"), [b"k"]),
        (("OBJECT", "ENCODING", "k"), [b"k"]),
        (("OBJECT", "NOPE", "k"), "ERR The command has no key arguments"),
        (("QUORATE.LEASE",), "ERR Invalid number of arguments specified for command"),
        (("PING", "x"), "ERR The command has no key arguments"),
        (("NOPE", "x"), "ERR Invalid command specified"),
        (("GET", "a", "b"), "ERR Invalid number of arguments specified for command"),
    ],
)
def test_command_getkeys_finds_the_keys(client: Client, line: tuple[str, ...], answer: Any) -> None:
    assert client.ask("COMMAND", "GETKEYS", *line) == answer


@pytest.mark.parametrize(
    "line",
    [
        *("DEBUG SLEEP 1", "SHUTDOWN", "SLAVEOF a 1", "EVAL x 0", "LPUSH k v", "HSET k f v"),
        *("BITOP AND a b", "SUBSCRIBE c", "QUORATE.NOPE k"),
    ],
)
def test_commands_for_other_types_and_for_operators_are_unknown(client: Client, line: str) -> None:
    name, *arguments = line.split()
    assert client.ask(name, *arguments).startswith(f"ERR unknown command '{name}', with args")
