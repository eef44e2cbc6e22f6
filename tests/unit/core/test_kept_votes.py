# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica remembers of its votes, on the disk and on its way there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.kept_votes import KeptVotes
from quorate.core.values.events import Batch
from quorate.core.values.slots import partition_bounds
from quorate.errors import Corrupt
from quorate.sim.disk import Disk
from tests.unit.core.moving import rows_in

P, Q = 3, 7
ROWS = rows_in(P, 8)
_CHANGES = st.lists(
    st.tuples(st.sampled_from(ROWS), st.none() | st.binary(min_size=1, max_size=3)), max_size=9
)


class Keeper:
    """What a node does with its votes."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.damage: list[Corrupt] = []
        self.votes = KeptVotes(self.disk, self.damage.append)
        self.mark = 0

    def keep(self, changes: list[tuple[bytes, bytes | None]], *, is_stored: bool = True) -> None:
        """Remember these, with a batch of their own, which a full disk may hold up."""
        for row, blob in changes:
            self.votes.put(row, blob)
        self.mark += 1
        batch = Batch([], [], [], votes=self.votes.take(self.mark))
        if is_stored:
            self.disk.format(batch)

    def durable(self) -> None:
        self.votes.on_durable(self.mark)


@settings(max_examples=50, deadline=None)
@given(stored=_CHANGES, waiting=_CHANGES, limit=st.integers(1, 9))
def test_pages_tell_the_last_that_was_voted_of_each_row_in_order(
    stored: list[tuple[bytes, bytes | None]],
    waiting: list[tuple[bytes, bytes | None]],
    limit: int,
) -> None:
    keeper = Keeper()
    keeper.keep(stored)
    keeper.durable()
    keeper.keep(waiting, is_stored=False)
    wanted = {row: blob for row, blob in {**dict(stored), **dict(waiting)}.items() if blob}
    start, end = partition_bounds(P)
    found: dict[bytes, bytes] = {}
    more = True
    while more:
        page, more = keeper.votes.page(start, end, limit=limit)
        assert list(page) == sorted(page)
        assert page or not more
        found |= page
        start = max(page, default=start) + b"\0"
    assert found == wanted
    assert dict(keeper.votes.scan(*partition_bounds(P))) == wanted


def test_votes_that_are_on_their_way_out_are_not_seen_and_those_after_them_are() -> None:
    keeper = Keeper()
    row = rows_in(Q, 1)[0]
    keeper.keep([(ROWS[0], b"old"), (row, b"other")])
    keeper.durable()
    keeper.votes.drop(P, keeper.mark + 1)
    assert keeper.votes.get(ROWS[0]) is None
    assert keeper.votes.page(*partition_bounds(P), limit=9) == ({}, False)
    assert keeper.votes.get(row) == b"other"
    keeper.keep([(ROWS[1], b"new")], is_stored=False)
    assert keeper.votes.page(*partition_bounds(P), limit=9) == ({ROWS[1]: b"new"}, False)


def test_it_knows_of_which_partitions_it_has_any() -> None:
    keeper = Keeper()
    assert keeper.votes.partitions() == set()
    keeper.keep([(ROWS[0], b"a"), (ROWS[1], b"b"), (rows_in(Q, 1)[0], b"c")])
    assert keeper.votes.partitions() == {P, Q}
