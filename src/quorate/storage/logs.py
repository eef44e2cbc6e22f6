# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at RocksDB's log files before RocksDB opens them.

RocksDB checks its logs (WAL and MANIFEST) itself, but 9.8 loops for ever, the GIL held, over a
record whose kind was flipped into one of the kinds for recycled files, which we never write. So the
kinds are checked here; lengths and checksums are left to RocksDB.

The format (RocksDB wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in them records of
checksum (4), length (2, little-endian), kind (1) and payload; none begins in a block's last 6.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from quorate.errors import Corrupt

_BLOCK_BYTES: Final = 32 << 10
_HEADER_BYTES: Final = 7
_KIND_MAX: Final = 4
"""Padding, full, first, middle and last; all above are for options that are off."""


def check_logs(directory: Path) -> None:
    """Corrupt if a log of this RocksDB holds a record of a kind that it never wrote."""
    for pattern in ("MANIFEST-*", "*.log"):
        for path in sorted(directory.glob(pattern)):
            _check_log(path)


def _check_log(path: Path) -> None:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            if not _has_known_kinds(block):
                raise Corrupt("a log holds a record of unknown kind", path=str(path))


def _has_known_kinds(block: bytes) -> bool:
    at = 0
    while at + _HEADER_BYTES <= len(block):
        if block[at + 6] > _KIND_MAX:
            return False
        at += _HEADER_BYTES + (block[at + 4] | block[at + 5] << 8)
    return True
