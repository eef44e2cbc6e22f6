# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes and cursors as text, there and back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.doors.http.keys import Text, decode_cursor, encode_cursor, from_text, to_text
from quorate.errors import InvalidRequest


@given(raw=st.binary(max_size=64))
def test_any_bytes_survive_json(raw: bytes) -> None:
    said: Text = msgspec.json.decode(msgspec.json.encode(to_text(raw)), type=Text)
    assert from_text(said) == raw
    assert isinstance(said, str) == is_text(raw)


def is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(cursor=st.binary(min_size=1, max_size=1030))
def test_a_cursor_comes_back_and_needs_no_escaping(cursor: bytes) -> None:
    text = encode_cursor(cursor)
    assert decode_cursor(text.encode()) == cursor
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=")


def test_no_cursor_is_the_beginning() -> None:
    assert decode_cursor(None) == decode_cursor(b"") == b""


@pytest.mark.parametrize("text", [b"a", b"!", b"AA A", b"A" * 5000, b"\xff"])
def test_a_cursor_that_no_page_gave_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_cursor(text)
