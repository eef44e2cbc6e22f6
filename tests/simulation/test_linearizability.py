# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker itself: histories that anyone can judge, and all short ones by brute force."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from tests.linearizability import Operation, is_linearizable, read, unknown_write, write


@pytest.mark.parametrize(
    ("history", "is_fine"),
    [
        ([], True),
        ([read(0, 1, None)], True),
        ([read(0, 1, b"a")], False),
        ([*write(0, 1, b"a"), read(2, 3, b"a")], True),
        ([*write(0, 1, b"a"), read(2, 3, None)], False),
        ([*write(0, 3, b"a"), read(1, 2, None)], True),
        ([*write(0, 9, b"a"), read(1, 2, b"a"), read(3, 4, None)], False),
        ([*write(0, 1, b"a"), *write(2, 3, b"b"), read(4, 5, b"a")], False),
        ([*write(0, 3, b"a"), *write(1, 2, b"b"), read(4, 5, b"a")], True),
        ([*write(0, 1, b"a"), *write(2, 3, None), read(4, 5, None)], True),
        ([*unknown_write(0, b"a"), read(5, 6, None), read(7, 8, b"a")], True),
        ([*unknown_write(2, b"a"), read(0, 1, b"a")], False),
        # Seen, overwritten, seen again: only while it is being re-stamped.
        (
            [
                *write(0, 9, b"a", is_restamped=True),
                *write(0, 9, b"b"),
                *[read(1, 2, b"a"), read(3, 4, b"b"), read(5, 6, b"a")],
            ],
            True,
        ),
        (
            [
                *write(0, 9, b"a"),
                *write(0, 9, b"b"),
                *[read(1, 2, b"a"), read(3, 4, b"b"), read(5, 6, b"a")],
            ],
            False,
        ),
    ],
)
def test_a_history_is_judged_as_anyone_would(history: list[Operation], is_fine: bool) -> None:
    assert is_linearizable(history) is is_fine


def _slow(history: tuple[Operation, ...]) -> bool:
    """Try every order."""
    return any(_explains(order) for order in permutations(history))


def _explains(order: tuple[Operation, ...]) -> bool:
    value: bytes | None = None
    for place, op in enumerate(order):
        if any(later.end < op.start for later in order[place + 1 :]):
            return False
        if op.is_read and op.value != value:
            return False
        value = op.value
    return True


def test_it_agrees_with_trying_every_order() -> None:
    spans = [(0.0, 1.0), (2.0, 3.0), (0.0, 3.0)]
    kinds = [(True, None), (True, b"a"), (True, b"b"), (False, b"a"), (False, b"b")]
    every = [Operation(*span, *kind) for span, kind in product(spans, kinds)]
    verdicts = set()
    for history in product(every, repeat=3):
        verdict = is_linearizable(history)
        assert verdict is _slow(history), history
        verdicts.add(verdict)
    assert verdicts == {True, False}
