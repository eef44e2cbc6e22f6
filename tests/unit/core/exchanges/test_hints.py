# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes kept for replicas that did not take them: bounded, durable, replayed in order (I13)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.exchanges.hints import (
    DAMAGE_NEAR,
    DROP_ITEMS_MAX,
    REPLAY_ITEMS_MAX,
    RETRY_MS,
    Hints,
)
from quorate.core.exchanges.outbox import MESSAGE_BYTES_MAX
from quorate.core.values.events import StorageState
from quorate.core.values.messages import Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.errors import Corrupt, StorageError
from quorate.sim.disk import Disk
from quorate.storage.memory import MemoryEngine
from tests.unit.core.alone import Alone, record_at
from tests.unit.core.exchanges.hint_log import A, B, Log


@pytest.fixture
def log() -> Log:
    return Log()


def test_hints_are_replayed_oldest_first_and_forgotten_when_acknowledged(log: Log) -> None:
    log.add(A, 1, 2)
    log.add(B, 9)
    log.close()
    log.add(A, 3)
    log.close()
    assert log.replay(A) == [1, 2, 3]
    assert len(log.stored()) == 4, "not before the peer has them"
    log.ack(A)
    log.close()
    assert (log.count(A), log.count(B), len(log.stored())) == (0, 1, 1)
    assert log.turn.counters["hints_replayed"] == 3
    assert log.replay(B) == [9]


def test_hints_survive_a_restart(log: Log) -> None:
    log.add(A, 1, 2)
    log.close()
    again = Log(disk=log.disk)
    assert (again.count(A), again.hints.bytes) == (2, log.hints.bytes)
    again.add(A, 3)
    again.close()
    assert again.replay(A) == [1, 2, 3]


def test_one_message_of_hints_is_under_way_at_a_time(log: Log) -> None:
    log.add(A, *range(REPLAY_ITEMS_MAX + 10))
    log.close()
    assert len(log.replay(A)) == REPLAY_ITEMS_MAX
    assert log.replay(A) == []
    log.ack(A)
    assert len(log.boxes[A].out.sent) == 1, "the answer itself sends the next"
    assert len(log.replay(A)) == 10


class _Counting:
    """A disk that counts the hints that are read of it."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.reads = 0

    def get(self, row: bytes) -> Record | None:
        return self.disk.get(row)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Record]]:
        return self.disk.scan(start, end)

    def get_meta(self, name: bytes) -> bytes | None:
        return self.disk.get_meta(name)

    def get_votes(self, row: bytes) -> bytes | None:
        return self.disk.get_votes(row)

    def scan_votes(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.disk.scan_votes(start, end)

    def bytes_used(self) -> int:
        return self.disk.bytes_used()

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        for each in self.disk.scan_hints(start, end):
            self.reads += 1
            yield each


def test_large_hints_go_a_message_at_a_time_and_are_not_all_read_at_once(log: Log) -> None:
    """P7: replay holds little more than a message in memory, whatever is stored."""
    log.add(A, *range(8), value=bytes(MESSAGE_BYTES_MAX // 2))
    log.close()
    engine = _Counting(log.disk)
    log.hints = Hints(engine=engine, replica=log.replica, turn=log.turn, bytes_max=1 << 30)
    log.hints.open(log.boxes[A].out)
    opened = engine.reads
    assert log.replay(A) == [0, 1]
    assert engine.reads - opened <= 3


@pytest.mark.parametrize("how", ["lost", "busy"])
def test_hints_that_did_not_arrive_are_sent_again_a_little_later(log: Log, how: str) -> None:
    """A full disk at the peer loses no hint."""
    log.add(A, 1)
    log.close()
    assert log.replay(A) == [1]
    if how == "busy":
        log.ack(A, busy=True)
    else:
        log.boxes[A].out.lose_all()
    assert log.replay(A) == [], "not at once"
    log.turn.mono_ms += RETRY_MS
    assert log.replay(A) == [1]
    assert len(log.stored()) == 1


def test_hints_that_the_peer_will_never_take_are_dropped_counted_and_noted(log: Log) -> None:
    log.add(A, 1, 2, 3)
    log.close()
    log.replay(A)
    log.ack(A, refused=2)
    assert log.count(A) == 0
    assert (log.turn.counters["hints_refused"], log.turn.counters["hints_replayed"]) == (2, 1)
    assert [note.event for note in log.turn.notes] == ["hints_refused"]


def _size_of_one() -> int:
    log = Log()
    log.add(A, 1)
    return log.hints.bytes


def test_a_full_log_drops_the_oldest_of_the_peer_with_most() -> None:
    """I13: never silently."""
    log = Log(bytes_max=4 * _size_of_one())
    log.add(A, 1)
    log.add(B, 1, 2, 3)
    log.close()
    assert log.turn.counters["hints_dropped"] == 0, "exactly full is not over"
    log.add(A, 2)
    log.close()
    assert log.replay(A) == [1, 2]
    assert log.replay(B) == [2, 3]
    assert log.turn.counters["hints_dropped"] == 1
    assert [note.event for note in log.turn.notes] == ["hints_dropped"]


def test_a_log_is_within_its_bytes_even_if_all_came_in_one_step() -> None:
    log = Log(bytes_max=10 * _size_of_one())
    log.add(A, *range(100, 150))
    log.close()
    assert log.hints.bytes == sum(len(blob) for blob in log.stored()) <= 10 * (_size_of_one() + 1)
    assert log.count(A) + log.turn.counters["hints_dropped"] == 50


def test_one_large_hint_makes_room_for_itself_among_many_small_ones() -> None:
    log = Log(bytes_max=2_000 * _size_of_one())
    log.add(A, *range(1_999))
    log.close()
    log.add(A, 5_000, value=bytes(1_000 * _size_of_one()))
    log.close()
    assert sum(len(blob) for blob in log.stored()) <= 2_000 * _size_of_one()
    assert log.count(A) > 0


def test_what_is_dropped_while_under_way_is_not_counted_twice() -> None:
    log = Log(bytes_max=3 * _size_of_one())
    log.add(A, 1, 2, 3)
    log.close()
    assert log.replay(A) == [1, 2, 3]
    log.add(A, 4)
    log.close()
    log.ack(A)
    log.close()
    assert (log.count(A), len(log.stored())) == (1, 1)
    assert log.hints.bytes == _size_of_one()


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "replay", "ack", "busy", "close", "restart"]),
            st.sampled_from([A, B]),
            st.integers(0, 400),
        ),
        min_size=20,
        max_size=60,
    )
)
def test_whatever_happens_the_log_knows_its_count_and_its_bytes(
    actions: list[tuple[str, str, int]],
) -> None:
    """I13, I26: at the end of a step, what is counted is what is stored, within the maximum."""
    log = Log(bytes_max=2_000)
    for number, (action, url, size) in enumerate(actions):
        if action == "add":
            log.add(url, number, value=bytes(size))
        elif action == "replay":
            log.replay(url)
        elif action in ("ack", "busy") and log.boxes[url].out.sent:
            log.ack(url, busy=action == "busy")
        elif action == "restart":
            log.close()
            log = Log(bytes_max=2_000, disk=log.disk)
        if action == "close":
            log.turn.mono_ms += RETRY_MS
            log.close()
            stored = log.stored()
            assert log.hints.total == len(stored)
            assert log.hints.bytes == sum(map(len, stored)) <= 2_000


def test_the_log_lists_hints_of_one_peer_only() -> None:
    log = Log()
    log.add(A, 1)
    log.close()
    names = [name for name, _ in islice(log.disk.scan_hints(b"", b"\xff" * 17), 5)]
    assert [len(name) for name in names] == [16]


def test_while_the_disk_takes_nothing_hints_are_dropped_and_counted() -> None:
    alone = Alone(3)
    alone.link(1)
    alone.step(StorageState("disk_full", "no space"))
    hints = alone.node.hints
    hints.add(alone.peer(2), row_of(b"k"), record_at(1))
    assert hints.bytes == 0
    assert alone.node.parts.turn.counters["hints_dropped"] == 1


def test_hints_that_a_peer_did_not_take_wake_the_node_when_they_are_due() -> None:
    alone = Alone(3, heartbeat_ms=60_000)
    alone.link(1)
    alone.put(b"k", b"v")
    alone.link(2)
    (mutate,) = alone.take(2, Mutate)
    alone.hear(2, Mutated(mutate.batch, [], [], busy=True))
    assert alone.take(2, Mutate) == []
    assert alone.wake_ms == alone.mono_ms + RETRY_MS
    alone.step(after_ms=RETRY_MS)
    assert len(alone.take(2, Mutate)) == 1


def test_hints_of_a_later_step_are_sent_once_they_are_stored_too(log: Log) -> None:
    """Those before them were acknowledged while they were on their way to the disk still."""
    batches = []
    for stamp in (1, 2):
        log.add(A, stamp)
        log.hints.close_turn()
        batch, _ = log.replica.close_turn()
        assert batch is not None
        batches.append(batch)
    log.engine.write(batches[0])
    log.replica.on_durable(1)
    log.turn.ring()
    assert log.sent(A) == [1]
    log.ack(A)
    assert log.sent(A) == []
    log.engine.write(batches[1])
    log.replica.on_durable(2)
    log.turn.ring()
    assert log.sent(A) == [2]


def test_hints_that_cannot_be_read_are_tried_again_and_stop_nothing() -> None:
    alone = Alone(3)
    alone.link(1)
    alone.put(b"k", b"v")
    alone.disk.are_hints_unreadable = True
    alone.link(2)
    assert alone.take(2, Mutate) == []
    assert "hints_unreadable" in alone.notes
    alone.disk.are_hints_unreadable = False
    alone.step(after_ms=RETRY_MS)
    assert len(alone.take(2, Mutate)) == 1


@pytest.mark.parametrize("damaged", [{1}, {3}, {4, 5}, {6}, {1, 2, 3, 4, 5}, {1, 3, 5}, {5, 6}])
def test_damaged_hints_are_dropped_and_all_others_replayed(log: Log, damaged: set[int]) -> None:
    """I13, I23: whatever cannot be read holds up nobody, and its place in the log is given back."""
    _damage(log, damaged)
    log.add(A, 7)
    log.close()
    replayed = []
    for _ in range(7):
        given = log.replay(A)
        if given:
            replayed += given
            log.ack(A)
        log.close()
    assert replayed == sorted({1, 2, 3, 4, 5, 6, 7} - damaged)
    assert (log.count(A), log.hints.bytes, log.stored()) == (0, 0, [])
    assert log.turn.counters["hints_dropped"] == len(damaged)
    assert log.turn.counters["hints_replayed"] == 7 - len(damaged)


@pytest.mark.parametrize("damaged", [{6}, {5, 6}, {1, 2, 3, 4, 5, 6}])
def test_damage_with_nothing_behind_it_may_pass_and_costs_no_hint(
    log: Log, damaged: set[int]
) -> None:
    _damage(log, damaged)
    sound = sorted({1, 2, 3, 4, 5, 6} - damaged)
    assert log.replay(A) == sound
    if sound:
        log.ack(A)
        log.close()
    assert log.replay(A) == []
    assert log.count(A) == len(damaged)
    assert log.turn.counters["hints_dropped"] == 0


class Reopened(MemoryEngine):
    """An engine that cannot be read at first."""

    failing = 0
    readable = 0
    """So many hints can be read before it fails."""
    error: StorageError = StorageError("being opened again")

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        found = super().scan_hints(start, end)
        if self.failing:
            self.failing -= 1
            return self._fail(list(islice(found, self.readable)))
        return found

    def _fail(self, found: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        yield from found
        raise self.error


def test_a_node_that_takes_no_writes_replays_nothing(log: Log) -> None:
    """P7: what it then forgets would be deletions, more of them than may wait for the engine."""
    log.add(A, 1, 2)
    log.close()
    log.replica.trouble = StorageState("disk_full", "no space left")
    assert log.replay(A) == []
    assert log.turn.wake_ms() == RETRY_MS
    log.replica.trouble = StorageState()
    log.turn.mono_ms = RETRY_MS
    assert log.replay(A) == [1, 2]


@pytest.mark.parametrize("failing", [1, 2, 4])
@pytest.mark.parametrize("error", [Corrupt("a bad sector"), StorageError("being opened again")])
def test_what_can_be_read_again_in_the_midst_of_looking_costs_no_hint(
    failing: int, error: StorageError
) -> None:
    """The thread that opens RocksDB again ends at any moment."""
    engine = Reopened()
    engine.error = error
    log = Log(engine=engine)
    log.add(A, 1, 2, 3, 4, 5, 6)
    log.close()
    engine.failing = failing
    assert log.replay(A) == []
    replayed = []
    for _ in range(failing):
        log.turn.mono_ms += RETRY_MS
        replayed += log.replay(A)
    assert replayed == [1, 2, 3, 4, 5, 6]
    assert log.turn.counters["hints_dropped"] == 0


@pytest.mark.parametrize("damaged", [{6}, {5, 6}, {1, 2, 3, 4, 5, 6}])
def test_after_a_restart_no_hint_takes_the_place_of_a_damaged_one(damaged: set[int]) -> None:
    log = Log()
    _damage(log, damaged)
    names = log.disk.hint_names()
    again = Log(disk=log.disk)
    again.add(A, 7)
    again.close()
    assert log.disk.hint_names()[: len(names)] == names
    assert len(log.disk.hint_names()) == len(names) + 1


@pytest.mark.parametrize("damaged", [{1}, {3}, {4, 5}, {1, 3, 5}])
def test_a_restart_counts_and_replays_what_is_behind_damage(log: Log, damaged: set[int]) -> None:
    _damage(log, damaged)
    again = Log(disk=log.disk)
    again.add(A, 7)
    again.close()
    replayed = []
    while again.count(A):
        given = again.replay(A)
        replayed += given
        if given:
            again.ack(A)
        again.close()
    assert replayed == sorted({1, 2, 3, 4, 5, 6, 7} - damaged)
    assert again.hints.bytes == 0


def test_of_many_damaged_hints_a_step_drops_some(log: Log) -> None:
    """P7."""
    count = 3 * DROP_ITEMS_MAX + 10
    log.add(A, *range(count + 1))
    log.close()
    for name in log.disk.hint_names()[:count]:
        log.disk.rot_hint(name)
    each = log.hints.bytes // log.count(A)
    steps, replayed = 0, log.replay(A)
    while not replayed:
        assert log.count(A) >= count + 1 - (steps + 1) * DROP_ITEMS_MAX
        assert log.hints.bytes // log.count(A) in (each - 1, each, each + 1), "their mean"
        assert log.turn.wake_ms() == log.turn.mono_ms, "it goes on by itself"
        log.close()
        log.turn.ring()
        replayed = log.sent(A)
        steps += 1
    assert (replayed, steps) == ([count], 3)


def test_a_full_log_makes_room_over_damage() -> None:
    log = Log(bytes_max=1_000)
    _damage(log, {1, 2, 3, 4, 5})
    for stamp in range(7, 60):
        log.add(A, stamp)
        log.close()
    assert log.hints.bytes <= 1_000
    assert log.replay(A)[-1] == 59


def _damage(log: Log, stamps: set[int]) -> None:
    log.add(A, 1, 2, 3, 4, 5, 6)
    log.close()
    names = log.disk.hint_names()
    for stamp in stamps:
        log.disk.rot_hint(names[stamp - 1])


def test_a_full_log_of_which_nothing_can_be_read_makes_room_all_the_same() -> None:
    """Hints are a help; that they cannot be read must not keep new ones out for ever."""
    log = Log(bytes_max=1_000)
    _damage(log, {1, 2, 3, 4, 5, 6})
    stamp = 7
    while not log.turn.counters["hints_dropped"]:
        log.add(A, stamp)
        stamp += 1
    log.close()
    assert log.turn.counters["hints_dropped"] + log.count(A) == stamp - 1
    assert 0 < log.hints.bytes <= 1_000


class Damaged(MemoryEngine):
    """An engine that counts the scans of hints, and cannot read the first `damaged`."""

    damaged = 0
    scans = 0

    def scan_hints(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        for name, blob in super().scan_hints(start, end):
            if int.from_bytes(name[-8:], "big") < self.damaged:
                raise Corrupt("bad block")
            yield name, blob


def test_behind_much_damage_few_places_are_tried_in_a_step() -> None:
    """P7: each is a read of the disk."""
    engine = Damaged()
    log = Log(engine=engine)
    count = 5_000
    log.add(A, *range(count + 1))
    log.close()
    engine.damaged, engine.scans = count, 0
    assert log.replay(A) == []
    assert log.turn.counters["hints_dropped"] == DROP_ITEMS_MAX
    assert engine.scans <= DAMAGE_NEAR + 2 * count.bit_length() + 5
