# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client may have under way and what is kept for it."""

from __future__ import annotations

import pytest

from quorate.core.values.slots import slot_of
from quorate.doors.flow import FREE_REPLY_BYTES, REPLY_BYTES_MAX, VALUE_BYTES_LARGE
from quorate.doors.limits import FREE_BYTES, LINGER_SECONDS
from quorate.doors.limits import REQUEST_SECONDS as STALL_SECONDS
from quorate.doors.redis.connection import (
    BEGUN_MAX,
    REQUEST_BYTES_MAX,
    TRACKED_KEYS_MAX,
)
from quorate.doors.redis.session import WINDOW_FIRST, WINDOW_MAX
from tests.unit.doors.redis.turns import BUDGET_BYTES, Client, encode, plain, three_nodes


def test_no_more_commands_are_under_way_than_the_window_and_the_rest_is_not_read(
    client: Client,
) -> None:
    client.store.hold()
    client.send(*[["GET", f"k{i}"] for i in range(3 * WINDOW_FIRST)])
    assert len(client.store.events) == WINDOW_FIRST
    assert not client.transport.is_reading()
    assert client.replies() == [None] * (3 * WINDOW_FIRST)
    assert client.transport.is_reading()


def test_commands_of_many_keys_count_for_each_key_they_ask_for(client: Client) -> None:
    client.store.hold()
    client.send(*[["MGET", *[f"{i}:{j}" for j in range(3)]] for i in range(100)])
    assert len(client.store.events) == 6
    assert WINDOW_FIRST - 3 < 6 <= WINDOW_FIRST
    assert client.replies() == [[None] * 3] * 100


def test_the_window_grows_with_small_answers_and_shrinks_with_large_ones() -> None:
    client = Client()
    grow_window(client)
    client.store.hold_keys = {b"slow"}
    client.send(*[["GET", "slow"] for i in range(2 * WINDOW_MAX)])
    client.settle()
    assert len(client.store.events) == WINDOW_MAX
    client.store.hold_keys = set()
    assert len(client.replies()) == 2 * WINDOW_MAX
    client.store.fill(b"middling", b"v" * (VALUE_BYTES_LARGE - 1))
    client.send(*[["GET", "middling"] for _ in range(2 * WINDOW_MAX)])
    for _ in range(6):
        client.store.turn()
    before = len(client.store.events)
    client.store.turn()
    assert 0 < len(client.store.events) - before <= 4


def test_a_large_value_stops_all_but_what_began_in_its_turn(client: Client) -> None:
    grow_window(client)
    client.store.fill(b"big", b"v" * VALUE_BYTES_LARGE)
    client.send(*[["GET", "big"] for _ in range(300)])
    begun = len(client.store.events)
    assert begun == BEGUN_MAX
    under_way = []
    while not client.store.is_idle:
        client.store.turn()
        under_way.append(len(client.store.events) - begun)
        begun = len(client.store.events)
    assert under_way == [1] * (300 - BEGUN_MAX) + [0]
    assert client.answered() == [b"v" * VALUE_BYTES_LARGE] * 300


@pytest.mark.parametrize("command", ["GET", "STRLEN", "TTL", "GETDEL", "MGET", "EXISTS", "DEL"])
def test_after_one_large_value_one_command_is_under_way(client: Client, command: str) -> None:
    grow_window(client)
    client.store.fill(b"big", b"v" * VALUE_BYTES_LARGE)
    client.ask(command, "big")
    before = len(client.store.events)
    client.send(*[["GET", "k"] for _ in range(50)])
    assert len(client.store.events) - before == 1
    assert client.replies() == [None] * 50


def grow_window(client: Client) -> None:
    for _ in range(10):
        client.ask("PING")


def test_rendered_replies_behind_a_slow_one_are_bounded(client: Client) -> None:
    grow_window(client)
    client.store.hold_keys = {b"slow"}
    size = 32 * 1024
    client.store.fill(b"k", b"v" * size)
    client.send(["GET", "slow"])
    for _ in range(50):
        if client.transport.is_reading():
            client.send(*[["GET", "k"] for _ in range(20)])
        client.store.turn()
    assert REPLY_BYTES_MAX < client.connection.flow.reply_bytes <= REPLY_BYTES_MAX + 21 * size
    assert not client.transport.is_reading()
    client.store.hold_keys = set()
    replies = client.replies()
    assert len(replies) > REPLY_BYTES_MAX // size
    assert client.connection.flow.reply_bytes == 0
    assert client.transport.is_reading()


def test_replies_made_at_once_are_bounded_too(client: Client) -> None:
    grow_window(client)
    client.store.hold_keys = {b"slow"}
    client.send(["GET", "slow"], *[["COMMAND", "DOCS"] for _ in range(1000)])
    client.settle()
    assert REPLY_BYTES_MAX < client.connection.flow.reply_bytes < 2 * REPLY_BYTES_MAX
    client.store.hold_keys = set()
    assert len(client.replies()) == 1001


def test_a_client_that_never_reads_is_held_to_what_is_under_way_and_closed_at_last() -> None:
    """Memory stays flat, also where the answers are errors."""
    client = Client()
    client.store.fill(b"k", b"v" * 1000)
    client.transport.is_stuck = True
    client.send(*[["GET", "k"] for _ in range(5_000)], *[["NO"] for _ in range(5_000)])
    client.settle()
    # The answers of one turn may go over the mark; nothing begins after that.
    limit = client.transport.HIGH_WATER + WINDOW_MAX * 1100
    assert client.transport.unread <= limit
    assert client.connection.queue.count <= WINDOW_MAX
    assert not client.transport.is_reading()
    client.timers.advance(STALL_SECONDS - 1)
    assert not client.transport.aborted
    client.timers.advance(1)
    assert client.transport.aborted


def test_a_client_that_reads_slowly_is_served_as_long_as_it_goes_on() -> None:
    client = Client()
    client.store.fill(b"k", b"v" * 10_000)
    client.transport.is_stuck = True
    client.send(*[["GET", "k"] for _ in range(100)])
    for _ in range(60):
        client.settle()
        client.timers.advance(STALL_SECONDS * 0.9)
        client.transport.take(min(30_000, client.transport.unread))
    assert not client.transport.aborted
    assert client.replies() == [b"v" * 10_000] * 100
    assert client.transport.is_reading()


def test_keys_under_way_are_forgotten_even_if_the_client_never_pauses(client: Client) -> None:
    for i in range(3 * TRACKED_KEYS_MAX // 8):
        client.send(*[["SET", f"{i}:{j}", "v"] for j in range(8)])
        client.store.turn()
        client.send(["GET", f"{i}:x"])
    assert tracked(client) <= TRACKED_KEYS_MAX + WINDOW_MAX
    assert len(client.replies()) == 9 * (3 * TRACKED_KEYS_MAX // 8)


def tracked(client: Client) -> int:
    return len(client.connection._reads) + len(client.connection._writes)


def test_keys_are_forgotten_even_if_one_command_is_always_under_way(client: Client) -> None:
    client.store.keeps_last = True
    sent, most = 0, 0
    while sent < 3 * TRACKED_KEYS_MAX:
        client.send(*[["SET", f"{sent + j}", "v"] for j in range(8)])
        sent += 8
        client.store.turn()
        most = max(most, tracked(client))
    assert TRACKED_KEYS_MAX < most <= TRACKED_KEYS_MAX + 8
    assert client.replies() == [b"OK"] * sent
    assert tracked(client) == 0


def test_few_long_keys_are_remembered(client: Client) -> None:
    grow_window(client)
    client.store.hold_keys = {b"slow"}
    client.send(["GET", "slow"])
    size, sent = 200_000, 0
    while client.transport.is_reading():
        client.send(["GET", b"%d" % sent * (size // len(str(sent)))])
        client.store.turn()
        sent += 1
    assert REQUEST_BYTES_MAX // size <= sent <= REQUEST_BYTES_MAX // size + 2
    client.store.hold_keys = set()
    assert client.replies() == [None] * (sent + 1)
    assert client.transport.is_reading()


# --- the budget of request bytes -----------------------------------------------------------------


def test_a_half_command_takes_from_the_budget_what_came_of_it_and_gives_it_back_answered(
    client: Client,
) -> None:
    command = encode(["SET", "k", b"v" * (5 << 20)])
    client.feed(command[: 1 << 20])
    assert client.bodies.used == pytest.approx((1 << 20) - FREE_BYTES, abs=500)
    client.feed(command[1 << 20 : -1])
    assert client.bodies.used == pytest.approx((5 << 20) - FREE_BYTES, abs=500)
    client.feed(command[-1:])
    assert client.bodies.used > 4 << 20
    assert client.replies() == [b"OK"]
    assert client.bodies.used == 0


def test_what_a_header_promises_costs_the_budget_nothing(client: Client) -> None:
    client.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$8000000\r\nvvvv")
    assert client.bodies.used == 0


def test_a_half_command_of_many_arguments_is_charged_for_what_they_take(client: Client) -> None:
    client.feed(b"*60000\r\n" + b"$2\r\nkk\r\n" * 50_000)
    assert client.bodies.used > 50_000 * 48


def test_half_commands_over_the_budget_are_refused_and_closed(client: Client) -> None:
    half = encode(["SET", "k", b"v" * (8 << 20)])[:-100]
    others = [Client(client.store, client.door) for _ in range(BUDGET_BYTES // (8 << 20))]
    for other in others:
        other.feed(half)
    client.send(["GET", "k"])
    client.feed(half)
    assert client.bodies.used <= BUDGET_BYTES
    assert [plain(reply) for reply in client.replies()] == [
        None,
        "BUSY too many request bytes are arriving (outcome=not_applied)",
    ]
    client.timers.advance(LINGER_SECONDS)
    assert client.transport.is_closing()
    client.connection.connection_lost(None)
    small = Client(client.store, client.door)
    assert small.ask("SET", "k", b"v" * 1000) == b"OK"
    for other in others:
        other.connection.connection_lost(None)
    assert client.bodies.used == 0


def test_what_was_charged_stays_so_until_the_command_is_answered(client: Client) -> None:
    client.store.hold_keys = {b"slow"}
    command = encode(["SET", "slow", b"v" * (1 << 20)])
    client.feed(command[:-1])
    charged = client.bodies.used
    client.feed(command[-1:] + b"*1\r\n$4")
    client.settle()
    assert client.bodies.used == charged > 0
    client.store.hold_keys = set()
    client.settle()
    assert client.bodies.used == 0


def test_half_a_large_command_behind_a_slow_one_is_not_read_on_until_that_is_answered(
    client: Client,
) -> None:
    client.store.hold_keys = {b"slow"}
    client.send(["GET", "slow"])
    command = encode(["SET", "k", b"v" * (6 << 20)])
    client.feed(command[: REQUEST_BYTES_MAX - 100])
    assert client.transport.is_reading()
    client.feed(command[REQUEST_BYTES_MAX - 100 : -1])
    assert not client.transport.is_reading()
    client.store.hold_keys = set()
    client.settle()
    assert client.transport.is_reading()
    client.feed(command[-1:])
    assert client.replies() == [None, b"OK"]


def test_a_client_that_goes_gives_back_what_was_charged_for_it(client: Client) -> None:
    client.store.hold_keys = {b"slow"}
    client.send(["GET", "slow"])
    data = encode(["SET", "slow", b"v" * (1 << 20)])
    client.feed(data[:-1])
    client.feed(data[-1:] + data[:-1])
    assert client.bodies.used > 0
    client.connection.connection_lost(None)
    assert client.bodies.used == 0
    client.store.hold_keys = set()
    client.settle()
    assert client.bodies.used == 0


# --- the budget of reply bytes -------------------------------------------------------------------

NO_ROOM = "BUSY replies that clients have not taken fill the memory for them (outcome=not_applied)"
BIG = b"v" * (8 << 20)


def stuck_clients(client: Client, count: int) -> list[Client]:
    """More clients of the same door, which do not read."""
    others = [Client(client.store, client.door) for _ in range(count)]
    for other in others:
        other.transport.is_stuck = True
    return others


def held_by(clients: list[Client]) -> int:
    return sum(each.transport.unread + each.connection.flow.reply_bytes for each in clients)


def test_clients_that_do_not_read_hold_no_more_than_the_budget_and_what_each_has_free(
    client: Client,
) -> None:
    client.store.fill(b"big", BIG)
    others = stuck_clients(client, 40)
    for other in others:
        other.send(*[["MGET", "big"] for _ in range(7)])
    client.settle()
    assert BUDGET_BYTES // 2 < client.replies_budget.used <= BUDGET_BYTES
    assert held_by(others) <= BUDGET_BYTES + len(others) * 2 * FREE_REPLY_BYTES
    assert client.ask("GET", "big") == NO_ROOM
    assert client.ask("MGET", "absent", "big") == NO_ROOM
    assert client.ask("SET", "k", b"v" * 60_000) == b"OK"
    assert client.ask("GET", "k") == b"v" * 60_000
    for other in others:
        other.connection.connection_lost(None)
    assert client.replies_budget.used == 0
    assert client.ask("GET", "big") == BIG


def test_what_a_client_takes_is_given_back(client: Client) -> None:
    client.store.fill(b"big", BIG)
    client.transport.is_stuck = True
    client.send(["GET", "big"])
    client.settle()
    assert client.replies_budget.used == pytest.approx(len(BIG), abs=FREE_REPLY_BYTES)
    client.transport.take(client.transport.unread)
    assert client.replies_budget.used == 0


def test_values_that_wait_behind_a_slow_command_and_in_an_mget_are_charged(client: Client) -> None:
    grow_window(client)
    client.store.fill(b"big", BIG)
    client.store.hold_keys = {b"slow"}
    client.send(["MGET", "big", "slow", "big"])
    client.settle()
    assert client.replies_budget.used == pytest.approx(2 * len(BIG), abs=FREE_REPLY_BYTES)
    client.store.hold_keys = set()
    assert client.replies() == [[BIG, None, BIG]]
    assert client.replies_budget.used == 0
    grow_window(client)
    client.store.hold_keys = {b"slow"}
    client.send(["GET", "slow"])
    client.send(["GET", "big"])
    client.settle()
    assert client.replies_budget.used == pytest.approx(len(BIG), abs=FREE_REPLY_BYTES)
    client.connection.connection_lost(None)
    client.store.hold_keys = set()
    client.settle()
    assert client.replies_budget.used == 0


def test_a_write_whose_reply_has_no_room_is_refused_before_it_is_made(client: Client) -> None:
    client.store.fill(b"k", BIG)
    client.replies_budget.add(BUDGET_BYTES - 1000)
    record = client.store.records[b"k"]
    for command in (["GETDEL", "k"], ["SET", "k", "v", "GET"], ["GETEX", "k", "EX", 10]):
        assert client.ask(*command) == NO_ROOM
    assert client.store.records[b"k"] is record
    client.replies_budget.give_back(BUDGET_BYTES - 1000)
    assert client.ask("GETDEL", "k") == BIG
    assert client.replies_budget.used == 0


@pytest.mark.parametrize("command", [["ECHO", BIG], ["GETRANGE", "k", 0, -1], ["KEYS", "*"]])
def test_no_large_reply_goes_past_the_budget(client: Client, command: list[bytes | str]) -> None:
    client.store.fill(b"k", BIG)
    for i in range(100):
        client.store.fill(b"%d" % i * 250, b"")
    client.replies_budget.add(BUDGET_BYTES)
    client.connection.flow.reply_bytes += FREE_REPLY_BYTES
    assert client.ask(*command) == NO_ROOM
    assert client.ask("PING") == b"PONG"


def test_the_keys_of_a_slot_are_charged_while_they_are_collected(client: Client) -> None:
    keys = [b"{tag}%04d" % i + b"k" * 1000 for i in range(1500)]
    for key in keys:
        client.store.fill(key, b"v")
    client.send(["CLUSTER", "GETKEYSINSLOT", slot_of(b"{tag}"), 2000])
    client.store.turn()
    assert client.connection.flow.reply_bytes > 900_000
    assert client.replies() == [keys]
    assert client.connection.flow.reply_bytes == client.replies_budget.used == 0
    client.replies_budget.add(BUDGET_BYTES)
    assert client.ask("CLUSTER", "GETKEYSINSLOT", slot_of(b"{tag}"), 2000) == NO_ROOM


# --- silence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"*0\r\n", b"*-1\r\n \r\n"])
def test_a_client_that_sends_no_command_is_let_go(client: Client, sent: bytes) -> None:
    if sent:
        client.feed(sent)
    client.timers.advance(STALL_SECONDS - 1)
    assert not client.transport.is_closing()
    client.timers.advance(1)
    assert client.transport.is_closing()


def test_half_a_command_again_and_again_is_no_command(client: Client) -> None:
    for _ in range(3):
        client.feed(b"*")
        client.timers.advance(STALL_SECONDS - 1)
        client.feed(b"0\r\n")
    client.timers.advance(STALL_SECONDS)
    assert client.transport.is_closing()


def test_a_client_that_sent_a_command_may_be_silent_for_ever_unless_a_setting_says_otherwise(
    client: Client,
) -> None:
    client.ask("PING")
    client.timers.advance(7 * 86400)
    assert client.ask("PING") == b"PONG"
    strict = Client(three_nodes(idle_timeout_ms=60_000))
    for _ in range(10):
        assert strict.ask("PING") == b"PONG"
        strict.timers.advance(50)
    strict.store.hold_keys = {b"slow"}
    strict.send(["GET", "slow"])
    strict.timers.advance(1000)
    strict.store.hold_keys = set()
    assert strict.replies() == [None]
    assert not strict.transport.is_closing()
    strict.timers.advance(100)
    assert strict.transport.is_closing()


def test_limits_of_silence_end_with_the_door(client: Client) -> None:
    assert client.timers.count == 1
    client.door.close()
    assert client.timers.count == 0
