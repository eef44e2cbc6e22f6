# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of `storage.engine`, held by every engine, alone and behind the cache."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.core.values.slots import partition_bounds, partition_of, row_of
from quorate.core.values.versions import pack_version
from quorate.errors import StorageBusy
from quorate.host.storing import BUSY_RETRY_MS, Storing
from quorate.storage.cached import CachedEngine, Lru
from quorate.storage.engine import Engine
from quorate.storage.memory import MemoryEngine
from quorate.storage.rocks import RocksEngine
from tests.conformance.engine_model import BATCHES, Model, hints_of, votes_of
from tests.unit.host.fakes import VirtualSystem
from tests.unit.storage.samples import EVERYTHING, batch, numbered_batch, record, row

Opener = Callable[[Path], Engine]


def memory(_: Path) -> Engine:
    return MemoryEngine()


def rocks(directory: Path) -> Engine:
    return RocksEngine.open(directory, durability="sync")


def rocks_os(directory: Path) -> Engine:
    return RocksEngine.open(directory, durability="os")


def cached(opener: Opener) -> Opener:
    def open_cached(directory: Path) -> Engine:
        # Small, so that the suite meets hits, misses and evictions.
        return CachedEngine(opener(directory), Lru(entries_max=4, bytes_max=4000))

    return open_cached


ENGINES: dict[str, Opener] = {
    "memory": memory,
    "rocks": rocks,
    "rocks-os": rocks_os,
    "cached-memory": cached(memory),
    "cached-rocks": cached(rocks),
}
LASTING = {name: opener for name, opener in ENGINES.items() if "rocks" in name}


@pytest.fixture(params=list(ENGINES.values()), ids=list(ENGINES))
def opener(request: pytest.FixtureRequest) -> Opener:
    found: Opener = request.param
    return found


@pytest.fixture
def engine(opener: Opener, tmp_path: Path) -> Iterator[Engine]:
    engine = opener(tmp_path / "data")
    yield engine
    engine.close()


@pytest.fixture(params=list(LASTING.values()), ids=list(LASTING))
def lasting(request: pytest.FixtureRequest) -> Opener:
    found: Opener = request.param
    return found


def test_a_new_engine_is_empty(engine: Engine) -> None:
    assert engine.get(row(1)) is None
    assert engine.get_meta(b"name") is None
    assert engine.get_votes(row(1)) is None
    assert list(engine.scan(*EVERYTHING)) == []
    assert votes_of(engine) == []
    assert hints_of(engine) == []


def test_a_batch_is_read_back(engine: Engine) -> None:
    engine.write(numbered_batch(3))
    assert engine.get(row(16)) == record(16)
    assert engine.get(row(17)) == record(17)
    assert engine.get(row(99)) is None
    assert engine.get_meta(b"last") == b"3"
    assert hints_of(engine) == [(b"hint-00000003", b"3")]


def test_an_empty_batch_changes_nothing(engine: Engine) -> None:
    engine.write(numbered_batch(1))
    engine.write(batch())
    assert len(list(engine.scan(*EVERYTHING))) == 5


def test_the_later_entry_of_a_batch_replaces_the_earlier(engine: Engine) -> None:
    engine.write(
        batch(
            [(row(1), record(1)), (row(2), record(2)), (row(1), record(3))],
            hints=[(b"h", b"1"), (b"h", None), (b"i", None), (b"i", b"2")],
            meta=[(b"m", b"1"), (b"m", b"2"), (b"n", b"1"), (b"n", None)],
            votes=[(row(1), b"1"), (row(1), b"2"), (row(2), b"1"), (row(2), None)],
        )
    )
    assert votes_of(engine) == [(row(1), b"2")]
    assert dict(engine.scan(*EVERYTHING)) == {row(1): record(3), row(2): record(2)}
    assert engine.get(row(1)) == record(3)
    assert hints_of(engine) == [(b"i", b"2")]
    assert (engine.get_meta(b"m"), engine.get_meta(b"n")) == (b"2", None)


def test_none_deletes_hints_and_meta_but_a_tombstone_is_kept(engine: Engine) -> None:
    engine.write(numbered_batch(1))
    tombstone = Record(pack_version(9, 9), None)
    engine.write(
        batch(
            [(row(5), tombstone)],
            hints=[(b"hint-00000001", None), (b"never", None)],
            meta=[(b"last", None)],
        )
    )
    assert engine.get(row(5)) == tombstone
    assert (row(5), tombstone) in list(engine.scan(*EVERYTHING))
    assert hints_of(engine) == []
    assert engine.get_meta(b"last") is None


def test_the_families_do_not_mix(engine: Engine) -> None:
    name = row(1)
    engine.write(
        batch(
            [(name, record(1))],
            hints=[(name, b"hint")],
            meta=[(name, b"meta")],
            votes=[(name, b"votes")],
        )
    )
    assert engine.get(name) == record(1)
    assert engine.get_votes(name) == b"votes"
    assert engine.get_meta(name) == b"meta"
    assert hints_of(engine) == [(name, b"hint")]
    engine.write(batch(hints=[(name, None)], meta=[(name, None)]))
    assert engine.get(name) == record(1)
    assert engine.get_votes(name) == b"votes"
    engine.write(batch([(name, None)]))
    assert votes_of(engine) == [(name, b"votes")]
    engine.write(batch([(name, record(2))], votes=[(name, None)]))
    assert engine.get(name) == record(2)
    assert engine.get_votes(name) is None


def test_votes_are_there_without_a_record(engine: Engine) -> None:
    names = sorted(row(number) for number in range(20))
    engine.write(batch(votes=[(name, b"votes of " + name) for name in reversed(names)]))
    assert votes_of(engine) == [(name, b"votes of " + name) for name in names]
    assert [name for name, _ in engine.scan_votes(names[3], names[7])] == names[3:7]
    assert engine.get_votes(names[5]) == b"votes of " + names[5]
    assert list(engine.scan(*EVERYTHING)) == []


@pytest.mark.parametrize(
    "stored",
    [
        Record(pack_version(1, 1), b""),
        Record(pack_version(1, 1), None, 5, b"p" * 14),
        Record(pack_version(2**64 - 1, 2**48 - 1), bytes(range(256)), 2**63 - 1, b"\0" * 14),
        Record(pack_version(1, 1), b"\xa5" * (8 << 20)),
    ],
    ids=["empty", "tombstone", "all bytes", "8 MiB"],
)
def test_every_field_survives(engine: Engine, stored: Record) -> None:
    name = row_of(bytes(range(256)) * 4)
    engine.write(batch([(name, stored)]))
    assert engine.get(name) == stored
    assert list(engine.scan(name, name + b"\0")) == [(name, stored)]


def test_a_scan_is_half_open_and_in_byte_order(engine: Engine) -> None:
    names = [
        b"\0\0\0\0" + key for key in (b"", b"\0", b"a", b"a\0", b"b", b"\x7f", b"\x80", b"\xff")
    ]
    engine.write(batch([(name, record(index)) for index, name in enumerate(reversed(names))]))
    assert [name for name, _ in engine.scan(*EVERYTHING)] == names
    assert [name for name, _ in engine.scan(names[2], names[5])] == names[2:5]
    assert list(engine.scan(names[2], names[2])) == []
    assert list(engine.scan(names[5], names[2])) == []
    assert list(engine.scan(b"", b"")) == []


def test_partitions_are_scanned_apart(engine: Engine) -> None:
    rows = [row(number) for number in range(2000)]
    engine.write(batch([(name, record(1)) for name in rows]))
    for partition in {partition_of(name) for name in rows[:50]}:
        found = [name for name, _ in engine.scan(*partition_bounds(partition))]
        assert found == sorted(name for name in rows if partition_of(name) == partition)


def test_a_scan_shows_the_moment_it_began(engine: Engine) -> None:
    engine.write(numbered_batch(0))
    before = sorted((row(number), record(number)) for number in range(5))
    scan, hints = engine.scan(*EVERYTHING), engine.scan_hints(b"", b"\xff")
    started = engine.scan(*EVERYTHING)
    first = next(started)
    engine.write(
        batch([(row(0), record(77)), (row(9), record(9))], hints=[(b"hint-00000000", None)])
    )
    later = dict(engine.scan(*EVERYTHING))
    engine.write(numbered_batch(1))
    assert list(scan) == before
    assert [first, *started] == before
    assert list(hints) == [(b"hint-00000000", b"0")]
    assert later == {**dict(before), row(0): record(77), row(9): record(9)}


def test_pages_of_a_scan_add_up(engine: Engine) -> None:
    engine.write(numbered_batch(0, rows=300))
    start, end = EVERYTHING
    paged: list[tuple[bytes, Record]] = []
    while page := list(islice(engine.scan(start, end), 7)):
        paged += page
        start = page[-1][0] + b"\0"
    assert paged == list(engine.scan(*EVERYTHING))
    assert len(paged) == 300


def test_writes_go_on_while_another_thread_syncs(engine: Engine) -> None:
    synced = 0
    done = threading.Event()

    def keep_syncing() -> None:
        nonlocal synced
        while not done.is_set():
            engine.sync()
            synced += 1

    thread = threading.Thread(target=keep_syncing)
    thread.start()
    try:
        for number in range(300):
            engine.write(numbered_batch(number))
            assert engine.get(row(number * 5)) == record(number * 5)
    finally:
        done.set()
        thread.join(30)
    assert synced > 0
    assert len(list(engine.scan(*EVERYTHING))) == 1500


def test_a_dropped_range_is_gone_and_its_neighbours_are_not(engine: Engine) -> None:
    names = [b"\0\0\0\0" + key for key in (b"a", b"b", b"b\0", b"c", b"d")]
    engine.write(
        batch(
            [(name, record(index)) for index, name in enumerate(names)],
            hints=[(b"h%d" % number, b"blob") for number in range(5)],
            meta=[(names[1], b"meta"), (b"h1", b"meta")],
            votes=[(name, b"votes") for name in names],
        )
    )
    assert [engine.get(name) for name in names] == [record(index) for index in range(5)]
    engine.write(batch(dropped_rows=[(names[1], names[3])], dropped_hints=[(b"h1", b"h3")]))
    for _ in range(2):
        kept = [record(0), None, None, record(3), record(4)]
        assert [engine.get(name) for name in names] == kept
    assert [name for name, _ in engine.scan(*EVERYTHING)] == [names[0], names[3], names[4]]
    assert list(engine.scan(names[1], names[3])) == []
    assert [name for name, _ in votes_of(engine)] == [names[0], names[3], names[4]]
    assert engine.get_votes(names[1]) is engine.get_votes(names[2]) is None
    assert [name for name, _ in hints_of(engine)] == [b"h0", b"h3", b"h4"]
    assert engine.get_meta(names[1]) == engine.get_meta(b"h1") == b"meta"


def test_a_batch_drops_before_it_puts(engine: Engine) -> None:
    engine.write(numbered_batch(0))
    engine.write(
        batch(
            [(row(1), record(7)), (row(9), record(9))],
            hints=[(b"hint-00000000", b"new"), (b"hint-1", None)],
            dropped_rows=[EVERYTHING],
            dropped_hints=[(b"hint", b"hinu")],
            votes=[(row(1), b"votes")],
        )
    )
    assert votes_of(engine) == [(row(1), b"votes")]
    kept = {row(1): record(7), row(9): record(9)}
    assert dict(engine.scan(*EVERYTHING)) == kept
    assert [engine.get(row(number)) for number in range(10)] == [
        kept.get(row(number)) for number in range(10)
    ]
    assert hints_of(engine) == [(b"hint-00000000", b"new")]


def test_a_dropped_range_can_be_written_again_and_with_what_is_lower(engine: Engine) -> None:
    engine.write(batch([(row(1), record(5))], hints=[(b"h", b"1")]))
    engine.write(batch(dropped_rows=[EVERYTHING], dropped_hints=[(b"h", b"i")]))
    engine.write(batch([(row(1), record(2))], hints=[(b"h", b"2")]))
    assert engine.get(row(1)) == record(2)
    assert list(engine.scan(*EVERYTHING)) == [(row(1), record(2))]
    assert hints_of(engine) == [(b"h", b"2")]


def test_dropped_ranges_may_overlap_touch_and_hold_nothing(engine: Engine) -> None:
    names = [b"\0\0\0\0" + bytes([letter]) for letter in b"abcdefgh"]
    engine.write(batch([(name, record(1)) for name in names]))
    ranges = [(5, 6), (1, 3), (2, 4), (4, 5), (1, 2)]
    engine.write(batch(dropped_rows=[(names[first], names[past]) for first, past in ranges]))
    assert [name for name, _ in engine.scan(*EVERYTHING)] == [names[0], *names[6:]]
    engine.write(batch(dropped_rows=[(names[first], names[past]) for first, past in ranges]))
    found = [engine.get(name) is not None for name in names]
    assert found == [True, False, False, False, False, False, True, True]


def test_a_scan_that_began_before_a_drop_shows_what_was_dropped(engine: Engine) -> None:
    engine.write(numbered_batch(0))
    before = sorted((row(number), record(number)) for number in range(5))
    scan, hints = engine.scan(*EVERYTHING), engine.scan_hints(b"", b"\xff")
    started = engine.scan(*EVERYTHING)
    first = next(started)
    engine.write(batch(dropped_rows=[EVERYTHING], dropped_hints=[(b"h", b"i")]))
    assert list(engine.scan(*EVERYTHING)) == []
    engine.write(numbered_batch(1))
    assert list(scan) == before
    assert [first, *started] == before
    assert list(hints) == [(b"hint-00000000", b"0")]


def test_bytes_used_grows_with_what_is_stored(engine: Engine) -> None:
    empty = engine.bytes_used()
    engine.write(numbered_batch(0, rows=100, size=10_000))
    records = engine.bytes_used()
    assert 900_000 < records - empty < 4_000_000
    engine.write(batch(votes=[(row(number), bytes(10_000)) for number in range(100)]))
    assert 900_000 < engine.bytes_used() - records < 4_000_000


def test_close_may_be_called_twice(engine: Engine) -> None:
    engine.close()
    engine.close()


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=15)
@given(batches=BATCHES, reopened=st.sets(st.integers(0, 7), max_size=3))
def test_an_engine_does_what_dictionaries_do(
    name: str, batches: list[Batch], reopened: set[int]
) -> None:
    """Reopened, what was written so far is in tables, and what a later batch drops lies in them."""
    model = Model()
    with TemporaryDirectory() as directory:
        engine = ENGINES[name](Path(directory) / "data")
        for number, batch_given in enumerate(batches):
            engine.write(batch_given)
            model.write(batch_given)
            assert model.agrees_with(engine)
            if number in reopened and name in LASTING:
                engine.close()
                engine = ENGINES[name](Path(directory) / "data")
                assert model.agrees_with(engine)
        engine.close()
        if name in LASTING:
            engine = ENGINES[name](Path(directory) / "data")
            assert model.agrees_with(engine)
            engine.close()


class Refusing:
    """An engine that takes no batch while it is busy."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner
        self.is_busy = False
        self.needs_sync = inner.needs_sync
        self.note_ms = 0
        self.get = inner.get
        self.scan = inner.scan
        self.get_meta = inner.get_meta
        self.get_votes = inner.get_votes
        self.scan_votes = inner.scan_votes
        self.scan_hints = inner.scan_hints
        self.note_next = inner.note_next
        self.sync = inner.sync
        self.bytes_used = inner.bytes_used
        self.close = inner.close

    def write(self, batch: Batch) -> None:
        if self.is_busy:
            raise StorageBusy("a write stall")
        self.inner.write(batch)


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=15)
@given(batches=BATCHES, busy=st.lists(st.booleans(), min_size=8, max_size=8))
def test_batches_that_had_to_wait_do_what_dictionaries_do(
    name: str, batches: list[Batch], busy: list[bool]
) -> None:
    """Whichever of them were merged meanwhile."""
    model, system = Model(), VirtualSystem()
    told: list[object] = []
    with TemporaryDirectory() as directory:
        engine = Refusing(ENGINES[name](Path(directory) / "data"))
        storing = Storing(
            system,
            engine,
            stuck_after_ms=1e9,
            waiting_bytes_max=1 << 30,
            on_durable=told.append,
            on_state=told.append,
            on_failure=pytest.fail,
            log=told.append,
        )
        for mark, (batch_given, engine.is_busy) in enumerate(zip(batches, busy, strict=False), 1):
            storing.store(batch_given, mark)
            model.write(batch_given)
            if not engine.is_busy:
                system.run(BUSY_RETRY_MS)
                assert model.agrees_with(engine)
        engine.is_busy = False
        system.run(BUSY_RETRY_MS)
        assert model.agrees_with(engine)
        engine.close()


def test_everything_is_there_after_close_and_open(lasting: Opener, tmp_path: Path) -> None:
    engine = lasting(tmp_path / "data")
    for number in range(100):
        engine.write(numbered_batch(number))
    engine.write(batch(votes=[(row(1), b"votes")]))
    engine.close()
    engine = lasting(tmp_path / "data")
    assert dict(engine.scan(*EVERYTHING)) == {row(number): record(number) for number in range(500)}
    assert [blob for _, blob in hints_of(engine)] == [b"%d" % number for number in range(100)]
    assert engine.get_meta(b"last") == b"99"
    assert engine.get_votes(row(1)) == b"votes"
    engine.close()


def test_an_abandoned_scan_does_not_keep_the_engine_open(lasting: Opener, tmp_path: Path) -> None:
    engine = lasting(tmp_path / "data")
    engine.write(numbered_batch(1))
    scan = engine.scan(*EVERYTHING)
    next(scan)
    engine.close()
    lasting(tmp_path / "data").close()
