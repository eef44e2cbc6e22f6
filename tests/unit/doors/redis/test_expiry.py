# SPDX-License-Identifier: GPL-3.0-or-later
"""EXPIRE, TTL, PERSIST and their kin."""

from __future__ import annotations

import pytest

from quorate.core.values.record import Record
from quorate.core.values.versions import successor
from tests.unit.doors.redis.turns import Client

INT64_MAX = 2**63 - 1


@pytest.fixture
def record(client: Client) -> Record:
    return client.store.fill(b"k", b"v")


def expiry(client: Client) -> int:
    record = client.store.records[b"k"]
    assert record.value == b"v"
    return record.expires_ms


@pytest.mark.parametrize(
    ("name", "amount", "after_ms"),
    [("EXPIRE", 10, 10_000), ("PEXPIRE", 10, 10), ("EXPIRE", 2**40, 2**40 * 1000)],
)
def test_a_relative_expiry_carries_the_value_on_from_the_version_that_was_there(
    client: Client, record: Record, name: str, amount: int, after_ms: int
) -> None:
    assert client.ask(name, "k", amount) == 1
    assert client.store.records[b"k"].version == successor(record.version)
    assert expiry(client) == client.store.wall_ms() + after_ms
    assert client.ask(name, "none", amount) == 0


@pytest.mark.usefixtures("record")
def test_absolute_expiries_are_read_back_as_they_were_set(client: Client) -> None:
    assert client.ask("EXPIREAT", "k", 2_000_000_000) == 1
    assert client.ask("EXPIRETIME", "k") == 2_000_000_000
    assert client.ask("PEXPIREAT", "k", 2_000_000_000_123) == 1
    assert client.ask("PEXPIRETIME", "k") == 2_000_000_000_123


@pytest.mark.parametrize(
    ("name", "amount"), [("EXPIRE", -1), ("EXPIRE", 0), ("PEXPIREAT", 1), ("EXPIREAT", -(2**50))]
)
def test_an_expiry_in_the_past_deletes(
    client: Client, record: Record, name: str, amount: int
) -> None:
    assert client.ask(name, "k", amount) == 1
    assert client.store.records[b"k"].version == successor(record.version)
    assert client.ask("EXISTS", "k") == 0


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize(
    ("name", "amount"),
    [
        ("EXPIRE", INT64_MAX),
        ("EXPIRE", -INT64_MAX),
        ("PEXPIRE", INT64_MAX),
        ("EXPIREAT", INT64_MAX // 1000 + 1),
    ],
)
def test_an_expiry_that_overflows_is_refused_and_the_old_one_stays(
    client: Client, name: str, amount: int
) -> None:
    client.ask("EXPIREAT", "k", 2_000_000_000)
    assert client.ask(name, "k", amount) == (f"ERR invalid expire time in '{name.lower()}' command")
    assert client.ask("EXPIRETIME", "k") == 2_000_000_000


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize(
    ("first", "amount", "option", "applies"),
    [
        (None, 10, "NX", 1),
        (20, 10, "NX", 0),
        (None, 10, "XX", 0),
        (20, 10, "XX", 1),
        (None, 10, "GT", 0),
        (20, 10, "GT", 0),
        (20, 30, "gt", 1),
        (20, 20, "GT", 0),
        (None, 10, "LT", 1),
        (20, 10, "LT", 1),
        (20, 30, "LT", 0),
    ],
)
def test_conditions_compare_with_the_expiry_there_is_where_none_is_infinite(
    client: Client, first: int | None, amount: int, option: str, applies: int
) -> None:
    if first is not None:
        client.ask("EXPIRE", "k", first)
    assert client.ask("EXPIRE", "k", amount, option) == applies
    assert client.ask("TTL", "k") == (amount if applies else first or -1)


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("NX", "XX"), "ERR NX and XX, GT or LT options at the same time are not compatible"),
        (("NX", "GT"), "ERR NX and XX, GT or LT options at the same time are not compatible"),
        (("GT", "LT"), "ERR GT and LT options at the same time are not compatible"),
        (("FOO",), "ERR Unsupported option FOO"),
    ],
)
def test_conditions_that_contradict_are_refused(
    client: Client, options: tuple[str, ...], text: str
) -> None:
    assert client.ask("EXPIRE", "k", 10, *options) == text
    assert client.written == []


@pytest.mark.usefixtures("record")
def test_ttl_rounds_as_redis_does(client: Client) -> None:
    client.ask("PEXPIRE", "k", 1499)
    assert (client.ask("TTL", "k"), client.ask("PTTL", "k")) == (1, 1499)
    client.ask("PEXPIRE", "k", 1500)
    assert client.ask("TTL", "k") == 2


def test_ttl_tells_no_key_from_no_expiry(client: Client, record: Record) -> None:
    del record
    for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"):
        assert client.ask(name, "k") == -1
        assert client.ask(name, "none") == -2


def test_persist_takes_the_expiry_off(client: Client, record: Record) -> None:
    assert client.ask("PERSIST", "k") == 0
    assert client.store.records[b"k"] is record
    client.ask("EXPIRE", "k", 10)
    assert client.ask("PERSIST", "k") == 1
    assert client.store.records[b"k"].version == successor(record.version, 2)
    assert expiry(client) == 0
    assert client.ask("PERSIST", "none") == 0
