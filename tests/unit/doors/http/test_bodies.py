# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON that every reader understands alike: RELIABILITY 50."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.http.bodies import decode_json
from quorate.errors import InvalidRequest

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(document=DOCUMENTS)
def test_plain_documents_are_read(document: object) -> None:
    for ascii_only in (True, False):
        assert decode_json(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":1,"a":1}',
        b'[{"a":{"b":1,"b":2}}]',
        b"1.5",
        b"1e2",
        b"1e400",
        b"-1e400",
        b"NaN",
        b"Infinity",
        b"9" * 5000,
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        b"\xff\xfe1\x00",
        b"1 2",
        b"'a'",
        b'"a\nb"',
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
def test_whatever_may_be_misread_is_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_json(body)
    assert "\n" not in caught.value.detail
