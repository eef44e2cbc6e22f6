# SPDX-License-Identifier: GPL-3.0-or-later
"""Tokens: whoever changes anything has none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.security.tokens import PREFIX, Claims, claims_of, issue

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_700_000_000_000
CLAIMS = Claims("ann", NOW + 1000, "blue")
TOKEN = issue(CLAIMS, key=KEY).encode()


def read(token: bytes, *, key: bytes = KEY, at: int = NOW) -> Claims | None:
    return claims_of(token, key=key, cluster="blue", wall_ms=at)


def test_a_token_says_what_was_signed_until_it_expires() -> None:
    assert read(TOKEN) == CLAIMS
    assert read(TOKEN, at=NOW + 999) == CLAIMS
    assert read(TOKEN, at=NOW + 1000) is None


def test_a_token_of_another_key_is_none_and_without_a_key_there_are_none() -> None:
    assert read(TOKEN, key=OTHER) is None
    assert read(issue(CLAIMS, key=b"").encode(), key=b"") is None


def test_a_token_of_another_cluster_is_none() -> None:
    assert claims_of(TOKEN, key=KEY, cluster="green", wall_ms=NOW) is None


@pytest.mark.parametrize("length", range(len(TOKEN)))
def test_a_token_that_is_cut_is_none(length: int) -> None:
    assert read(TOKEN[:length]) is None


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
def test_a_token_with_another_byte_is_none(at: int, flipped: int) -> None:
    altered = bytearray(TOKEN)
    altered[at] ^= flipped
    assert read(bytes(altered)) is None


@given(st.binary(max_size=200))
def test_bytes_are_no_token(data: bytes) -> None:
    assert read(data) is None
    assert read(PREFIX + data) is None


@given(st.binary(max_size=200))
def test_what_follows_a_token_makes_it_none(data: bytes) -> None:
    assert (read(TOKEN + data) is None) is bool(data)


def test_a_megabyte_is_no_token_and_takes_no_time() -> None:
    assert read(PREFIX + b"a" * (1 << 20)) is None
    assert read(TOKEN + b"=" * (1 << 20)) is None


@given(
    st.text(min_size=1, max_size=64),
    st.integers(0, 1 << 53),
    st.text(max_size=64),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_issued_is_read_back(user: str, expires_ms: int, cluster: str, key: bytes) -> None:
    claims = Claims(user, expires_ms, cluster)
    try:
        token = issue(claims, key=key).encode()
    except UnicodeEncodeError:
        return  # A lone surrogate, which no name has.
    if len(token) <= 1024:
        found = claims_of(token, key=key, cluster=cluster, wall_ms=expires_ms - 1)
        assert found == claims
