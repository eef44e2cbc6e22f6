# SPDX-License-Identifier: GPL-3.0-or-later
"""Glob patterns against a slow obvious model."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from quorate.doors.redis.glob import (
    PATTERN_BYTES_MAX,
    compile_glob,
    is_prefix_alone,
    literal_prefix,
)


def matches(pattern: bytes, key: bytes) -> bool:
    """Redis 7.2's `stringmatchlen`, without its bounds on work."""
    if not pattern:
        return not key
    if pattern[:1] == b"*":
        return any(matches(pattern[1:], key[i:]) for i in range(len(key) + 1))
    if not key:
        return False
    if pattern[:1] == b"[":
        is_hit, rest = in_set(pattern[1:], key[0])
        return is_hit and matches(rest, key[1:])
    if pattern[:1] == b"\\" and len(pattern) > 1:
        pattern = pattern[1:]
        return pattern[:1] == key[:1] and matches(pattern[1:], key[1:])
    return pattern[:1] in (b"?", key[:1]) and matches(pattern[1:], key[1:])


def in_set(pattern: bytes, byte: int) -> tuple[bool, bytes]:
    """Whether a byte is in the set that `pattern` goes on with, and what follows the set."""
    negated = pattern[:1] == b"^"
    at, found = int(negated), False
    while at < len(pattern) and (pattern[at] != ord("]")):
        if pattern[at] == ord("\\") and at + 1 < len(pattern):
            found |= pattern[at + 1] == byte
            at += 2
        elif at + 2 < len(pattern) and pattern[at + 1] == ord("-"):
            low, high = sorted((pattern[at], pattern[at + 2]))
            found |= low <= byte <= high
            at += 3
        else:
            found |= pattern[at] == byte
            at += 1
    return found != negated, pattern[at + 1 :]


pieces = st.text("*?ab-[]^\\\n", max_size=9).map(str.encode)
keys = st.text("ab-]^\\\n", max_size=5).map(str.encode) | st.binary(max_size=3)


@given(pieces, keys)
@example(b"[a-]", b"a")
@example(b"[a-]]", b"_")
@example(b"[\\a-c]", b"b")
@example(b"[c-a]", b"b")
@example(b"[a\\", b"\\")
@example(b"a\\", b"a\\")
def test_a_pattern_matches_what_the_model_matches(pattern: bytes, key: bytes) -> None:
    assert bool(compile_glob(pattern).fullmatch(key)) == matches(pattern, key)


@given(pieces, keys)
def test_whatever_matches_begins_with_the_literal_prefix(pattern: bytes, key: bytes) -> None:
    if matches(pattern, key):
        assert key.startswith(literal_prefix(pattern))


@given(pieces, keys)
@example(b"app:*", b"app:")
@example(b"a\\**", b"a*b")
@example(b"*", b"")
def test_a_pattern_that_is_a_prefix_alone_matches_what_begins_so(
    pattern: bytes, key: bytes
) -> None:
    if is_prefix_alone(pattern):
        assert key.startswith(literal_prefix(pattern)) == matches(pattern, key)


def test_which_patterns_are_a_prefix_alone() -> None:
    assert all(map(is_prefix_alone, [b"app:*", b"*", b"a\\?**"]))
    assert not any(
        map(is_prefix_alone, [b"", b"app:", b"app:*x", b"a?*", b"[a]*", b"a*\\", b"a\\*"])
    )


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        (b"h[ae]llo", [b"hello", b"hallo"], [b"hillo", b"hllo", b"h[ae]llo"]),
        (b"h[^e]llo", [b"hallo", b"h\nllo"], [b"hello", b"hllo"]),
        (b"h[a-c]llo", [b"hbllo"], [b"hdllo", b"h-llo"]),
        (b"h[c-a]llo", [b"hbllo"], [b"hdllo"]),
        (b"h[\\]x]", [b"h]", b"hx"], [b"h\\"]),
        (b"a\\*b", [b"a*b"], [b"axb"]),
        (b"a\\", [b"a\\"], [b"a"]),
        (b"a[", [], [b"a", b"a["]),
        (b"a[b", [b"ab"], [b"a[b"]),
        (b"a.b+", [b"a.b+"], [b"axbb"]),
        (b"[\xf0-\xff]", [b"\xf5"], [b"\xe0"]),
        (b"", [b""], [b"a"]),
    ],
)
def test_sets_escapes_and_bytes_that_are_special_elsewhere(
    pattern: bytes, hits: list[bytes], misses: list[bytes]
) -> None:
    expression = compile_glob(pattern)
    assert [key for key in hits if not expression.fullmatch(key)] == []
    assert [key for key in misses if expression.fullmatch(key)] == []


def test_stars_cannot_make_it_backtrack() -> None:
    """With backtracking this would take longer than the universe has existed."""
    pattern = b"*a" * (PATTERN_BYTES_MAX // 2) + b"b"
    assert compile_glob(pattern).fullmatch(b"a" * 1024) is None
