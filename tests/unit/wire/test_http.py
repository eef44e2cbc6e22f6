# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's HTTP: canonical requests, and responses read whole, in any pieces, within limits."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.errors import PeerProtocolError
from quorate.wire import http
from quorate.wire.http import Response, ResponseParser, encode_request, quote

PLAIN = b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "07"\r\n\r\nhello'
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;name=value\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
)
BARE = b"HTTP/1.1 204 No Content\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN


def parse(*pieces: bytes) -> Response | None:
    """What a parser makes of the pieces."""
    parser = ResponseParser()
    found = None
    for piece in pieces:
        found = parser.feed(piece)
    return found


def test_a_request_is_canonical() -> None:
    assert (
        encode_request("GET", "/kv?key=foo", "h:1")
        == b"GET /kv?key=foo HTTP/1.1\r\nHost: h:1\r\n\r\n"
    )
    assert encode_request("PUT", "/kv?key=foo", "h:1", body=b"bar") == (
        b"PUT /kv?key=foo HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\n\r\nbar"
    )


def test_an_empty_body_is_declared_and_no_body_is_not() -> None:
    assert b"Content-Length: 0\r\n" in encode_request("PUT", "/", "h", body=b"")
    assert b"Content-Length" not in encode_request("DELETE", "/", "h")


def test_who_asks_is_told_behind_the_host() -> None:
    request = encode_request("PUT", "/kv?key=a", "h", body=b"", authorization="Bearer x")
    assert b"Host: h\r\nAuthorization: Bearer x\r\nContent-Length: 0\r\n\r\n" in request


@pytest.mark.parametrize("raw", [b"-ERR what?\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"SSH-2.0"])
def test_what_is_no_http_is_refused_at_once_and_shown(raw: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="not an HTTP response") as raised:
        parse(raw)
    assert raised.value.facts["begins"] == raw.partition(b"\r\n")[0].decode("latin-1")


@pytest.mark.parametrize("size", range(len(b"HTTP/1.1")))
def test_the_beginning_of_an_answer_is_waited_for(size: int) -> None:
    assert parse(b"HTTP/1.1"[:size]) is None


@given(st.binary(max_size=200))
def test_quoted_bytes_survive_unquoting_and_hold_nothing_special(raw: bytes) -> None:
    text = quote(raw)
    assert unquote_to_bytes(text) == raw
    assert not set(text) & set(" +&/?#=:\r\n\0\"'<>")


@pytest.mark.parametrize(
    "raw", [PLAIN, CHUNKED, BARE, INTERIM], ids=["plain", "chunked", "bare", "interim"]
)
@given(data=st.data())
def test_a_response_reads_the_same_in_any_pieces(raw: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    edges = [0, *sorted(cuts), len(raw)]
    pieces = [raw[begin:end] for begin, end in pairwise(edges)]
    parser = ResponseParser()
    answers = [found for piece in pieces if piece and (found := parser.feed(piece))]
    (response,) = answers
    assert response.body == (b"" if raw is BARE else b"hello")
    assert response.keeps_alive


@pytest.mark.parametrize("raw", [PLAIN, CHUNKED], ids=["plain", "chunked"])
def test_a_response_cut_anywhere_is_never_complete(raw: bytes) -> None:
    for end in range(len(raw)):
        parser = ResponseParser()
        assert parser.feed(raw[:end]) is None
        assert parser.end() is None


def test_header_names_are_lower_case_and_values_trimmed() -> None:
    response = parse(b"HTTP/1.1 200 OK\r\nQuorate-VERSION: \t07 \r\nContent-Length: 0\r\n\r\n")
    assert response is not None
    assert response.headers["quorate-version"] == "07"


def test_a_body_without_length_goes_to_the_end_of_the_connection() -> None:
    parser = ResponseParser()
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert parser.feed(b"lo") is None
    response = parser.end()
    assert response is not None
    assert response.body == b"hello"
    assert not response.keeps_alive


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
    ],
)
def test_whether_the_connection_may_be_used_again(head: bytes, keeps_alive: bool) -> None:
    response = parse(head + b"Content-Length: 0\r\n\r\n")
    assert response is not None
    assert response.keeps_alive is keeps_alive


def head(lines: bytes) -> bytes:
    """A response's head with these header lines."""
    return b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"+OK\r\n\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        head(b"no colon"),
        head(b": no name"),
        head(b"Bad : space"),
        head(b" folded: line"),
        head(b"Content-Length: -1"),
        head(b"Content-Length: +5"),
        head(b"Content-Length: 5, 5"),
        head(b"Content-Length: " + b"9" * 30),
        head(b"Content-Length: " + b"9" * 5_000),
        head(b"Content-Length: \xb2"),
        head(b"Transfer-Encoding: gzip"),
        head(b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
        head(b"Transfer-Encoding: chunked") + b"x\r\n",
        head(b"Transfer-Encoding: chunked") + b"-1\r\n",
        head(b"Transfer-Encoding: chunked") + b"0x1\r\n",
        head(b"Transfer-Encoding: chunked") + b"f" * 17 + b"\r\n",
        head(b"Transfer-Encoding: chunked") + b"\r\n",
        head(b"Transfer-Encoding: chunked") + b"1\r\nabc\r\n",
        PLAIN + b"!",
        CHUNKED + b"!",
        BARE + PLAIN,
    ],
)
def test_nonsense_is_refused(raw: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        parse(raw)


def test_an_endless_head_is_refused_at_its_limit() -> None:
    parser = ResponseParser()
    begin = b"HTTP/1.1 200 OK\r\nX: "
    assert parser.feed(begin + b"x" * (http.HEAD_BYTES_MAX - len(begin))) is None
    with pytest.raises(PeerProtocolError, match="head too long"):
        parser.feed(b"xx")


def test_an_endless_chunk_line_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="line too long"):
        parse(head(b"Transfer-Encoding: chunked") + b"1;" + b"x" * 5000)


def test_a_body_over_the_limit_is_refused_when_declared_not_when_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "BODY_BYTES_MAX", 4)
    for lines, body in (
        (b"Content-Length: 5", b""),
        (b"Transfer-Encoding: chunked", b"5\r\n"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n2\r\n"),
        (b"Transfer-Encoding: chunked", b"0\r\nEndless: x\r\n"),
        (b"X: y", b"hello"),
    ):
        with pytest.raises(PeerProtocolError, match="body too long"):
            parse(head(lines) + body)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_waited_for_or_refused(raw: bytes) -> None:
    parser = ResponseParser()
    try:
        parser.feed(b"HTTP/1.1 200 OK\r\n" + raw)
    except PeerProtocolError:
        return
    parser.end()
