# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the table says of keys and arguments."""

from __future__ import annotations

import pytest

from quorate.doors.redis.command import (
    ALL_KEYS,
    KEY_VALUE_PAIRS,
    NO_KEYS,
    ONE_KEY,
    KeyPositions,
    integer_argument,
    quote,
)
from quorate.doors.redis.session import CommandError


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (NO_KEYS, []),
        (ONE_KEY, [b"1"]),
        (ALL_KEYS, [b"1", b"2", b"3", b"4"]),
        (KEY_VALUE_PAIRS, [b"1", b"3"]),
        (KeyPositions(2, 3, 1), [b"2", b"3"]),
        (KeyPositions(1, -2, 1), [b"1", b"2", b"3"]),
    ],
)
def test_key_positions_pick_the_keys(keys: KeyPositions, expected: list[bytes]) -> None:
    assert keys.of([b"NAME", b"1", b"2", b"3", b"4"]) == expected


def test_a_quoted_argument_is_cut_before_it_is_decoded() -> None:
    assert quote(b"x" * 1000) == "x" * 128
    assert quote(b"\xff" * 3) == "\ufffd" * 3


def test_an_integer_argument_is_an_integer_as_redis_writes_it_or_refused() -> None:
    assert integer_argument(b"-12") == -12
    with pytest.raises(CommandError, match="not an integer"):
        integer_argument(b"+12")
