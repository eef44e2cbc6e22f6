# SPDX-License-Identifier: GPL-3.0-or-later
"""What RocksDB does not see in its logs is found before it opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.errors import Corrupt
from quorate.storage.logs import check_logs, logs_of

BLOCK = 32 << 10


def log_record(length: int, kind: int = 1) -> bytes:
    return b"crc!" + length.to_bytes(2, "little") + bytes([kind]) + b"\xee" * length


WHOLE_BLOCKS = log_record(BLOCK - 7 - 7 - 3) + log_record(3) + log_record(BLOCK - 7, kind=2)
"""Two blocks, both filled to the end."""
LOGS = {
    "empty": b"",
    "one record": log_record(100),
    "fragments": log_record(100, 2) + log_record(0, 3) + log_record(1, 4),
    "two blocks": WHOLE_BLOCKS + log_record(5, kind=4),
    "a block's end too short for a record": log_record(BLOCK - 7 - 6) + b"\xff" * 6 + log_record(1),
    "cut in a payload": log_record(100)[:-1],
    "cut in a header": log_record(100) + log_record(1)[:6],
    "zeros": log_record(100) + bytes(2 * BLOCK),
}


@pytest.mark.parametrize("name", ["MANIFEST-000001", "000004.log"])
@pytest.mark.parametrize("content", LOGS.values(), ids=LOGS.keys())
def test_what_rocksdb_writes_passes(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    check_logs(tmp_path, noted=None)


@pytest.mark.parametrize("name", ["MANIFEST-000001", "000004.log"])
@pytest.mark.parametrize("before", [b"", log_record(9), WHOLE_BLOCKS])
@pytest.mark.parametrize("kind", [5, 8, 9, 129, 255])
def test_a_kind_that_was_never_written_is_corrupt(
    tmp_path: Path, name: str, before: bytes, kind: int
) -> None:
    (tmp_path / name).write_bytes(before + log_record(20, kind) + log_record(1))
    with pytest.raises(Corrupt) as caught:
        check_logs(tmp_path, noted=None)
    assert caught.value.facts == {"path": str(tmp_path / name)}


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "000005.sst").write_bytes(b"\xff" * 100)
    (tmp_path / "LOG").write_bytes(b"\xff" * 100)
    check_logs(tmp_path, noted=None)
    check_logs(tmp_path / "missing", noted=None)


def test_a_database_without_a_log_has_lost_it(tmp_path: Path) -> None:
    check_logs(tmp_path, noted=["000001.log"])
    (tmp_path / "MANIFEST-000001").touch()
    with pytest.raises(Corrupt, match="a log is missing"):
        check_logs(tmp_path, noted=[])


def writes(number: int, count: int, *, length: int = 100, kind: int = 1) -> bytes:
    """A record of a WAL that holds the writes from `number` on."""
    head = number.to_bytes(8, "little") + count.to_bytes(4, "little")
    return b"crc!" + length.to_bytes(2, "little") + bytes([kind]) + head + b"\xee" * (length - 12)


IN_PIECES = writes(5, 5, kind=2) + log_record(100, 3) + log_record(100, 4)
FOLLOWING = {
    "one after another": [writes(1, 4), IN_PIECES, writes(10, 1)],
    "an empty one at the end": [writes(1, 4), b""],
    "empty ones between": [writes(1, 4), b"", b"", writes(5, 1)],
    "an end that a crash tore off, and was written again": [
        writes(1, 4) + writes(5, 3)[:-1],
        writes(5, 1),
    ],
}
BROKEN = {
    "one is missing": [writes(1, 4), writes(10, 1)],
    "one is cut": [writes(1, 4) + writes(5, 3)[:-1], writes(8, 1)],
    "one is cut between pieces": [writes(1, 4) + IN_PIECES[:-200], writes(10, 1)],
    "one is emptied": [writes(1, 4), b"", writes(5, 1), b"", writes(7, 1)],
}


def write_logs(directory: Path, contents: list[bytes]) -> None:
    for number, content in enumerate(contents):
        (directory / f"{number + 7:06}.log").write_bytes(content)


@pytest.mark.parametrize("contents", FOLLOWING.values(), ids=FOLLOWING.keys())
def test_logs_that_follow_each_other_pass(tmp_path: Path, contents: list[bytes]) -> None:
    write_logs(tmp_path, contents)
    check_logs(tmp_path, noted=[])


def test_logs_follow_each_other_by_number_whatever_else_is_there(tmp_path: Path) -> None:
    """RocksDB writes six digits at least: more, one day."""
    (tmp_path / "999999.log").write_bytes(writes(1, 4))
    (tmp_path / "1000000.log").write_bytes(writes(5, 1))
    (tmp_path / "notes.log").write_bytes(b"of whoever looked")
    check_logs(tmp_path, noted=[])
    assert logs_of(tmp_path) == ["999999.log", "1000000.log"]


@pytest.mark.parametrize("contents", BROKEN.values(), ids=BROKEN.keys())
def test_a_log_that_is_missing_between_two_is_named_by_them(
    tmp_path: Path, contents: list[bytes]
) -> None:
    write_logs(tmp_path, contents)
    with pytest.raises(Corrupt, match="a log is missing or cut short") as caught:
        check_logs(tmp_path, noted=[])
    facts = caught.value.facts
    assert facts["before"] == f"{len(contents) + 6:06}.log"
    assert facts["after"] == f"{len(contents) + 5:06}.log"


def test_a_log_that_was_noted_and_is_missing_is_named(tmp_path: Path) -> None:
    write_logs(tmp_path, [writes(1, 4)])
    (tmp_path / "MANIFEST-000001").touch()
    check_logs(tmp_path, noted=["000007.log"])
    with pytest.raises(Corrupt, match=r"a log is missing.*missing=000006\.log 000008\.log"):
        check_logs(tmp_path, noted=["000006.log", "000007.log", "000008.log"])


def manifest(*numbers: int) -> bytes:
    """A record of a MANIFEST: tags and what follows them."""
    payload = b""
    for number in numbers:
        while number > 0x7F:
            payload += bytes([number & 0x7F | 0x80])
            number >>= 7
        payload += bytes([number])
    return b"crc!" + len(payload).to_bytes(2, "little") + b"\x01" + payload


def test_logs_that_the_manifest_needs_no_more_may_be_missing_or_there(tmp_path: Path) -> None:
    """Some that RocksDB deleted may be back after a power cut."""
    needed = manifest(2, 900, 9, 0, 10, 8) + manifest(4, 300, 103, 10, 99) + manifest(1, 10)
    (tmp_path / "MANIFEST-000009").write_bytes(needed)
    write_logs(tmp_path, [writes(1, 1), writes(50, 4)])
    check_logs(tmp_path, noted=["000003.log", "000006.log", "000008.log"])
    (tmp_path / "000008.log").unlink()
    with pytest.raises(Corrupt, match=r"missing=000008\.log\)"):
        check_logs(tmp_path, noted=["000003.log", "000006.log", "000008.log"])
