# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch: what it can make the node hold and do, and in which order."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from quorate.core.values.events import Get, Put, Update
from quorate.doors.http import batch
from tests.fake_store import FakeStore
from tests.http_served import Client, Served, post

MEBIBYTE = 1 << 20


def post_batch(client: Client, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = post(client, "/batch", msgspec.json.encode({"operations": operations}))
    assert answer.status == 200
    results: list[dict[str, Any]] = json.loads(answer.body)["results"]
    assert [each["key"] for each in results] == [each["key"] for each in operations]
    return results


def test_gets_of_large_values_end_where_the_answer_is_full() -> None:
    """Unbounded, 400 gets of one 1 MiB key made an answer of 419 MB."""
    store = FakeStore()
    store.fill(b"k", b"v" * MEBIBYTE)
    count_max = (batch.VALUES_BYTES + store.config.value_bytes_max) // MEBIBYTE
    with Served(store) as served, served.client() as client:
        results = post_batch(client, [{"op": "get", "key": "k"}] * 400)
        gets = len(store.events)
    assert [each["status"] for each in results] == [200] * count_max + [503] * (400 - count_max)
    assert results[-1]["code"] == "overloaded"
    assert gets == count_max + 1


def test_writes_are_run_behind_an_answer_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "VALUES_BYTES", -8 * MEBIBYTE)
    store = FakeStore()
    store.fill(b"k", b"v")
    with Served(store) as served, served.client() as client:
        get, put = post_batch(
            client, [{"op": "get", "key": "k"}, {"op": "put", "key": "k", "value": "w"}]
        )
    assert (get["status"], put["status"]) == (503, 200)
    assert store.records[b"k"].value == b"w"


def test_operations_of_a_key_run_in_their_order() -> None:
    operations: list[dict[str, Any]] = []
    for index in range(100):
        for key in ("a", "b", "c"):
            operations.append({"op": "put", "key": key, "value": f"{index}"})
            operations.append({"op": "get", "key": key})
    with Served(FakeStore()) as served, served.client() as client:
        results = post_batch(client, operations)
    assert [each["value"] for each in results[1::2]] == [each["value"] for each in operations[::2]]


def test_no_more_than_a_few_operations_are_under_way_at_once() -> None:
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        served.call(store.hold)
        operations = [{"op": "get", "key": f"{index}"} for index in range(100)]
        client.send(post_of(operations))
        served.until(lambda: len(store.events) >= batch.CONCURRENT_MAX)
        assert len(store.events) == batch.CONCURRENT_MAX
        served.call(store.release)
        assert len(json.loads(client.receive().body)["results"]) == 100


def test_what_has_not_begun_in_time_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BATCH_SECONDS", 0.05)
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        served.call(store.hold)
        client.send(post_of([{"op": "put", "key": "k", "value": "v"}] * 3))
        served.until(lambda: len(store.events) == 1)
        later = served.call(asyncio.get_running_loop).time() + 0.06
        served.until(lambda: asyncio.get_running_loop().time() >= later)
        served.call(store.release)
        first, *others = json.loads(client.receive().body)["results"]
    assert first["status"] == 200
    assert [(each["status"], each["outcome"]) for each in others] == [(503, "not_applied")] * 2
    assert [type(each) for each in store.events] == [Put]


def test_a_bad_parameter_refuses_the_whole_batch() -> None:
    store = FakeStore()
    body = msgspec.json.encode({"operations": [{"op": "get", "key": "k"}]})
    with Served(store) as served, served.client() as client:
        assert post(client, "/batch?r=x", body).status == 400
        assert post(client, "/batch?w=0", body).status == 400
        assert post(client, "/batch?timeout=1", body).status == 400
    assert store.events == []


def test_null_is_as_good_as_nothing() -> None:
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        (result,) = post_batch(client, [{"op": "get", "key": "k", "value": None, "ttl": None}])
    assert result["status"] == 404
    assert [type(each) for each in store.events] == [Get]


def test_a_body_has_room_for_the_largest_value_in_base64() -> None:
    for value_bytes_max in (1, MEBIBYTE, 8 * MEBIBYTE, 16 * MEBIBYTE):
        assert batch.body_bytes_max(value_bytes_max) > value_bytes_max * 4 // 3 + 2000


def post_of(operations: list[dict[str, Any]]) -> bytes:
    body = msgspec.json.encode({"operations": operations})
    head = b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


def test_an_expiry_is_given_and_told_as_a_moment() -> None:
    """What copies keys keeps the moment: a duration begins anew with each copy."""
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        put: dict[str, Any] = {"op": "put", "key": "k", "value": "v"}
        operations = [{**put, "expires_ms": 1_900_000_000_001}, {"op": "get", "key": "k"}]
        assert post_batch(client, operations)[1]["expires_ms"] == 1_900_000_000_001
        assert store.records[b"k"].expires_ms == 1_900_000_000_001
        operations = [{**put, "expires_ms": None, "ttl": None}, {"op": "get", "key": "k"}]
        assert "expires_ms" not in post_batch(client, operations)[1]
        past = post_batch(client, [{**put, "expires_ms": 1}, {"op": "get", "key": "k"}])
        assert [each["status"] for each in past] == [200, 404]
        for wrong in (
            {**put, "expires_ms": 0},
            {**put, "expires_ms": 1 << 63},
            {**put, "expires_ms": 5, "ttl": 5},
            {**put, "expires_ms": "5"},
            {"op": "get", "key": "k", "expires_ms": 5},
        ):
            body = msgspec.json.encode({"operations": [wrong]})
            assert post(client, "/batch", body).status == 400


def test_a_put_may_be_for_no_value_there_alone() -> None:
    store = FakeStore()
    store.fill(b"expired", b"v", expires_ms=store.now_ms)
    store.fill(b"deleted", None)
    held = store.fill(b"there", b"v")
    put: dict[str, Any] = {"op": "put", "value": "new", "if_absent": True}
    keys = ("absent", "expired", "deleted", "there", "absent")
    with Served(store) as served, served.client() as client:
        timed = {**put, "key": "timed", "expires_ms": 1_900_000_000_001}
        results = post_batch(client, [timed, *[{**put, "key": key} for key in keys]])
        again = {**put, "key": "there", "if_absent": False}
        assert post_batch(client, [again])[0]["status"] == 200
    assert [each["status"] for each in results] == [200, 200, 200, 200, 412, 412]
    assert results[0]["version"] == store.records[b"timed"].version.hex()
    assert results[0]["acks"] == 2
    assert store.records[b"timed"].expires_ms == 1_900_000_000_001
    refused = results[4]
    assert (refused["code"], refused["outcome"]) == ("precondition_failed", "not_applied")
    assert refused["version"] == held.version.hex()
    assert [store.records[key.encode()].value for key in keys] == [b"new"] * 5


def test_a_put_for_no_value_there_has_its_size_and_the_time_of_the_batch() -> None:
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        operation = {"op": "put", "key": "k", "value": "v" * 500, "if_absent": True}
        body = msgspec.json.encode({"operations": [operation]})
        assert post(client, "/batch?timeout=2s", body).status == 200
    (update,) = [event for event in store.events if isinstance(event, Update)]
    assert (update.size, update.timeout_ms) == (500, 2000)


@pytest.mark.parametrize(
    ("operation", "query"),
    [
        ({"op": "get", "key": "k", "if_absent": True}, ""),
        ({"op": "delete", "key": "k", "if_absent": True}, ""),
        ({"op": "put", "key": "k", "value": "v", "if_absent": 1}, ""),
        ({"op": "put", "key": "k", "value": "v", "if_absent": True}, "?w=2"),
    ],
)
def test_if_absent_is_of_puts_that_say_no_w(operation: dict[str, Any], query: str) -> None:
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        body = msgspec.json.encode({"operations": [operation]})
        assert post(client, f"/batch{query}", body).status == 400
    assert store.events == []


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "put", "key": "k", "value": "v", "if_version": "00"},
        {"op": "delete", "key": "k", "If-Match": "*"},
        {"op": "incr", "key": "k"},
    ],
)
def test_a_condition_is_refused_and_it_is_said_where_it_is_served(
    operation: dict[str, Any],
) -> None:
    store = FakeStore()
    with Served(store) as served, served.client() as client:
        body = msgspec.json.encode(
            {"operations": [{"op": "put", "key": "k", "value": "v"}, operation]}
        )
        answer = post(client, "/batch", body)
    assert answer.status == 400
    assert "/kv with If-Match or /incr" in json.loads(answer.body)["detail"]
    assert store.events == []
