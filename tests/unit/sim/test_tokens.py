# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that say who made them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.sim.tokens import Token, behind, count_of, last_of, token_of, tokens_of

_NUMBERS = st.integers(0, 1 << 40)
_NAMES = st.tuples(_NUMBERS, _NUMBERS, st.integers(0, 9))


@given(_NAMES, st.binary(max_size=40), st.integers(0, 9), st.integers(0, 300))
def test_a_token_says_who_made_it(
    name: tuple[int, int, int], key: bytes, count: int, size: int
) -> None:
    value = token_of(name, key, count=count, size=size)
    assert tokens_of(value) == (Token(*name, key, count),)
    assert last_of(value) == name
    assert len(value) >= size
    assert len(value) == size or size < 120


@given(st.lists(st.tuples(_NAMES, st.booleans()), min_size=1, max_size=6))
def test_a_value_has_all_its_tokens_in_order_and_counts_those_that_count(
    made: list[tuple[tuple[int, int, int], bool]],
) -> None:
    value = None
    for name, does_count in made:
        value = behind(value, name, b"k", counts=int(does_count))
    assert value is not None
    assert [each.name for each in tokens_of(value) or ()] == [name for name, _ in made]
    assert count_of(value) == sum(does_count for _, does_count in made)


@given(st.integers(0, 120), st.integers(1, 255))
def test_a_value_with_any_byte_changed_is_nobodys(place: int, change: int) -> None:
    value = bytearray(token_of((3, 14, 0), b"key", size=121))
    value[place] ^= change
    assert tokens_of(bytes(value)) is None
    assert last_of(bytes(value)) is None
    assert count_of(bytes(value)) == 0


@pytest.mark.parametrize("value", [b"", b"00000000", b"x" * 8, b"|||", b"1|2|3|abcdefgh", b","])
def test_what_is_no_value_is_nobodys(value: bytes) -> None:
    assert tokens_of(value) is None


def test_a_cut_value_is_nobodys() -> None:
    value = token_of((3, 14, 0), b"key", size=60)
    assert all(tokens_of(value[:cut]) is None for cut in range(60))
