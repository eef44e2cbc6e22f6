# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions are ordered by stamp, then by process; what is derived comes directly behind."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.versions import (
    ABSENT,
    DERIVED_BITS,
    TIES,
    VERSION_BYTES,
    derived_version,
    pack_version,
    stamp_of,
)

_STAMPS = st.integers(0, (1 << 64) - 1)
_TIES = st.integers(0, (1 << 48) - 1)


@given(_STAMPS, _TIES, _STAMPS, _TIES)
def test_versions_order_by_stamp_then_process(a: int, m: int, b: int, n: int) -> None:
    one, other = pack_version(a, m), pack_version(b, n)
    assert len(one) == VERSION_BYTES
    assert (one < other) == ((a, m) < (b, n))
    assert stamp_of(one) == a
    assert one > ABSENT


_DRAWN_TIES = st.integers(TIES[0], TIES[-1])
_DRAWN = st.integers(0, (1 << DERIVED_BITS) - 1)


@given(
    st.integers(1, 1 << 62), _DRAWN_TIES, _DRAWN_TIES, st.lists(_DRAWN, min_size=1, max_size=128)
)
def test_what_is_derived_is_above_what_it_carries_on_and_below_the_next_stamp_of_any_process(
    stamp: int, tie: int, other_tie: int, draws: list[int]
) -> None:
    version = pack_version(stamp, tie)
    for drawn in draws:
        derived = derived_version(version, drawn)
        assert version < derived < pack_version(stamp + 1, other_tie)
        version = derived


@given(_STAMPS, _DRAWN_TIES, _DRAWN)
def test_hardly_a_process_has_a_tie_between_what_is_derived_and_what_it_carries_on(
    stamp: int, tie: int, drawn: int
) -> None:
    seen = pack_version(stamp, tie)
    derived = derived_version(seen, drawn)
    distance = int.from_bytes(derived, "big") - int.from_bytes(seen, "big")
    assert distance * 1_000_000 < len(TIES)


def test_what_is_derived_from_one_version_is_told_apart_by_what_was_drawn() -> None:
    seen = pack_version(1, TIES[0])
    assert derived_version(seen, 1) != derived_version(seen, 2)
