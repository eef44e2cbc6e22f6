# SPDX-License-Identifier: GPL-3.0-or-later
"""QUORATE.GET, QUORATE.CAS, QUORATE.LEASE."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Update
from quorate.doors.redis.transactions import ABORTED
from quorate.errors import Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client

NO_VERSION = "ERR a version has 28 or 44 hexadecimal digits, or none for a key that is not there"


def version(client: Client) -> bytes:
    return client.store.records[b"k"].version.hex().encode()


def test_get_tells_value_and_version(client: Client) -> None:
    assert client.ask("QUORATE.GET", "k") is None
    client.ask("SET", "k", "v")
    assert client.ask("QUORATE.GET", "k") == [b"v", version(client)]
    client.store.fill(b"k", b"v", expires_ms=1)
    assert client.ask("QUORATE.GET", "k") is None
    client.ask("HELLO", 3)
    assert client.ask_raw("QUORATE.GET", "k") == b"_\r\n"


def test_cas_sets_what_has_the_version_and_tells_the_new_one(client: Client) -> None:
    assert client.ask("QUORATE.CAS", "k", "", "1") == [1, version(client)]
    first = version(client)
    assert client.ask("QUORATE.CAS", "k", first, "2") == [1, version(client)]
    assert client.ask("QUORATE.CAS", "k", first, "3") == [0, version(client)]
    assert client.ask("QUORATE.CAS", "k", "", "3") == [0, version(client)]
    assert client.ask("QUORATE.CAS", "k", version(client).upper(), "4")[0] == 1
    assert client.ask("GET", "k") == b"4"
    assert client.ask("QUORATE.CAS", "none", first, "v") == [0, None]


def test_cas_sets_when_the_key_expires(client: Client) -> None:
    client.ask("SET", "k", "v", "EX", 10)
    assert client.ask("QUORATE.CAS", "k", version(client), "w", "KEEPTTL")[0] == 1
    assert client.ask("TTL", "k") == 10
    assert client.ask("QUORATE.CAS", "k", version(client), "w", "PX", 5000)[0] == 1
    assert client.ask("TTL", "k") == 5
    assert client.ask("QUORATE.CAS", "k", version(client), "w")[0] == 1
    assert client.ask("TTL", "k") == -1
    assert client.ask("QUORATE.CAS", "k", "", "w", "PX", 0) == (
        "ERR invalid expire time in 'quorate.cas' command"
    )
    for options in (("NX",), ("EX",), ("EX", 1, "PX", 1)):
        assert client.ask("QUORATE.CAS", "k", "", "w", *options) == "ERR syntax error"


@pytest.mark.parametrize(
    "text", ["0", "00", "g" * 28, "0" * 30, " " + "0" * 27, "\u0660" * 28, "*"]
)
def test_what_is_no_version_is_refused(client: Client, text: str) -> None:
    assert client.ask("QUORATE.CAS", "k", text, "v") == NO_VERSION
    for command in (["RENEW", "k", text, 1000], ["RELEASE", "k", text]):
        assert client.ask("QUORATE.LEASE", *command) == NO_VERSION
    assert client.store.events == []


def test_a_lease_is_one_holders_until_it_expires_or_is_released(client: Client) -> None:
    token = client.ask("QUORATE.LEASE", "ACQUIRE", "k", "ann", 1000)
    assert token == version(client)
    for _ in range(2):
        assert client.ask("QUORATE.LEASE", "ACQUIRE", "k", "ann", 1000) is None
    assert (client.ask("GET", "k"), client.ask("PTTL", "k")) == (b"ann", 1000)
    assert client.ask("QUORATE.LEASE", "RELEASE", "k", token) == 1
    assert client.ask("QUORATE.LEASE", "RELEASE", "k", token) == 0
    second = client.ask("QUORATE.LEASE", "ACQUIRE", "k", "bob", 1000)
    client.store.now_ms += 1000
    third = client.ask("QUORATE.LEASE", "ACQUIRE", "k", "cid", 1000)
    assert client.ask("GET", "k") == b"cid"
    assert token < second < third


@pytest.mark.parametrize("line", [("QUORATE.CAS", "k", ""), ("QUORATE.LEASE", "ACQUIRE", "k")])
def test_admission_counts_what_is_brought(client: Client, line: tuple[str, ...]) -> None:
    client.ask(*line, "v" * 5000, *(["1000"] if "ACQUIRE" in line else []))
    (update,) = client.store.events
    assert isinstance(update, Update)
    assert update.size == 5000


def test_a_renewed_lease_lasts_longer_and_has_a_higher_token(client: Client) -> None:
    token = client.ask("QUORATE.LEASE", "ACQUIRE", "k", "ann", 1000)
    client.store.now_ms += 999
    renewed = client.ask("QUORATE.LEASE", "RENEW", "k", token, 1000)
    assert renewed > token
    assert (client.ask("GET", "k"), client.ask("PTTL", "k")) == (b"ann", 1000)
    assert client.ask("QUORATE.LEASE", "RENEW", "k", token, 1000) is None
    assert client.ask("QUORATE.LEASE", "RELEASE", "k", token) == 0


def test_a_lease_that_expired_cannot_be_renewed_nor_released(client: Client) -> None:
    token = client.ask("QUORATE.LEASE", "ACQUIRE", "k", "ann", 1000)
    client.store.now_ms += 1000
    assert client.ask("QUORATE.LEASE", "RENEW", "k", token, 1000) is None
    assert client.ask("QUORATE.LEASE", "RELEASE", "k", token) == 0
    other = client.ask("QUORATE.LEASE", "ACQUIRE", "k", "bob", 1000)
    assert client.ask("QUORATE.LEASE", "RENEW", "k", token, 1000) is None
    assert client.ask("QUORATE.LEASE", "RELEASE", "k", token) == 0
    assert version(client) == other


def test_a_lease_that_cannot_be_is_refused(client: Client) -> None:
    for words in (("ACQUIRE", "k", "ann", 0), ("ACQUIRE", "k", "ann", -5)):
        assert client.ask("QUORATE.LEASE", *words) == (
            "ERR invalid expire time in 'quorate.lease|acquire' command"
        )
    assert client.ask("QUORATE.LEASE", "ACQUIRE", "k", "ann", "soon") == (
        "ERR value is not an integer or out of range"
    )
    assert client.ask("QUORATE.LEASE", "RELEASE", "k", "").startswith("ERR a token is needed")
    assert client.ask("QUORATE.LEASE", "STEAL", "k") == (
        "ERR unknown subcommand 'STEAL'. Try QUORATE.LEASE HELP."
    )
    assert client.ask("QUORATE.LEASE", "HELP")[1] == b"ACQUIRE"


@pytest.mark.parametrize("outcome", Outcome)
def test_a_lease_of_which_nothing_is_known_says_so(client: Client, outcome: Outcome) -> None:
    client.store.fail_next = [QuorumUnreachable("too few replicas", outcome=outcome)]
    assert client.ask("QUORATE.LEASE", "ACQUIRE", "k", "ann", 1000) == (
        f"NOREPLICAS too few replicas (outcome={outcome.value})"
    )


@pytest.mark.parametrize("line", [("QUORATE.CAS", "k", "", "v"), ("QUORATE.GET", "k")])
def test_versions_are_not_for_transactions(client: Client, line: tuple[str, ...]) -> None:
    """What a transaction writes has its version only when all of it is done."""
    client.ask("MULTI")
    client.ask("SET", "k", "v")
    name = line[0].lower()
    assert client.ask(*line) == (
        f"ERR Command not allowed inside a transaction: '{name}' (outcome=not_applied)"
    )
    assert client.ask("EXEC") == ABORTED
