# SPDX-License-Identifier: GPL-3.0-or-later
"""A target's query is decoded once, exactly, or refused."""

from __future__ import annotations

from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.http.query import TTL_SECONDS_MAX, Query, checked_key, parse_query
from quorate.errors import InvalidRequest, KeyMissing, KeyTooLarge

ALL = frozenset({"key", "r", "w", "ttl", "timeout"})


def parse(query: str) -> Query:
    return parse_query(f"/kv?{query}", allowed=ALL)


@given(key=st.binary(min_size=1, max_size=64))
def test_any_key_escaped_comes_back(key: bytes) -> None:
    assert parse(f"key={quote_from_bytes(key, safe='')}").key() == key


@given(key=st.text(min_size=1, max_size=32).filter(lambda text: text.isprintable()))
def test_a_form_encoder_may_write_the_query(key: str) -> None:
    assert parse(urlencode({"key": key, "r": "1"})).key() == key.encode()


def test_raw_bytes_are_taken_as_they_are() -> None:
    target = b"/kv?key=\xff\xc3\xa4".decode("utf-8", "surrogateescape")
    assert parse_query(target, allowed=ALL).key() == b"\xff\xc3\xa4"


def test_only_the_first_equals_sign_and_question_mark_divide() -> None:
    assert parse("key=a=b?c;d").key() == b"a=b?c;d"
    assert parse("&&key=a&").key() == b"a"


@pytest.mark.parametrize("query", ["", "key=", "key", "r=1"])
def test_no_key_is_missing(query: str) -> None:
    with pytest.raises(KeyMissing):
        parse(query).key()


def test_the_limit_of_a_key_is_1024_bytes() -> None:
    assert checked_key(b"k" * 1024)
    with pytest.raises(KeyTooLarge):
        checked_key(b"k" * 1025)


@pytest.mark.parametrize(
    "query",
    ["key=%", "key=%g0", "%zz=1", "key=a#b", "nope=1", "key=a&key=a", "%6bey=a&key=b", "=a"],
)
def test_what_can_be_misread_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(query)


def test_what_was_not_given_is_the_default() -> None:
    query = parse("key=a")
    assert (query.quorum("r"), query.ttl_ms(), query.timeout_ms()) == (0, 0, 0)
    assert query.get("r") is None


def test_numbers_and_durations_are_read() -> None:
    query = parse(f"r=1&w=64&ttl={TTL_SECONDS_MAX}&timeout=1m30s")
    assert (query.quorum("r"), query.quorum("w")) == (1, 64)
    assert (query.ttl_ms(), query.timeout_ms()) == (TTL_SECONDS_MAX * 1000, 90_000)


@pytest.mark.parametrize("text", ["0", "-1", "+1", "1.0", "1e3", "", "%201", "65", "٣", "9" * 30])
def test_a_bad_quorum_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="w must be a whole number"):
        parse(f"w={text}").quorum("w")


@pytest.mark.parametrize(
    "text", ["0ms", "5", "-1s", "", "601s", "1e3s", "٣s", "9" * 500 + "s", "\xff"]
)
def test_a_bad_timeout_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="timeout"):
        parse(f"timeout={text}").timeout_ms()
