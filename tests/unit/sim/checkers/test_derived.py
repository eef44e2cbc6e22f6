# SPDX-License-Identifier: GPL-3.0-or-later
"""A derived write that undoes another is found (P2)."""

from __future__ import annotations

import pytest

from quorate.core.values.events import PutResult
from quorate.sim.checkers import derived
from quorate.sim.history import ClientOperation
from tests.unit.sim.checkers.told import evidence, history, of_derived, of_get, of_put, version

PUT = of_put(b"v", 0, 1, number=5)


def _check(*operations: ClientOperation) -> list[str]:
    return [each.told for each in derived.check(history(*operations), evidence())]


@pytest.mark.parametrize("value", [b"v", None])
def test_a_derived_write_that_is_ordered_over_another_is_found(value: bytes | None) -> None:
    expire = of_derived(value, 2, 6, number=9, seen=5)
    for other in (of_put(b"w", 3, 4, number=7), of_put(None, 3, 4, number=7)):
        (told,) = _check(PUT, expire, other)
        assert "undoes #" in told


@pytest.mark.parametrize("number", [4, 9])
def test_a_write_before_what_was_read_or_after_it_is_not_undone(number: int) -> None:
    expire = of_derived(b"v", 2, 6, number=8, seen=5)
    assert _check(PUT, expire, of_put(b"w", 3, 4, number=number), of_get(b"v", 7, 8)) == []


def test_two_derived_writes_may_carry_on_one_version() -> None:
    one, other = (of_derived(b"v", 2, 6, number=number, seen=5) for number in (7, 8))
    assert _check(PUT, one, other) == []


def test_a_write_with_the_stamp_of_what_was_read_is_not_undone_either() -> None:
    tied = of_put(b"w", 0, 4)
    tied.result = PutResult(version(5, node=2), 2, 3)
    (told,) = _check(PUT, tied, of_derived(b"v", 2, 6, number=6, seen=5))
    assert "undoes #" in told


def test_a_derived_write_without_an_answer_has_no_known_version() -> None:
    expire = of_derived(b"v", 2, 6, number=9, seen=5)
    expire.result = None
    assert _check(PUT, expire, of_put(b"w", 3, 4, number=7)) == []
