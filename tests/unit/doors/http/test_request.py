# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries exactly as they were meant, and bodies within their limits."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from quorate.doors.http import request
from quorate.doors.http.batch import OPERATIONS_MAX, BatchBody, body_bytes_max
from quorate.doors.http.portions import Portions
from quorate.doors.http.query import TTL_SECONDS_MAX, Query, parse_query
from quorate.doors.http.request import decode_json, decode_large_json
from quorate.doors.limits import checked_key
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


class Leaf(msgspec.Struct, forbid_unknown_fields=True):
    n: int | UnsetType = UNSET
    text: str | UnsetType = UNSET


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    leaf: Leaf
    leaves: list[Leaf] | UnsetType = UNSET


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text('\\":{}[], \t')
LEAVES = st.fixed_dictionaries({}, optional={"n": st.integers(-(2**63), 2**63), "text": TEXTS})
TREES = st.fixed_dictionaries({"leaf": LEAVES}, optional={"leaves": st.lists(LEAVES, max_size=4)})
decoder = msgspec.json.Decoder(Tree)


@given(tree=TREES, indent=st.sampled_from([None, 2]), gap=st.sampled_from(["", " ", "\r\n\t "]))
def test_plain_documents_are_read(tree: dict[str, Any], indent: int | None, gap: str) -> None:
    for ascii_only in (True, False):
        text = json.dumps(
            tree, ensure_ascii=ascii_only, indent=indent, separators=(",", f"{gap}:{gap}")
        )
        assert decode_json(text.encode(), decoder) == msgspec.convert(tree, Tree)


@given(tree=TREES, gap=st.sampled_from(["", " ", "\n"]), last=LEAVES)
def test_a_repeated_name_is_refused(tree: dict[str, Any], gap: str, last: dict[str, Any]) -> None:
    text = json.dumps(tree)[:-1] + f', "leaf"{gap}: {json.dumps(last)}' + "}"
    with pytest.raises(InvalidRequest, match="repeated"):
        decode_json(text.encode(), decoder)


@given(
    tree=TREES,
    gap=st.sampled_from(["", " ", "\n", " " * 20]),
    last=st.none() | LEAVES,
    size=st.integers(1, 40),
)
def test_names_are_counted_alike_in_portions(
    tree: dict[str, Any], gap: str, last: dict[str, Any] | None, size: int
) -> None:
    """Wherever a portion ends: in a name, behind it, in the white space before its colon."""
    text = json.dumps(tree, separators=(",", f"{gap}:"))
    if last is not None:
        text = text[:-1] + f', "leaf"{gap}: {json.dumps(last)}' + "}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request, "PORTION_BYTES", size)
        decoded = decode_large_json(text.encode(), decoder, Portions())
        if last is None:
            assert asyncio.run(decoded) == msgspec.convert(tree, Tree)
        else:
            with pytest.raises(InvalidRequest, match="repeated"):
                asyncio.run(decoded)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"leaf":{},"leaves":' + b"[" * 100_000,
        b'{"x":' * 100_000,
        b'{"leaf":{"n":1,"n":1}}',
        b'{"leaf":{},"leaves":[{"text":"b","text":"c"}]}',
        b'{"leaf":{"n":1.0}}',
        b'{"leaf":{"n":1e2}}',
        b'{"leaf":{"n":1e400}}',
        b'{"leaf":{"n":NaN}}',
        b'{"leaf":{"n":Infinity}}',
        b'{"leaf":{"n":true}}',
        b'{"leaf":{"n":' + b"9" * 5000 + b"}}",
        b'{"leaf":{"text":"\\ud800"}}',
        b'{"leaf":{"text":"\\udfff"}}',
        b'{"leaf":{"text":"\xff"}}',
        b'{"leaf":{"text":"\xed\xa0\x80"}}',
        b'{"leaf":{"text":"a\nb"}}',
        b'{"leaf":{"more":1}}',
        b'\xef\xbb\xbf{"leaf":{}}',
        b"\xff\xfe1\x00",
        b'{"leaf":{}} 2',
        b"'a'",
        b"null",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_whatever_may_be_misread_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_json(body, decoder)
    assert "\n" not in caught.value.detail


BODY_BYTES_MAX = body_bytes_max(8 << 20)


@pytest.mark.parametrize(
    "unit",
    [
        b'{"op":"get","key":"a"},',
        b'{"op":"get","key":"a"},0,',
        b"0,",
        b"{},",
        b"[],",
        b'{"op":"get",' + b'"op":"get",' * 100_000 + b'"key":"a"},',
        b'{"op":"put","key":"a","value":"' + b'\\"' * 500_000 + b'"},',
        b'{"op":"put","key":"a","value":"' + b"\\u00e9" * 100_000 + b'"},',
    ],
    ids=lambda unit: unit[:40].decode(),
)
def test_the_largest_hostile_batch_holds_up_nobody_for_long(unit: bytes) -> None:
    """Seconds, if objects are built in Python before they are counted."""
    body = b'{"operations":[' + unit * (BODY_BYTES_MAX // len(unit)) + b"0]}"
    started = time.thread_time()
    with pytest.raises(InvalidRequest):
        decode_json(body, msgspec.json.Decoder(BatchBody))
    assert time.thread_time() - started < 1.0


def test_a_list_is_counted_by_the_decoder() -> None:
    one = {"op": "get", "key": "a"}
    many = msgspec.json.Decoder(BatchBody)
    body = json.dumps({"operations": [one] * OPERATIONS_MAX}).encode()
    assert len(decode_json(body, many).operations) == OPERATIONS_MAX
    body = json.dumps({"operations": [one] * (OPERATIONS_MAX + 1)}).encode()
    with pytest.raises(InvalidRequest, match="length <= 1000"):
        decode_json(body, many)
