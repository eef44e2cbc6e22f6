# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row of the command table, checked for what all rows promise."""

from __future__ import annotations

from itertools import product

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
