# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a request ends and the next begins: no answer is the answer to another request."""

from __future__ import annotations

import json
import socket
from itertools import product

import pytest
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy

from quorate.doors.http import request
from tests.conformance.conftest import VALUE_BYTES_MAX, refusal
from tests.http_served import Client, Served

HOST = b"Host: localhost\r\n"
pytestmark = pytest.mark.usefixtures("unharmed")


@pytest.mark.parametrize("path", [b"/kv?key=k", b"/healthz"])
def test_more_header_lines_than_docs_http_tells_are_400(http_client: Client, path: bytes) -> None:
    lines = 128 if HttpRequestParser is not HttpRequestParserPy else 126
    request = b"HEAD " + path + b" HTTP/1.1\r\n" + HOST + b"A: b\r\n" * (lines - 1)
    assert http_client.ask(request + b"\r\n").status in (200, 404)
    assert http_client.ask(request + b"A: b\r\n\r\n").status == 400


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: five\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length:\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: \x0bchunked\r\n",
    ],
)
def test_an_unclear_length_is_400_and_the_connection_ends(
    http_client: Client, headers: bytes
) -> None:
    request = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + headers + b"\r\nvalue"
    assert refusal(http_client, request).status == 400


@pytest.mark.parametrize("length", [2**31, 2**63, 2**70])
def test_a_huge_length_is_refused_at_once(http_client: Client, length: int) -> None:
    request = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % length
    assert http_client.ask(request).status in (400, 413)


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x5\r\nvalue\r\n0\r\n\r\n",
        b"+5\r\nvalue\r\n0\r\n\r\n",
        b"-5\r\nvalue\r\n0\r\n\r\n",
        b" 5\r\nvalue\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nvalue\r\n0\r\n\r\n",
        b"5\nvalue\n0\n\n",
        b"5\r\nvalueXX0\r\n\r\n",
        b"5\r\nvalue0\r\n\r\n",
        b"5;a=\nb\r\nvalue\r\n0\r\n\r\n",
        b"zz\r\nvalue\r\n0\r\n\r\n",
        b"\r\nvalue\r\n0\r\n\r\n",
    ],
)
def test_chunked_nonsense_is_400_and_the_connection_ends(
    http_client: Client, chunks: bytes
) -> None:
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert refusal(http_client, head + chunks).status == 400


LATE_NONSENSE = pytest.mark.parametrize(
    "chunks",
    [
        *(b"zz\r\n", b"\r\n", b"0x5\r\nvalue\r\n", b"5\r\nvalueXX0\r\n\r\n"),
        *(b"0\r\nbad trailer\r\n\r\n", b"5;a=\nb\r\n", b"zz\r\n" * 50_000),
    ],
    ids=lambda chunks: str(chunks[:20]),
)


def begin(http: Served, client: Client, line: bytes) -> None:
    """Send a request but for the end of its body, and return once the door has all that."""
    client.send(
        line + b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n"
    )
    with http.client() as other:
        assert other.ask(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").status == 200


@LATE_NONSENSE
@pytest.mark.parametrize("is_last", [False, True])
def test_chunked_nonsense_that_comes_late_is_400_and_the_connection_ends(
    http: Served, http_client: Client, chunks: bytes, is_last: bool
) -> None:
    """The request is under way by then."""
    begin(http, http_client, b"PUT /kv?key=k")
    http_client.send(chunks)
    if is_last:
        http_client.socket.shutdown(socket.SHUT_WR)
    answer = http_client.receive()
    assert answer.status == 400
    assert json.loads(answer.body)["code"] == "bad_body"
    assert http_client.rest() == b""


@LATE_NONSENSE
def test_chunked_nonsense_in_a_body_that_nobody_reads_ends_the_connection(
    http: Served, http_client: Client, chunks: bytes
) -> None:
    begin(http, http_client, b"PUT /nope")
    assert http_client.receive().status == 404
    http_client.send(chunks)
    assert http_client.receive().status == 400
    assert http_client.rest() == b""


@LATE_NONSENSE
def test_chunked_nonsense_behind_a_request_that_waits_is_answered_after_it(
    http: Served, http_client: Client, chunks: bytes
) -> None:
    http.call(http.store.hold)
    first = b"GET /kv?key=k HTTP/1.1\r\nConnection: keep-alive, x\r\n" + HOST + b"\r\n"
    http_client.send(first)
    begin(http, http_client, b"PUT /kv?key=k")
    http_client.send(chunks)
    with http.client() as other:
        assert other.ask(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").status == 200
    http.call(http.store.release)
    assert [http_client.receive().status for _ in range(2)] == [404, 400]
    assert http_client.rest() == b""


@pytest.mark.parametrize("end", [b"5;" + b"x" * 50_000, b"0\r\n" + b"X-T: 1\r\n" * 10_000])
def test_endless_chunk_extensions_and_trailers_run_into_the_deadline(
    http_client: Client, end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take no memory, but they make no progress either."""
    monkeypatch.setattr(request, "REQUEST_SECONDS", 0.2)
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert http_client.ask(head + end).status in (400, 408)


@pytest.mark.parametrize(
    "coding",
    [b"gzip, chunked", b"deflate,chunked", b"identity, chunked", b"br , Chunked", b",chunked"],
)
@pytest.mark.parametrize("line", [b"PUT /kv?key=k", b"POST /batch", b"POST /nope"])
def test_a_body_in_another_transfer_coding_is_501_and_not_stored_as_it_came(
    http_client: Client, line: bytes, coding: bytes
) -> None:
    """RFC 9112, 6.1."""
    head = line + b" HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: " + coding + b"\r\n\r\n"
    answer = refusal(http_client, head + b"1\r\nv\r\n0\r\n\r\n")
    assert answer.status == 501
    assert json.loads(answer.body)["code"] == "unsupported_coding"


def test_http_1_0_has_no_chunks(http_client: Client) -> None:
    """RFC 9112, 6.1: such a message's framing is faulty."""
    head = b"PUT /kv?key=k HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    assert refusal(http_client, head + b"1\r\nv\r\n0\r\n\r\n").status == 400


def test_a_chunked_body_over_the_limit_is_413(http_client: Client) -> None:
    """Its length is declared nowhere."""
    head = b"PUT /kv?key=k HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    size = VALUE_BYTES_MAX + 1
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"v" * size)
    assert http_client.ask(head + chunk).status == 413


@pytest.mark.parametrize(
    "line", [b"PUT /nope", b"POST /kv?key=k", b"PUT /kv?key=k&odd=1", b"DELETE /kv?key=k&w=99"]
)
def test_a_request_behind_a_body_that_was_refused_unasked_is_not_taken_for_it(
    http_client: Client, line: bytes
) -> None:
    """Who waits for 100 Continue and is refused need not send the body (RFC 9110, 10.1.1)."""
    following = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(following)
    answer = http_client.ask(line + b" HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\n" + length)
    assert answer.status in (400, 404, 405)
    assert answer.headers["connection"] == "close"
    http_client.send(following)
    assert http_client.rest() == b""


@pytest.mark.parametrize(
    "line",
    [
        *(b"GET /kv?key=k", b"HEAD /kv?key=k", b"DELETE /kv?key=k&odd=1", b"PUT /kv?odd=1"),
        *(b"POST /kv?key=k", b"GET /internal/keys", b"HEAD /local/keys", b"POST /batch"),
        *(b"POST /join", b"HEAD /metrics", b"GET /nope", b"PUT /nope", b"TRACE /nodes"),
    ],
    ids=bytes.decode,
)
def test_whatever_a_request_has_the_next_answer_is_that_to_the_next_request(
    http: Served, line: bytes
) -> None:
    """Bodies where none belongs, refusals before a body was read, bodies left out of answers."""
    following = b"GET /explain?key=next HTTP/1.1\r\n" + HOST + b"\r\n"
    bodies = (
        *(b"\r\n", b"Content-Length: 0\r\n\r\n", b"Content-Length: 5\r\n\r\nhello"),
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000,
    )
    headers = (b"", b"Expect: 100-continue\r\n", b"Trailer: x\r\n", b"If-None-Match: *\r\n")
    for header, body in product(headers, bodies):
        with http.client() as client:
            client.send(line + b" HTTP/1.1\r\n" + HOST + header + body + following)
            is_head = line.startswith(b"HEAD ")
            while (answer := client.receive(is_head=is_head)).status == 100:
                pass
            if answer.headers.get("connection") == "close":
                assert client.rest() == b"", (header, body[:50])
            else:
                assert json.loads(client.receive().body)["key"] == "next", (header, body[:50])


# --- upgrades -------------------------------------------------------------------------------------

UPGRADES = [
    b"Connection: Upgrade\r\nUpgrade: x\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: keep-alive, upgrade\r\nUpgrade: h2c, websocket\r\n",
    b"Proxy-Connection: Upgrade\r\nUpgrade: x\r\n",
    b"Upgrade: x\r\n",
    b"Connection: Upgrade\r\n",
    b"HTTP2-Settings: AAMAAABk\r\n",
]


@pytest.mark.parametrize("headers", UPGRADES, ids=str)
@pytest.mark.parametrize(
    "line",
    [b"GET /explain?key=%b", b"GET /internal/keys?prefix=%b", b"PUT /nope?%b", b"GET /kv?key=%b"],
    ids=str,
)
@pytest.mark.parametrize("body", [b"", b"Content-Length: 1\r\n\r\nv"], ids=["", "body"])
def test_no_answer_after_a_declined_upgrade_is_another_requests(
    http_client: Client, line: bytes, headers: bytes, body: bytes
) -> None:
    """Requests are answered in order, and those that are not see the end of the connection."""
    first = line % b"a" + b" HTTP/1.1\r\n" + HOST + headers + (body or b"\r\n")
    behind = [
        b"GET /explain?key=%b HTTP/1.1\r\n" % key + HOST + b"\r\n" for key in (b"b", b"c", b"d")
    ]
    http_client.send(first + behind[0] + behind[1])
    answers = [http_client.receive()]
    while answers[-1].headers.get("connection") != "close" and len(answers) < 3:
        answers.append(http_client.receive())
    if answers[-1].headers.get("connection") == "close":
        assert http_client.rest() == b""
    else:
        answers.append(http_client.ask(behind[2]))
    keys = [json.loads(answer.body)["key"] for answer in answers[1:]]
    assert keys == ["b", "c", "d"][: len(keys)]


@pytest.mark.parametrize("path", [b"/kv?key=k", b"/internal/keys", b"/nope"])
@pytest.mark.parametrize("headers", UPGRADES[:6], ids=str)
def test_no_write_behind_an_upgrade_is_done_in_silence(
    http: Served, http_client: Client, path: bytes, headers: bytes
) -> None:
    first = b"GET " + path + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n"
    delete = b"DELETE /kv?key=k&timeout=2s HTTP/1.1\r\n" + HOST + b"\r\n"
    http_client.send(first + delete)
    is_last = http_client.receive().headers.get("connection") == "close"
    assert (http_client.rest() == b"") if is_last else (http_client.receive().status == 200)
    assert bool(http.store.records) is not is_last
    http.store.records.clear()


def test_what_follows_a_connect_is_no_tunnel(http_client: Client) -> None:
    http_client.send(b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\nSSH-2.0-x\r\n")
    assert http_client.receive().status == 404
    assert http_client.rest() == b""
