# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes under conditions, counters and requests that are sent again, over HTTP."""

from __future__ import annotations

import json

import pytest

from quorate.core.values.events import Update
from tests.conformance.conftest import HOST
from tests.http_served import Client, Response, Served, get, post


def put(client: Client, value: bytes, *headers: str, query: str = "key=k") -> Response:
    """The answer to a PUT of `value`."""
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    length = b"Content-Length: %d\r\n\r\n" % len(value)
    return client.ask(f"PUT /kv?{query} HTTP/1.1\r\n".encode() + HOST + lines + length + value)


def delete(client: Client, *headers: str) -> Response:
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return get(client, "/kv?key=k", headers=lines, method="DELETE")


def incr(client: Client, query: str = "key=k", *headers: str) -> Response:
    lines = "".join(f"{header}\r\n" for header in headers).encode()
    return post(client, f"/incr?{query}", b"", headers=lines)


def test_what_to_add_does_not_stand_in_the_body(http: Served, http_client: Client) -> None:
    answer = post(http_client, "/incr?key=k", b"by=5")
    assert (answer.status, json.loads(answer.body)["outcome"]) == (400, "not_applied")
    assert "?key=...&by=5" in json.loads(answer.body)["detail"]
    assert http.store.events == []


@pytest.mark.parametrize(
    ("conditions", "is_there", "is_done"),
    [
        (["If-Match: {}"], True, True),
        (["If-Match: *"], True, True),
        (['If-Match: "x"', "If-Match: {}"], True, True),
        (['If-Match: "x" , ,{}'], True, True),
        (['If-None-Match: "x"'], True, True),
        (["If-Match: {}", 'If-None-Match: "x"'], True, True),
        (["If-Match: {}", "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT"], True, True),
        (['If-Match: "x"'], True, False),
        (["If-Match:"], True, False),
        (["If-Match: W/{}"], True, False),
        (["If-None-Match: *"], True, False),
        (["If-None-Match: {}"], True, False),
        (["If-None-Match: W/{}"], True, False),
        (["If-Match: {}", "If-None-Match: {}"], True, False),
        (['If-Match: "x"', 'If-None-Match: "x"'], True, False),
        (["If-None-Match: *"], False, True),
        (['If-None-Match: "x"'], False, True),
        (["If-Match: *"], False, False),
        (['If-Match: "x"'], False, False),
        (["If-Match: *", "If-None-Match: *"], False, False),
    ],
)
def test_a_write_is_judged_by_its_conditions(
    http: Served, http_client: Client, conditions: list[str], is_there: bool, is_done: bool
) -> None:
    """RFC 9110, 13: If-Match by the strong comparison, then If-None-Match by the weak one."""
    for is_put in (True, False):
        http.reset()
        etag = f'"{http.store.fill(b"k", b"old").version.hex()}"' if is_there else '"none"'
        headers = [each.format(etag) for each in conditions]
        answer = put(http_client, b"new", *headers) if is_put else delete(http_client, *headers)
        held = get(http_client, "/kv?key=k")
        assert answer.status == (200 if is_done else 412)
        if is_done:
            assert answer.body == b"ok"
            assert answer.headers["quorate-acks"] == "2/3"
            assert (held.status, held.body) == ((200, b"new") if is_put else (404, held.body))
            assert held.status == 404 or held.headers["etag"] == answer.headers["etag"] != etag
            continue
        problem = json.loads(answer.body)
        assert (problem["code"], problem["outcome"]) == ("precondition_failed", "not_applied")
        assert answer.headers.get("etag", '"none"') == etag
        assert problem["version"] == (etag.strip('"') if is_there else "")
        assert held.status == (200 if is_there else 404)


def test_what_expired_or_was_deleted_is_not_there(http: Served, http_client: Client) -> None:
    for expires_ms, value in ((http.store.now_ms, b"v"), (0, None)):
        http.store.fill(b"k", value, expires_ms=expires_ms)
        failed = put(http_client, b"w", "If-Match: *")
        assert (failed.status, "etag" in failed.headers) == (412, False)
        assert put(http_client, b"w", "If-None-Match: *").status == 200


def test_a_conditional_put_may_expire_and_be_told_how_long_it_may_take(
    http: Served, http_client: Client
) -> None:
    query = "key=k&ttl=60&timeout=2s"
    assert put(http_client, b"v", "If-None-Match: *", query=query).status == 200
    assert http.store.records[b"k"].expires_ms == http.store.now_ms + 60_000
    (event,) = http.store.events
    assert isinstance(event, Update)
    assert (event.timeout_ms, event.request) == (2000, 0)


def test_versions_of_a_chain_are_longer_and_rise(http_client: Client) -> None:
    first = put(http_client, b"a").headers["etag"]
    second = put(http_client, b"b", f"If-Match: {first}").headers["etag"]
    third = put(http_client, b"c", f"If-Match: {second}").headers["etag"]
    assert (len(first), len(second), len(third)) == (30, 46, 46)
    assert first < second < third
    assert put(http_client, b"d", f"If-Match: {second}").headers["etag"] == third
    # A plain write is above all of them.
    assert put(http_client, b"e").headers["etag"] > third


# --- counters ---------------------------------------------------------------------------------


def test_a_counter_begins_at_0_and_keeps_when_it_expires(http: Served, http_client: Client) -> None:
    assert incr(http_client).body == b"1"
    assert incr(http_client, "key=k&by=41").body == b"42"
    assert incr(http_client, "key=k&by=-50&timeout=1s").body == b"-8"
    assert incr(http_client, "key=k&by=0").body == b"-8"
    answer = get(http_client, "/kv?key=k")
    assert (answer.body, len(answer.headers["etag"])) == (b"-8", 46)
    http.store.fill(b"k", b"9", expires_ms=http.store.now_ms + 5)
    assert incr(http_client).body == b"10"
    assert http.store.records[b"k"].expires_ms == http.store.now_ms + 5
    http.store.now_ms += 5
    assert incr(http_client).body == b"1"
    assert http.store.records[b"k"].expires_ms == 0
    assert incr(http_client, "key=k&ttl=60").body == b"2"
    assert http.store.records[b"k"].expires_ms == 0
    assert incr(http_client, "key=new&ttl=60").body == b"1"
    assert http.store.records[b"new"].expires_ms == http.store.now_ms + 60_000


@pytest.mark.parametrize(
    ("value", "by"),
    [
        *((b"9223372036854775807", 1), (b"-9223372036854775808", -1), (b"1.5", 1), (b"", 1)),
        *((b"01", 1), (b"+1", 1), (b" 1", 1), (b"-0", 1), (b"nan", 1), (b"9" * 5000, 1)),
        *((b"9223372036854775808", -1), (b"1\n", 1), ("\u0661".encode(), 1)),
    ],
)
def test_what_is_no_integer_of_64_bits_is_a_conflict(
    http: Served, http_client: Client, value: bytes, by: int
) -> None:
    http.store.fill(b"k", value)
    answer = incr(http_client, f"key=k&by={by}")
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (409, "conflict")
    assert problem["outcome"] == "not_applied"
    assert http.store.records[b"k"].value == value


def test_both_ends_of_64_bits_can_be_reached(http: Served, http_client: Client) -> None:
    http.store.fill(b"k", b"9223372036854775806")
    assert incr(http_client).body == b"9223372036854775807"
    http.store.fill(b"k", b"0")
    assert incr(http_client, "key=k&by=-9223372036854775808").body == b"-9223372036854775808"


# --- requests that are sent again -------------------------------------------------------------


def test_a_request_that_is_sent_again_takes_effect_once(http_client: Client) -> None:
    first = incr(http_client, "key=k&by=5", "Idempotency-Key: a")
    again = incr(http_client, "key=k&by=5", "Idempotency-Key: a")
    assert (first.body, "quorate-repeated" in first.headers) == (b"5", False)
    assert (again.body, again.headers["quorate-repeated"]) == (b"5", "true")
    assert again.headers["etag"] == first.headers["etag"]
    assert "quorate-acks" not in again.headers
    assert incr(http_client, "key=k&by=5", "Idempotency-Key: b").body == b"10"
    # Its own number is not known any more, its version is.
    late = incr(http_client, "key=k&by=5", "Idempotency-Key: a")
    assert (late.status, late.body) == (200, b"")
    assert late.headers["etag"] == first.headers["etag"]


def test_a_put_and_a_delete_are_remembered_too(http_client: Client) -> None:
    first = put(http_client, b"v", "Idempotency-Key: a", "If-None-Match: *")
    again = put(http_client, b"v", "Idempotency-Key: a", "If-None-Match: *")
    assert (again.status, again.body) == (200, b"ok")
    assert again.headers["etag"] == first.headers["etag"]
    assert delete(http_client, "Idempotency-Key: b").status == 200
    assert delete(http_client, "Idempotency-Key: b").headers["quorate-repeated"] == "true"
    late = put(http_client, b"v", "Idempotency-Key: a", "If-None-Match: *")
    assert late.headers["quorate-repeated"] == "true"
    assert get(http_client, "/kv?key=k").status == 404


def test_another_request_of_the_same_name_is_not_taken_for_the_first(http_client: Client) -> None:
    """Else it would be told that it took effect, and nothing of it would be there."""
    name = "Idempotency-Key: a"
    assert put(http_client, b"5", name).status == 200
    answers = [
        put(http_client, b"6", name),
        incr(http_client, "key=k&by=2", name),
        incr(http_client, "key=k&by=3", name),
    ]
    assert [answer.body for answer in answers] == [b"ok", b"8", b"11"]
    assert not any("quorate-repeated" in answer.headers for answer in answers)
    assert delete(http_client, name).status == 200
    assert get(http_client, "/kv?key=k").status == 404
    assert incr(http_client, "key=k&by=3", name).headers["quorate-repeated"] == "true"


def test_the_same_under_another_condition_or_ttl_is_another_request(
    http: Served, http_client: Client
) -> None:
    """RFC 9110 has a condition decide, and a ttl that is answered as done holds."""
    name = "Idempotency-Key: a"
    tag = put(http_client, b"v", name, "If-None-Match: *").headers["etag"]
    assert put(http_client, b"v", name, 'If-Match: "00"').status == 412
    matched = put(http_client, b"v", name, f'If-Match: {tag}, "00"')
    assert (matched.status, "quorate-repeated" in matched.headers) == (200, False)
    # The same tags in another order, and of more lines, say the same.
    again = put(http_client, b"v", name, 'If-Match: "00"', f"If-Match: ,{tag}")
    assert again.headers["quorate-repeated"] == "true"
    assert put(http_client, b"v", name, 'If-None-Match: "00"').headers["etag"] != tag
    assert http.store.records[b"k"].expires_ms == 0
    kept = put(http_client, b"v", name, 'If-None-Match: "00"', query="key=k&ttl=5")
    assert "quorate-repeated" not in kept.headers
    assert http.store.records[b"k"].expires_ms == http.store.now_ms + 5000
    assert incr(http_client, "key=n&ttl=5", name).body == b"1"
    assert incr(http_client, "key=n&ttl=6", name).body == b"2"
    again = incr(http_client, "key=n&ttl=6&timeout=1s", name)
    assert again.headers["quorate-repeated"] == "true", "how long to wait is not what is asked"


@pytest.mark.parametrize(("condition", "status"), [(b"If-None-Match", 200), (b"If-Match", 412)])
def test_a_request_with_a_name_may_ask_for_a_version_that_is_not_utf8(
    http: Served, http_client: Client, condition: bytes, status: int
) -> None:
    """RFC 9110, 8.8.3: a tag may have any byte from 0x80 on."""
    http.store.fill(b"k", b"old")
    for tag in (b'"\xff"', b'"\xc3\xa9"', b'W/"\xed\xb3\xbf"'):
        request = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Idempotency-Key: a\r\n"
        request += condition + b": " + tag + b"\r\nContent-Length: 1\r\n\r\nv"
        answer = http_client.ask(request)
        assert answer.status == status, tag
        assert answer.headers.get("connection") != "close"
        assert "quorate-repeated" not in answer.headers, "another tag is another request"
        if status == 412:
            assert json.loads(answer.body)["outcome"] == "not_applied"
    assert get(http_client, "/kv?key=k").body == (b"v" if status == 200 else b"old")


def test_what_is_not_remembered_is_done_anew_unless_it_says_that_it_may_be_done(
    http: Served, http_client: Client
) -> None:
    incr(http_client, "key=k", "Idempotency-Key: a")
    assert put(http_client, b"7").status == 200
    since = f"key=k&since_ms={http.store.now_ms}"
    answer = incr(http_client, since, "Idempotency-Key: a")
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"], problem["outcome"]) == (409, "conflict", "unknown")
    assert get(http_client, "/kv?key=k").body == b"7"
    assert incr(http_client, "key=k", "Idempotency-Key: a").body == b"8"
    again = incr(http_client, since, "Idempotency-Key: a")
    assert (again.body, again.headers["quorate-repeated"]) == (b"8", "true")


def test_what_was_surely_not_done_is_done(http: Served, http_client: Client) -> None:
    incr(http_client, "key=k", "Idempotency-Key: a")
    since = f"key=k&since_ms={http.store.now_ms + 1}"
    http.store.now_ms += 1000
    answer = incr(http_client, since, "Idempotency-Key: b")
    assert (answer.body, "quorate-repeated" in answer.headers) == (b"2", False)
    event = http.store.events[-1]
    assert isinstance(event, Update)
    assert event.since_ms == http.store.now_ms - 999


def test_a_time_that_is_yet_to_be_is_now(http: Served, http_client: Client) -> None:
    for since_ms in (http.store.now_ms + 5000, (1 << 63) - 1):
        incr(http_client, f"key=k&since_ms={since_ms}", "Idempotency-Key: a")
        event = http.store.events[-1]
        assert isinstance(event, Update)
        assert event.since_ms == http.store.now_ms


def test_no_name_is_the_number_that_stands_for_none(
    http: Served, http_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Zero:
        def __init__(self, *_: object, **__: object) -> None: ...

        def update(self, _: bytes) -> None: ...

        def digest(self) -> bytes:
            return bytes(8)

    incr(http_client, "key=k", "Idempotency-Key: a")
    monkeypatch.setattr("quorate.doors.http.updates.blake2b", Zero)
    incr(http_client, "key=k", "Idempotency-Key: a")
    first, second = http.store.events
    assert isinstance(first, Update)
    assert isinstance(second, Update)
    assert first.request >> 32 > 0
    assert second.request == 1


def test_the_fast_lane_loses_no_name_however_it_is_written(
    http: Served, http_client: Client
) -> None:
    """Else the request would be done twice."""
    put(http_client, b"a", "iDEMPOTENCY-kEY: a")
    again = put(http_client, b"a", "idempotency-key:\ta ")
    assert again.headers["quorate-repeated"] == "true"
    assert all(isinstance(event, Update) and event.request for event in http.store.events)


def test_updates_are_counted_by_what_they_are(http_client: Client) -> None:
    incr(http_client)
    text = get(http_client, "/metrics").body.decode()
    assert 'operation="POST /incr"' in text
