# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that every reader understands alike."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from quorate.doors.http.batch import OPERATIONS_MAX, Batch, body_bytes_max
from quorate.doors.http.bodies import decode_json
from quorate.errors import InvalidRequest


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
        decode_json(body, msgspec.json.Decoder(Batch))
    assert time.thread_time() - started < 1.0


def test_a_list_is_counted_by_the_decoder() -> None:
    one = {"op": "get", "key": "a"}
    many = msgspec.json.Decoder(Batch)
    body = json.dumps({"operations": [one] * OPERATIONS_MAX}).encode()
    assert len(decode_json(body, many).operations) == OPERATIONS_MAX
    body = json.dumps({"operations": [one] * (OPERATIONS_MAX + 1)}).encode()
    with pytest.raises(InvalidRequest, match="length <= 1000"):
        decode_json(body, many)
