# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests: equal exactly if what is held of all stamps below the boundary is (I15)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.digests import CELLS_PER_STEP, Digests, sums_of
from quorate.core.values.settings import SLICE_MS
from quorate.core.values.slots import BUCKETS, PARTITION_COUNT, partition_of, row_of
from quorate.core.values.versions import ABSENT, pack_version, stamp_at, successor

ROWS = [row_of(b"{tag}%d" % number) for number in range(6)]
PARTITION = partition_of(ROWS[0])
WRITES = st.lists(
    st.tuples(st.sampled_from(ROWS), st.integers(1, 9), st.integers(0, 5)), max_size=30
)
"""Row, slice of the stamp, and what tells versions of one slice apart."""


def version(piece: int, count: int = 0) -> bytes:
    """A version of that slice; every other one is a link, of the one before or of an older one."""
    stamp = stamp_at(piece * SLICE_MS) + count
    if count % 2:
        return successor(pack_version(stamp - 1, 7), stamp)
    return pack_version(stamp, 7)


@given(
    st.sampled_from(ROWS),
    st.integers(1, 2**64 - 1),
    st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=9),
)
def test_versions_that_differ_in_their_link_alone_count_differently(
    row: bytes, stamp: int, links: set[int]
) -> None:
    base = pack_version(stamp, 7)
    found = {tuple(sums_of([(row, successor(base, link) if link else base)])) for link in links}
    assert len(found) == len(links)


class Holder:
    """What a replica does with its sums, and what it holds."""

    def __init__(self, *, is_whole: bool = True) -> None:
        self.digests = Digests()
        self.rows: dict[bytes, bytes] = {}
        if is_whole:
            self.scan()

    def scan(self) -> None:
        """Count all rows, as after a start."""
        self.digests.begin_scan(PARTITION)
        assert self.digests.scanned(PARTITION, sorted(self.rows.items()), b"\xff")
        self.digests.end_scan(PARTITION)

    def keep(self, row: bytes, new: bytes) -> None:
        """Keep a version if it is newer."""
        held = self.rows.get(row, ABSENT)
        if new > held:
            self.rows[row] = new
            self.digests.feed(row, held, new)

    def advance(self, boundary: int) -> int:
        """Move the boundary; the digest there."""
        while not self.digests.advance(boundary):
            pass
        return self.digests.total(PARTITION)


@given(WRITES, st.integers(1, 10))
def test_the_sums_of_all_slices_are_those_of_what_is_held(
    writes: list[tuple[bytes, int, int]], boundary: int
) -> None:
    holder = Holder()
    for place, (row, piece, count) in enumerate(writes):
        if place == len(writes) // 2:
            holder.advance(boundary)
        holder.keep(row, version(piece, count))
    assert holder.digests.held(PARTITION) == sums_of(list(holder.rows.items()))


@given(WRITES, WRITES)
def test_two_are_equal_exactly_if_they_hold_the_same(
    one: list[tuple[bytes, int, int]], other: list[tuple[bytes, int, int]]
) -> None:
    """Whatever came in which order, once the boundary is past it."""
    holders = []
    for writes in (one, other):
        holder = Holder()
        for row, piece, count in writes:
            holder.keep(row, version(piece, count))
        holders.append(holder)
    digests = [holder.advance(10) for holder in holders]
    assert (digests[0] == digests[1]) == (holders[0].rows == holders[1].rows)


def test_what_is_stamped_at_the_boundary_or_later_does_not_count() -> None:
    holder = Holder()
    holder.keep(ROWS[0], version(3))
    before = holder.advance(5)
    holder.keep(ROWS[0], version(5))
    holder.keep(ROWS[1], version(8))
    assert holder.advance(5) == before
    assert holder.advance(6) != before


def test_an_old_record_that_comes_late_counts_at_once() -> None:
    """A hint, say."""
    holder, other = Holder(), Holder()
    for each in (holder, other):
        each.keep(ROWS[0], version(3))
    other.keep(ROWS[1], version(4))
    assert holder.advance(6) != other.advance(6)
    holder.keep(ROWS[1], version(4))
    assert holder.advance(6) == other.advance(6)


def test_a_version_that_one_never_had_differs_until_its_successor_is_counted() -> None:
    holder, other = Holder(), Holder()
    holder.keep(ROWS[0], version(3))
    for each in (holder, other):
        each.keep(ROWS[0], version(7))
    assert holder.advance(5) != other.advance(5)
    assert holder.advance(8) == other.advance(8)


def test_a_link_counts_in_the_slice_in_which_it_was_made() -> None:
    """Its base may be long past: two that agree on that would differ until all have the link."""
    base = version(3)
    holder, other = Holder(), Holder()
    for each in (holder, other):
        each.keep(ROWS[0], base)
    before = holder.advance(6)
    holder.keep(ROWS[0], successor(base, stamp_at(8 * SLICE_MS)))
    assert holder.advance(6) == before
    assert holder.advance(9) != before
    other.keep(ROWS[0], successor(base, stamp_at(8 * SLICE_MS)))
    assert holder.advance(9) == other.advance(9)


def test_two_that_lack_one_record_each_differ() -> None:
    """Also where the stamps add up to the same."""
    one, other = Holder(), Holder()
    counts = range(4)
    for holder, missing in ((one, {0, 3}), (other, {1, 2})):
        for count in counts:
            if count not in missing:
                holder.keep(ROWS[count], version(3, count))
    assert one.advance(5) != other.advance(5)


@given(WRITES, WRITES)
def test_a_scan_counts_what_was_kept_before_it_and_while_it_goes_on(
    before: list[tuple[bytes, int, int]], meanwhile: list[tuple[bytes, int, int]]
) -> None:
    holder = Holder(is_whole=False)
    for row, piece, count in before:
        holder.keep(row, version(piece, count))
    digests = holder.digests
    digests.begin_scan(PARTITION)
    places = [b"", *sorted(ROWS), b"\xff"]
    for (start, past), write in zip(
        pairwise(places), [*meanwhile, *[None] * len(places)], strict=False
    ):
        if write is not None:
            holder.keep(write[0], version(write[1], write[2]))
        page = [(row, each) for row, each in holder.rows.items() if start <= row < past]
        assert digests.scanned(PARTITION, page, past)
    digests.end_scan(PARTITION)
    assert digests.held(PARTITION) == sums_of(list(holder.rows.items()))


def test_what_was_forgotten_is_scanned_anew() -> None:
    holder = Holder()
    holder.keep(ROWS[0], version(3))
    holder.keep(ROWS[1], version(9))
    whole = holder.advance(5)
    holder.digests.forget(PARTITION)
    assert not holder.digests.is_whole(PARTITION)
    assert holder.digests.held(PARTITION) == sums_of([])
    holder.keep(ROWS[0], version(4))
    assert holder.digests.held(PARTITION) == sums_of([])
    assert not holder.digests.scanned(PARTITION, [], b"\xff")
    del holder.rows[ROWS[0]]
    holder.rows[ROWS[0]] = version(3)
    holder.scan()
    assert holder.advance(5) == whole


def sums_in(rows: dict[bytes, bytes], partition: int) -> list[int]:
    return sums_of([each for each in rows.items() if partition_of(each[0]) == partition])


def test_the_boundary_moves_by_bounded_steps() -> None:
    digests = Digests()
    keys = [b"key%d" % number for number in range(3 * CELLS_PER_STEP)]
    for partition in range(PARTITION_COUNT):
        digests.begin_scan(partition)
        digests.scanned(partition, [], b"\xff")
        digests.end_scan(partition)
    for key in keys:
        digests.feed(row_of(key), ABSENT, version(3))
    steps = 1
    while not digests.advance(5):
        steps += 1
    assert steps == PARTITION_COUNT * BUCKETS // CELLS_PER_STEP
    rows = {row_of(key): version(3) for key in keys}
    assert all(digests.sums(each) == sums_in(rows, each) for each in range(PARTITION_COUNT))


def test_what_comes_late_while_the_boundary_moves_is_counted() -> None:
    """Half of the cells are added by then, some to which it belongs among them."""
    digests = Digests()
    for partition in range(PARTITION_COUNT):
        digests.begin_scan(partition)
        digests.scanned(partition, [], b"\xff")
        digests.end_scan(partition)
    rows = {row_of(b"key%d" % number): version(3) for number in range(4 * CELLS_PER_STEP)}
    for row, each in rows.items():
        digests.feed(row, ABSENT, each)
    for number, row in enumerate(list(rows)[::3]):
        assert number % 400 or not digests.advance(5)
        digests.feed(row, rows[row], version(4))
        rows[row] = version(4)
    while not digests.advance(5):
        pass
    assert all(digests.sums(each) == sums_in(rows, each) for each in range(PARTITION_COUNT))


def test_stamps_far_ahead_take_no_room_but_their_own() -> None:
    """A clock was years ahead once: each such record is in a slice of its own."""
    holder = Holder()
    for year in range(30):
        holder.keep(ROWS[year % 6], version(525_600 * (year + 1)))
    assert holder.advance(5) == 0
    assert holder.digests.held(PARTITION) == sums_of(list(holder.rows.items()))


def test_a_check_counts_what_is_written_while_it_goes_on() -> None:
    """Behind where it is, and before: each row once, at what it has in the end."""
    holder = Holder()
    for row in ROWS[:4]:
        holder.keep(row, version(3))
    digests = holder.digests
    digests.begin_check(PARTITION)
    places = [*sorted(ROWS), b"\xff"]
    for start, past in pairwise(places):
        page = [(row, each) for row, each in holder.rows.items() if start <= row < past]
        assert digests.scanned(PARTITION, page, past)
        for row in ROWS[1:5]:
            holder.keep(row, version(4 + len(page), places.index(past)))
    assert digests.is_whole(PARTITION)
    assert digests.end_scan(PARTITION)
    assert digests.held(PARTITION) == sums_of(list(holder.rows.items()))


@pytest.mark.parametrize("lost", range(3))
def test_a_check_notices_what_no_digest_was_told_of(lost: int) -> None:
    holder = Holder()
    for row in ROWS[:3]:
        holder.keep(row, version(3))
    found = list(holder.rows.items())
    found[lost] = found[lost][0], version(2)
    holder.digests.begin_check(PARTITION)
    assert holder.digests.scanned(PARTITION, found, b"\xff")
    assert not holder.digests.end_scan(PARTITION)
    assert not holder.digests.is_whole(PARTITION)


def test_what_is_forgotten_during_its_check_is_not_checked() -> None:
    holder = Holder()
    holder.digests.begin_check(PARTITION)
    holder.digests.forget(PARTITION)
    assert not holder.digests.scanned(PARTITION, [], b"\xff")
