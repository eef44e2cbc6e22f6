# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that takes more than a turn: how much a turn does, for whom, and what goes on beside it."""

from __future__ import annotations

import weakref

import pytest

from quorate.doors.redis.glob import PATTERN_BYTES_MAX, compile_glob, steps_per_byte
from quorate.doors.redis.session import Session
from quorate.doors.redis.work import STEPS_PER_TURN, Work
from tests.unit.doors.redis.turns import Client, three_nodes

SLOW = b"*" + b"[ab]" * 200 + b"c"


class Chore:
    """So many steps; notes in which turns it was worked on."""

    def __init__(self, client: Client, steps: int) -> None:
        self.session = client.connection
        self._store = client.store
        self.left = steps
        self.turns: list[int] = []

    def work(self, steps: int) -> int:
        self.turns.append(self._store.turns)
        done = min(self.left, steps)
        self.left -= done
        return steps - done if not self.left else 0


def test_a_turn_does_no_more_than_its_steps_and_jobs_take_it_in_turns(client: Client) -> None:
    store, work = client.store, Work(client.store)
    long, short = Chore(client, 3 * STEPS_PER_TURN - 100), Chore(client, 10)
    work.add(long)
    work.add(short)
    client.settle()
    assert long.turns == [1, 2, 3]
    assert short.turns == [2]
    assert not long.left
    assert store.is_idle


def test_the_job_of_a_client_that_is_gone_is_dropped_when_its_turn_comes(client: Client) -> None:
    store, work = client.store, Work(client.store)
    gone = [Client(store, client.door) for _ in range(50)]
    jobs = [Chore(each, 1000 * STEPS_PER_TURN) for each in gone]
    last = Chore(client, 10)
    for each in [*jobs, last]:
        work.add(each)
    store.turn()
    store.turn()
    for other in gone:
        other.connection.connection_lost(None)
    held = [weakref.ref(each) for each in jobs]
    del jobs, each
    client.settle()
    assert len(last.turns) == 1
    assert last.turns[0] <= 4
    assert not [each() for each in held if each() is not None]
    assert store.is_idle


@pytest.mark.parametrize("command", [["LCS", "a", "b"], ["CLIENT", "LIST"], ["KEYS", SLOW]])
def test_whatever_a_client_that_is_gone_had_under_way_takes_no_turn_more(
    command: list[str | bytes],
) -> None:
    client = Client(three_nodes(value_bytes_max=1 << 20))
    store, door = client.store, client.door
    for key in (b"a", b"b"):
        store.fill(key, b"ab" * 250)
    for i in range(1000):
        store.fill(b"%03d" % i + b"a" * 1000, b"")
        door.sessions[1000 + i] = client.connection
    clients = [Client(store, door) for _ in range(50)]
    for each in clients:
        each.send(command)
    store.turn()
    store.turn()
    for each in clients:
        each.connection.connection_lost(None)
    before = store.turns
    client.settle()
    assert store.turns - before < 5
    assert client.replies_budget.used == 0


def test_keys_with_a_slow_pattern_goes_on_in_the_next_turn_and_others_are_served(
    client: Client,
) -> None:
    for i in range(100):
        client.store.fill(b"%03d" % i + b"a" * 1000, b"")
    client.send(["KEYS", SLOW])
    other = Client(client.store, client.door)
    answered = 0
    while not (reply := client.answered()):
        other.send(["GET", "k"])
        client.store.turn()
        answered += len(other.answered())
    assert reply == [[]]
    assert answered >= 30


def test_many_slow_patterns_share_what_a_turn_has(client: Client) -> None:
    for i in range(10):
        client.store.fill(b"%03d" % i + b"a" * 1000, b"")
    clients = [Client(client.store, client.door) for _ in range(10)]
    for each in clients:
        each.send(["SCAN", 0, "COUNT", 10_000, "MATCH", SLOW])
    client.settle()
    assert [each.answered() for each in clients] == [[[b"0", []]]] * 10
    assert client.store.turns >= 10 * 10 * 200 * 1000 // STEPS_PER_TURN


def test_a_client_that_goes_takes_its_work_along(client: Client) -> None:
    for i in range(100):
        client.store.fill(b"%03d" % i + b"a" * 1000, b"")
    client.send(["KEYS", SLOW])
    client.store.turn()
    client.connection.connection_lost(None)
    before = client.store.turns
    client.settle()
    assert client.store.turns - before < 5
    assert client.replies_budget.used == 0


def test_ten_thousand_clients_are_listed_in_several_turns(client: Client) -> None:
    sessions: dict[int, Session] = client.door.sessions
    for i in range(10_000):
        sessions[i + 2] = client.connection
    client.send(["CLIENT", "LIST"])
    client.settle()
    (listing,) = client.answered()
    assert len(listing.splitlines()) == 10_001
    assert client.store.turns > 10


@pytest.mark.parametrize("command", [["COMMAND", "DOCS"], ["COMMAND", "INFO"]])
def test_names_and_patterns_are_few_and_short(client: Client, command: list[str]) -> None:
    assert client.ask(*command, *["get"] * 1000) == "ERR at most 16 names"
    assert client.ask("CONFIG", "GET", *["*"] * 17) == "ERR at most 16 patterns"
    assert client.ask("CONFIG", "GET", "[^a]" * 100) == "ERR pattern too long"


def test_what_all_commands_are_is_made_once_a_second(client: Client) -> None:
    assert client.ask_raw("COMMAND") == client.ask_raw("COMMAND", "INFO")
    assert len(client.door._replies) == 1


def test_the_count_of_steps_bounds_what_a_match_takes() -> None:
    assert steps_per_byte(b"user:*") == 1
    assert steps_per_byte(b"*foo*") == 4
    assert steps_per_byte(SLOW) == 202
    assert steps_per_byte(b"*" + b"?" * (PATTERN_BYTES_MAX - 1)) == PATTERN_BYTES_MAX
    assert compile_glob(SLOW).fullmatch(b"a" * 1000) is None
