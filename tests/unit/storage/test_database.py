# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged files: the open refuses, or reads raise Corrupt; nothing wrong is served, and nothing is
missing in silence (I23)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import cast
from zlib import crc32

import pytest
from rocksdict import Cache, Options, Rdict

from quorate.core.values.record import LINKED_FORMAT, Record, encode_stored
from quorate.errors import Corrupt, StorageError
from quorate.storage import tuning
from quorate.storage.database import Database
from quorate.storage.directory import DataDirectory, Noted
from quorate.storage.faults import Faults
from quorate.storage.logs import logs_of
from tests.unit.storage import writer
from tests.unit.storage.samples import EVERYTHING, batch, numbered_batch, open_engine, record, row

BATCHES = 30
RECORDS = {row(number): record(number, size=100) for number in range(BATCHES * 5)}
HINTS = [(b"hint-%08d" % number, b"%d" % number) for number in range(BATCHES)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed data directory with several tables, its manifest as the last process left it."""
    directory = tmp_path_factory.mktemp("whole") / "data"
    for part in range(3):
        engine = open_engine(directory)
        for number in range(part * BATCHES // 3, (part + 1) * BATCHES // 3):
            engine.write(numbered_batch(number, size=100))
        engine.close()
    return directory


def files_of(directory: Path) -> list[Path]:
    """What holds data: not RocksDB's info logs, nor the options that it never reads."""
    found = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    data = {".sst", ".log"}
    return sorted(
        path
        for path in found
        if path.suffix in data or path.name.startswith(("MANIFEST", "CURRENT", "FORMAT"))
    )


def verdict(directory: Path) -> str:
    """What a damaged directory does; fails if it serves anything that was not stored."""
    try:
        engine = open_engine(directory)
    except StorageError as error:
        return "refused" if "\n" not in str(error) else "refused with more than a line"
    damaged = 0
    for name, stored in RECORDS.items():
        try:
            assert engine.get(name) == stored
        except Corrupt:
            damaged += 1
    reads: list[tuple[Callable[[], object], object]] = [
        (lambda: list(engine.scan(*EVERYTHING)), sorted(RECORDS.items())),
        (lambda: list(engine.scan_hints(b"", b"\xff")), HINTS),
        (lambda: engine.get_meta(b"last"), b"%d" % (BATCHES - 1)),
    ]
    for read, wanted in reads:
        try:
            assert read() == wanted
        except Corrupt:
            damaged += 1
    engine.close()
    return "damaged" if damaged else "whole"


def flip(path: Path, at: int, *, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def cut(path: Path, at: int) -> None:
    path.write_bytes(path.read_bytes()[:at])


def blank(path: Path, at: int) -> None:
    """Zeros from `at` to the end, as after a power cut."""
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:at] + bytes(size - at))


DAMAGES: dict[str, Callable[[Path, int, Random], None]] = {
    "flip": lambda path, at, random: flip(path, at, bit=random.randrange(8)),
    "cut": lambda path, at, _: cut(path, at),
    "blank": lambda path, at, _: blank(path, at),
}


def test_an_untouched_copy_is_whole(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "data")
    assert verdict(tmp_path / "data") == "whole"


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_anywhere_is_refused_or_corrupt_and_never_served(
    whole: Path, tmp_path: Path, kind: str
) -> None:
    random = Random(20)
    verdicts = []
    for name in files_of(whole):
        for _ in range(6):
            at = random.randrange((whole / name).stat().st_size or 1)
            copy = tmp_path / "copy"
            shutil.copytree(whole, copy)
            if (copy / name).stat().st_size > 0:
                DAMAGES[kind](copy / name, at, random)
            verdicts.append(verdict(copy))
            shutil.rmtree(copy)
    assert set(verdicts) <= {"refused", "damaged", "whole"}
    assert verdicts.count("whole") < len(verdicts) / 2


def test_a_manifest_cut_anywhere_loses_nothing_in_silence(whole: Path, tmp_path: Path) -> None:
    """RocksDB takes the cut for a crash, and would open what is left, even an empty database."""
    (manifest,) = (name for name in files_of(whole) if name.name.startswith("MANIFEST"))
    size = (whole / manifest).stat().st_size
    for at in range(0, size, 13):
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        cut(copy / manifest, at)
        assert verdict(copy) in {"refused", "whole"}
        shutil.rmtree(copy)


def test_a_lost_file_is_refused(whole: Path, tmp_path: Path) -> None:
    for name in files_of(whole):
        if (whole / name).stat().st_size == 0:
            continue
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        (copy / name).unlink()
        assert verdict(copy) == "refused"
        shutil.rmtree(copy)


def test_a_lost_database_is_not_replaced_by_an_empty_one(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "rocks")
    for _ in range(2):
        assert verdict(tmp_path / "data") == "refused"
        assert not (tmp_path / "data" / "rocks" / "CURRENT").exists()


def test_an_older_copy_of_the_database_is_refused(whole: Path, tmp_path: Path) -> None:
    """FORMAT remembers how much there was."""
    shutil.copytree(whole, tmp_path / "data")
    engine = open_engine(tmp_path / "data")
    engine.write(numbered_batch(BATCHES))
    engine.close()
    shutil.rmtree(tmp_path / "data" / "rocks")
    shutil.copytree(whole / "rocks", tmp_path / "data" / "rocks")
    with pytest.raises(Corrupt, match="a log is missing"):
        open_engine(tmp_path / "data")


def test_an_interrupted_creation_begins_again(tmp_path: Path) -> None:
    """Killed before FORMAT was written, so nothing was ever stored."""
    open_engine(tmp_path).close()
    (tmp_path / "FORMAT").unlink()
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))
    engine.close()
    assert DataDirectory(tmp_path).noted()


def test_a_record_under_another_row_is_corrupt_to_gets_and_scans(tmp_path: Path) -> None:
    """What no block checksum sees: sound blocks with the wrong content."""
    engine = open_engine(tmp_path)
    engine.write(batch([(row(1), record(1)), (row(2), record(2))]))
    engine._rocks.data[row(1)] = engine._rocks.data[row(2)]
    with pytest.raises(Corrupt):
        engine.get(row(1))
    with pytest.raises(Corrupt):
        list(engine.scan(*EVERYTHING))
    engine.write(batch([(row(1), record(3))]))
    assert dict(engine.scan(*EVERYTHING)) == {row(1): record(3), row(2): record(2)}
    engine.close()


def test_a_record_of_a_newer_format_is_as_good_as_none(tmp_path: Path) -> None:
    """One of them does not stop the node."""
    engine = open_engine(tmp_path)
    engine.write(batch([(row(1), record(1)), (row(2), record(2))]))
    body = bytes([LINKED_FORMAT + 1]) + encode_stored(row(1), record(1))[1:-4]
    checksum = crc32(body, crc32(row(1))).to_bytes(4, "little")
    engine._rocks.data[row(1)] = body + checksum
    reads: list[Callable[[], object]] = [
        lambda: engine.get(row(1)),
        lambda: list(engine.scan(*EVERYTHING)),
    ]
    for read in reads:
        with pytest.raises(Corrupt, match="newer format"):
            read()
    assert engine.get(row(2)) == record(2)
    engine.close()


def test_damaged_votes_are_corrupt_until_they_are_written_again(tmp_path: Path) -> None:
    engine = open_engine(tmp_path)
    engine.write(batch(votes=[(row(1), b"one"), (row(2), b"two")]))
    whole = engine._rocks.votes.get(row(1))
    assert isinstance(whole, bytes)
    for damaged in (whole[:-1], whole[:2], b"\xff" + whole[1:], engine._rocks.votes[row(2)]):
        engine._rocks.votes[row(1)] = damaged
        with pytest.raises(Corrupt):
            engine.get_votes(row(1))
        assert dict(engine.scan_votes(*EVERYTHING)) == {row(1): b"", row(2): b"two"}
    assert engine.get_votes(row(2)) == b"two"
    engine.write(batch(votes=[(row(1), b"new")]))
    assert dict(engine.scan_votes(*EVERYTHING)) == {row(1): b"new", row(2): b"two"}
    engine.close()


def without_votes(directory: Path) -> None:
    """Make a closed data directory what it was before there were votes."""
    rocks = Database(directory / "rocks", Noted(0, []))
    rocks.database.drop_column_family("votes")
    rocks.close(Faults(directory))
    del rocks
    form = json.loads((directory / "FORMAT").read_text())
    logs = logs_of(directory / "rocks")
    (directory / "FORMAT").write_text(json.dumps({**form, "format": 3, "logs": logs}))


def test_a_directory_from_before_there_were_votes_opens_with_all_it_has(
    whole: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    shutil.copytree(whole, directory)
    without_votes(directory)
    assert "votes" not in Rdict.list_cf(str(directory / "rocks"), Options(raw_mode=True))
    assert verdict(directory) == "whole"
    assert json.loads((directory / "FORMAT").read_text())["format"] == 4
    engine = open_engine(directory)
    engine.write(batch(votes=[(row(1), b"votes")]))
    engine.close()
    engine = open_engine(directory)
    assert engine.get_votes(row(1)) == b"votes"
    engine.close()


def test_a_directory_that_lost_its_votes_is_refused(whole: Path, tmp_path: Path) -> None:
    """A replica must never forget what it promised."""
    directory = tmp_path / "data"
    shutil.copytree(whole, directory)
    without_votes(directory)
    form = json.loads((directory / "FORMAT").read_text())
    (directory / "FORMAT").write_text(json.dumps({**form, "format": 4}))
    with pytest.raises(StorageError, match="votes"):
        open_engine(directory)


class BadDisk:
    """A family none of whose tables can be read."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def fail(*_: object) -> object:
            raise Exception("IO error: Input/output error: While pread offset 0 len 99: 9.sst")

        return fail


def test_what_the_disk_does_not_give_back_is_corrupt_to_gets_and_scans(tmp_path: Path) -> None:
    """It costs this replica's answer, not the node."""
    engine = open_engine(tmp_path)
    rocks = engine._rocks
    whole = rocks.data, rocks.hints, rocks.meta, rocks.votes
    rocks.data = rocks.hints = rocks.meta = rocks.votes = cast(Rdict, BadDisk())
    reads: list[Callable[[], object]] = [
        lambda: engine.get(row(1)),
        lambda: engine.get_meta(b"last"),
        lambda: engine.scan(*EVERYTHING),
        lambda: engine.scan_hints(b"", b"\xff"),
        lambda: engine.get_votes(row(1)),
        lambda: engine.scan_votes(*EVERYTHING),
    ]
    for read in reads:
        with pytest.raises(Corrupt, match="Input/output error"):
            read()
    rocks.data, rocks.hints, rocks.meta, rocks.votes = whole
    engine.close()


# --- the log of a killed process ---------------------------------------------------------------

LOGGED = 24


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a killed process: all its batches are in the log only."""
    directory = tmp_path_factory.mktemp("killed") / "data"
    with writer.writer(directory, durability="sync", count=LOGGED) as process:
        process.communicate(timeout=60)
    return directory


def log_of(directory: Path) -> Path:
    return max((directory / "rocks").glob("*.log"), key=lambda path: path.stat().st_size)


def whole_batches(directory: Path) -> int:
    """How many batches are there; all before the last must be, and be whole."""
    engine = open_engine(directory)
    count = int(engine.get_meta(b"last") or b"-1") + 1
    wanted: dict[bytes, Record] = {}
    for number in range(count):
        for index in range(number * writer.ROWS, (number + 1) * writer.ROWS):
            wanted[row(index)] = record(index, size=writer.size_of(number))
    assert dict(engine.scan(*EVERYTHING)) == wanted
    engine.close()
    return count


def test_a_flipped_bit_in_the_log_is_refused(killed: Path, tmp_path: Path) -> None:
    """RocksDB's default would drop all that follows and open. The last block is left out: there a
    flipped length looks like the end that a crash tore off."""
    random = Random(21)
    size = log_of(killed).stat().st_size
    for _ in range(30):
        copy = tmp_path / "copy"
        shutil.copytree(killed, copy)
        flip(log_of(copy), random.randrange(size - (32 << 10)), bit=random.randrange(8))
        with pytest.raises(Corrupt):
            whole_batches(copy)
        shutil.rmtree(copy)


def test_the_kind_of_a_log_record_flipped_is_refused(killed: Path, tmp_path: Path) -> None:
    """RocksDB 9.8 would never return."""
    shutil.copytree(killed, tmp_path / "copy")
    flip(log_of(tmp_path / "copy"), 6, bit=2)
    with pytest.raises(Corrupt):
        open_engine(tmp_path / "copy")


def test_a_log_torn_at_its_end_keeps_whole_batches(killed: Path, tmp_path: Path) -> None:
    """I22: as a crash in the middle of a write leaves it."""
    random = Random(22)
    assert whole_batches(shutil.copytree(killed, tmp_path / "untouched")) == LOGGED
    size = log_of(killed).stat().st_size
    counts = set()
    for at in [*random.sample(range(size), 15), size - 1]:
        copy = tmp_path / "copy"
        shutil.copytree(killed, copy)
        cut(log_of(copy), at)
        counts.add(whole_batches(copy))
        shutil.rmtree(copy)
    assert len(counts) > 5
    assert max(counts) == LOGGED - 1


@pytest.mark.parametrize("is_noted", [True, False])
def test_each_lost_log_is_refused(tmp_path: Path, *, is_noted: bool) -> None:
    """RocksDB keeps many, until all families have flushed; it opens without the lost one."""
    killed = tmp_path / "killed"
    with writer.writer(killed, durability="os", count=800, is_noted=is_noted) as process:
        process.communicate(timeout=60)
    logs = logs_of(killed / "rocks")
    assert len(logs) > 2
    # The first was there when the directory was made; the last is as good as never there.
    for name in logs if is_noted else logs[:-1]:
        copy = tmp_path / "copy"
        shutil.copytree(killed, copy)
        (copy / "rocks" / name).unlink()
        with pytest.raises(Corrupt, match="a log is missing") as caught:
            open_engine(copy)
        assert is_noted is (caught.value.facts.get("missing") == name) or name == logs[0]
        shutil.rmtree(copy)


def test_a_log_that_is_not_needed_may_be_gone(tmp_path: Path) -> None:
    """RocksDB deletes it; what was noted before still names it."""
    engine = open_engine(tmp_path)
    engine.write(numbered_batch(0))
    for family in (engine._rocks.data, engine._rocks.hints, engine._rocks.meta):
        family.flush()
    noted = DataDirectory.noted(engine._directory)
    assert noted is not None
    gone = set(noted.logs) - set(logs_of(tmp_path / "rocks"))
    shutil.copytree(tmp_path, tmp_path / "killed", ignore=shutil.ignore_patterns("killed"))
    engine.close()
    assert gone
    again = open_engine(tmp_path / "killed")
    assert again.get(row(1)) == record(1)
    again.close()


def test_a_lost_log_is_refused_at_any_time_and_a_cut_one_once_it_was_noted(
    killed: Path, tmp_path: Path
) -> None:
    """All that the killed process wrote is in its log, and nothing of it was noted."""
    shutil.copytree(killed, tmp_path / "lost")
    for path in (tmp_path / "lost" / "rocks").glob("*.log"):
        path.unlink()
    with pytest.raises(Corrupt, match="a log is missing"):
        open_engine(tmp_path / "lost")
    shutil.copytree(killed, tmp_path / "noted")
    engine = open_engine(tmp_path / "noted")
    engine.write(numbered_batch(LOGGED))
    engine.note_next()
    engine.sync()
    shutil.copytree(tmp_path / "noted", tmp_path / "cut")
    engine.close()
    cut(log_of(tmp_path / "cut"), 10)
    with pytest.raises(Corrupt, match="durable writes are missing"):
        open_engine(tmp_path / "cut")


def test_replicas_flush_at_times_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take the same writes: of one size they would all be slow at once."""
    drawn: list[int] = []
    options = tuning.family_options

    def family_options(*, memtable_bytes: int, cache: Cache) -> Options:
        drawn.append(memtable_bytes)
        return options(memtable_bytes=memtable_bytes, cache=cache)

    monkeypatch.setattr(tuning, "family_options", family_options)
    for number in range(4):
        open_engine(tmp_path / str(number)).close()
    sizes = drawn[:: len(tuning.MEMTABLE_BYTES)]
    least, most = (share * tuning.MEMTABLE_BYTES["data"] for share in tuning.MEMTABLE_SHARES)
    assert len(set(sizes)) == 4
    assert all(int(least) <= size <= most for size in sizes)


def test_sizes_that_differ_by_a_twentieth_are_full_after_different_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB takes memory by the block: large ones make many sizes one."""
    shares = [percent / 100 for percent in range(60, 100, 5)]
    assert len({writes_to_fill(tmp_path / f"{each}", each, monkeypatch) for each in shares}) == 8


def writes_to_fill(directory: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many entries the memtable of this share takes before it is flushed."""
    monkeypatch.setattr(tuning, "MEMTABLE_SHARES", (share, share))
    database = Database(directory, None)
    for number in range(100_000):
        database.data[b"%08d" % number] = b"x" * 2_000
        entries = database.data.property_int_value("rocksdb.num-entries-active-mem-table")
        assert entries is not None
        if entries <= number:
            database.close(Faults(directory))
            return number
    raise AssertionError("never flushed")
