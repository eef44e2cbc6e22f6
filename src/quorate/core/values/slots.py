# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a key belongs: key -> slot -> partition -> row.

The slot is Redis Cluster's: CRC16 (XMODEM) of the key, or of its `{hash tag}`, modulo 16384, so a
cluster-aware Redis client computes the same (redis.io, "Redis cluster specification", key
distribution model). A partition, the unit of placement, is 16 neighbouring slots.

A *row* is the key as replicas store and exchange it: partition (2 bytes, big-endian), keyspace
(2 bytes, big-endian), key. Rows of one partition are neighbours in an ordered engine.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final, TypeVar

SLOT_COUNT: Final = 16384
PARTITION_COUNT: Final = 1024
SLOTS_PER_PARTITION: Final = SLOT_COUNT // PARTITION_COUNT
PAGE_BYTES: Final = 1 << 20
"""About what is read, or told, of the rows of a partition at once; one record may exceed it."""
BUCKETS: Final = 64
"""Into which the rows of a partition are divided to compare them (`core.digests`)."""
ROW_PREFIX_BYTES: Final = 4
ROW_END: Final = PARTITION_COUNT.to_bytes(2, "big")
"""Every row is below it: the first two bytes are the partition."""

Place = TypeVar("Place", bytes, tuple[bytes, bytes])
"""A row, or something of a row by its version."""

_BRACE: Final = ord("{")
"""A number, as `in` takes bytes for one first, and makes an error of it: seven times the time."""
_CRC: Final = crc_hqx
"""By a name of ours that cannot change, which the compiled module need not look up."""
_PREFIXES: Final = [partition.to_bytes(2, "big") + b"\0\0" for partition in range(PARTITION_COUNT)]


def slot_of(key: bytes) -> int:
    """The Redis Cluster slot of `key`, 0 to 16383."""
    if _BRACE in key:
        start = key.index(b"{") + 1
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) & 16383


def row_of(key: bytes) -> bytes:
    """The row of `key` in keyspace 0."""
    # Without a tag the slot is worked out here: a call saved for each request and each record.
    slot = slot_of(key) if _BRACE in key else _CRC(key, 0) & 16383
    return _PREFIXES[slot >> 4] + key


def is_row(row: bytes) -> bool:
    """Whether the row is in keyspace 0 and where its key belongs."""
    if len(row) < ROW_PREFIX_BYTES:
        return False
    key = row[ROW_PREFIX_BYTES:]
    slot = slot_of(key) if _BRACE in key else _CRC(key, 0) & 16383
    return slot >> 4 == partition_of(row) and not (row[2] or row[3])


def partition_of(row: bytes) -> int:
    """The partition that a row says it is in."""
    return row[0] << 8 | row[1]


def key_of(row: bytes) -> bytes:
    """The user's key of a row."""
    return row[ROW_PREFIX_BYTES:]


def ascend(places: list[Place], after: Place) -> bool:
    """Whether the places that a page tells of, of which there is one, are behind `after`, each once
    and in order: then the next page, asked for behind the last, comes forward."""
    return after < places[0] and sorted(set(places)) == places


def partition_bounds(partition: int) -> tuple[bytes, bytes]:
    """First row and first row past the partition, all keyspaces included."""
    return partition.to_bytes(2, "big"), (partition + 1).to_bytes(2, "big")
