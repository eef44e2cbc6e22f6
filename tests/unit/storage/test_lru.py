# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache against a list that does the same slowly (S16, S37)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.core.record import Record, pack_version
from quorate.storage.lru import ENTRY_BYTES, Lru, cost_of
from tests.unit.storage.samples import record

ROWS = st.sampled_from([b"row-%d" % number for number in range(12)])
SIZES = st.sampled_from([0, 10, 500, 3000])


class LruAgainstList(RuleBasedStateMachine):
    """The model: a list of pairs, the least recently used first."""

    @initialize(entries_max=st.integers(1, 8), bytes_max=st.integers(0, 12 * ENTRY_BYTES))
    def begin(self, entries_max: int, bytes_max: int) -> None:
        self.entries_max, self.bytes_max = entries_max, bytes_max
        self.lru = Lru(entries_max=entries_max, bytes_max=bytes_max)
        self.model: list[tuple[bytes, Record]] = []
        self.hits = self.misses = 0

    def held(self, row: bytes) -> Record | None:
        return dict(self.model).get(row)

    def without(self, row: bytes) -> list[tuple[bytes, Record]]:
        return [entry for entry in self.model if entry[0] != row]

    @rule(row=ROWS)
    def get(self, row: bytes) -> None:
        wanted = self.held(row)
        assert self.lru.get(row) == wanted
        if wanted is None:
            self.misses += 1
        else:
            self.hits += 1
            self.model = [*self.without(row), (row, wanted)]

    @rule(row=ROWS, number=st.integers(0, 10**6), size=SIZES, tombstone=st.booleans())
    def put(self, row: bytes, number: int, size: int, tombstone: bool) -> None:
        given_record = (
            Record(pack_version(number, 1), None) if tombstone else record(number, size=size)
        )
        self.lru.put([(row, given_record)])
        self.model = self.without(row)
        if cost_of(row, given_record) <= self.bytes_max:
            self.model.append((row, given_record))
        while len(self.model) > self.entries_max or self.cost() > self.bytes_max:
            del self.model[0]

    def cost(self) -> int:
        return sum(cost_of(row, held) for row, held in self.model)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.lru) == len(self.model) <= self.entries_max
        assert self.lru.bytes_used == self.cost() <= self.bytes_max
        assert (self.lru.hits, self.lru.misses) == (self.hits, self.misses)


TestLruAgainstList = LruAgainstList.TestCase


def test_the_least_recently_used_goes_first() -> None:
    lru = Lru(entries_max=2, bytes_max=1 << 20)
    lru.put([(b"a", record(1))])
    lru.put([(b"b", record(2))])
    lru.get(b"a")
    lru.put([(b"c", record(3))])
    assert [lru.get(row) for row in (b"a", b"b", b"c")] == [record(1), None, record(3)]


def test_a_record_too_large_to_keep_takes_its_older_one_along() -> None:
    lru = Lru(entries_max=10, bytes_max=ENTRY_BYTES + 100)
    lru.put([(b"a", record(1))])
    lru.put([(b"a", record(2, size=101))])
    assert lru.get(b"a") is None
    assert lru.bytes_used == 0


@given(st.binary(max_size=50), st.integers(0, 5000))
def test_the_cost_counts_row_and_value(row: bytes, size: int) -> None:
    assert cost_of(row, record(1, size=size)) == ENTRY_BYTES + len(row) + size
