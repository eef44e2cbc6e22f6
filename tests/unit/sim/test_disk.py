# SPDX-License-Identifier: GPL-3.0-or-later
"""What a crash keeps, what damage shows (I22, I23)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError
from quorate.sim.disk import Disk, Lowered

ALL = (b"", b"\xff" * 9)
ROW = row_of(b"k")


def _record(stamp: int, value: bytes | None = b"v") -> Record:
    return Record(pack_version(stamp, 1), value)


def _batch(number: int) -> Batch:
    """A record, a hint, a meta entry and votes that must survive together or not at all."""
    name = b"%03d" % number
    row = row_of(name)
    return Batch([(row, _record(number))], [(name, name)], [(b"last", name)], votes=[(row, name)])


def _found(disk: Disk) -> list[int]:
    """The batches that a disk holds, each of them whole."""
    hints = [int(name) for name, _ in disk.scan_hints(b"", b"\xff")]
    records = sorted(record.version for _, record in disk.scan(b"", b"\xff" * 9))
    assert records == [pack_version(number, 1) for number in hints]
    assert sorted(votes for _, votes in disk.scan_votes(*ALL)) == [b"%03d" % n for n in hints]
    assert disk.get_meta(b"last") == (b"%03d" % hints[-1] if hints else None)
    return hints


def test_what_is_read_is_equal_to_what_was_written_and_shares_no_object_with_it() -> None:
    disk = Disk()
    record = Record(pack_version(5, 1), bytes(100), 17, pack_version(4, 2))
    batch = Batch([(ROW, record)], [(b"h", b"hint")], [(b"m", b"meta")])
    disk.write(batch)
    batch.hints.clear()
    found = disk.get(ROW)
    assert found == record
    assert found is not record
    assert disk.get(b"none") is None
    assert list(disk.scan_hints(b"", b"z")) == [(b"h", b"hint")]


def test_scans_are_in_order_and_half_open_and_stay_as_they_began() -> None:
    disk = Disk()
    for name in (b"c", b"a", b"d", b"b"):
        disk.write(Batch([(name, _record(1))], [(name, name)], []))
    rows = disk.scan(b"a", b"c")
    disk.write(Batch([(b"aa", _record(1))], [(b"b", None), (b"never", None)], []))
    assert [row for row, _ in rows] == [b"a", b"b"]
    assert [row for row, _ in disk.scan(b"", b"d")] == [b"a", b"aa", b"b", b"c"]
    assert [name for name, _ in disk.scan_hints(b"", b"z")] == [b"a", b"c", b"d"]


def test_bytes_used_follow_what_is_held() -> None:
    disk = Disk()
    assert disk.bytes_used() == 0
    disk.write(Batch([(ROW, _record(1, bytes(1_000)))], [(b"h", bytes(500))], []))
    assert 1_500 < disk.bytes_used() < 1_600
    disk.write(Batch([(ROW, _record(2, bytes(10)))], [(b"h", None)], []))
    assert disk.bytes_used() < 100


# --- crashes -----------------------------------------------------------------------------------


def test_a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest_each_batch_whole() -> None:
    """I22."""
    kept, torn = set[int](), 0
    for seed in range(200):
        disk = Disk()
        for number in range(1, 9):
            disk.write(_batch(number))
            if number == 3:
                disk.sync()
        crash = disk.crash(Random(seed))
        found = _found(disk)
        assert found == list(range(1, len(found) + 1))
        assert len(found) == 3 + crash.kept
        assert crash.kept + crash.lost == 5
        kept.add(crash.kept)
        torn += crash.is_torn
    assert kept == {0, 1, 2, 3, 4, 5}
    assert 30 < torn < 130


def test_a_sync_covers_only_what_was_written_before_it_began() -> None:
    disk = Disk()
    disk.write(_batch(1))
    began = disk.written
    disk.write(_batch(2))
    disk.end_sync(began)
    assert disk.durable(row_of(b"001")) is not None
    assert disk.durable(row_of(b"002")) is None
    assert disk.get(row_of(b"002")) is not None


def test_a_disk_that_needs_no_sync_loses_nothing_in_a_crash() -> None:
    for seed in range(20):
        disk = Disk(needs_sync=False)
        for number in range(1, 5):
            disk.write(_batch(number))
        assert disk.crash(Random(seed)).lost == 0
        assert _found(disk) == [1, 2, 3, 4]


def test_what_a_crash_lost_does_not_come_back_with_the_next() -> None:
    for seed in range(50):
        disk = Disk()
        disk.write(_batch(1))
        disk.write(_batch(2))
        disk.crash(Random(seed))
        found = _found(disk)
        disk.crash(Random(seed + 1))
        assert _found(disk) == found


def test_a_record_that_does_not_win_over_what_it_replaces_is_noted() -> None:
    """I10."""
    disk = Disk()
    old, new = _record(1), _record(2)
    disk.write(Batch([(ROW, old), (ROW, new)], [], []))
    assert disk.lowered == []
    disk.write(Batch([(ROW, new)], [], []))
    disk.write(Batch([(ROW, old)], [], []))
    assert disk.lowered == [Lowered(ROW, new, new), Lowered(ROW, new, old)]


def test_what_a_crash_lost_or_damage_hides_is_no_record_to_win_over() -> None:
    old, new = _record(1), _record(2)
    disk = Disk()
    disk.write(Batch([(ROW, old)], [], []))
    disk.sync()
    disk.write(Batch([(ROW, new)], [], []))
    seed = next(each for each in range(100) if Random(each).randint(0, 1) == 0)
    disk.crash(Random(seed))
    middle = Record(pack_version(1, 2), b"v")
    disk.write(Batch([(ROW, middle)], [], []))
    disk.rot(ROW, Random(0))
    disk.write(Batch([(ROW, old)], [], []))
    assert disk.lowered == []
    assert disk.rots == {ROW: 1}


def test_a_crash_keeps_a_drop_whole_or_not_at_all() -> None:
    """I22. Never the drop without what its batch puts."""
    seen = set[bool]()
    for seed in range(60):
        disk = Disk()
        disk.format(_batch(1))
        second = _batch(2)
        disk.write(Batch(second.records, second.hints, second.meta, [ALL], [ALL], second.votes))
        assert _found(disk) == [2]
        kept = disk.crash(Random(seed)).kept
        assert _found(disk) == [1 + kept]
        seen.add(bool(kept))
    assert seen == {False, True}


def test_a_drop_lowers_nothing_and_what_follows_it_has_nothing_to_win_over() -> None:
    """I10."""
    disk = Disk()
    disk.format(Batch([(ROW, _record(2))], [], []))
    disk.write(Batch([(ROW, _record(1))], [], [], [ALL]))
    assert (disk.get(ROW), disk.durable(ROW)) == (_record(1), _record(2))
    disk.write(Batch([], [], [], [ALL]))
    assert disk.get(ROW) is None
    disk.write(Batch([(ROW, _record(1))], [], []))
    assert disk.lowered == []
    disk.write(Batch([(ROW, _record(1))], [], []))
    assert len(disk.lowered) == 1


# --- damage ------------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_by_every_read_and_mended_by_a_write() -> None:
    """I23."""
    for seed in range(200):
        disk = Disk()
        disk.format(Batch([(ROW, _record(1, b"value"))], [], []))
        assert disk.rot(ROW, Random(seed))
        assert disk.damaged() == [ROW]
        with pytest.raises(Corrupt):
            disk.get(ROW)
        with pytest.raises(Corrupt):
            list(disk.scan(b"", b"\xff"))
        with pytest.raises(Corrupt):
            disk.durable(ROW)
        disk.write(Batch([(ROW, _record(2))], [], []))
        assert (disk.get(ROW), disk.damaged()) == (_record(2), [])


def test_damage_survives_a_crash_and_is_not_undone_by_more_of_it() -> None:
    disk = Disk()
    disk.format(Batch([(ROW, _record(1))], [], []))
    disk.rot(ROW, Random(1))
    disk.crash(Random(1))
    disk.rot(ROW, Random(1))
    assert disk.damaged() == [ROW]


def test_nothing_rots_where_nothing_is_held() -> None:
    assert not Disk().rot(ROW, Random(1))


def _voted(disk: Disk) -> list[bytes]:
    """The rows of which anything was voted, damaged or not."""
    return [row for row, _ in disk.scan_votes(*ALL)]


def test_votes_are_read_as_they_were_written_until_they_rot_or_are_dropped() -> None:
    disk, random = Disk(), Random(1)
    rows = sorted(row_of(name) for name in (b"a", b"b", b"c"))
    disk.format(Batch([], [], [], votes=[(row, b"of " + row) for row in rows]))
    assert list(disk.scan_votes(rows[0], rows[2])) == [(row, b"of " + row) for row in rows[:2]]
    assert disk.rot_votes(rows[1], random)
    assert [disk.has_damaged_votes(row) for row in rows] == [False, True, False]
    told = [votes for _, votes in disk.scan_votes(*ALL)]
    assert told == [b"of " + rows[0], b"", b"of " + rows[2]]
    disk.crash(random)
    assert disk.rot_votes(rows[1], random)
    with pytest.raises(Corrupt):
        disk.get_votes(rows[1])
    with pytest.raises(Corrupt):
        disk.image().get_votes(rows[1])
    assert (disk.vote_rots[rows[1]], _voted(disk)) == (2, rows)
    disk.write(Batch([], [], [], [(rows[1], rows[2] + b"\0")], votes=[(rows[1], b"new")]))
    disk.sync()
    disk.crash(random)
    assert [disk.get_votes(row) for row in rows] == [b"of " + rows[0], b"new", None]
    assert not any(map(disk.has_damaged_votes, rows))
    disk.write(Batch([], [], [], votes=[(rows[0], None)]))
    assert _voted(disk) == [rows[1]]
    assert not disk.rot_votes(rows[0], random)


def test_a_damaged_hint_stops_a_scan_where_it_is() -> None:
    disk = Disk()
    disk.write(Batch([], [(b"1", b"a"), (b"2", b"b"), (b"3", b"c")], []))
    disk.rot_hint(b"2")
    hints = disk.scan_hints(b"", b"9")
    assert next(hints) == (b"1", b"a")
    with pytest.raises(Corrupt):
        next(hints)
    assert disk.hint_names() == [b"1", b"2", b"3"]
    disk.write(Batch([], [(b"2", None)], []))
    assert [name for name, _ in disk.scan_hints(b"", b"9")] == [b"1", b"3"]


def test_what_is_dropped_is_no_longer_damaged() -> None:
    disk = Disk()
    disk.format(Batch([(ROW, _record(1))], [(b"1", b"a"), (b"2", b"b")], []))
    disk.rot(ROW, Random(1))
    disk.rot_hint(b"2")
    disk.write(Batch([], [], [], [ALL], [(b"2", b"3")]))
    disk.write(Batch([], [(b"2", b"new")], []))
    assert disk.damaged() == []
    assert list(disk.scan_hints(b"", b"9")) == [(b"1", b"a"), (b"2", b"new")]


def test_an_image_is_what_a_power_cut_would_leave_and_changes_no_more() -> None:
    disk = Disk(needs_sync=False)
    disk.write(Batch([(ROW, _record(1))], [(b"1", b"a"), (b"2", b"b")], [(b"meta", b"old")]))
    disk.rot_hint(b"2")
    disk.needs_sync = True
    disk.write(Batch([(ROW, _record(2))], [], []))
    image = disk.image()
    disk.sync()
    disk.write(Batch([], [(b"1", None)], [(b"meta", b"new")]))
    assert (image.get(ROW), image.durable(ROW)) == (_record(1), _record(1))
    assert (image.hint_names(), image.get_meta(b"meta")) == ([b"1", b"2"], b"old")
    with pytest.raises(Corrupt):
        list(image.scan_hints(b"", b"9"))
    image.write(Batch([(ROW, _record(3))], [], []))
    assert (disk.get(ROW), image.get(ROW)) == (_record(2), _record(3))


# --- trouble -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "error"),
    [("is_full", DiskFull), ("is_busy", StorageBusy), ("is_broken", StorageError)],
)
def test_a_batch_that_is_not_taken_leaves_no_trace(trouble: str, error: type[StorageError]) -> None:
    disk = Disk()
    disk.format(_batch(1))
    setattr(disk, trouble, True)
    with pytest.raises(error):
        disk.write(_batch(2))
    assert (_found(disk), disk.written) == ([1], 1)
    setattr(disk, trouble, False)
    disk.write(_batch(2))
    assert _found(disk) == [1, 2]


def test_a_disk_that_cannot_be_read_for_a_while_is_no_empty_one() -> None:
    disk = Disk()
    disk.write(_batch(1))
    disk.is_unreadable = True
    reads: list[Callable[[bytes], object]] = [
        *(disk.get, disk.get_votes, lambda row: disk.scan_votes(row, row)),
        *(lambda row: disk.scan(row, row), lambda row: disk.scan_hints(row, row)),
    ]
    for read in reads:
        with pytest.raises(StorageError, match="opened again"):
            read(row_of(b"001"))
    disk.is_unreadable = False
    assert _found(disk) == [1]
