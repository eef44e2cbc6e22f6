# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache against a list that does the same slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.storage.cached import CHANCES_MAX, ENTRY_BYTES, Lru, cost_of
from tests.unit.storage.samples import record

ROWS = st.sampled_from([b"row-%d" % number for number in range(12)])
SIZES = st.sampled_from([0, 10, 500, 3000])


class LruAgainstList(RuleBasedStateMachine):
    """The model: a list of rows, records and whether they were used, the next to go first."""

    @initialize(entries_max=st.integers(1, 8), bytes_max=st.integers(0, 12 * ENTRY_BYTES))
    def begin(self, entries_max: int, bytes_max: int) -> None:
        self.entries_max, self.bytes_max = entries_max, bytes_max
        self.lru = Lru(entries_max=entries_max, bytes_max=bytes_max)
        self.model: list[tuple[bytes, Record, bool]] = []
        self.hits = self.misses = 0
        self.ranges: list[tuple[bytes, bytes]] = []
        self.forgotten: set[bytes] = set()
        """Rows of entries that are there and not answered."""

    def place(self, row: bytes) -> int | None:
        return next((place for place, each in enumerate(self.model) if each[0] == row), None)

    @rule(row=ROWS)
    def get(self, row: bytes) -> None:
        place = self.place(row)
        if place is None or row in self.forgotten:
            assert self.lru.get(row) is None
            self.misses += 1
            return
        held = self.model[place][1]
        assert self.lru.get(row) == held
        self.hits += 1
        self.model[place] = row, held, True

    @rule(ranges=st.lists(st.tuples(ROWS, ROWS).filter(lambda each: each[0] < each[1]), max_size=4))
    def forget(self, ranges: list[tuple[bytes, bytes]]) -> None:
        self.lru.forget(ranges)
        self.ranges += ranges
        self.forgotten |= {
            row for row, _, _ in self.model if any(start <= row < end for start, end in self.ranges)
        }

    @rule(row=ROWS, number=st.integers(0, 10**6), size=SIZES, tombstone=st.booleans())
    def put(self, row: bytes, number: int, size: int, tombstone: bool) -> None:
        given_record = (
            Record(pack_version(number, 1), None) if tombstone else record(number, size=size)
        )
        self.lru.put([(row, given_record)])
        self.forgotten.discard(row)
        place = self.place(row)
        if cost_of(row, given_record) > self.bytes_max:
            if place is not None:
                del self.model[place]
        elif place is None:
            self.model.append((row, given_record, False))
        else:
            self.model[place] = row, given_record, True
        while len(self.model) > self.entries_max or self.cost() > self.bytes_max:
            self.evict()

    def evict(self) -> None:
        while self.model[0][2]:
            row, held, _ = self.model.pop(0)
            self.model.append((row, held, False))
        del self.model[0]

    def cost(self) -> int:
        return sum(cost_of(row, held) for row, held, _ in self.model)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.lru) == len(self.model) <= self.entries_max
        assert self.lru.bytes_used == self.cost() <= self.bytes_max
        assert (self.lru.hits, self.lru.misses) == (self.hits, self.misses)


TestLruAgainstList = LruAgainstList.TestCase


def test_what_was_used_is_passed_over_once() -> None:
    lru = Lru(entries_max=3, bytes_max=1 << 20)
    lru.put([(b"a", record(1)), (b"b", record(2)), (b"c", record(3))])
    lru.get(b"a")
    lru.put([(b"c", record(4))])
    lru.put([(b"d", record(5))])  # a is queued again, b goes
    lru.put([(b"e", record(6))])  # c is queued again, d goes
    assert [lru.get(row) for row in (b"b", b"d")] == [None, None]
    lru.get(b"e")
    lru.get(b"c")
    lru.put([(b"f", record(7))])  # a goes: its use is long ago
    assert [lru.get(row) for row in (b"a", b"c", b"e", b"f")] == [
        *(None, record(4), record(6), record(7))
    ]


def test_where_all_are_in_use_the_search_for_one_that_is_not_ends() -> None:
    lru = Lru(entries_max=10 * CHANCES_MAX, bytes_max=1 << 30)
    rows = [b"row-%d" % number for number in range(10 * CHANCES_MAX)]
    lru.put((row, record(1)) for row in rows)
    lru.put((row, record(2)) for row in rows)
    lru.put([(b"new", record(3))])
    assert lru.get(rows[CHANCES_MAX]) is None
    kept = [*rows[:CHANCES_MAX], *rows[CHANCES_MAX + 1 :], b"new"]
    assert None not in [lru.get(row) for row in kept]


def test_a_record_too_large_to_keep_takes_its_older_one_along() -> None:
    lru = Lru(entries_max=10, bytes_max=ENTRY_BYTES + 100)
    lru.put([(b"a", record(1))])
    lru.put([(b"a", record(2, size=101))])
    assert lru.get(b"a") is None
    assert lru.bytes_used == 0
    lru.put([(b"a", record(3)), (b"b", record(4))])
    assert [lru.get(row) for row in (b"a", b"b")] == [None, record(4)]


@given(st.binary(max_size=50), st.integers(0, 5000))
def test_the_cost_counts_row_and_value(row: bytes, size: int) -> None:
    assert cost_of(row, record(1, size=size)) == ENTRY_BYTES + len(row) + size
