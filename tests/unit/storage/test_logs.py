# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs over which RocksDB would loop for ever are found before it opens them."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.errors import Corrupt
from quorate.storage.database import check_logs

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
    check_logs(tmp_path)


@pytest.mark.parametrize("name", ["MANIFEST-000001", "000004.log"])
@pytest.mark.parametrize("before", [b"", log_record(9), WHOLE_BLOCKS])
@pytest.mark.parametrize("kind", [5, 8, 9, 129, 255])
def test_a_kind_that_was_never_written_is_corrupt(
    tmp_path: Path, name: str, before: bytes, kind: int
) -> None:
    (tmp_path / name).write_bytes(before + log_record(20, kind) + log_record(1))
    with pytest.raises(Corrupt) as caught:
        check_logs(tmp_path)
    assert caught.value.facts == {"path": str(tmp_path / name)}


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "000005.sst").write_bytes(b"\xff" * 100)
    (tmp_path / "LOG").write_bytes(b"\xff" * 100)
    check_logs(tmp_path)
    check_logs(tmp_path / "missing")
