# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lock and a horizon keep out, and what they let in (P5, I12)."""

from __future__ import annotations

import pytest

from quorate.core.horizons import Fenced, Fences
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, stamp_at, successor

SLICE_MS = 1_000
LOCK, HORIZON = 20, 10


def version(ms: int) -> bytes:
    return pack_version(stamp_at(ms), 7)


class Meta:
    """The meta entries of a disk."""

    def __init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}

    def put(self, name: bytes, blob: bytes | None) -> None:
        self.blobs.pop(name, None)
        if blob is not None:
            self.blobs[name] = blob

    def fences(self) -> Fences:
        return Fences(self.blobs.get, self.put, SLICE_MS)


@pytest.fixture
def fences() -> Fences:
    """Partition 3 is locked at 20 s, and what is below 10 s is dropped."""
    found = Meta().fences()
    found.lock(3, LOCK, 99)
    found.advance(3, HORIZON)
    return found


OLD, YOUNG = version(9_000), version(15_000)
LIVE, DEAD = Record(OLD, b"v"), Record(OLD, None)
EXPIRED = Record(OLD, b"v", 5_000)
FRESH_DEAD = Record(OLD, None, 30_000)
"""A tombstone that carries on an old version, as GETDEL writes it."""


def test_nothing_is_kept_out_where_there_is_no_lock(fences: Fences) -> None:
    assert fences.lets_in(4, LIVE, None)


def test_what_is_at_the_lock_or_above_is_let_in(fences: Fences) -> None:
    assert fences.lets_in(3, Record(fences.beginning(LOCK), b"v"), None)
    assert fences.highest == fences.beginning(LOCK)


@pytest.mark.parametrize("record", [LIVE, FRESH_DEAD])
def test_below_the_horizon_nothing_comes_back_where_nothing_is_held(
    fences: Fences, record: Record
) -> None:
    with pytest.raises(Fenced) as refused:
        fences.lets_in(3, record, None)
    assert refused.value.is_final
    assert refused.value.bound == fences.beginning(LOCK)


@pytest.mark.parametrize("record", [DEAD, EXPIRED])
def test_garbage_below_the_horizon_counts_as_kept_where_nothing_is_held(
    fences: Fences, record: Record
) -> None:
    assert not fences.lets_in(3, record, None)


@pytest.mark.parametrize("value", [b"v", None])
def test_between_horizon_and_lock_it_may_be_taken_later(
    fences: Fences, value: bytes | None
) -> None:
    with pytest.raises(Fenced) as refused:
        fences.lets_in(3, Record(YOUNG, value), None)
    assert not refused.value.is_final


def test_a_tombstone_below_the_lock_does_not_take_the_place_of_a_value(fences: Fences) -> None:
    """Else one replica would drop it, and another keep the value."""
    with pytest.raises(Fenced):
        fences.lets_in(3, Record(version(9_001), None), LIVE)


@pytest.mark.parametrize("record", [LIVE, FRESH_DEAD])
def test_what_is_no_garbage_takes_the_place_of_what_is_none(fences: Fences, record: Record) -> None:
    assert fences.lets_in(3, record, Record(version(8_000), b"v"))


@pytest.mark.parametrize("held", [DEAD, EXPIRED])
def test_nothing_below_the_lock_takes_the_place_of_garbage(fences: Fences, held: Record) -> None:
    with pytest.raises(Fenced):
        fences.lets_in(3, Record(version(9_500), b"v"), held)


def test_garbage_is_below_the_boundary_and_deleted_or_expired_by_then(fences: Fences) -> None:
    assert fences.is_garbage(DEAD, HORIZON)
    assert fences.is_garbage(EXPIRED, HORIZON)
    assert not fences.is_garbage(LIVE, HORIZON)
    assert not fences.is_garbage(Record(OLD, b"v", 10_001), HORIZON)
    assert not fences.is_garbage(Record(fences.beginning(HORIZON), None), HORIZON)
    assert not fences.is_garbage(FRESH_DEAD, HORIZON)
    assert fences.is_garbage(FRESH_DEAD, 30)


@pytest.mark.parametrize("value", [b"v", None])
def test_what_was_made_at_the_boundary_is_no_garbage_whatever_its_stamp_and_its_expiry(
    fences: Fences, value: bytes | None
) -> None:
    """Digests count it by its link: not all that agree at the boundary need to have it."""
    before = successor(OLD, stamp_at(HORIZON * SLICE_MS) - 1)
    at = successor(OLD, stamp_at(HORIZON * SLICE_MS))
    assert fences.is_garbage(Record(before, value, 5_000), HORIZON)
    assert not fences.is_garbage(Record(at, value, 5_000), HORIZON)
    assert fences.is_garbage(Record(at, value, 5_000), HORIZON + 1)


def test_what_was_made_after_the_horizon_is_not_acknowledged_unless_it_is_kept(
    fences: Fences,
) -> None:
    late = Record(successor(OLD, stamp_at(HORIZON * SLICE_MS)), b"v", 5_000)
    with pytest.raises(Fenced) as refused:
        fences.lets_in(3, late, None)
    assert refused.value.is_final


def test_a_restart_forgets_nothing_and_a_copy_that_is_given_up_everything() -> None:
    meta = Meta()
    first = meta.fences()
    first.lock(3, LOCK, 99)
    first.advance(3, HORIZON)
    second = meta.fences()
    assert _state(second, 3) == (LOCK, HORIZON, 99, False)
    assert second.highest == second.beginning(LOCK)
    assert second.unswept() == [3]
    assert not second.is_swept(3)
    second.swept(3)
    assert second.is_swept(3)
    assert meta.fences().unswept() == []
    second.forget(3)
    assert meta.fences().of(3) is None
    assert second.highest == b""


def test_a_lock_that_is_taken_back_leaves_the_horizon() -> None:
    fences = Meta().fences()
    fences.lock(3, HORIZON, 1)
    fences.advance(3, HORIZON)
    fences.lock(3, LOCK, 2)
    fences.unlock(3)
    assert fences.highest == fences.beginning(HORIZON)
    assert fences.horizon(3) == HORIZON
    assert _state(fences, 3) == (HORIZON, HORIZON, 0, False)


def test_a_partition_without_any_has_no_horizon_and_no_garbage(fences: Fences) -> None:
    assert fences.of(4) is None
    assert fences.horizon(4) == 0
    assert fences.is_swept(4)
    assert Meta().fences().highest == b""


def test_a_first_lock_drops_nothing(fences: Fences) -> None:
    fences.lock(4, LOCK, 7)
    assert _state(fences, 4) == (LOCK, 0, 7, True)
    assert fences.unswept() == [3]


def test_a_horizon_without_a_lock_is_one_and_never_goes_back(fences: Fences) -> None:
    """As a copy comes with it that was got from others."""
    fences.advance(4, HORIZON)
    assert _state(fences, 4) == (HORIZON, HORIZON, 0, False)
    fences.swept(4)
    for lower in (HORIZON, HORIZON - 1):
        fences.advance(4, lower)
        assert _state(fences, 4) == (HORIZON, HORIZON, 0, True)


def test_a_horizon_below_the_lock_leaves_that(fences: Fences) -> None:
    fences.advance(3, HORIZON + 1)
    assert _state(fences, 3) == (LOCK, HORIZON + 1, 99, False)
    fences.advance(3, LOCK + 1)
    assert _state(fences, 3) == (LOCK + 1, LOCK + 1, 99, False)


def test_the_highest_is_that_of_any_partition(fences: Fences) -> None:
    fences.lock(4, LOCK + 5, 1)
    assert fences.highest == fences.beginning(LOCK + 5)
    fences.forget(4)
    assert fences.highest == fences.beginning(LOCK)
    fences.forget(9)
    assert fences.highest == fences.beginning(LOCK)


def _state(fences: Fences, partition: int) -> tuple[int, int, int, bool]:
    fence = fences.of(partition)
    assert fence is not None
    return fence.lock, fence.horizon, fence.digest, fence.is_swept
