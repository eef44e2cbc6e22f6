# SPDX-License-Identifier: GPL-3.0-or-later
"""What bounds transactions: commands, watched keys, bytes, and what a reply shows."""

from __future__ import annotations

import pytest

from quorate.core.values.events import Update
from quorate.doors.access import Patterns, Principal, Role
from quorate.doors.flow import FREE_REPLY_BYTES
from quorate.doors.limits import FREE_BYTES, REQUEST_SECONDS
from quorate.doors.redis.transactions import ABORTED, QUEUED_MAX, WATCHED_BYTES_MAX, WATCHED_MAX
from tests.unit.doors.redis.test_transactions import Line, run
from tests.unit.doors.redis.turns import BUDGET_BYTES, Client, plain, three_nodes

MIB = 1 << 20
TOO_MANY = f"ERR at most {WATCHED_MAX} keys of {WATCHED_BYTES_MAX} bytes together may be watched"


def test_so_many_keys_may_be_watched_and_no_more(client: Client) -> None:
    assert client.ask("WATCH", *range(WATCHED_MAX - 1)) == b"OK"
    assert client.ask("WATCH", "0", "last") == b"OK"
    assert client.ask("WATCH", "more") == TOO_MANY
    events = len(client.store.events)
    assert client.ask("WATCH", *range(65_535)) == TOO_MANY
    client.send(["WATCH", *range(100_000)])
    assert plain(client.replies()[0]).startswith("ERR a command may have 65536 arguments")
    assert len(client.store.events) == events


def test_watched_keys_have_so_many_bytes_and_no_more(client: Client) -> None:
    keys = [b"%04d" % number * 256 for number in range(WATCHED_BYTES_MAX // 1024 + 1)]
    assert client.ask("WATCH", *keys[:-1]) == b"OK"
    assert client.ask("WATCH", keys[-1]) == TOO_MANY
    assert client.ask("UNWATCH") == b"OK"
    assert client.ask("WATCH", *keys) == TOO_MANY


def test_so_many_commands_may_be_queued_and_no_more(client: Client) -> None:
    client.ask("MULTI")
    client.send(*[["INCR", "k"]] * QUEUED_MAX)
    assert client.replies() == [b"QUEUED"] * QUEUED_MAX
    assert plain(client.ask("INCR", "k")).startswith(f"ERR a transaction may have {QUEUED_MAX} ")
    assert client.ask("EXEC") == ABORTED
    assert client.store.events == []
    client.ask("MULTI")
    client.send(*[["INCR", "k"]] * QUEUED_MAX)
    client.replies()
    assert client.ask("EXEC") == list(range(1, QUEUED_MAX + 1))


def test_a_command_of_several_keys_counts_once_for_each(client: Client) -> None:
    """Else `EXEC` of a few hundred commands would run for a minute in one turn."""
    refusal = (
        f"ERR a transaction may have {QUEUED_MAX} commands, of which one of several keys counts"
        " once for each (outcome=not_applied)"
    )
    client.ask("MULTI")
    assert client.ask("MGET", *range(QUEUED_MAX - 1)) == b"QUEUED"
    assert client.ask("MSET", "a", 1, "b", 2) == refusal
    assert client.ask("EXEC") == ABORTED
    client.ask("MULTI")
    client.ask("EXISTS", *["k"] * (QUEUED_MAX - 1))
    assert client.ask("GET", "k") == b"QUEUED"
    assert client.ask("EXEC") == [0, None]


def test_values_that_are_made_count_as_those_that_are_looked_at(client: Client) -> None:
    """Else `EXEC` of a few kilobytes would make 40 GB of zeros in one turn."""
    lines: list[Line] = [("SETRANGE", "k", 8 * MIB - 1, "x"), ("DEL", "k")]
    assert run(client, *lines * 8) == [8 * MIB, 1] * 8
    assert run(client, *lines * 9) == (
        "ERR the transaction looks at or makes more than 67108864 bytes of values"
        " (outcome=not_applied)"
    )
    assert client.ask("EXISTS", "k") == 0


def test_ever_more_queued_commands_keep_no_more_than_the_most(client: Client) -> None:
    client.ask("MULTI")
    for _ in range(10):
        client.send(*[["INCR", "k"]] * QUEUED_MAX)
        client.replies()
        client.store.turns = 0
    assert client.connection.block is not None
    assert len(client.connection.block.lines) == QUEUED_MAX
    client.ask("DISCARD")
    assert client.bodies.used == 0


def test_what_is_queued_is_charged_until_it_has_run(client: Client) -> None:
    client.ask("MULTI")
    assert client.ask("SET", "k", b"v" * MIB) == b"QUEUED"
    client.ask("SET", "k", b"w" * MIB)
    assert 0 < client.bodies.used - 2 * MIB < 4096
    client.store.hold_keys = {b"k"}
    client.send(["EXEC"])
    client.settle()
    assert client.bodies.used > MIB
    client.store.hold_keys = set()
    assert client.replies() == [[b"OK", b"OK"]]
    assert client.bodies.used == 0


def test_what_is_queued_is_let_go_if_exec_does_not_come(client: Client) -> None:
    """Else a few clients could take the room for all requests, for as long as they like."""
    client.ask("MULTI")
    client.ask("SET", "k", b"v" * MIB)
    client.timers.advance(REQUEST_SECONDS / 2)
    assert client.ask("SET", "k", "more") == b"QUEUED"
    client.timers.advance(REQUEST_SECONDS / 2)
    assert client.bodies.used == 0
    assert client.connection.block is not None
    assert client.connection.block.lines == []
    assert client.ask("EXEC") == "EXECABORT Transaction discarded: EXEC did not come in time"
    assert client.ask("SET", "k", "v") == b"OK"
    assert client.timers.count == 0


def test_a_small_transaction_may_wait_and_is_charged(client: Client) -> None:
    client.ask("MULTI")
    client.ask("SET", "k", b"v" * (FREE_BYTES // 2))
    assert 0 < client.bodies.used - FREE_BYTES // 2 < 1024
    for _ in range(10):
        client.timers.advance(REQUEST_SECONDS)
    assert client.ask("EXEC") == [b"OK"]
    assert client.bodies.used == 0


def test_a_small_transaction_is_let_go_once_others_find_no_room(client: Client) -> None:
    """Else many clients could keep 64 KiB each, for as long as they like."""
    client.ask("MULTI")
    client.ask("SET", "k", b"v" * (FREE_BYTES // 2))
    client.timers.advance(REQUEST_SECONDS)
    assert not client.bodies.take(BUDGET_BYTES)
    client.timers.advance(REQUEST_SECONDS)
    assert client.bodies.used == 0
    assert client.ask("EXEC") == "EXECABORT Transaction discarded: EXEC did not come in time"
    assert client.ask("GET", "k") is None


def test_watched_keys_are_charged_until_nothing_is_watched_any_more(client: Client) -> None:
    keys = [b"%04d" % number * 40 for number in range(WATCHED_MAX)]
    for end in (["UNWATCH"], ["DISCARD"], ["EXEC"], ["RESET"]):
        assert client.ask("WATCH", *keys) == b"OK"
        assert client.ask("WATCH", *keys[:9]) == b"OK"
        assert 160 * WATCHED_MAX < client.bodies.used <= FREE_BYTES
        for _ in range(10):
            client.timers.advance(REQUEST_SECONDS)
        if end != ["UNWATCH"]:
            client.ask("MULTI")
        client.ask(*end)
        assert client.bodies.used == 0
    client.timers.advance(REQUEST_SECONDS)
    assert client.timers.count == 0


def test_watched_keys_that_others_find_no_room_for_count_as_changed(client: Client) -> None:
    assert client.ask("WATCH", "k") == b"OK"
    assert not client.bodies.take(BUDGET_BYTES)
    client.timers.advance(REQUEST_SECONDS)
    assert client.bodies.used == 0
    assert client.ask("WATCH", "other") == b"OK"
    assert run(client, ("SET", "k", "v")) is None
    assert client.ask("GET", "k") is None
    assert client.ask("WATCH", "k") == b"OK"
    assert run(client, ("SET", "k", "v")) == [b"OK"]


def test_the_most_that_may_be_watched_is_never_refused(client: Client) -> None:
    client.bodies.add(BUDGET_BYTES)
    keys = [b"%03d" % number * 64 for number in range(WATCHED_MAX)]
    assert sum(map(len, keys)) == WATCHED_BYTES_MAX
    assert client.ask("WATCH", *keys) == b"OK"


def test_a_small_transaction_gets_through_where_there_is_no_room(client: Client) -> None:
    client.bodies.add(BUDGET_BYTES + 1)
    assert run(client, ("SET", "k", "v"), ("GET", "k")) == [b"OK", b"v"]
    assert client.bodies.used == BUDGET_BYTES + 1


def test_a_large_transaction_that_finds_no_room_at_exec_is_not_run(client: Client) -> None:
    client.ask("MULTI")
    assert client.ask("SET", "k", b"v" * MIB) == b"QUEUED"
    client.bodies.add(BUDGET_BYTES)
    assert client.ask("EXEC") == "BUSY too many request bytes are queued (outcome=not_applied)"
    assert client.bodies.used == BUDGET_BYTES
    assert client.store.events == []


def test_admission_counts_what_a_transaction_keeps(client: Client) -> None:
    run(client, ("SET", "k", b"v" * MIB, "NX"), ("APPEND", "k", "w"))
    run(client, ("DEL", "a"), ("SET", "a", b"v" * MIB), ("SET", "b", "v"))
    sizes = {event.key: event.size for event in client.store.events if isinstance(event, Update)}
    assert sizes.keys() == {b"k", b"a"}
    assert all(MIB <= size < MIB + 4096 for size in sizes.values())


def test_the_keys_of_a_transaction_are_compared_with_patterns_within_one_bound(
    client: Client,
) -> None:
    """Else `EXEC` of 10,000 keys of a kilobyte would hold the node for seconds."""
    patterns = Patterns([b"*" + b"a" * 120])
    principal = Principal("ann", frozenset({Role.USER}), frozenset({Role.WRITE}), patterns)
    client.connection.principal = principal
    line: Line = ("SET", b"b" * 800 + b"a" * 120, "v")
    assert run(client, *[line] * 100)[-1] == b"OK"
    client.store.events.clear()
    assert run(client, *[line] * 200) == (
        "BUSY too many keys at once to compare with this user's patterns (outcome=not_applied)"
    )
    assert client.store.events == []


def test_digits_that_are_added_are_bounded_whoever_has_them(client: Client) -> None:
    """Else `EXEC` of 10,000 additions to 5,000 digits would hold the node for seconds."""
    told = (
        "ERR the transaction looks at or makes more than 67108864 bytes of values"
        " (outcome=not_applied)"
    )
    record = client.store.fill(b"k", b"1" * 4900)
    assert run(client, *[("INCRBYFLOAT", "k", "1")] * 1000) == told
    assert client.store.records[b"k"] is record
    client.store.events.clear()
    for small in ("0." + "0" * 4000 + "1", "1" * 4900):
        assert run(client, *[("INCRBYFLOAT", "other", small)] * 1000) == told
    assert client.store.events == []
    ordinary: Line = ("INCRBYFLOAT", "n", "10.000000000000001")
    assert run(client, *[ordinary] * QUEUED_MAX)[-1] == b"100000.00000000001"


@pytest.mark.parametrize("end", ["DISCARD", "RESET", "QUIT", "gone"])
def test_what_was_queued_is_given_back_however_it_ends(client: Client, end: str) -> None:
    client.ask("WATCH", "k")
    client.ask("MULTI")
    client.ask("SET", "k", b"v" * MIB)
    assert client.bodies.used > MIB - FREE_BYTES
    if end == "gone":
        client.connection.connection_lost(None)
    else:
        client.ask(end)
    if end == "QUIT":
        client.connection.connection_lost(None)
    assert client.bodies.used == 0
    assert (client.connection.block, client.connection.watch) == (None, None)


def test_what_finds_no_room_is_not_queued_and_the_transaction_is_aborted(client: Client) -> None:
    client.ask("MULTI")
    client.bodies.add(BUDGET_BYTES)
    assert client.ask("SET", "k", b"v" * 4096) == b"QUEUED"
    assert client.ask("SET", "k", b"v" * MIB) == (
        "BUSY too many request bytes are queued (outcome=not_applied)"
    )
    assert client.ask("EXEC") == ABORTED
    client.bodies.give_back(BUDGET_BYTES)
    assert client.bodies.used == 0


def test_values_that_are_too_large_are_refused_one_by_one() -> None:
    client = Client(three_nodes(value_bytes_max=MIB))
    too_large = b"v" * (MIB + 1)
    told = "ERR the value is too large (outcome=not_applied bytes=1048577 bytes_max=1048576)"
    assert run(client, ("SET", "k", too_large), ("SET", "k", "v")) == [told, b"OK"]
    assert run(client, ("SET", "a", too_large), ("GET", "a")) == [told, None]
    assert run(client, ("APPEND", "k", b"v" * MIB), ("STRLEN", "k")) == [
        "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
        " (outcome=not_applied bytes=1048577 bytes_max=1048576)",
        1,
    ]


@pytest.mark.parametrize(
    "lines",
    [
        [("APPEND", "k", "v")],
        [("BITCOUNT", "k")],
        [("GET", "k")],
        [("GET", "k"), ("SETRANGE", "k", 0, "w")],
    ],
)
def test_what_would_look_at_or_show_too_much_is_refused_and_not_done(
    client: Client, lines: list[Line]
) -> None:
    record = client.store.fill(b"k", b"v" * (4 * MIB))
    assert "67108864 bytes" in run(client, *lines * 17)
    assert client.store.records[b"k"] is record
    assert client.ask("PING") == b"PONG"


def test_what_several_keys_show_together_is_bounded_before_anything_is_written(
    client: Client,
) -> None:
    lines: list[Line] = [("SET", "a", b"v" * MIB), ("SET", "b", b"v" * MIB)]
    lines += [("MGET", "a", "b")] * 33
    assert run(client, *lines) == (
        "ERR the values are over 67108864 bytes together (outcome=not_applied)"
    )
    assert client.store.events == []


def test_a_reply_that_finds_no_room_is_refused_before_anything_is_written(client: Client) -> None:
    record = client.store.fill(b"k", b"v" * MIB)
    client.replies_budget.add(BUDGET_BYTES - FREE_REPLY_BYTES)
    for lines in ([("GET", "k"), ("DEL", "k")], [("GETDEL", "k")], [("GET", "k")]):
        assert "fill the memory" in run(client, *lines)
    filled = [("SET", "a", b"v" * MIB), ("GET", "a"), ("SET", "b", "v")]
    assert "fill the memory" in run(client, *filled)
    assert client.store.records == {b"k": record}
    client.replies_budget.give_back(BUDGET_BYTES - FREE_REPLY_BYTES)
    assert run(client, ("GET", "k"), ("DEL", "k")) == [b"v" * MIB, 1]
    assert client.replies_budget.used == 0
