# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that real parsers read, and replies counted right however they are cut."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.bench.load import TargetConnection
from quorate.bench.protocols import (
    Codec,
    HttpCodec,
    ProtocolFault,
    RespCodec,
    Tally,
    read_reply,
)
from quorate.wire import resp

VALUE = b"two\r\nlines"


def commands(raw: bytes) -> list[list[bytes]]:
    """What a Redis reads."""
    reader = hiredis.Reader()
    reader.feed(raw)
    found: list[list[bytes]] = []
    while (command := reader.gets()) is not False:
        found.append(command)
    return found


def test_resp_requests_are_what_redis_reads() -> None:
    codec = RespCodec(value=VALUE, wait=0)
    assert commands(codec.read(7) + codec.write(99_999)) == [
        [b"GET", b"quorate-bench:000000000000007"],
        [b"SET", b"quorate-bench:000000000099999", VALUE],
    ]
    assert codec.replies_per_write == 1


def test_wait_follows_each_set_and_is_a_reply_more() -> None:
    codec = RespCodec(value=b"x", wait=12)
    assert commands(codec.write(1))[1] == [b"WAIT", b"12", b"1000"]
    assert codec.replies_per_write == 2


def test_http_requests_are_canonical() -> None:
    codec = HttpCodec(value=VALUE, authority="h:1")
    assert codec.read(7) == (
        b"GET /kv?key=quorate-bench%3A000000000000007 HTTP/1.1\r\nHost: h:1\r\n\r\n"
    )
    assert codec.write(7) == (
        b"PUT /kv?key=quorate-bench%3A000000000000007 HTTP/1.1\r\n"
        b"Host: h:1\r\nContent-Length: 10\r\n\r\n" + VALUE
    )


def test_http_requests_ask_for_quorums_in_a_way_that_is_still_canonical() -> None:
    codec = HttpCodec(value=b"x", authority="h:1", w=3, r=2)
    assert codec.read(7).startswith(b"GET /kv?key=quorate-bench%3A000000000000007&r=2 HTTP/1.1\r\n")
    assert codec.write(7).startswith(
        b"PUT /kv?key=quorate-bench%3A000000000000007&w=3 HTTP/1.1\r\n"
    )


def response(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nA: b\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


RESP = [
    (b"+OK\r\n", None, 0),
    (b"$10\r\n" + VALUE + b"\r\n", None, 0),
    (b"$0\r\n\r\n", None, 0),
    (b"$-1\r\n", None, 1),
    (b"-NOREPLICAS too few\r\n", "NOREPLICAS", 0),
    (b":2\r\n", None, 0),
    (b":1\r\n", "WAIT reached too few replicas", 0),
]
HTTP = [
    (response(200, VALUE), None, 0),
    (response(200, b""), None, 0),
    (response(404, b'{"code": "not_found"}'), None, 1),
    (response(404, b""), "404", 0),
    (response(503, b'{"code":"quorum_unreachable"}'), "503 quorum_unreachable", 0),
]


@pytest.mark.parametrize(
    ("codec", "kinds"),
    [(RespCodec(value=b"x", wait=2), RESP), (HttpCodec(value=VALUE, authority="h"), HTTP)],
    ids=["resp", "http"],
)
@given(data=st.data())
def test_replies_are_counted_the_same_however_they_are_cut(
    codec: Codec, kinds: list[tuple[bytes, str | None, int]], data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(kinds), max_size=6))
    raw = b"".join(reply for reply, _, _ in chosen)
    connection, tally, count, begin = TargetConnection(("h", 1), codec), Tally(), 0, 0
    for end in [*sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5))), len(raw)]:
        if end > begin:
            count += connection.take(raw[begin:end], tally)
        begin = end
    connection.close()
    assert count == len(chosen)
    assert codec.take(b"", tally) == (0, b"", 0)
    assert tally.misses == sum(misses for _, _, misses in chosen)
    kinds_seen = [kind for _, kind, _ in chosen if kind]
    assert tally.failed == len(kinds_seen)
    assert dict(tally.errors) == {kind: kinds_seen.count(kind) for kind in kinds_seen}


@pytest.mark.parametrize("length", [0, 10, 100, 101])
def test_an_http_reply_ends_where_its_header_says(length: int) -> None:
    """As many bytes as a hit has, and a hit's length in the body, make no hit."""
    body = b"\r\nContent-Length: 100\r\n".ljust(100, b".")
    codec = HttpCodec(value=body, authority="h")
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + body
    taken = codec.take(raw, Tally())
    assert taken == ((1, body[length:], 0) if length <= len(body) else (0, b"", 1))


@pytest.mark.parametrize(
    ("codec", "raw"),
    [
        (RespCodec(value=b"", wait=0), b"HTTP/1.1 400 Bad Request\r\n"),
        (RespCodec(value=b"", wait=0), b"*1\r\n"),
        (RespCodec(value=b"", wait=0), b"*1\r\n:1\r\n"),
        (RespCodec(value=b"", wait=0), b"$abc\r\n"),
        (RespCodec(value=b"", wait=0), b":abc\r\n"),
        (RespCodec(value=b"", wait=0), b"\r\n"),
        (HttpCodec(value=b"", authority="h"), b"-ERR\r\n\r\n"),
        (HttpCodec(value=b"", authority="h"), b"HTTP/1.1 200 OK\r\n\r\n"),
    ],
)
def test_bytes_that_are_no_reply_are_a_fault(codec: Codec, raw: bytes) -> None:
    with pytest.raises(ProtocolFault):
        codec.take(raw, Tally())


def test_a_reply_of_lists_is_read_from_its_last_byte_on() -> None:
    value = [1, [b"two\r\nlines", None, [b""]], -3]
    data = b"+before\r\n" + resp.encode(value, 2)
    for size in range(9, len(data)):
        read = read_reply(data[:size], 9)
        assert read is None or read[1] > size
    assert read_reply(data + b"+after", 9) == (value, len(data))


@pytest.mark.parametrize(
    ("codec", "reply"),
    [
        (RespCodec(value=b"x", wait=0), b"$1000\r\n" + b"v" * 1000 + b"\r\n"),
        (HttpCodec(value=b"x", authority="h"), response(200, b"v" * 1000)),
    ],
    ids=["resp", "http"],
)
def test_the_rest_of_a_large_value_is_not_kept(codec: Codec, reply: bytes) -> None:
    assert codec.take(reply[:500], Tally()) == (0, b"", len(reply) - 500)
