# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input at the HTTP door: each gets one clear answer, and nobody else notices.

After each of them the node still answers others, and nothing was stored.
"""

from __future__ import annotations

import json

import pytest

from quorate.doors.http import door
from tests.conformance.conftest import VALUE_BYTES_MAX, refusal
from tests.fake_store import FakeStore
from tests.http_served import Client, Served, post

HOST = b"Host: localhost\r\n"


pytestmark = pytest.mark.usefixtures("unharmed")


# --- 40: Host ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [b"", HOST + HOST, HOST + b"Host: other\r\n"])
@pytest.mark.parametrize("path", [b"/kv?key=k", b"/nodes"])
def test_anything_but_one_host_is_400(http_client: Client, hosts: bytes, path: bytes) -> None:
    answer = refusal(http_client, b"GET " + path + b" HTTP/1.1\r\n" + hosts + b"\r\n")
    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")


@pytest.mark.parametrize("host", [b"evil.example", b"evil.example:80", b"localhost.evil.example"])
@pytest.mark.parametrize("path", [b"/kv?key=k", b"/nodes"])
def test_the_host_of_a_stranger_is_421_on_loopback(
    http_client: Client, host: bytes, path: bytes
) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert refusal(http_client, request).status == 421


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://evil.example/%b", 421),
        (b"HTTP://evil.example:80/%b", 421),
        (b"https://localhost/%b", 421),
        (b"http://localhost@evil.example/%b", 421),
        (b"http://evil.example@localhost/%b", 421),
        (b"http://localhost.evil.example?/%b", 421),
        (b"http://127.0.0.1:8000/%b", 200),
    ],
)
@pytest.mark.parametrize("path", [b"internal/ping", b"nodes"])
def test_a_whole_url_as_target_says_who_is_meant_and_not_the_host_header(
    http_client: Client, path: bytes, target: bytes, status: int
) -> None:
    """RFC 9112, 3.2.2."""
    request = b"HEAD " + target % path + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    assert http_client.ask(request).status == status


def test_what_is_meant_by_a_whole_url_is_what_an_origin_is_compared_with(
    http_client: Client,
) -> None:
    head = b"DELETE http://127.0.0.1:1/kv?key=k HTTP/1.1\r\n" + HOST
    assert http_client.ask(head + b"Origin: http://localhost\r\n\r\n").status == 403


@pytest.mark.parametrize("host", [b"localhost", b"LOCALHOST:8000", b"127.0.0.1:1", b"[::1]:8000"])
def test_a_node_on_loopback_answers_to_every_name_of_loopback(
    http_client: Client, host: bytes
) -> None:
    request = b"GET /kv?key=k HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    assert http_client.ask(request).status == 404


# --- 45: Expect -----------------------------------------------------------------------------------


def test_an_oversized_body_is_413_without_an_invitation_to_send_it(http_client: Client) -> None:
    length = b"Content-Length: %d\r\n" % (VALUE_BYTES_MAX + 1)
    request = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + length + b"Expect: 100-continue\r\n\r\n"
    assert refusal(http_client, request).status == 413


@pytest.mark.parametrize("path", [b"/kv?key=k", b"/nope"])
def test_an_unknown_expectation_is_417(http_client: Client, path: bytes) -> None:
    request = (
        b"PUT " + path + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nExpect: miracles\r\n\r\n"
    )
    assert refusal(http_client, request).status == 417


# --- 46 to 49: heads ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        b"X Y: 1\r\n",
        b"X[: 1\r\n",
        b"X\x01: 1\r\n",
        b"X: a\x00b\r\n",
        b"X: 1\r\n folded\r\n",
        b" X: 1\r\n",
        b"X\r\n",
        b": 1\r\n",
        b"X: a\rY: b\r\n",
        b"X-Many: 1\r\n" * 10_000,
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [b"/kv?key=k", b"/nodes"])
def test_a_malformed_header_is_400(http_client: Client, path: bytes, header: bytes) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\n" + HOST + header + b"\r\n"
    try:
        assert refusal(http_client, request).status in (400, 431)
    except ConnectionResetError:
        assert len(header) > 100_000, "only what it goes on sending may be cut off"


@pytest.mark.parametrize("size", [20_000, 100_000, 1_000_000])
def test_a_long_header_is_431(http_client: Client, size: int) -> None:
    request = b"GET /kv?key=k HTTP/1.1\r\n" + HOST + b"X: " + b"x" * size + b"\r\n\r\n"
    assert http_client.ask(request).status == 431


@pytest.mark.parametrize("size", [10_000, 1_000_000])
def test_a_long_target_is_414(http_client: Client, size: int) -> None:
    request = b"GET /kv?key=" + b"k" * size + b" HTTP/1.1\r\n" + HOST + b"\r\n"
    answer = http_client.ask(request)
    assert answer.status == 414
    assert json.loads(answer.body)["code"] == "target_too_long"


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"//kv?key=k", 404),
        (b"/kv/?key=k", 404),
        (b"/kv;x?key=k", 404),
        (b"/../kv?key=k", 404),
        (b"/%2e%2e%2fetc%2fpasswd", 404),
        (b"/kv%00?key=k", 404),
        (b"/kv%zz?key=k", 404),
        (b"/kv?key=%C0%AF", 404),
        (b"/kv?key=%2e%2e%2f", 404),
        (b"/kv?key=k#x", 400),
        (b"/kv?key=%", 400),
        (b"/", 404),
    ],
)
def test_a_strange_target_is_exactly_what_it_says(
    http_client: Client, target: bytes, status: int
) -> None:
    """A key of odd bytes is absent (404), an odd path is no path, bad escapes are 400."""
    answer = http_client.ask(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.status == status


@pytest.mark.parametrize(
    "path",
    [
        b"/%69nternal/get",
        b"/internal%2Fget",
        b"/internal/%67et",
        b"/internal/../internal/get",
        b"/./internal/get",
        b"/kv/../internal/get",
        b"/internal//get",
        b"//internal/get",
        b"/INTERNAL/get",
        b"/internal/get/",
        b"http://localhost/%69nternal/get",
        b"/k%76",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_route_is_reached_by_its_path_as_it_is_written_and_no_other(
    http_client: Client, method: bytes, path: bytes
) -> None:
    """A proxy may keep `/internal/` from strangers by comparing strings."""
    head = method + b" " + path + b"?key=k HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
    answer = http_client.ask(head)
    assert answer.status == 404
    assert json.loads(answer.body)["code"] == "no_such_path"


@pytest.mark.parametrize("method", [b"TRACE", b"PATCH", b"POST", b"OPTIONS"])
def test_other_methods_are_405_with_what_is_allowed(http_client: Client, method: bytes) -> None:
    answer = http_client.ask(
        method + b" /kv?key=k HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n"
    )
    assert answer.status == 405
    assert answer.headers["allow"] == "DELETE,GET,HEAD,PUT"
    assert "access-control-allow-origin" not in answer.headers


def test_connect_opens_no_tunnel(http_client: Client) -> None:
    answer = http_client.ask(b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.status in (400, 404, 405)


@pytest.mark.parametrize(
    "line",
    [
        b"GET /kv?key=k HTTP/9.9",
        b"GET /kv?key=k HTTP/1.x",
        b"GET /kv?key=k HTTP/",
        b"GET /kv?key=k HTTP/2.0",
        b"GET /kv?key=k http/1.1",
        b"GET /kv?key=k HTTP/0.9",
        b"PRI * HTTP/2.0",
    ],
)
def test_another_version_of_http_is_refused(http_client: Client, line: bytes) -> None:
    assert refusal(http_client, line + b"\r\n" + HOST + b"\r\n").status in (400, 505)


def test_a_request_without_a_version_is_refused(http_client: Client) -> None:
    """HTTP/0.9."""
    assert refusal(http_client, b"GET /kv?key=k\r\n\r\n").status == 505


@pytest.mark.parametrize(
    "data",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        b"GET /kv HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET http:///kv HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PUT /kv?key=k HTTP/1.1\r\nX\r\n\r\n",
    ],
    ids=str,
)
def test_what_cannot_be_read_is_answered_as_every_other_mistake(
    http_client: Client, data: bytes
) -> None:
    """A problem in HTTP/1.1 that names no server (`Client.receive` looks), and the end."""
    answer = refusal(http_client, data)
    assert json.loads(answer.body)["code"] == "bad_request"
    assert answer.headers["connection"] == "close"


# --- 50, 51: bodies -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"operations":' * 50_000,
        b'{"operations": [], "operations": []}',
        b'{"operations": [{"op": "put", "op": "get", "key": "k"}]}',
        b'{"operations": [{"op": "put", "key": "k", "value": "v", "ttl": 1e400}]}',
        b'{"operations": [{"op": "put", "key": "k", "value": "v", "ttl": NaN}]}',
        b'{"operations": [{"op": "put", "key": "k", "value": "v", "ttl": 1.5}]}',
        b'{"operations": [{"op": "put", "key": "k", "value": "v", "ttl": ' + b"9" * 5000 + b"}]}",
        b'{"operations": [{"op": "put", "key": "\\ud800", "value": "v"}]}',
        b'{"operations": [{"op": "put", "key": "\xff", "value": "v"}]}',
        b'\xef\xbb\xbf{"operations": []}',
        b'{"operations": []} x',
        b'{"operations": []',
        b'{"operations": [{"op": "put", "key": "k", "value": "v", "extra": 1}]}',
        b'{"operations": [{"op": "incr", "key": "k"}]}',
        b'{"operations": {}}',
        b"null",
        b"",
    ],
    ids=lambda body: body[:40].decode("latin-1"),
)
def test_json_that_is_not_plainly_a_batch_is_400_with_one_line(
    http_client: Client, body: bytes
) -> None:
    head = b"POST /batch HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
    answer = http_client.ask(head + body)
    assert answer.status == 400
    detail = json.loads(answer.body)["detail"]
    assert "\n" not in detail
    assert len(detail) < 300


def test_a_batch_of_100_megabytes_is_413_unread(http_client: Client) -> None:
    head = b"POST /batch HTTP/1.1\r\n" + HOST + b"Content-Length: 100000000\r\n\r\n"
    assert http_client.ask(head + b'{"operations"').status == 413


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"gzip, gzip"])
@pytest.mark.parametrize("request_line", [b"PUT /kv?key=k", b"POST /batch"])
def test_a_compressed_body_is_415(
    http_client: Client, request_line: bytes, encoding: bytes
) -> None:
    head = request_line + b" HTTP/1.1\r\n" + HOST + b"Content-Encoding: " + encoding + b"\r\n"
    assert refusal(http_client, head + b"Content-Length: 4\r\n\r\n\x1f\x8b\x08\x00").status == 415


def test_a_part_of_a_value_is_not_taken_for_the_whole(http_client: Client) -> None:
    """RFC 9110, 14.5."""
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Content-Range: bytes 0-0/9\r\n"
    assert refusal(http_client, head + b"Content-Length: 1\r\n\r\nv").status == 400


# --- 53, 56: conditions and origins ---------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        *(b"If-Match: junk", b"If-Match: *, *", b'If-Match: *\r\nIf-Match: "1"', b'If-Match: "1'),
        *(b'If-Match: "1" "2"', b'If-Match: w/"1"', b'If-Match: "\x01"', b"If-None-Match: 1"),
        *(b'If-Match: "1"\r\nIf-None-Match: junk', b'If-None-Match: "a b"', b"If-Match: W/*"),
        *(b"If-Unmodified-Since: Fri, 01 Jan 2100 00:00:00 GMT", b"If-Modified-Since: x"),
        *(b"Idempotency-Key:", b"Idempotency-Key: " + b"x" * 256, b"Idempotency-Key: \xc3\xa9"),
        b"Idempotency-Key: a\r\nIdempotency-Key: a",
    ],
)
@pytest.mark.parametrize("method", [b"PUT", b"DELETE"])
def test_a_condition_that_cannot_be_read_lets_nothing_through(
    http_client: Client, method: bytes, header: bytes
) -> None:
    head = method + b" /kv?key=k HTTP/1.1\r\n" + HOST + header + b"\r\n"
    answer = http_client.ask(head + b"Content-Length: 1\r\n\r\nv")
    assert answer.status == 400
    assert json.loads(answer.body)["outcome"] == "not_applied"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        *(("/batch", b'If-Match: "1"'), ("/batch", b"If-Modified-Since: x")),
        *(("/batch", b"Idempotency-Key: a"), ("/incr?key=k", b"If-None-Match: *")),
    ],
)
def test_what_would_decide_nothing_is_refused(
    http_client: Client, target: str, header: bytes
) -> None:
    body = b'{"operations": [{"op": "put", "key": "k", "value": "v"}]}'
    assert post(http_client, target, body, headers=header + b"\r\n").status == 400


@pytest.mark.parametrize(
    "target",
    [
        *("/kv?key=k&w=1", "/kv?key=k&r=2", "/kv?key=k&w=3", "/kv?key=k&since_ms=9&w=2"),
        *("/kv?key=k&since_ms=0", "/kv?key=k&since_ms=", "/kv?key=k&ttl=0", "/kv?key=k&since_ms=9"),
    ],
)
def test_a_conditional_write_needs_its_majority_and_says_so(
    http_client: Client, target: str
) -> None:
    head = f"PUT {target} HTTP/1.1\r\n".encode() + HOST + b"If-None-Match: *\r\n"
    answer = http_client.ask(head + b"Content-Length: 1\r\n\r\nv")
    assert answer.status == 400
    assert json.loads(answer.body)["outcome"] == "not_applied"


@pytest.mark.parametrize(
    "target",
    [
        *("/incr", "/incr?key=", "/incr?key=k&by=1.5", "/incr?key=k&by=", "/incr?key=k&by=+1"),
        *("/incr?key=k&by=01", "/incr?key=k&by=nan", "/incr?key=k&by=9223372036854775808"),
        *(
            "/incr?key=k&by=1&by=2",
            "/incr?key=k&w=2",
            "/incr?key=k&since_ms=9",
            "/incr?key=k&ttl=0",
        ),
        "/incr?key=k&by=" + "9" * 5000,
    ],
)
def test_a_step_that_is_no_integer_of_64_bits_is_refused(http_client: Client, target: str) -> None:
    answer = post(http_client, target, b"")
    assert answer.status == 400
    assert json.loads(answer.body)["outcome"] == "not_applied"


def test_a_header_of_many_tags_is_read_at_once(http_client: Client) -> None:
    """A backtracking expression would take years over what is almost a list."""
    tags = b'"a",' * 3000 + b"x"
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"If-Match: " + tags + b"\r\n"
    assert http_client.ask(head + b"Content-Length: 1\r\n\r\nv").status == 400


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://localhost:1", b"x", b"http://["]
)
@pytest.mark.parametrize(
    "request_line",
    [
        *(b"PUT /kv?key=k", b"DELETE /kv?key=k", b"POST /batch", b"POST /join"),
        *(b"GET /kv?key=k", b"HEAD /kv?key=k", b"GET /nodes", b"GET /metrics", b"GET /keys"),
    ],
)
def test_a_request_from_a_page_of_another_origin_is_403(
    http_client: Client, request_line: bytes, origin: bytes
) -> None:
    """Simple requests do nothing, not even read, and no header allows more."""
    head = request_line + b" HTTP/1.1\r\n" + HOST + b"Origin: " + origin + b"\r\n"
    body = b"Content-Type: text/plain\r\nContent-Length: 21\r\n\r\nhttp://127.0.0.1:9000"
    answer = http_client.ask(head + body)
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_write_from_a_page_of_our_own_is_taken(http: Served, http_client: Client) -> None:
    request = (
        b"PUT /kv?key=k HTTP/1.1\r\nHost: localhost:80\r\nOrigin: http://localhost:80\r\n"
        b"Content-Length: 1\r\n\r\nv"
    )
    assert http_client.ask(request).status == 200
    http.store.records.clear()


# --- 57 and the rest ------------------------------------------------------------------------------


def test_a_websocket_is_not_to_be_had(http_client: Client) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    request = b"GET /nope HTTP/1.1\r\n" + HOST + upgrade + b"\r\n"
    assert http_client.ask(request).status == 404


def test_a_head_that_never_ends_is_cut_off_in_the_slow_lane_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Slow headers."""
    monkeypatch.setattr(door, "IDLE_SECONDS", 0.2)
    with Served(FakeStore()) as served, served.client() as client:
        assert client.ask(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").status == 200
        client.send(b"GET /healthz HTTP/1.1\r\nHo")
        assert client.rest() == b""


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /kv?key=k HTTP/1.1\r\n" + HOST + (b"X: " + b"x" * 1000 + b"\r\n") * 17,
        b"GET /kv?key=k HTTP/1.1\r\n" + HOST + b"\r\n" + b"\r\n\r\nGET /healthz HT",
    ],
    ids=["a long head", "empty lines"],
)
def test_a_first_head_that_never_ends_is_cut_off_after_the_hand_over_too(
    monkeypatch: pytest.MonkeyPatch, beginning: bytes
) -> None:
    """Slow headers. Before 3.14.5, aiohttp had no deadline until its first request."""
    monkeypatch.setattr(door, "IDLE_SECONDS", 0.2)
    with Served(FakeStore()) as served, served.client() as client:
        client.send(beginning)
        assert client.rest().count(b"HTTP/1.1 404 ") == beginning.count(b"\r\n\r\n\r\n")
        assert served.call(lambda: served.listener.connections) == 0


def test_who_takes_nothing_of_a_large_answer_is_dropped_in_the_slow_lane_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "REQUEST_SECONDS", 0.2)
    store = FakeStore()
    store.fill(b"k", b"v" * (32 << 20))
    slow = b"Content-Encoding: identity\r\n"
    with Served(store, loop="uvloop") as served, served.client() as client:
        replies = served.http._replies
        client.send(b"GET /kv?key=k HTTP/1.1\r\n" + HOST + slow + b"\r\n")
        served.until(lambda: replies.used > 0)
        served.until(lambda: replies.used == 0 and served.listener.connections == 0)


def test_many_idle_connections_cost_no_timer_and_no_service(http: Served) -> None:
    clients = [http.client() for _ in range(300)]
    try:
        for client in clients:
            assert client.ask(b"GET /kv?key=k HTTP/1.1\r\n" + HOST + b"\r\n").status == 404
        lane = http.http._lane
        assert lane is not None
        assert http.call(lambda: len(lane.deadlines._due)) == 0
        assert http.call(lambda: http.listener.connections) == len(clients)
    finally:
        for client in clients:
            client.close()
    http.until(lambda: http.listener.connections == 0)


def test_a_fault_of_our_own_is_a_500_that_tells_nothing(
    http: Served, http_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("secret path /etc/quorate")

    monkeypatch.setattr(http.store, "status", fail)
    answer = http_client.ask(b"GET /nodes HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert json.loads(answer.body)["outcome"] == "unknown"
    assert http_client.rest() == b""
