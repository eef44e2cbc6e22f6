# SPDX-License-Identifier: GPL-3.0-or-later
"""Headers that are found again mean what they meant, and little of them is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.http.canonical import HEADERS, HEADERS_WITH_LOGIN, LINE
from quorate.doors.http.heads import KEPT_BYTES_MAX, KEPT_MAX, NO_LENGTH, Head, Heads
from quorate.doors.http.kv import METHODS
from tests.unit.doors.http.lane_bench import head

LINES = st.lists(
    st.sampled_from(
        [
            *(b"Host: h", b"host: [::1]:8000", b"Host:", b"Host : h", b"Accept: */*", b"A: b\tc"),
            *(b"Content-Length: 0", b"Content-Length: 00", b"content-length:7", b"Expect: x"),
            *(b"Connection: keep-alive", b"Connection: close", b"Authorization: Basic eDp5"),
            *(b"Transfer-Encoding: chunked", b"", b" folded", b"X: \x7f", b"X: \xe9"),
        ]
    ),
    max_size=6,
)


def told(found: Head | None) -> object:
    """What a head says."""
    return found and (found.host, found.length, found.is_bodiless, found.shown, found.size)


@given(st.lists(LINES, max_size=8), st.binary(max_size=5), st.booleans())
def test_headers_found_again_mean_what_they_mean_alone(
    blocks: list[list[bytes]], rest: bytes, asks: bool
) -> None:
    """Whatever came before on the connection, and whatever comes behind them."""
    fullmatch = (HEADERS_WITH_LOGIN if asks else HEADERS).fullmatch
    heads = Heads(fullmatch, asks=asks)
    for lines in [*blocks, *blocks]:
        data = b"line " + head(b"HTTP/1.1", *lines) + rest
        alone = Heads(fullmatch, asks=asks).at(data, 5)
        assert told(heads.at(data, 5)) == told(alone)


def test_headers_that_came_last_are_not_taken_for_others() -> None:
    heads = Heads(HEADERS.fullmatch, asks=False)
    ways = [
        (b"GET", head(b"HTTP/1.1", b"Host: h"), b""),
        (b"PUT", head(b"HTTP/1.1", b"Host: h", b"Content-Length: 1"), b"v"),
        (b"GET", head(b"HTTP/1.1", b"Host: g"), b""),
        (b"GET", head(b"HTTP/1.1", b"Host: h", b"Accept: */*"), b""),
    ]
    for _, block, _ in ways:
        assert heads.at(block, 0) is not None
    for _, block, _ in ways:
        for method, other, body in (*ways, *ways):
            heads.plain(b"GET /kv?key=k " + block)
            plain = heads.plain(b"%b /kv?key=k %b%b" % (method, other, body))
            assert plain is not None
            assert told(plain.head) == told(Heads(HEADERS.fullmatch, asks=False).at(other, 0))


def test_a_plain_request_that_is_not_whole_is_none() -> None:
    heads = Heads(HEADERS.fullmatch, asks=False)
    block = head(b"HTTP/1.1", b"Host: h", b"Content-Length: 1")
    assert heads.at(block, 0) is not None
    for data in (b"PUT /kv?key=k " + block + b"v", b"GET /kv?key=k " + block):
        assert all(heads.plain(data[:end]) is None for end in range(len(data)))
        assert heads.plain(data) is not None
        assert all(heads.plain(data[:end]) is None for end in range(len(data)))


def test_a_length_says_whether_there_is_a_body() -> None:
    heads = Heads(HEADERS.fullmatch, asks=False)
    for lines, length, is_bodiless in (
        ([b"Host: h"], NO_LENGTH, True),
        ([b"Host: h", b"Content-Length: 0"], 0, True),
        ([b"Host: h", b"Content-Length: 00"], 0, False),
        ([b"Host: h", b"Content-Length: 12"], 12, False),
    ):
        data = head(b"HTTP/1.1", *lines)
        assert told(heads.at(data, 0)) == (b"h", length, is_bodiless, None, len(data))


def test_headers_that_are_not_whole_are_none() -> None:
    heads = Heads(HEADERS.fullmatch, asks=False)
    data = head(b"HTTP/1.1", b"Host: h")
    assert heads.at(data, 0) is not None
    assert all(heads.at(data[:end], 0) is None for end in range(len(data)))


def test_what_is_matched_is_kept_and_the_rest_is_not() -> None:
    matched: list[bytes] = []

    def heads_of(*, asks: bool) -> Heads:
        pattern = HEADERS_WITH_LOGIN if asks else HEADERS

        def fullmatch(block: bytes) -> object:
            matched.append(block)
            return pattern.fullmatch(block)

        return Heads(fullmatch, asks=asks)  # type: ignore[arg-type]

    def times(heads: Heads, data: bytes) -> int:
        """How often `data` is matched when it comes twice."""
        matched.clear()
        heads.at(data, 0)
        heads.at(data, 0)
        return len(matched)

    usual, login = (
        head(b"HTTP/1.1", b"Host: h"),
        head(b"HTTP/1.1", b"Host: h", b"Authorization: Bearer x"),
    )
    long = head(b"HTTP/1.1", b"Host: h", b"X: " + b"x" * KEPT_BYTES_MAX)
    heads = heads_of(asks=True)
    assert times(heads, usual) == 1
    assert times(heads, login) == 2, "who asks is not kept"
    assert times(heads, long) == 2
    assert times(heads, head(b"HTTP/1.1", b"Host: h", b"Expect: x")) == 2
    assert times(heads_of(asks=True), usual) == 1, "each connection has its own"
    assert times(heads, usual) == 0
    for number in range(KEPT_MAX):
        assert times(heads, head(b"HTTP/1.1", b"Host: h", b"X: %d" % number)) == 1
    assert times(heads, usual) == 1, "at most so many are kept"


KEYS = st.text("kK0:/.=+%&?# \\\x7f\xe9\r", max_size=6).map(str.encode)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 4 + [b"HTTP/1.0", b"HTTP/1.1 ", b" HTTP/1.1", b""])
LINE_BEGINS = st.sampled_from(
    [b"%b /kv?key=" % method for method in (b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"get")]
    + [
        b"GET  /kv?key=",
        b"PUT\t/kv?key=",
        b"GET /kv?Key=",
        b"GET /keys?key=",
        b"GET http://h/kv?key=",
    ]
)


@given(LINE_BEGINS, KEYS, VERSIONS, LINES, st.sampled_from([b"", b"v", b"\r\n\r\n", b"1234567"]))
def test_a_plain_request_is_what_the_expressions_say_it_is(
    begin: bytes, key: bytes, version: bytes, lines: list[bytes], body: bytes
) -> None:
    """And nothing else is one, whatever headers came before."""
    heads = Heads(HEADERS.fullmatch, asks=False)
    data = begin + key + b" " + head(version, *lines) + body
    line = LINE.match(data)
    found = None if line is None else heads.at(data, line.end())
    # Blocks of what is no request, of which none may be taken for headers.
    heads.at(data, len(begin + key) + 1)
    plain, again = heads.plain(data), heads.plain(data)
    if plain is None or again is None:
        assert plain is again
        return
    assert told(plain.head) == told(again.head)
    assert heads.plain(data + b"x") is None
    assert line is not None
    assert found is not None
    assert line.group(1, 2, 3) == (plain.key, None, None)
    assert METHODS[data[: data.index(b" ")]] is plain.method
    assert told(found) == told(plain.head)
    assert plain.end == line.end() + found.size
    assert data[plain.end :] == (body if plain.method.has_body else b"")


def test_a_request_whose_headers_came_before_is_plain() -> None:
    """As the test above would pass if none were."""
    for lines, body in (
        ([b"GET", b"Host: h"], b""),
        ([b"DELETE", b"Host: h", b"Content-Length: 0"], b""),
        ([b"PUT", b"Host: h", b"Content-Length: 5"], b"a b\r\n"),
    ):
        heads = Heads(HEADERS.fullmatch, asks=False)
        data = head(lines[0] + b" /kv?key=user:1 HTTP/1.1", *lines[1:]) + body
        assert heads.plain(data) is None
        heads.at(data, data.index(b"HTTP"))
        assert heads.plain(data) is not None
        assert heads.plain(data + b"x") is None
        assert heads.plain(data[:-1]) is None
        assert heads.plain(data.replace(b"user:1", b"user%31")) is None
