# SPDX-License-Identifier: GPL-3.0-or-later
"""The fast lane on a make-believe transport: what is canonical, and what is aiohttp's."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.generator import http_with_headers
from quorate.core.values.events import Get
from quorate.doors.http.fast import HEAD_BYTES_MAX
from tests.unit.doors.http.lane_bench import GET, VALUE_BYTES_MAX, Bench, head, run

CANONICAL = [
    GET,
    head(b"HEAD /kv?key=%00%fF HTTP/1.1", b"host:h"),
    head(b"DELETE /kv?key=a.b_c~d-e&w=2 HTTP/1.1", b"User-Agent: x", b"Host: h", b"Accept: */*"),
    head(b"GET /kv?key=k&r=9 HTTP/1.1", b"HOST: h", b"Accept-Encoding: gzip"),
    head(b"GET /kv?key=user:1/a,b@c HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=what+I%27ve+(*)+seen! HTTP/1.1", b"Host: h"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"PUT /kv?key=k HTTP/1.1", b"content-length:\t00", b"Host: h", b"Content-Type: a/b"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept: a", b"Accept: b", b"Accept:"),
    *(
        head(b"GET /kv?key=k HTTP/1.1", b"Host: h", extra)
        for extra in (
            b"Connection: keep-alive, Upgrade,TE",
            b"Connection:keep-alive",
            b"CONNECTION: Keep-Alive ",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABk",
            b"Authorization: Bearer " + b"x" * 4000,
            b"Cookie: a=b",
            b"Range: bytes=0-1",
            b"If-Range: x",
            b"Hostess: x",
            b"Connections: close",
            b"Cache-Control: no-cache",
            b"Pragma: no-cache",
            b"Priority: u=1",
            b"DNT: 1",
            b"TE: trailers",
            b"Sec-Fetch-Site: none",
            b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            b"X-Request-Id: 1",
            b"X-Forwarded-For: 10.0.0.1",
            b"!#$%&'*+.^_`|~09: odd",
        )
    ),
]

FULL = [
    head(b"GET /kv?key=a;b HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a?b HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a=b HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&r=12 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?r=2&timeout=1s&key=a HTTP/1.1", b"Host: h"),
    head(b"HEAD /kv?key=a HTTP/1.1", b"Host: h", b"If-None-Match: *"),
    head(b"GET /kv?key=a HTTP/1.1", b"Host: h", b"Idempotency-Key: says nothing of a read"),
    head(b"PUT /kv?key=k&ttl=9&timeout=1s&w=2 HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0", b"iF-nOnE-mAtCh: *"),
    head(b"PUT /kv?key=k HTTP/1.1", b"If-Match: *", b"Content-Length: 0", b"Host: h"),
    head(b"DELETE /kv?key=k HTTP/1.1", b"Host: h", b'If-Match: W/"a", "b"', b"If-Match:"),
    head(b"DELETE /kv?key=k HTTP/1.1", b"Host: h", b"Idempotency-Key: x y"),
    head(b"DELETE /kv?key=k&since_ms=9 HTTP/1.1", b"Host: h", b"Idempotency-Key:x"),
    head(b"POST /incr?key=k HTTP/1.1", b"Host: h"),
    head(b"POST /incr?by=-5&key=k&ttl=1 HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"POST /incr?key=k HTTP/1.1", b"Host: h", b"Idempotency-Key: x"),
]
"""What says more than a key, and stays too."""

PYTHON = (b"Accept-Encoding: gzip, deflate", b"Accept: */*", b"Connection: keep-alive")
JAVA = (
    *(b"Connection: Upgrade, HTTP2-Settings", b"Host: h", b"Upgrade: h2c"),
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA",
    b"User-Agent: Java-http-client/17.0.15",
)
FETCH = (
    *(b"host: h", b"connection: keep-alive", b"accept: */*", b"accept-language: *"),
    *(b"sec-fetch-mode: cors", b"user-agent: node", b"accept-encoding: gzip, deflate"),
)
Headers = tuple[bytes, ...]
NONE: Headers = ()
ZERO: Headers = (b"Content-Length: 0",)
CLIENTS: dict[str, tuple[Headers, Headers, Headers]] = {
    "requests": ((b"Host: h", b"User-Agent: python-requests/2.34.2", *PYTHON), NONE, ZERO),
    "httpx": ((b"Host: h", *PYTHON, b"User-Agent: python-httpx/0.28.1"), NONE, NONE),
    "Node's fetch": (FETCH, NONE, NONE),
    "Go": ((b"Host: h", b"User-Agent: Go-http-client/1.1", b"Accept-Encoding: gzip"), NONE, NONE),
    "Java": (JAVA, ZERO, ZERO),
    "Java's older client": (
        (
            *(b"User-Agent: Java/17.0.15", b"Host: h", b"Connection: keep-alive"),
            b"Accept: text/html, image/gif, image/jpeg, */*; q=0.2",
        ),
        NONE,
        NONE,
    ),
    "a browser": (
        (*FETCH, b"Priority: u=4", b"Pragma: no-cache", b"Cache-Control: no-cache", b"DNT: 1"),
        NONE,
        NONE,
    ),
}
"""The headers that clients were seen to send: always, with a GET, with a DELETE."""


@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_send_of_their_own_stays_here(client: str) -> None:
    always, reading, deleting = CLIENTS[client]

    async def test(bench: Bench) -> None:
        sent = (b"content-type: text/plain;charset=UTF-8", b"Content-Length: 1")
        bench.send(head(b"PUT /kv?key=k HTTP/1.1", *always, *sent))
        bench.send(b"v")
        await bench.turn()
        bench.send(head(b"GET /kv?key=k HTTP/1.1", *always, *reading))
        await bench.turn()
        bench.send(head(b"DELETE /kv?key=k HTTP/1.1", *always, *deleting))
        await bench.turn()
        assert bench.out.count(b"HTTP/1.1 200 OK") == len(bench.store.events) == 3
        assert bench.taken_over == []

    run(test)


def test_requests_that_benchmarks_send_with_a_clients_headers_stay_here() -> None:
    speech = http_with_headers(8000, b"v", 0)

    async def test(bench: Bench) -> None:
        bench.send(speech.write)
        await bench.turn()
        bench.send(speech.read)
        await bench.turn()
        assert bench.out.count(b"HTTP/1.1 200 OK") == len(bench.store.events) == 2

    run(test)


FOREIGN = [
    head(b"GET /kv?key=k HTTP/1.0", b"Host: h"),
    head(b"GET /kv HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key= HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a#b HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a%2 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a% HTTP/1.1", b"Host: h"),
    head(b"PUT /kv?key=100%25% HTTP/1.1", b"Host: h", b"Content-Length: 0"),
    head(b"DELETE /kv?key=%&w=1 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&r=0 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&key=b HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&ttl=1 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&timeout=1 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&r=1&w=1 HTTP/1.1", b"Host: h"),
    head(b"DELETE /kv?key=a&w=1&r=1 HTTP/1.1", b"Host: h"),
    head(b"DELETE /kv?key=a&w=1 HTTP/1.1", b"Host: h", b"If-Match: *"),
    head(b"DELETE /kv?key=a&since_ms=1 HTTP/1.1", b"Host: h"),
    head(b"DELETE /kv?key=k HTTP/1.1", b"Host: h", b"If-Match: *", b"Content-Length: 1"),
    head(b"DELETE /kv?key=k HTTP/1.1", b"Host: h", *[b"Idempotency-Key: a"] * 2),
    head(b"DELETE /kv?key=k HTTP/1.1", b"Host: stranger", b"If-Match: *"),
    head(b"DELETE /kv?key=" + b"k" * 4096 + b" HTTP/1.1", b"Host: h", b"If-Match: *"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"If-Match: *"),
    head(
        *(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"If-Match: *"),
        b"Content-Length: %d" % (VALUE_BYTES_MAX + 1),
    ),
    head(b"POST /incr HTTP/1.1", b"Host: h"),
    head(b"POST /incr?by=1 HTTP/1.1", b"Host: h"),
    head(b"POST /incr?key=k&by=1.5 HTTP/1.1", b"Host: h"),
    head(b"POST /incr?key=k&w=1 HTTP/1.1", b"Host: h"),
    head(b"POST /incr?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1"),
    head(b"POST /incr?key=k HTTP/1.1", b"Host: h", b"If-Match: *"),
    head(b"GET /incr?key=k HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=a&w=1 HTTP/1.1", b"Host: h"),
    head(b"DELETE /kv?key=a&r=1 HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=" + b"k" * 1025 + b" HTTP/1.1", b"Host: h"),
    head(b"POST /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"get /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"GET /nodes HTTP/1.1", b"Host: h"),
    head(b"GET  /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"GET /kv?key=k HTTP/1.1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: stranger"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Host: h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"host: h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host : h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h h"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"X-Long: " + b"x" * 8193),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", *[b"X-Many: 1"] * 64),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"X-Odd : 1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b": 1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"X"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b" folded: 1"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept: \xff"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept: a\rb"),
    head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1", b"Content-Length: 1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: +1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 1, 1"),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: %d" % (VALUE_BYTES_MAX + 1)),
    head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 99999999999"),
    *(
        head(b"PUT /kv?key=k HTTP/1.1", b"Host: h", b"Content-Length: 0", extra)
        for extra in (
            b"Transfer-Encoding: chunked",
            b"Expect: 100-continue",
            b"Connection: close",
            b"connection: Keep-Alive, CLOSE",
            b"Connection: content-length",
            b"Connection: ,",
            b"Connection:",
            b"If-Match: x",
            b'If-Match: "a" "b"',
            b'If-Match: "\xff"',
            b'If-Match: "a"\t',
            b"If-None-Match: *,*",
            b"Idempotency-Key:",
            b"Idempotency-Key: " + b"x" * 256,
            b"If-Modified-Since: x",
            b"If-Unmodified-Since: x",
            b"Content-Range: bytes 0-0/9",
            b"Origin: http://h",
            b"Content-Encoding: gzip",
        )
    ),
]


@pytest.mark.parametrize("request_bytes", [*CANONICAL, *FULL])
def test_a_canonical_request_is_served_here(request_bytes: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.send(request_bytes)
        await bench.turn()
        assert len(bench.store.events) == 1
        assert bench.out.startswith(tuple(b"HTTP/1.1 %d " % each for each in (200, 400, 404, 412)))
        assert bench.taken_over == []

    run(test)


ESCAPED = st.lists(
    st.sampled_from([bytes([each]) for each in b"Az0._~:@/,-!'()*+"])
    | st.integers(0, 255).map(lambda byte: b"%%%02x" % byte)
    | st.integers(0, 255).map(lambda byte: b"%%%02X" % byte),
    min_size=1,
    max_size=40,
).map(b"".join)


@given(escaped=ESCAPED)
def test_a_key_is_unquoted_as_everyone_unquotes_it(escaped: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.send(head(b"GET /kv?key=" + escaped + b" HTTP/1.1", b"Host: h"))
        (event,) = bench.store.events
        assert isinstance(event, Get)
        assert event.key == unquote_to_bytes(escaped.replace(b"+", b" "))

    run(test)


@pytest.mark.parametrize("request_bytes", FOREIGN)
def test_anything_else_is_aiohttps_byte_for_byte(request_bytes: bytes) -> None:
    """Nothing that can be misread is read here."""

    async def test(bench: Bench) -> None:
        bench.send(request_bytes + b"and more")
        (aiohttp,) = bench.taken_over
        assert aiohttp.data == request_bytes + b"and more"
        assert bench.transport.protocol is aiohttp
        assert bench.store.events == []

    run(test)


@pytest.mark.parametrize("request_bytes", [*CANONICAL, *FULL, *FOREIGN])
def test_the_decision_is_the_same_for_single_bytes(request_bytes: bytes) -> None:
    async def test(bench: Bench) -> None:
        for byte in request_bytes:
            bench.send(bytes([byte]))
        whole = request_bytes in FOREIGN
        assert len(bench.store.events) == (not whole)
        assert b"".join(each.data for each in bench.taken_over) == (request_bytes if whole else b"")

    run(test)


def test_a_head_without_end_is_aiohttps_to_refuse() -> None:

    async def test(bench: Bench) -> None:
        endless = b"GET /kv?key=" + b"k" * HEAD_BYTES_MAX
        bench.send(endless[:HEAD_BYTES_MAX])
        assert bench.taken_over == []
        bench.send(endless[HEAD_BYTES_MAX:])
        assert bench.taken_over[0].data == endless

    run(test)


def test_an_expression_with_many_spaces_takes_no_time() -> None:
    """No header value can make the matching quadratic: this takes seconds where it is."""

    async def test(bench: Bench) -> None:
        started = asyncio.get_running_loop().time()
        bench.send(head(b"GET /kv?key=k HTTP/1.1", b"Host: h", b"Accept:" + b" " * 15_000)[:-3])
        bench.send(b"x")
        assert asyncio.get_running_loop().time() - started < 0.5

    run(test)


@pytest.mark.parametrize("tags", [b"a" + b" " * 8_000 + b"b", b'"a"' + b" ," * 4_000 + b"b"])
def test_a_condition_with_many_spaces_takes_no_time(tags: bytes) -> None:
    async def test(bench: Bench) -> None:
        started = asyncio.get_running_loop().time()
        bench.send(head(b"GET /kv?key=k HTTP/1.1", b"Host: h", *[b"If-Match: " + tags] * 50))
        assert bench.taken_over != []
        assert asyncio.get_running_loop().time() - started < 0.5

    run(test)
