# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes of the whole cluster but `/kv`."""

from __future__ import annotations

import json
import socket
from typing import Any

import msgspec
import pytest

from quorate.core.values.events import Explain, Get, Put, Scan
from quorate.core.values.status import CandidateView
from quorate.doors.http.door import ROUTES
from quorate.doors.limits import FREE_BYTES
from quorate.errors import Outcome, Overloaded
from tests.fake_store import NODES
from tests.http_served import Client, Served, get, post

HOST = b"Host: localhost\r\n"


def post_batch(client: Client, operations: list[Any], query: str = "") -> list[dict[str, Any]]:
    answer = post(client, f"/batch{query}", msgspec.json.encode({"operations": operations}))
    assert answer.status == 200, answer.body
    results: list[dict[str, Any]] = json.loads(answer.body)["results"]
    return results


# --- what holds for every route -------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_other_methods_are_405_and_allow_lists_the_right_ones(
    http_client: Client, path: str
) -> None:
    methods = {route.method for route in ROUTES if route.path == path}
    answer = get(http_client, path, method="PATCH")
    assert answer.status == 405
    assert answer.headers["content-type"] == "application/problem+json"
    allowed = set(answer.headers["allow"].split(","))
    assert allowed == methods | ({"HEAD"} if "GET" in methods else set())


@pytest.mark.parametrize("path", ["/", "/nope", "/kv/x", "/internal", "/internal/", "/metrics/x"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_404_and_not_a_missing_key(
    http_client: Client, path: str, method: str
) -> None:
    answer = get(http_client, path, method=method)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(answer.body)["code"] == "no_such_path"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_an_unknown_parameter_is_400_everywhere(
    http: Served, http_client: Client, route: Any
) -> None:
    answer = get(http_client, f"{route.path}?key=k&surprise=1", method=route.method)
    assert answer.status == 400
    assert http.store.events == []


@pytest.mark.parametrize("path", [r.path for r in ROUTES if r.method == "GET"])
def test_head_is_served_wherever_get_is_and_has_no_body(
    http: Served, http_client: Client, path: str
) -> None:
    http.store.fill(b"k", b"v")
    query = "?key=k" if path in ("/kv", "/explain", "/internal/get") else ""
    query = f"?url={NODES[1]}" if path == "/probe" else query
    found = get(http_client, path + query)
    assert found.body != b""
    assert get(http_client, path + query, method="HEAD").status == found.status == 200
    # A body would be read as the beginning of this.
    assert get(http_client, "/healthz").body == b"ok"


def test_what_depends_on_accept_says_so(http_client: Client) -> None:
    for accept in (b"", b"Accept: text/plain\r\n"):
        assert get(http_client, "/nodes", headers=accept).headers["vary"] == "Accept"


# --- members --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"http://127.0.0.1:9000",
        b"http://127.0.0.1:9000/\n",
        b'{"url": "http://127.0.0.1:9000"}',
        b"127.0.0.1:9000",
    ],
)
def test_a_join_takes_the_url_raw_or_as_json(
    http: Served, http_client: Client, body: bytes
) -> None:
    answer = post(http_client, "/join", body)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "url": "http://127.0.0.1:9000",
        "known": False,
        "owns": False,
        "member": False,
    }
    assert json.loads(post(http_client, "/join", body).body)["known"] is True
    assert "http://127.0.0.1:9000" in http.store.known


def test_a_join_that_is_longer_than_any_url_is_413(http_client: Client) -> None:
    for size, status in ((4_096, 200), (4_097, 413)):
        assert post(http_client, "/join", b"127.0.0.1:9000".ljust(size)).status == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not a url",
        b"{}",
        b'{"url": 1}',
        b'{"url": "http://127.0.0.1:9000", "x": 1}',
        b'["http://127.0.0.1:9000"]',
        b"file:///etc/passwd",
        b"https://127.0.0.1:9000",
        b"http://user@127.0.0.1:9000",
        b"http://127.0.0.1:9000/path",
        b"http://127.0.0.1:9000?x=1",
        b"http://127.0.0.1:22",
        b"http://127.0.0.1:0",
        b"http://127.0.0.1:65536",
        b"http://0.0.0.0:9000",
        b"http://[::]:9000",
        b"http://169.254.169.254:9000",
        b"http://[fe80::1]:9000",
        b"http://224.0.0.1:9000",
        b"http://\xff:9000",
        b"http://a b:9000",
        b"http://x\r\n:9000",
        b"x" * 5000,
        b"http://127.0.0.1:" + b"9" * 4000,
    ],
    ids=lambda body: body[:30].decode("latin-1"),
)
def test_a_join_of_what_is_no_nodes_url_is_refused(
    http: Served, http_client: Client, body: bytes
) -> None:
    """No connection is even tried, for nothing is submitted."""
    assert post(http_client, "/join", body).status in (400, 413)
    assert http.store.events == []


def test_a_member_without_copies_is_forgotten_by_command(http: Served, http_client: Client) -> None:
    url = "http://10.0.0.9:8000"
    for known in (True, False):
        if known:
            post(http_client, "/join", url.encode())
        answer = get(http_client, f"/join?url={url}", method="DELETE")
        assert json.loads(answer.body) == {"url": url, "known": known}
    assert url not in http.store.known
    for refused in (NODES[1], "nonsense", ""):
        assert get(http_client, f"/join?url={refused}", method="DELETE").status == 400


def test_nodes_lists_every_member(http_client: Client) -> None:
    members = json.loads(get(http_client, "/nodes").body)
    assert [member["url"] for member in members] == list(NODES)
    wanted = {
        *("url", "id", "state", "last_seen_ms", "failures", "version", "zone", "keys", "bytes"),
        "owns",
    }
    assert wanted <= set(members[0])


def test_nodes_is_a_plain_list_for_who_asks_for_text(http_client: Client) -> None:
    answer = get(http_client, "/nodes", headers=b"Accept: text/plain\r\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body.decode().splitlines() == list(NODES)


def test_candidates_are_no_nodes_and_may_be_tried(http: Served, http_client: Client) -> None:
    found = CandidateView(url="http://10.0.0.7:8000", refusal="its secret is another")
    http.store.candidates = [found]
    assert json.loads(get(http_client, "/candidates").body) == [
        {"url": found.url, "refusal": found.refusal}
    ]
    assert found.url not in get(http_client, "/nodes").body.decode()
    assert get(http_client, f"/probe?url={found.url}").status == 200
    http.store.candidates = []
    assert get(http_client, f"/probe?url={found.url}").status == 400


def test_where_clients_reach_a_member_may_be_tried(http: Served, http_client: Client) -> None:
    client = "http://kv.example.org:9999"
    assert get(http_client, f"/probe?url={client}").status == 400
    http.store.clients = {NODES[1]: client}
    assert get(http_client, f"/probe?url={client}").status == 200


# --- keys -----------------------------------------------------------------------------------------


def test_keys_are_listed_in_pages_that_can_be_resumed(http: Served, http_client: Client) -> None:
    names = sorted(f"user:{index}" for index in range(25))
    for name in names:
        http.store.fill(name.encode(), b"v")
    http.store.fill(b"other", b"v")
    http.store.fill(b"user:dead", None)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = json.loads(get(http_client, f"/keys?prefix=user:&limit=10&cursor={cursor}").body)
        assert page["complete"] is True
        seen += page["keys"]
        cursor = page["cursor"]
    assert sorted(seen) == names


def test_a_key_that_is_no_text_is_listed_in_base64(http: Served, http_client: Client) -> None:
    http.store.fill(b"\xff\x00", b"v")
    assert json.loads(get(http_client, "/keys").body)["keys"] == [{"base64": "/wA="}]
    http.store.reset()
    http.store.fill(b"\xff\x00", b"v")
    assert len(json.loads(get(http_client, "/keys?prefix=%ff").body)["keys"]) == 1


def test_the_parameters_of_a_listing_reach_the_store(http: Served, http_client: Client) -> None:
    get(http_client, "/keys?r=1&timeout=2s&limit=7")
    (scan,) = http.store.events
    assert isinstance(scan, Scan)
    assert (scan.r, scan.timeout_ms, scan.limit) == (1, 2000, 7)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "cursor=!!", "cursor=a", "cursor=" + "A" * 8000]
)
def test_a_listing_with_a_bad_parameter_is_400(
    http: Served, http_client: Client, query: str
) -> None:
    assert get(http_client, f"/keys?{query}").status in (400, 414)
    assert http.store.events == []


# --- batch ----------------------------------------------------------------------------------------


def test_a_batch_answers_each_operation_on_its_own(http: Served, http_client: Client) -> None:
    http.store.fill(b"old", b"value")
    http.store.fill(b"raw", b"\xff")
    put, kept, raw, gone, absent = post_batch(
        http_client,
        [
            {"op": "put", "key": "new", "value": {"base64": "/wA="}, "ttl": 60},
            {"op": "get", "key": "old"},
            {"op": "get", "key": {"base64": "cmF3"}},
            {"op": "delete", "key": "old"},
            {"op": "get", "key": "never"},
        ],
    )
    stored = http.store.records[b"new"]
    assert (stored.value, stored.expires_ms) == (b"\xff\x00", http.store.now_ms + 60_000)
    assert (put["status"], put["version"], put["acks"]) == (200, stored.version.hex(), 2)
    assert (kept["status"], kept["value"]) == (200, "value")
    assert raw["value"] == {"base64": "/w=="}
    assert gone["status"] == 200
    assert http.store.records[b"old"].value is None
    assert absent["status"] == 404


def test_a_failed_operation_of_a_batch_says_what_became_of_it(
    http: Served, http_client: Client
) -> None:
    http.store.failure = Overloaded("too much", outcome=Outcome.NOT_APPLIED, inflight=9)
    (result,) = post_batch(http_client, [{"op": "put", "key": "k", "value": "v"}])
    assert (result["status"], result["code"]) == (503, "overloaded")
    assert (result["outcome"], result["inflight"]) == ("not_applied", 9)
    assert result["key"] == "k"


def test_the_parameters_of_a_batch_hold_for_each_operation(
    http: Served, http_client: Client
) -> None:
    operations = [{"op": "put", "key": "k", "value": ""}, {"op": "get", "key": "k"}]
    post_batch(http_client, operations, "?w=3&r=1&timeout=2s")
    put, read = http.store.events
    assert isinstance(put, Put)
    assert (put.w, put.timeout_ms, put.value) == (3, 2000, b"")
    assert isinstance(read, Get)
    assert (read.r, read.timeout_ms) == (1, 2000)


def test_a_thousand_operations_are_a_batch_and_one_more_is_not(
    http: Served, http_client: Client
) -> None:
    operations = [{"op": "get", "key": f"{index}"} for index in range(1000)]
    assert len(post_batch(http_client, operations)) == 1000
    http.reset()
    body = msgspec.json.encode({"operations": [*operations, operations[0]]})
    assert post(http_client, "/batch", body).status == 400
    assert http.store.events == []


def test_an_empty_batch_does_nothing(http_client: Client) -> None:
    assert post_batch(http_client, []) == []


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "put", "key": "k"},
        {"op": "get", "key": "k", "value": "v"},
        {"op": "delete", "key": "k", "value": "v"},
        {"op": "put", "key": "", "value": "v"},
        {"op": "put", "key": "k" * 1025, "value": "v"},
        {"op": "put", "key": "k", "value": "v" * ((2 << 20) + 1)},
        {"op": "put", "key": "k", "value": "v", "ttl": 0},
        {"op": "put", "key": "k", "value": "v", "ttl": -1},
        {"op": "put", "key": "k", "value": "v", "ttl": 10**18},
        {"op": "get", "key": "k", "ttl": 1},
        {"op": "put", "key": "k", "value": {"base64": "!"}},
        {"op": "put", "key": "k", "value": {"base64": "/w==", "x": "y"}},
        {"op": "put", "key": "k", "value": {}},
        {"op": "put", "key": {"hex": "ff"}, "value": "v"},
        {"op": "put", "key": 1, "value": "v"},
    ],
    ids=lambda operation: str(operation)[:50],
)
def test_one_bad_operation_refuses_the_batch_before_anything_is_done(
    http: Served, http_client: Client, operation: dict[str, object]
) -> None:
    good = {"op": "put", "key": "good", "value": "v"}
    body = msgspec.json.encode({"operations": [good, operation]})
    assert post(http_client, "/batch", body).status in (400, 413, 414)
    assert http.store.events == []


# --- for operators --------------------------------------------------------------------------------


def test_health_is_the_process_and_readiness_is_the_node(http: Served, http_client: Client) -> None:
    assert get(http_client, "/healthz").status == 200
    assert get(http_client, "/readyz").status == 200
    http.store.is_ready = False
    assert get(http_client, "/healthz").status == 200
    answer = get(http_client, "/readyz")
    assert answer.status == 503
    assert "retry-after" in answer.headers
    assert json.loads(answer.body)["detail"] == "the disk is stuck"


def test_explain_says_where_a_key_lives_and_what_each_replica_has(
    http: Served, http_client: Client
) -> None:
    record = http.store.fill(b"foo", b"v")
    found = json.loads(get(http_client, "/explain?key=foo&timeout=1s").body)
    # CLUSTER KEYSLOT foo
    assert (found["key"], found["slot"], found["partition"]) == ("foo", 12182, 12182 // 16)
    assert [view["url"] for view in found["replicas"]] == list(NODES)
    assert {view["version"] for view in found["replicas"]} == {record.version.hex()}
    (event,) = http.store.events
    assert isinstance(event, Explain)
    assert event.timeout_ms == 1000


# --- HTTP itself ----------------------------------------------------------------------------------


def test_http_1_0_knows_no_100_continue(http_client: Client) -> None:
    """RFC 9110, 10.1.1 and 15.2: such a client would take it for the answer."""
    head = b"PUT /kv?key=k HTTP/1.0\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n"
    http_client.send(head + b"\r\nval")
    assert http_client.ask(b"ue").status == 200


def test_a_body_that_waits_to_be_invited_is(http: Served, http_client: Client) -> None:
    """`Expect: 100-continue`."""
    http_client.send(
        b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    )
    assert http_client.receive().status == 100
    http_client.send(b"value")
    assert http_client.receive().status == 200
    assert http.store.records[b"k"].value == b"value"


def test_a_chunked_body_is_a_value_too(http: Served, http_client: Client) -> None:
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert http_client.ask(head + b"3\r\nval\r\n2;x=y\r\nue\r\n0\r\n\r\n").status == 200
    assert http.store.records[b"k"].value == b"value"


def test_http_1_0_is_answered_and_closed_unless_it_asks_to_stay(
    http: Served, http_client: Client
) -> None:
    http.store.fill(b"k", b"v")
    stay = b"GET /kv?key=k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert http_client.ask(stay).body == b"v"
    assert http_client.ask(b"GET /kv?key=k HTTP/1.0\r\n\r\n").body == b"v"
    assert http_client.rest() == b""


def test_an_absolute_target_is_understood(http: Served, http_client: Client) -> None:
    http.store.fill(b"k", b"v")
    assert get(http_client, "http://localhost/kv?key=k").body == b"v"


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("If-None-Match: {}", 304),
        ("If-None-Match: W/{}", 304),
        ('If-None-Match: "x", {}', 304),
        ("If-None-Match: *", 304),
        ('If-None-Match: "x"', 200),
        ("If-Match: {}", 200),
        ('If-Match: "x" , {}', 200),
        ("If-Match: *", 200),
        ('If-Match: "x"', 412),
        ("If-Match: W/{}", 412),
        ("If-Match:", 412),
        ("If-Match: , ,{} ,", 200),
        ('If-Match: "x"\r\nIf-Match: {}', 200),
        ('If-Match: "a,b"', 412),
        ('If-Match: "x"\r\nIf-None-Match: {}', 412),
        ("If-Match: {0}\r\nIf-None-Match: {0}", 304),
        ("If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT", 200),
        ("If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT", 200),
        ('If-Range: "x"\r\nRange: bytes=0-0', 200),
    ],
)
def test_a_read_is_judged_by_its_conditions(
    http: Served, http_client: Client, condition: str, status: int
) -> None:
    """RFC 9110, 13: versions are compared; a value has no date, and is never sent in part."""
    etag = f'"{http.store.fill(b"k", b"v").version.hex()}"'
    headers = f"{condition.format(etag)}\r\n".encode()
    answer = get(http_client, "/kv?key=k", headers=headers)
    assert answer.status == status
    assert get(http_client, "/kv?key=k", headers=headers, method="HEAD").status == status
    if status == 412:
        assert json.loads(answer.body)["code"] == "precondition_failed"
        assert answer.headers["etag"] == etag
        return
    assert answer.headers["etag"] == etag
    assert answer.headers["quorate-consistency"] == "linearizable"


@pytest.mark.parametrize("condition", [b"If-Match: *\r\n", b"If-None-Match: *\r\n"])
def test_where_nothing_is_no_condition_is_asked(http_client: Client, condition: bytes) -> None:
    """RFC 9110, 13.2.1: 404 is 404 either way."""
    assert get(http_client, "/kv?key=k", headers=condition).status == 404


@pytest.mark.parametrize("lane", [b"", b"Content-Encoding: identity\r\n"], ids=["fast", "slow"])
def test_a_small_body_is_taken_though_larger_ones_use_the_budget_up(
    http: Served, http_client: Client, lane: bytes
) -> None:
    """As at the Redis door. One that is large finds no room, and is told so."""
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + lane + b"Content-Length: %d\r\n\r\n"
    budget = http.http._bodies
    http.call(lambda: budget.take(http.store.config.inflight_bytes_max))
    try:
        http_client.send(head % FREE_BYTES)
        assert http_client.ask(b"v" * FREE_BYTES).status == 200
        http_client.send(head % (FREE_BYTES + 1))
        answer = http_client.ask(b"v" * (FREE_BYTES + 1))
        assert answer.status == 503
        assert json.loads(answer.body)["outcome"] == "not_applied"
    finally:
        http.call(lambda: budget.give_back(http.store.config.inflight_bytes_max))
    assert budget.used == 0


def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing_behind(
    http: Served,
) -> None:
    for headers in (b"", b"Content-Encoding: identity\r\n"):
        with http.client() as client:
            head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + headers
            client.send(head + b"Content-Length: 100000\r\n\r\n" + b"v" * (FREE_BYTES + 1))
            http.until(lambda: bodies_used(http) > 0)
            client.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
        http.until(lambda: bodies_used(http) == 0)
    http.until(lambda: http.listener.connections == 0)
    assert http.store.events == []


def bodies_used(http: Served) -> int:
    lane = http.http._lane
    assert lane is not None
    return lane.bodies.used
