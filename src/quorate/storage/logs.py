# SPDX-License-Identifier: GPL-3.0-or-later
"""What RocksDB's logs (WAL and MANIFEST) are checked for before RocksDB reads them.

RocksDB checks lengths and checksums itself. It does not see, or not well:
- that a WAL is gone. It opens without the writes that were in it, and says nothing. But those that
  were there when that was noted (`storage.directory`) are there, as far as the MANIFEST says that
  they are still needed; each begins with the number that follows the last of the one before; and
  there is always one.
- a record whose kind was flipped into one of the kinds for recycled files, which we never write:
  release 9.8 loops over it for ever, the GIL held.

What stays unseen: that the newest WAL lost its end. For that a count of writes is noted.

The format (RocksDB wiki, "Write Ahead Log File Format"): blocks of 32 KiB; in them records of
checksum (4), length (2, little-endian), kind (1) and payload; none begins in a block's last 6. The
payload of a WAL begins with the number of its first write (8) and their count (4). That of a
MANIFEST is a row of tags, each a varint and mostly followed by another one (`version_edit.h`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from quorate.errors import Corrupt

_BLOCK_BYTES: Final = 32 << 10
_HEADER_BYTES: Final = 7
_COUNTED_BYTES: Final = 12
_HEAD_BYTES: Final = 64
"""Of a payload: what is looked at, and more."""
_FULL: Final = 1
_FIRST: Final = 2
_LAST: Final = 4
_KIND_MAX: Final = 4
"""Padding, full, first, middle and last; all above are for options that are off."""
_MIN_LOG_TAG: Final = 10
"""Followed by the number of the oldest WAL that is needed."""
_NUMBER_TAGS: Final = (2, 3, 4, 9, _MIN_LOG_TAG, 203)
"""Those that are followed by one number, and written before all others."""


def logs_of(directory: Path) -> list[str]:
    """The names of the WALs of this RocksDB, oldest first."""
    names = [path.name for path in directory.glob("*.log") if path.stem.isdecimal()]
    return sorted(names, key=_number_of)


def _number_of(name: str) -> int:
    return int(name.removesuffix(".log"))


def check_logs(directory: Path, *, noted: Iterable[str] | None) -> None:
    """Corrupt if a log of this RocksDB holds a record of a kind that it never wrote, or if a WAL is
    missing. `noted` are those that were there some time; None of a database that has none yet."""
    manifests = sorted(directory.glob("MANIFEST-*"))
    oldest = max([_oldest_needed(manifest) for manifest in manifests], default=0)
    found = logs_of(directory)
    # Without a MANIFEST it is RocksDB that says so.
    if noted is not None and manifests:
        missing = [name for name in noted if name not in found and _number_of(name) >= oldest]
        if missing or not found:
            raise Corrupt(
                "a log is missing: it is lost, or another file is cut short or an older copy",
                directory=str(directory),
                missing=" ".join(missing or ["*.log"]),
            )
    before, wanted = "", 0
    for name in found:
        begin, end = _range_of(directory / name)
        if _number_of(name) >= oldest:
            if before and begin > wanted:
                raise Corrupt(
                    "a log is missing or cut short",
                    directory=str(directory),
                    after=before,
                    before=name,
                    found=begin,
                    wanted=wanted,
                )
            before, wanted = name, max(wanted, end)


def _range_of(log: Path) -> tuple[int, int]:
    """The numbers of a WAL's first write and of the one after its last; 0 where it has none."""
    begin = end = following = 0
    for kind, payload, is_whole in _records_of(log):
        if kind in (_FULL, _FIRST) and len(payload) >= _COUNTED_BYTES:
            number = int.from_bytes(payload[:8], "little")
            following = number + int.from_bytes(payload[8:_COUNTED_BYTES], "little")
            begin = begin or number
        if kind in (_FULL, _LAST) and is_whole:
            end = following
    return begin, end


def _oldest_needed(manifest: Path) -> int:
    """The number of the oldest WAL that is needed, as its last record that tells it does."""
    found = 0
    for kind, payload, _ in _records_of(manifest):
        numbers = _varints(payload if kind == _FULL else b"")
        while (tag := next(numbers, 0)) in _NUMBER_TAGS:
            number = next(numbers, 0)
            found = number if tag == _MIN_LOG_TAG else found
    return found


def _varints(payload: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in payload:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield number
            number = shift = 0


def _records_of(log: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Of each record the kind, the head of the payload, and whether all of it is there."""
    with log.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield from _records_in(block, log)


def _records_in(block: bytes, log: Path) -> Iterator[tuple[int, bytes, bool]]:
    at = 0
    while at + _HEADER_BYTES <= len(block):
        kind = block[at + 6]
        if kind > _KIND_MAX:
            raise Corrupt("a log holds a record of unknown kind", path=str(log))
        payload = at + _HEADER_BYTES
        at = payload + (block[at + 4] | block[at + 5] << 8)
        yield kind, block[payload : min(at, payload + _HEAD_BYTES)], at <= len(block)
