# SPDX-License-Identifier: GPL-3.0-or-later
"""SCAN, KEYS, RANDOMKEY and FLUSHDB."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.events import Put, PutResult, Scan
from quorate.core.values.slots import row_of
from quorate.doors.redis import scan
from quorate.doors.redis.scan import RANDOM_PAGES_MAX, Walk
from quorate.errors import DeadlineExceeded, Outcome, QuorumUnreachable
from tests.unit.doors.redis.turns import Client, plain, three_nodes


def walk(client: Client, *options: str | int) -> list[bytes]:
    """All keys of a whole SCAN, as they came."""
    found: list[bytes] = []
    cursor = b"0"
    for _ in range(3000):
        cursor, keys = client.ask("SCAN", cursor, *options)
        found += keys
        if cursor == b"0":
            return found
    raise AssertionError("the scan does not end")


@given(st.sets(st.binary(min_size=1, max_size=6), max_size=40), st.integers(1, 50))
def test_a_scan_lists_every_key_once(keys: set[bytes], count: int) -> None:
    client = Client()
    for key in keys:
        client.store.fill(key, b"v")
    assert sorted(walk(client, "COUNT", count)) == sorted(keys)


def test_a_scan_can_go_on_at_another_node(client: Client) -> None:
    for i in range(200):
        client.store.fill(b"k%d" % i, b"v")
    other = Client(client.store)
    found: list[bytes] = []
    cursor, turn = b"0", 0
    while True:
        cursor, keys = (client, other)[turn % 2].ask("SCAN", cursor, "COUNT", 7)
        found += keys
        turn += 1
        if cursor == b"0":
            break
    assert turn > 10
    assert sorted(found) == sorted(client.store.records)


def test_a_scan_gives_about_as_many_keys_as_were_asked_for(client: Client) -> None:
    for i in range(500):
        client.store.fill(b"k%d" % i, b"v")
    _, keys = client.ask("SCAN", 0)
    assert 10 <= len(keys) <= 14
    _, keys = client.ask("SCAN", 0, "COUNT", 100)
    assert 100 <= len(keys) <= 104


@pytest.mark.plain
def test_a_scan_ends_inside_a_huge_partition_and_goes_on_there(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "ROWS_MAX", 100)
    keys = {b"{tag}%d" % i for i in range(1000)} | {b"%d" % i for i in range(50)}
    for key in keys:
        client.store.fill(key, b"v")
    found = walk(client, "COUNT", 5)
    assert sorted(found) == sorted(keys)
    assert len(client.door.scan_positions) > 5


@pytest.mark.plain
def test_a_cursor_inside_a_huge_partition_misses_nothing_where_it_is_not_known(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "ROWS_MAX", 100)
    keys = {b"{tag}%d" % i for i in range(150)}
    for key in keys:
        client.store.fill(key, b"v")
    cursor, first = client.ask("SCAN", 0, "COUNT", 1)
    assert int(cursor) > 1024
    assert len(first) < 150
    client.door.scan_positions.clear()
    cursor, second = client.ask("SCAN", cursor)
    assert sorted(second) == sorted(keys)[: len(second)]


def test_a_position_that_is_remembered_again_is_forgotten_after_the_others(
    client: Client,
) -> None:
    rows = [row_of(b"%d" % i) for i in range(scan.POSITIONS_MAX + 1)]
    first, second = [scan._remember(client.door, row) for row in rows[:-1]][:2]
    scan._remember(client.door, rows[0])
    scan._remember(client.door, rows[-1])
    assert first in client.door.scan_positions
    assert second not in client.door.scan_positions


def test_an_empty_pattern_is_of_no_key(client: Client) -> None:
    client.store.fill(b"k", b"v")
    assert client.ask("KEYS", "") == []
    assert walk(client, "MATCH", "") == []


def test_remembered_positions_are_bounded(client: Client) -> None:
    cursors = [scan._remember(client.door, row_of(b"%d" % i)) for i in range(3000)]
    assert len(client.door.scan_positions) == scan.POSITIONS_MAX
    assert len(set(cursors)) == 3000
    assert max(cursors) < 1 << 64
    assert scan._position(client.door, cursors[-1]) == row_of(b"2999")
    assert scan._position(client.door, cursors[0]) == row_of(b"0")[:2]


def test_match_filters_by_pattern_and_asks_only_for_its_prefix(client: Client) -> None:
    for key in (b"user:1", b"user:2", b"user:10", b"other"):
        client.store.fill(key, b"v")
    assert sorted(walk(client, "MATCH", "user:?")) == [b"user:1", b"user:2"]
    assert {event.prefix for event in client.store.events if hasattr(event, "prefix")} == {b"user:"}
    assert sorted(walk(client, "MATCH", "*r*", "COUNT", 1)) == sorted(client.store.records)


def test_type_lists_strings_and_nothing_else(client: Client) -> None:
    client.store.fill(b"k", b"v")
    assert walk(client, "TYPE", "string") == [b"k"]
    assert walk(client, "TYPE", "hash") == []


def test_scan_and_keys_leave_out_the_dead_and_the_expired(client: Client) -> None:
    client.store.fill(b"live", b"v")
    client.store.fill(b"dead", None)
    client.store.fill(b"old", b"v", expires_ms=1)
    assert walk(client) == client.ask("KEYS", "*") == [b"live"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("abc",), "ERR invalid cursor"),
        (("-1",), "ERR invalid cursor"),
        (("",), "ERR invalid cursor"),
        (("18446744073709551616",), "ERR invalid cursor"),
        (("9" * 100,), "ERR invalid cursor"),
        (("0", "COUNT", "0"), "ERR syntax error"),
        (("0", "COUNT", "-1"), "ERR syntax error"),
        (("0", "COUNT", "x"), "ERR value is not an integer or out of range"),
        (("0", "COUNT"), "ERR syntax error"),
        (("0", "FOO", "1"), "ERR syntax error"),
        (("0", "MATCH", "*a" * 50_000), "ERR pattern too long"),
    ],
)
def test_scan_refuses_what_redis_refuses(
    client: Client, arguments: tuple[str, ...], text: str
) -> None:
    assert client.ask("SCAN", *arguments) == text
    assert client.store.events == []


def test_a_cursor_or_count_beyond_all_bounds_is_clamped(client: Client) -> None:
    client.store.fill(b"k", b"v")
    assert client.ask("SCAN", 0, "COUNT", 10**9) == [b"0", [b"k"]]
    assert client.ask("SCAN", 2**64 - 1) == [b"0", []]


def test_keys_refuses_a_pattern_that_is_too_long(client: Client) -> None:
    assert client.ask("KEYS", "*a" * 50_000) == "ERR pattern too long"


@pytest.mark.plain
def test_keys_refuses_to_answer_with_too_many(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "KEYS_MAX", 2)
    for key in (b"a", b"b"):
        client.store.fill(key, b"v")
    assert sorted(client.ask("KEYS", "*")) == [b"a", b"b"]
    client.store.fill(b"c", b"v")
    assert client.ask("KEYS", "*") == "ERR over 2 keys match: use SCAN"
    assert client.ask("KEYS", "a*") == [b"a"]


@pytest.mark.parametrize("command", [("KEYS", "*"), ("SCAN", "0"), ("RANDOMKEY",)])
def test_a_walk_that_missed_a_partition_is_an_error_and_not_a_shorter_list(
    client: Client, command: tuple[str, ...]
) -> None:
    client.store.fill(b"k", b"v")
    client.store.complete = False
    assert client.ask(*command) == "NOREPLICAS too few replicas of some partition answered"


def test_randomkey_finds_a_key_wherever_it_begins(client: Client) -> None:
    assert client.ask("RANDOMKEY") is None
    client.store.fill(b"dead", None)
    client.store.fill(b"k", b"v")
    assert {client.ask("RANDOMKEY") for _ in range(20)} == {b"k"}
    for i in range(100):
        client.store.fill(b"%d" % i, b"v")
    assert len({client.ask("RANDOMKEY") for _ in range(50)}) > 5


def test_randomkey_gives_up_after_many_pages_of_dead_keys(client: Client) -> None:
    client.store.fill(b"k", b"v")
    client.store.dead_pages = RANDOM_PAGES_MAX - 1
    assert client.ask("RANDOMKEY") == b"k"
    client.store.dead_pages = 1 << 30
    before = len(client.store.events)
    assert client.ask("RANDOMKEY") == (
        "ERR only deleted and expired keys were found so far: use SCAN, or try again"
    )
    assert len(client.store.events) - before == RANDOM_PAGES_MAX + 1
    client.store.dead_pages = 0
    assert client.ask("RANDOMKEY") == b"k"


@pytest.mark.plain
def test_randomkey_looks_at_no_partition_twice(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SCAN_ROWS_MAX", 10)
    monkeypatch.setattr(Walk, "live", lambda _walk, _rows: [])
    for i in range(100):
        client.store.fill(b"k%d" % i, b"v")
    assert client.ask("RANDOMKEY") is None
    cursors = [event.cursor for event in client.store.events if isinstance(event, Scan)]
    again = cursors.index(b"", 1)
    assert all(cursor < cursors[0] for cursor in cursors[again:])


@pytest.mark.parametrize("name", ["FLUSHDB", "flushall"])
def test_flushdb_is_refused_unless_the_node_allows_it(client: Client, name: str) -> None:
    client.store.fill(b"k", b"v")
    assert client.ask(name) == (
        f"ERR {name.upper()} is switched off: start the node with -allow-flush"
    )
    assert client.ask("EXISTS", "k") == 1


@pytest.mark.parametrize("options", [(), ("ASYNC",), ("sync",)])
def test_flushdb_deletes_every_key_where_it_is_allowed(options: tuple[str, ...]) -> None:
    client = Client(three_nodes(allow_flush=True))
    for i in range(700):
        client.store.fill(b"k%d" % i, b"v")
    assert client.ask("FLUSHDB", *options) == b"OK"
    assert client.ask("KEYS", "*") == []
    assert all(isinstance(event, Put) and event.value is None for event in client.written)
    assert client.ask("FLUSHDB", "NOW") == "ERR syntax error"


def test_wait_after_a_flush_tells_of_the_deletion_with_fewest_copies() -> None:
    client = Client(three_nodes(allow_flush=True))
    for i in range(3):
        client.store.fill(b"k%d" % i, b"v")
    client.store.fail_next = [PutResult(client.store.next_version(), n, 3) for n in (2, 1, 2)]
    client.ask("FLUSHDB")
    assert client.ask("WAIT", 1, 0) == 0


def test_a_flush_that_failed_halfway_says_unknown() -> None:
    client = Client(three_nodes(allow_flush=True))
    for i in range(700):
        client.store.fill(b"k%d" % i, b"v")
    refused = QuorumUnreachable("too few replicas", outcome=Outcome.NOT_APPLIED)
    client.store.fail_next = [refused]
    assert client.ask("FLUSHDB") == "NOREPLICAS too few replicas (outcome=unknown)"
    late = DeadlineExceeded("too late", outcome=Outcome.UNKNOWN)
    client.store.fail_next = [refused, late, *[refused] * 1000]
    assert client.ask("FLUSHDB") == "TIMEOUT too late (outcome=unknown)"
    client.store.fail_next = [refused] * 1000
    assert client.ask("FLUSHDB") == "NOREPLICAS too few replicas (outcome=not_applied)"


def test_a_flush_that_can_read_no_further_says_unknown_if_it_has_deleted() -> None:
    client = Client(three_nodes(allow_flush=True))
    client.store.complete = False
    missed = "NOREPLICAS too few replicas of some partition answered"
    assert client.ask("FLUSHDB") == missed
    client.store.complete = True
    for i in range(700):
        client.store.fill(b"k%d" % i, b"v")
    client.send(["FLUSHDB"])
    client.store.turn()
    client.store.turn()
    client.store.complete = False
    assert [plain(reply) for reply in client.replies()] == [f"{missed} (outcome=unknown)"]


@pytest.mark.plain
@pytest.mark.parametrize("command", ["KEYS *", "SCAN 0 COUNT 10000", "RANDOMKEY", "FLUSHDB"])
def test_a_walk_ends_when_its_client_is_gone(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr(scan, "SCAN_ROWS_MAX", 10)
    monkeypatch.setattr(scan, "_FLUSH_ROWS", 10)
    monkeypatch.setattr(Walk, "live", lambda _walk, _rows: [])
    client = Client(three_nodes(allow_flush=True))
    for i in range(700):
        client.store.fill(b"k%d" % i, b"v")
    client.send(command.split())
    client.store.turn()
    client.connection.connection_lost(None)
    asked = sum(isinstance(event, Scan) for event in client.store.events)
    client.settle()
    assert sum(isinstance(event, Scan) for event in client.store.events) == asked
    if command == "FLUSHDB":
        assert len(client.written) == 10
