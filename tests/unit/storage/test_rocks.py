# SPDX-License-Identifier: GPL-3.0-or-later
"""RocksEngine under kills, full disks and write stalls (I22)."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quorate.core.values.events import Batch
from quorate.errors import Corrupt, DiskFull, StorageBusy, StorageError, StorageLocked
from quorate.storage import rocks
from quorate.storage.database import Database
from quorate.storage.directory import Noted
from quorate.storage.rocks import RocksEngine
from tests.unit.storage import writer
from tests.unit.storage.samples import EVERYTHING, batch, numbered_batch, open_engine, record, row


def whole_batches(engine: RocksEngine) -> int:
    """How many of the writer's batches are there; all before the last must be, and be whole."""
    count = int(engine.get_meta(b"last") or b"-1") + 1
    assert dict(engine.scan(*EVERYTHING)) == {
        row(index): record(index, size=writer.size_of(number))
        for number in range(count)
        for index in range(number * writer.ROWS, (number + 1) * writer.ROWS)
    }
    hints = [blob for _, blob in engine.scan_hints(b"", b"\xff")]
    assert hints == [b"%d" % number for number in range(count)]
    return count


def test_only_sync_durability_needs_a_sync(tmp_path: Path) -> None:
    for durability, needed in (("sync", True), ("os", False)):
        engine = RocksEngine.open(tmp_path / durability, durability=durability)
        assert engine.needs_sync is needed
        engine.close()


def test_what_write_took_survives_the_process_without_a_sync(tmp_path: Path) -> None:
    with writer.writer(tmp_path, durability="os", count=40) as process:
        written = process.communicate(timeout=60)[0].split()
    assert written == [str(number) for number in range(40)]
    engine = open_engine(tmp_path)
    assert whole_batches(engine) == 40
    engine.close()


def kill_after(directory: Path, *, first: int, count: int) -> int:
    """Kill a writer once it has said that `count` batches are synced. Returns the last that was."""
    with writer.writer(directory, durability="sync", first=first, count=10_000) as process:
        assert process.stdout is not None
        for _ in range(count):
            last = int(process.stdout.readline())
        process.kill()
        return [last, *map(int, process.stdout)][-1]


def test_kill_9_keeps_every_synced_batch_and_only_whole_ones(tmp_path: Path) -> None:
    """I22, in five rounds over one directory."""
    there = 0
    for count in (1, 6, 13, 24, 41):
        last = kill_after(tmp_path, first=there, count=count)
        engine = open_engine(tmp_path)
        there = whole_batches(engine)
        assert there > last
        engine.close()


def test_kill_9_right_after_the_first_batch_leaves_a_directory_that_opens(tmp_path: Path) -> None:
    with writer.writer(tmp_path, durability="os", count=1) as process:
        process.communicate(timeout=60)
    engine = open_engine(tmp_path)
    assert whole_batches(engine) == 1
    engine.close()


def test_a_drop_is_replayed_from_the_log_with_what_its_batch_puts(tmp_path: Path) -> None:
    """I22. The count of durable writes that is noted counts a range as one."""
    engine = open_engine(tmp_path / "data")
    engine.write(numbered_batch(0))
    engine.write(
        batch([(row(1), record(7))], dropped_rows=[EVERYTHING], dropped_hints=[(b"h", b"i")])
    )
    engine.write(batch([(row(2), record(2))]))
    engine.note_next()
    engine.sync()
    # As a kill would leave it.
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    engine.close()
    engine = open_engine(tmp_path / "killed")
    assert dict(engine.scan(*EVERYTHING)) == {row(1): record(7), row(2): record(2)}
    assert list(engine.scan_hints(b"", b"\xff")) == []
    assert engine.get_meta(b"last") == b"0"
    engine.close()


def test_an_open_engine_locks_its_directory(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    with pytest.raises(StorageLocked):
        open_engine(tmp_path)
    engine.write(numbered_batch(0))
    engine.close()
    open_engine(tmp_path).close()


def test_a_closed_engine_refuses_calls(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))
    scan = engine.scan(*EVERYTHING)
    engine.close()
    calls: list[Callable[[], object]] = [
        lambda: engine.get(row(0)),
        lambda: engine.get_meta(b"last"),
        lambda: engine.scan(*EVERYTHING),
        lambda: next(scan),
        lambda: engine.write(numbered_batch(1)),
        engine.sync,
    ]
    for call in calls:
        with pytest.raises(StorageError):
            call()


def test_a_write_stall_stores_nothing_and_passes(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))
    family = engine._rocks.data
    # One file at level 0 is too many now; four would be needed for a compaction to end that.
    family.set_options({"level0_stop_writes_trigger": "1"})
    family.flush()
    with pytest.raises(StorageBusy):
        engine.write(numbered_batch(1))
    assert engine.get(row(5)) is None
    assert engine.get_meta(b"last") == b"0"
    family.set_options({"level0_stop_writes_trigger": "48"})
    engine.write(numbered_batch(1))
    assert engine.get(row(5)) == record(5)
    engine.close()


# --- full disks --------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system here: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, *, leave: int) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(disk) - leave)
    return ballast


def write_until_given_up_for_reopening(engine: RocksEngine) -> None:
    """Try a write until the engine lets go of RocksDB, to open it again with the next sync."""
    deadline = time.monotonic() + 30
    while engine._open is not None:
        assert time.monotonic() < deadline, "never tried"
        with pytest.raises(DiskFull):
            engine.write(numbered_batch(1))
        time.sleep(0.01)


def write_when_there_is_room(engine: RocksEngine, given: Batch) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            engine.write(given)
        except DiskFull:
            assert time.monotonic() < deadline, "no recovery"
            time.sleep(0.02)
            engine.sync()
        else:
            return


def holds(engine: RocksEngine, *, batches: int) -> bool:
    wanted = {row(index): record(index) for index in range(batches * 5)}
    return dict(engine.scan(*EVERYTHING)) == wanted


def test_the_reserve_of_a_full_disk_is_not_written_into(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocks, "_ROOM_SECONDS", 0.0)
    engine = open_engine(disk / "data")
    engine.write(numbered_batch(0))
    ballast = fill(disk, leave=3 << 20)
    with pytest.raises(DiskFull) as caught:
        engine.write(numbered_batch(1))
    assert caught.value.facts["reserve_bytes"] == (64 << 20) // rocks.RESERVE_SHARE
    engine.sync()
    assert holds(engine, batches=1)
    ballast.unlink()
    engine.write(numbered_batch(1))
    engine.sync()
    engine.close()
    engine = open_engine(disk / "data")
    assert holds(engine, batches=2)
    engine.close()


def test_a_file_system_is_asked_again_once_its_room_is_used_up(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With less than a memtable: a flush in the background would drop its log and give room."""
    monkeypatch.setattr(rocks, "_ROOM_SECONDS", 3600.0)
    engine = open_engine(disk / "data")
    reserve = (64 << 20) // rocks.RESERVE_SHARE
    fill(disk, leave=reserve + (640 << 10))
    quarters = [batch([(row(number), record(number, size=256 << 10))]) for number in range(4)]
    engine.write(quarters[0])
    fill(disk, leave=reserve - (1 << 20))
    engine.write(quarters[1])
    engine.write(quarters[2])
    with pytest.raises(DiskFull, match="reserve"):
        engine.write(quarters[3])
    engine.close()


def meet_full_disk(engine: RocksEngine, disk: Path) -> Path:
    """Let RocksDB itself run out of space: the room is there when it is asked for, and too small
    for the batch. Returns what fills the disk."""
    ballast = fill(disk, leave=(64 << 20) // rocks.RESERVE_SHARE + (256 << 10))
    with pytest.raises(DiskFull, match="No space left"):
        engine.write(batch([(row(10**6 + n), record(n, size=1 << 20)) for n in range(6)]))
    assert free_bytes(disk) < 1 << 20
    return ballast


@pytest.mark.parametrize("family", ["records", "votes"])
def test_an_entry_alone_in_its_batch_meets_a_full_disk_as_a_batch_does(
    disk: Path, family: str
) -> None:
    """It is put by itself, without a batch of RocksDB's."""
    engine = open_engine(disk / "data")
    fill(disk, leave=(64 << 20) // rocks.RESERVE_SHARE + (256 << 10))
    large = record(0, size=6 << 20)
    entry = batch([(row(0), large)]) if family == "records" else batch(votes=[(row(0), large.body)])
    with pytest.raises(DiskFull, match="No space left"):
        engine.write(entry)
    assert (engine.get(row(0)), engine.get_votes(row(0))) == (None, None)
    engine.close()


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocks, "_REOPEN_PAUSE_SECONDS", 0.1)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What this process, and not RocksDB, has synced."""
    paths: list[Path] = []
    fsync = os.fsync

    def noting_fsync(descriptor: int) -> None:
        paths.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    return paths


@pytest.mark.usefixtures("eager")
def test_a_disk_that_fills_under_rocksdb_costs_writes_only_until_there_is_room(disk: Path) -> None:
    """What was taken before becomes durable, reads go on, writes return."""
    engine = open_engine(disk / "data")
    for number in range(3):
        engine.write(numbered_batch(number))
    ballast = meet_full_disk(engine, disk)
    engine.sync()
    engine.sync()
    for _ in range(3):
        with pytest.raises(DiskFull):
            engine.write(numbered_batch(3))
    assert holds(engine, batches=3)
    ballast.unlink()
    write_when_there_is_room(engine, numbered_batch(3))
    engine.sync()
    assert holds(engine, batches=4)
    engine.close()
    engine = open_engine(disk / "data")
    assert holds(engine, batches=4)
    engine.close()


@pytest.mark.usefixtures("eager")
def test_an_engine_that_is_closed_on_a_full_disk_keeps_what_it_took(disk: Path) -> None:
    engine = open_engine(disk / "data")
    for number in range(3):
        engine.write(numbered_batch(number))
    ballast = meet_full_disk(engine, disk)
    engine.close()
    ballast.unlink()
    engine = open_engine(disk / "data")
    assert holds(engine, batches=3)
    engine.close()


@pytest.mark.usefixtures("eager")
def test_a_scan_open_while_rocksdb_is_opened_again_fails_and_does_not_end_early(disk: Path) -> None:
    engine = open_engine(disk / "data")
    engine.write(numbered_batch(0))
    meet_full_disk(engine, disk).unlink()
    scan = engine.scan(*EVERYTHING)
    next(scan)
    write_when_there_is_room(engine, numbered_batch(1))
    with pytest.raises(StorageError, match="during a scan"):
        list(scan)
    assert holds(engine, batches=2)
    engine.close()


@pytest.mark.usefixtures("eager")
def test_rocksdb_is_opened_again_by_a_sync_and_meanwhile_nothing_can_be_read(disk: Path) -> None:
    """The event loop, which writes and reads, never waits for it."""
    engine = open_engine(disk / "data")
    engine.write(numbered_batch(0))
    meet_full_disk(engine, disk).unlink()
    write_until_given_up_for_reopening(engine)
    reads: list[Callable[[], object]] = [
        lambda: engine.get(row(0)),
        lambda: engine.get_meta(b"last"),
        lambda: engine.scan(*EVERYTHING),
        lambda: engine.scan_hints(b"", b"\xff"),
        lambda: engine.get_votes(row(0)),
        lambda: engine.scan_votes(*EVERYTHING),
    ]
    for read in reads:
        with pytest.raises(StorageError, match="being opened again") as caught:
            read()
        assert not isinstance(caught.value, Corrupt), "nothing is damaged"
    assert engine.bytes_used() == 0
    with pytest.raises(DiskFull):
        engine.write(numbered_batch(1))
    engine.sync()
    assert holds(engine, batches=1)
    engine.write(numbered_batch(1))
    engine.close()
    engine = open_engine(disk / "data")
    assert holds(engine, batches=2)
    engine.close()


@pytest.mark.usefixtures("eager")
def test_a_write_tried_while_rocksdb_is_opened_again_is_one_that_met_a_full_disk(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other error would end the node, in the moment in which it gets over the full disk."""
    engine = open_engine(disk / "data")
    engine.write(numbered_batch(0))
    meet_full_disk(engine, disk).unlink()
    write_until_given_up_for_reopening(engine)
    tried = 0

    def open_among_writes(path: Path, noted: Noted | None) -> Database:
        nonlocal tried
        with pytest.raises(DiskFull):
            engine.write(numbered_batch(1))
        opened = Database(path, noted)
        with pytest.raises(DiskFull):
            engine.write(numbered_batch(1))
        tried += 1
        return opened

    monkeypatch.setattr(rocks, "Database", open_among_writes)
    engine.sync()
    assert tried == 1
    engine.write(numbered_batch(1))
    assert holds(engine, batches=2)
    engine.close()


@pytest.mark.usefixtures("eager")
def test_an_engine_that_is_closed_before_rocksdb_is_opened_again_keeps_what_it_took(
    disk: Path, synced: list[Path]
) -> None:
    engine = open_engine(disk / "data")
    engine.write(numbered_batch(0))
    meet_full_disk(engine, disk).unlink()
    write_until_given_up_for_reopening(engine)
    synced.clear()
    engine.close()
    assert [path.suffix for path in synced] == [".log", ""]
    engine = open_engine(disk / "data")
    assert holds(engine, batches=1)
    engine.close()


def test_a_log_synced_behind_rocksdb_is_synced_with_its_directory(
    disk: Path, synced: list[Path]
) -> None:
    """A file whose directory is not durable is gone after a power cut."""
    engine = open_engine(disk / "data")
    engine.write(numbered_batch(0))
    meet_full_disk(engine, disk).unlink()
    synced.clear()
    engine.sync()
    directory = disk / "data" / "rocks"
    assert synced[-1] == directory
    assert {path.suffix for path in synced[:-1]} == {".log"}
    engine.close()


def test_a_read_only_disk_is_one_clear_line(disk: Path) -> None:
    open_engine(disk / "data").close()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for directory in (disk / "data", disk / "new"):
        with pytest.raises(StorageError, match="Read-only file system") as caught:
            open_engine(directory)
        assert str(disk) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_directory_without_permission_is_one_clear_line(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        open_engine(tmp_path / "data")
    tmp_path.chmod(0o755)
