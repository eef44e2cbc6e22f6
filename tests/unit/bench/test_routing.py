# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys are asked for at nodes that hold them, as the cluster itself says who does."""

from __future__ import annotations

from itertools import count

import pytest

from quorate.bench.protocols import KEY_PREFIX, ProtocolFault
from quorate.bench.routing import held_only, held_slots
from quorate.bench.worker import Task, Worker
from quorate.core.values.slots import slot_of
from quorate.wire import resp
from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.bench.plans import plan

HALF = 8192


def slots_reply(*ranges: list[object]) -> bytes:
    return resp.encode(list(ranges), 2)


def says(reply: bytes) -> FakeRedis:
    return FakeRedis(lambda command: reply if command[0] == b"CLUSTER" else None)


def test_a_node_holds_every_slot_that_it_is_a_replica_of() -> None:
    other = ("127.0.0.1", 1)
    replies: list[bytes] = []
    with FakeRedis(lambda _: replies[0]) as redis:
        replies.append(
            slots_reply(
                [0, HALF - 1, [*redis.target, "id", []], [*other, "id", []]],
                [HALF, 16383, [*other, "id", []]],
            )
        )
        held = held_slots([redis.target, other])
    assert held[redis.target] == b"\1" * HALF + b"\0" * HALF
    assert held[other] == b"\1" * 16384


def test_a_target_that_the_layout_does_not_name_is_told_with_those_it_does() -> None:
    reply = slots_reply([0, 16383, ["10.0.0.1", 2, "id", []]])
    with says(reply) as redis, pytest.raises(ProtocolFault, match=r"layout: 10\.0\.0\.1:2"):
        held_slots([redis.target])


def test_keys_that_are_not_held_are_passed_over() -> None:
    held = bytearray(b"\1" * HALF + b"\0" * HALF)
    draw = held_only(count().__next__, held)
    drawn = [draw() for _ in range(100)]
    assert all(slot_of(f"{KEY_PREFIX}{key:015d}".encode()) < HALF for key in drawn)
    assert drawn == sorted(drawn)
    assert 120 < drawn[-1] < 300


def test_a_node_that_holds_no_key_there_is_is_asked_all_the_same() -> None:
    assert held_only(lambda: 7, bytearray(16384))() == 7


def test_what_is_no_list_of_slots_is_told() -> None:
    reply = b"-ERR This instance has cluster support disabled\r\n"
    with says(reply) as redis, pytest.raises(ProtocolFault, match="cluster support disabled"):
        held_slots([redis.target])


@pytest.mark.parametrize(
    "reply", [slots_reply([0, "x"]), slots_reply([0, 1, 2]), slots_reply([0]), b"*x\r\n"]
)
def test_a_reply_of_another_shape_is_told(reply: bytes) -> None:
    with says(reply) as redis, pytest.raises(ProtocolFault):
        held_slots([redis.target])


def test_each_connection_asks_only_for_what_its_target_holds() -> None:
    asked: dict[int, set[bytes]] = {0: set(), 1: set()}
    replies: list[bytes] = []

    def mood(number: int, command: list[bytes]) -> bytes | None:
        if command[0] == b"CLUSTER":
            return replies[0]
        asked[number].add(command[1])
        return None

    with (
        FakeRedis(lambda command: mood(0, command)) as low,
        FakeRedis(lambda command: mood(1, command)) as high,
    ):
        replies.append(
            slots_reply(
                [0, HALF - 1, [*low.target, "id", []]], [HALF, 16383, [*high.target, "id", []]]
            )
        )
        of = plan(targets=(low.target, high.target), reads=0.0, route=True)
        worker = Worker(Task(of, 0), lambda _: None)
        worker.prepare()
        worker.run()
    assert asked[0]
    assert asked[1]
    assert all(slot_of(key) < HALF for key in asked[0])
    assert all(slot_of(key) >= HALF for key in asked[1])
