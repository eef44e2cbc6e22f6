# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions are ordered by stamp, then by process, then by link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.values.versions import (
    ABSENT,
    LINK_BYTES,
    LINKED_BYTES,
    VERSION_BYTES,
    chain_of,
    link_of,
    pack_version,
    stamp_of,
    successor,
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


_LINKS = st.integers(1, (1 << 8 * LINK_BYTES) - 1)


@given(_STAMPS, _TIES, _LINKS)
def test_a_link_lies_directly_above_its_base_and_below_whatever_is_stamped_later(
    stamp: int, tie: int, link: int
) -> None:
    base = pack_version(stamp, tie)
    linked = successor(base, link)
    assert len(linked) == LINKED_BYTES
    assert base < linked
    assert (chain_of(linked), link_of(linked), stamp_of(linked)) == (base, link, stamp)
    if tie < (1 << 48) - 1:
        assert linked < pack_version(stamp, tie + 1)


@given(_STAMPS, _TIES, _LINKS, _STAMPS)
def test_each_link_of_a_chain_is_above_the_one_before_whenever_it_is_made(
    stamp: int, tie: int, link: int, made: int
) -> None:
    before = successor(pack_version(stamp, tie), link)
    if link == (1 << 8 * LINK_BYTES) - 1:
        return
    after = successor(before, made)
    assert before < after
    assert chain_of(after) == chain_of(before)
    assert link_of(after) == max(made, link + 1)


def test_what_was_stamped_is_link_0_of_its_own_chain() -> None:
    version = pack_version(1, 1)
    assert (chain_of(version), link_of(version)) == (version, 0)
    assert successor(version) == version + b"\0\0\0\0\0\0\0\1"


def test_a_chain_has_an_end() -> None:
    last = successor(pack_version(1, 1), (1 << 8 * LINK_BYTES) - 1)
    assert last < pack_version(1, 2)
    with pytest.raises(OverflowError):
        successor(last)
