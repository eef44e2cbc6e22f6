# SPDX-License-Identifier: GPL-3.0-or-later
"""This node's copies: newest wins, nothing seen or promised before it is durable (I7, I10, I22)."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.core.replica import KEYS_META, Replica
from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.core.values.slots import PAGE_BYTES, ROW_END, partition_bounds, partition_of, row_of
from quorate.core.values.versions import ABSENT, pack_version
from quorate.errors import Corrupt
from quorate.sim.disk import Disk

ROW = row_of(b"k")


def _record(stamp: int, value: bytes | None = b"v") -> Record:
    return Record(pack_version(stamp, 1), value)


class Store:
    """A replica on a disk, with the runtime's part: write the batch, report the mark."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.is_full = False
        """Whether batches wait until the next sync."""
        self.waiting: list[Batch] = []
        self.damage: list[Corrupt] = []
        self.replica = Replica(self.disk, self.damage.append)

    def turn(self) -> int:
        """End a step; the mark of its batch, 0 if there was none."""
        batch, mark = self.replica.close_turn()
        if batch is not None:
            self.waiting.append(batch)
            if not self.is_full:
                self.write()
        return mark

    def write(self) -> None:
        """Have the disk take what waits."""
        while self.waiting:
            self.disk.write(self.waiting.pop(0))

    def durable(self, mark: int) -> None:
        self.write()
        self.disk.sync()
        self.replica.on_durable(mark)


@pytest.fixture
def store() -> Store:
    return Store()


def test_a_record_is_shown_only_once_it_is_durable(store: Store) -> None:
    replica = store.replica
    assert replica.apply(ROW, _record(1)) == ABSENT
    assert replica.latest(ROW) == _record(1)
    assert replica.shown(ROW) is None
    mark = store.turn()
    assert replica.shown(ROW) is None, "the engine has it, but not for sure"
    store.durable(mark)
    assert replica.shown(ROW) == _record(1)


def test_versions_of_large_records_are_told_in_short_pages(store: Store) -> None:
    """An engine reads them whole."""
    replica = store.replica
    rows = sorted(row_of(b"{tag}%d" % number) for number in range(8))
    for row in rows:
        replica.apply(row, _record(1, b"v" * (PAGE_BYTES // 4)))
    store.durable(store.turn())
    start, end = partition_bounds(partition_of(rows[0]))
    found, past = replica.newest(start, end, limit=500)
    assert (sorted(found), past) == (rows[:4], rows[4])
    found, past = replica.newest(past, end, limit=500)
    assert (sorted(found), past) == (rows[4:], end)


def test_a_durable_record_stays_shown_while_newer_ones_are_on_their_way(store: Store) -> None:
    replica = store.replica
    marks = []
    for stamp in (1, 2, 3):
        replica.apply(ROW, _record(stamp))
        marks.append(store.turn())
    for stamp, mark in zip((1, 2, 3), marks, strict=True):
        store.durable(mark)
        assert replica.shown(ROW) == _record(stamp)
        assert replica.latest(ROW) == _record(3)


def test_of_two_writes_in_one_step_only_the_newer_is_ever_shown(store: Store) -> None:
    replica = store.replica
    replica.apply(ROW, _record(1))
    replica.apply(ROW, _record(2))
    mark = store.turn()
    assert replica.shown(ROW) is None
    store.durable(mark)
    assert replica.shown(ROW) == _record(2)


def test_an_older_record_is_told_the_higher_version_and_changes_nothing(store: Store) -> None:
    """I10."""
    store.replica.apply(ROW, _record(5))
    assert store.replica.apply(ROW, _record(4)) == _record(5).version
    assert store.replica.apply(ROW, _record(5)) == ABSENT, "the same write is no conflict"
    store.durable(store.turn())
    assert store.replica.shown(ROW) == _record(5)


def test_a_promise_waits_for_everything_written_before_it(store: Store) -> None:
    """Whoever is told of a higher version can rely on that version being durable."""
    store.replica.apply(ROW, _record(5))
    first = store.turn()
    told: list[str] = []
    store.replica.apply(ROW, _record(4))
    store.replica.when_durable(lambda: told.append("superseded"))
    assert store.turn() == 0, "nothing to store"
    assert told == []
    store.durable(first)
    assert told == ["superseded"]


def test_a_promise_of_an_idle_replica_is_kept_at_once(store: Store) -> None:
    told: list[str] = []
    store.replica.when_durable(lambda: told.append("now"))
    assert store.turn() == 0
    assert store.replica.release_settled()
    assert told == ["now"]
    assert not store.replica.release_settled()


def test_one_durable_mark_keeps_all_earlier_promises_in_order(store: Store) -> None:
    told: list[int] = []
    for stamp in (1, 2, 3):
        store.replica.apply(ROW, _record(stamp))
        store.replica.when_durable(partial(told.append, stamp))
        mark = store.turn()
    store.durable(mark)
    assert told == [1, 2, 3]
    assert store.replica.shown(ROW) == _record(3)


def test_a_mark_that_was_never_handed_out_stops_the_node(store: Store) -> None:
    with pytest.raises(AssertionError, match="out of order"):
        store.replica.on_durable(1)


def test_a_damaged_record_is_never_shown_and_loses_to_any_write(store: Store) -> None:
    """I23."""
    store.replica.apply(ROW, _record(5))
    store.durable(store.turn())
    assert store.disk.rot(ROW, Random(1))
    with pytest.raises(Corrupt):
        store.replica.shown(ROW)
    assert len(store.damage) == 1
    assert store.replica.apply(ROW, _record(4)) == ABSENT
    store.durable(store.turn())
    assert store.replica.shown(ROW) == _record(4)


def test_a_scan_shows_what_reads_show(store: Store) -> None:
    rows = [row_of(b"{t}a"), row_of(b"{t}b"), row_of(b"{t}c")]
    for row in rows[:2]:
        store.replica.apply(row, _record(1))
    store.durable(store.turn())
    store.replica.apply(rows[1], _record(2))
    store.replica.apply(rows[2], _record(2))
    mark = store.turn()
    bounds = partition_bounds(partition_of(rows[0]))
    assert list(store.replica.scan(*bounds)) == [(rows[0], _record(1)), (rows[1], _record(1))]
    store.durable(mark)
    assert [row for row, _ in store.replica.scan(*bounds)] == rows


def test_the_count_of_keys_survives_a_restart(store: Store) -> None:
    for key in (b"a", b"b", b"c"):
        store.replica.apply(row_of(key), _record(1))
    store.replica.apply(row_of(b"a"), _record(2))
    store.replica.apply(row_of(b"b"), _record(2, None))
    store.replica.apply(row_of(b"d"), _record(2, None))
    store.durable(store.turn())
    assert store.disk.get_meta(KEYS_META) is not None
    assert Replica(store.disk, store.damage.append).keys == store.replica.keys == 2


def test_the_count_of_keys_is_stored_when_it_changes(store: Store) -> None:
    counts = []
    for key, record in ((b"a", _record(1)), (b"a", _record(2)), (b"a", _record(3, None))):
        store.replica.apply(row_of(key), record)
        batch, _ = store.replica.close_turn()
        assert batch is not None
        store.disk.write(batch)
        counts.append([int.from_bytes(blob or b"", "big") for _, blob in batch.meta])
        assert Replica(store.disk, store.damage.append).keys == store.replica.keys
    assert counts == [[1], [], [0]]


def test_a_dropped_copy_is_not_seen_from_then_on_though_the_engine_may_still_have_it(
    store: Store,
) -> None:
    replica, partition = store.replica, partition_of(ROW)
    replica.apply(ROW, _record(5))
    replica.apply(row_of(b"other"), _record(5))
    replica.apply(row_of(b"{k}dead"), _record(5, None))
    store.durable(store.turn())
    store.is_full = True
    replica.drop(partition, live=1)

    def is_not_seen() -> bool:
        return (
            replica.shown(ROW) is None
            and replica.latest(ROW) is None
            and list(replica.scan(*partition_bounds(partition))) == []
            and [row for row, _ in replica.scan(b"", ROW_END)] == [row_of(b"other")]
        )

    assert is_not_seen()
    mark = store.turn()
    assert is_not_seen()
    assert store.disk.get(ROW) is not None
    store.durable(mark)
    assert is_not_seen()
    assert list(store.disk.scan(*partition_bounds(partition))) == []
    assert Replica(store.disk, store.damage.append).keys == replica.keys == 1


def test_what_comes_after_a_drop_is_kept_though_it_is_older_than_what_was_dropped(
    store: Store,
) -> None:
    """I10 is about a copy: what takes its place later begins with nothing."""
    replica, partition = store.replica, partition_of(ROW)
    replica.apply(ROW, _record(5))
    store.durable(store.turn())
    store.is_full = True
    replica.drop(partition, live=1)
    assert replica.apply(row_of(b"{k}same step"), _record(1)) == ABSENT
    dropping = store.turn()
    assert replica.apply(ROW, _record(2)) == ABSENT
    later = store.turn()
    assert (replica.latest(ROW), replica.shown(ROW)) == (_record(2), None)
    bounds = partition_bounds(partition)
    store.durable(dropping)
    assert replica.shown(ROW) is None
    assert list(replica.scan(*bounds)) == [(row_of(b"{k}same step"), _record(1))]
    store.durable(later)
    assert replica.shown(ROW) == _record(2)
    assert [row for row, _ in replica.scan(*bounds)] == [ROW, row_of(b"{k}same step")]
    assert replica.keys == 2
    assert store.disk.lowered == []


def test_a_damaged_record_is_no_trouble_once_its_copy_was_dropped(store: Store) -> None:
    store.replica.apply(ROW, _record(5))
    store.durable(store.turn())
    store.disk.rot(ROW, Random(1))
    store.replica.drop(partition_of(ROW), live=0)
    store.is_full = True
    mark = store.turn()
    assert (store.replica.shown(ROW), store.replica.latest(ROW)) == (None, None)
    assert list(store.replica.scan(b"", ROW_END)) == []
    store.durable(mark)
    assert (store.disk.damaged(), store.damage) == ([], [])


def test_a_copy_is_not_dropped_while_rows_of_it_are_on_their_way(store: Store) -> None:
    store.replica.apply(ROW, _record(5))
    with pytest.raises(AssertionError, match="not durable"):
        store.replica.drop(partition_of(ROW), live=1)
    mark = store.turn()
    with pytest.raises(AssertionError, match="not durable"):
        store.replica.drop(partition_of(ROW), live=1)
    store.durable(mark)
    store.replica.drop(partition_of(ROW), live=1)


def test_a_drop_alone_is_something_to_store(store: Store) -> None:
    store.replica.drop(7, live=0)
    first, mark = store.replica.close_turn()
    store.replica.drop_hints(b"a", b"c")
    second, later = store.replica.close_turn()
    assert first == Batch([], [], [], [partition_bounds(7)], [])
    assert second == Batch([], [], [], [], [(b"a", b"c")])
    assert (mark, later) == (1, 2)
    assert store.turn() == 0
    with pytest.raises(AssertionError, match="no range"):
        store.replica.drop_hints(b"c", b"c")


def test_dropped_hints_are_gone_but_for_those_of_the_same_step(store: Store) -> None:
    replica = store.replica
    for name in (b"a", b"b", b"c"):
        replica.put_hint(name, b"old")
    store.turn()
    replica.put_hint(b"b", b"new")
    replica.drop_hints(b"a", b"c")
    store.turn()
    assert list(store.disk.scan_hints(b"", b"\xff")) == [(b"b", b"new"), (b"c", b"old")]


class ReplicaMachine(RuleBasedStateMachine):
    """Against a model that keeps the whole log of writes, and folds it each time it is asked."""

    @initialize()
    def start(self) -> None:
        self.store = Store()
        self.log: list[tuple[int, bytes, Record]] = []
        """With the number of the turn that wrote it."""
        self.turns: list[int] = []
        """The mark of each turn that had a batch."""
        self.durable = 0

    def _fold(self, row: bytes, turns: int) -> Record | None:
        written = [each for turn, at, each in self.log if at == row and turn < turns]
        # A tombstone beats a value of the same version.
        return max(written, key=lambda each: (each.version, each.value is None), default=None)

    @rule(key=st.sampled_from([b"a", b"b"]), stamp=st.integers(1, 9), dead=st.booleans())
    def write(self, key: bytes, stamp: int, dead: bool) -> None:
        record = Record(pack_version(stamp, 1), None if dead else b"%d" % stamp)
        held = self._fold(row_of(key), len(self.turns) + 1)
        higher = held.version if held is not None and held.version > record.version else ABSENT
        assert self.store.replica.apply(row_of(key), record) == higher
        self.log.append((len(self.turns), row_of(key), record))

    @rule(key=st.sampled_from([b"a", b"b"]))
    def drop(self, key: bytes) -> None:
        row = row_of(key)
        if any(at == row and turn >= self.durable for turn, at, _ in self.log):
            return
        held = self._fold(row, self.durable)
        live = held is not None and held.value is not None
        self.store.replica.drop(partition_of(row), live=int(live))
        self.log = [each for each in self.log if each[1] != row]

    @rule(is_full=st.booleans())
    def have_room(self, *, is_full: bool) -> None:
        self.store.is_full = is_full
        if not is_full:
            self.store.write()

    @rule()
    def end_turn(self) -> None:
        mark = self.store.turn()
        if mark:
            self.turns.append(mark)

    @rule(share=st.integers(0, 3))
    def sync(self, share: int) -> None:
        reached = min(self.durable + share, len(self.turns))
        if reached > self.durable:
            self.durable = reached
            self.store.durable(self.turns[reached - 1])

    @invariant()
    def it_shows_the_fold_of_durable_turns(self) -> None:
        for row in (row_of(b"a"), row_of(b"b")):
            assert self.store.replica.shown(row) == self._fold(row, self.durable)
            assert self.store.replica.latest(row) == self._fold(row, len(self.turns) + 1)
        shown = [(row, self._fold(row, self.durable)) for row in (row_of(b"a"), row_of(b"b"))]
        there = sorted(each for each in shown if each[1] is not None)
        assert list(self.store.replica.scan(b"", ROW_END)) == there

    @invariant()
    def it_counts_the_live_keys(self) -> None:
        latest = [self._fold(row_of(key), len(self.turns) + 1) for key in (b"a", b"b")]
        live = [each for each in latest if each is not None and each.value is not None]
        assert self.store.replica.keys == len(live)


TestReplica = ReplicaMachine.TestCase
TestReplica.settings = settings(max_examples=50)
