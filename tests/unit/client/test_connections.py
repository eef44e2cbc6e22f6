# SPDX-License-Identifier: GPL-3.0-or-later
"""What both clients do with connections: share, bound, keep, and give up, each call by itself."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from quorate.client import Unreachable, asynchronous, blocking, sockets
from quorate.errors import Outcome
from tests.unit.client.conftest import Connect
from tests.unit.client.scripted import ScriptedNode, dead_port, echo, silent_port

CLIENTS = (blocking, asynchronous)


def bound(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let only so many calls be under way at once."""
    for client in CLIENTS:
        monkeypatch.setattr(client, "CONNECTIONS_MAX", count)


def found_at(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every host have these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", each) for each in addresses]

    async def look_up(*_: object, **__: object) -> list[Any]:
        return found

    monkeypatch.setattr(blocking, "look_up", lambda *_, **__: found)
    monkeypatch.setattr(asynchronous, "look_up", look_up)


def test_calls_at_once_share_few_connections_and_each_gets_its_own_answer(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, 4)
    keys = [f"key-{number}" for number in range(100)]
    with ScriptedNode(echo) as node, connect(node.url) as call:
        values = [found.value for found in call.together("get", keys)]
        assert values == [f"/kv?key={key}".encode() for key in keys]
        assert node.connections <= 4


def test_waiting_for_a_turn_counts_against_the_calls_own_time_and_applies_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, 0)
    with ScriptedNode() as node, connect(node.url, timeout=0.1) as call:
        with pytest.raises(Unreachable, match="no answer in time") as raised:
            call("put", "key", "value")
        assert raised.value.outcome is Outcome.NOT_APPLIED
        assert node.connections == 0


def test_a_turn_is_given_back_by_calls_that_fail(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound(monkeypatch, 1)
    with dead_port() as dead, connect(dead) as call:
        for _ in range(3):
            with pytest.raises(Unreachable, match="Connection refused"):
                call("get", "key")


def test_a_client_that_was_closed_can_be_used_again(connect: Connect) -> None:
    with ScriptedNode(echo) as node, connect(node.url) as call:
        call("get", "a")
        call("close")
        call("get", "b")
        assert [request.connection for request in node.requests] == [0, 1]


def test_a_silent_address_leaves_time_for_the_nodes_next_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with silent_port() as silent, ScriptedNode() as node:
        found_at(monkeypatch, silent, ("127.0.0.1", int(node.url.rpartition(":")[2])))
        with connect("http://two-addresses:1") as call:
            assert call("put", "key", "value").acks == 2


def test_a_silent_node_is_no_answer_in_time_and_was_sent_nothing(connect: Connect) -> None:
    with silent_port() as (host, port), connect(f"http://{host}:{port}") as call:
        with pytest.raises(Unreachable, match="no answer in time") as raised:
            call("put", "key", "value")
        assert raised.value.outcome is Outcome.NOT_APPLIED


def test_a_write_that_a_broken_kept_connection_did_not_take_is_sent_on_a_new_one(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may break after it was looked at: nothing was sent, so the write cannot happen twice."""
    monkeypatch.setattr(sockets, "is_stale", lambda _: False)
    with ScriptedNode() as node, connect(node.url) as call:
        call("get", "key")
        node.reset()
        assert call("put", "key", "value").acks == 2
        assert [request.method for request in node.requests] == ["GET", "PUT"]


def test_more_than_a_socket_takes_at_once_arrives_whole(connect: Connect) -> None:
    value = bytes(range(256)) * (64 << 10)
    with ScriptedNode() as node, connect(node.url) as call:
        call("put", "key", value)
        assert node.requests[0].body == value


def test_a_write_of_which_a_node_read_only_some_is_unknown(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with connect(url, timeout=0.3) as call:
            with pytest.raises(Unreachable, match="no answer in time") as raised:
                call("put", "key", bytes(32 << 20))
            assert raised.value.outcome is Outcome.UNKNOWN
