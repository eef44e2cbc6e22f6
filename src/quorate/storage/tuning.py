# SPDX-License-Identifier: GPL-3.0-or-later
"""How RocksDB is set up, and why: rare write stalls, small memory, no silent loss.

Memory is at most about the block cache (64 MiB, indexes and filters included), the memtables
(96 MiB of records, half as much of votes, little else) and what the allocator keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    ReadOptions,
    WriteOptions,
)

OPEN_FILES_MAX: Final = 256
"""Tables held open. Unlimited by default; a node must live with a low limit of open files."""
BLOCK_CACHE_BYTES: Final = 64 << 20
MEMTABLE_BYTES: Final[Mapping[str, int]] = {
    "data": 16 << 20,
    "hints": 8 << 20,
    "meta": 1 << 20,
    "votes": 8 << 20,
}
"""Column families and the memory that fills before a flush. Small ones, and many (below): a burst
meets the write stall only when all are full."""
MEMTABLE_SHARES: Final = (0.6, 1.0)
"""A database draws a share between these when it is opened, and takes that much of each size.
Replicas take the same writes: with one size all flush at the same moment, and no quorum is quick
then."""
_MEMTABLE_BLOCK_BYTES: Final = 64 << 10
"""A memtable grows by this and is full to the block. RocksDB's own choice, up to 1 MiB, leaves so
few sizes to draw that of three databases two often have the same."""

_MEMTABLE_COUNT: Final = 6
_WAL_BYTES_MAX: Final = 128 << 20
"""Also bounds what a start after a crash replays."""


def database_options(*, create: bool, create_families: bool) -> Options:
    """Settings of the database as a whole. Without `create`, a missing database is an error, and
    without `create_families` a missing family: RocksDB would put an empty one in the place of one
    that was lost."""
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.create_missing_column_families(create_families)
    # The default, point in time, drops whatever follows a damaged entry of the log, acknowledged
    # writes included, and opens as if nothing had happened. This mode refuses, and forgives only
    # what a crash does: an entry cut short at the end.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_max_total_wal_size(_WAL_BYTES_MAX)
    options.set_max_background_jobs(2)
    # Only the event loop's thread writes: what lets several insert at once only costs (10 %).
    options.set_allow_concurrent_memtable_write(False)
    options.set_enable_write_thread_adaptive_yield(False)
    options.set_max_open_files(OPEN_FILES_MAX)
    options.set_bytes_per_sync(1 << 20)
    options.set_max_log_file_size(1 << 20)
    options.set_keep_log_file_num(2)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def family_options(*, memtable_bytes: int, cache: Cache) -> Options:
    """Settings of one column family. `cache` is shared by all of them."""
    options = Options(raw_mode=True)
    options.set_write_buffer_size(memtable_bytes)
    options.set_arena_block_size(_MEMTABLE_BLOCK_BYTES)
    options.set_max_write_buffer_number(_MEMTABLE_COUNT)
    # A new key is looked up before it is written: in half the time if the memtable need not be.
    options.set_memtable_prefix_bloom_ratio(0.05)
    options.set_memtable_whole_key_filtering(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_zero_file_num_compaction_trigger(4)
    # With no_slowdown even a slow-down is an error, so the two triggers are near each other.
    options.set_level_zero_slowdown_writes_trigger(40)
    options.set_level_zero_stop_writes_trigger(48)
    options.set_max_bytes_for_level_base(128 << 20)
    options.set_block_based_table_factory(_table_options(cache))
    return options


def _table_options(cache: Cache) -> BlockBasedOptions:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_bloom_filter(10, False)
    # Within the cache's bound, instead of growing with the data beside it; and in small pieces: one
    # that is larger than a shard of the cache (1 MiB) would be read and unpacked for every get.
    table.set_cache_index_and_filter_blocks(True)
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(4096)
    table.set_pin_top_level_index_and_filter(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    return table


def write_options() -> WriteOptions:
    """Never wait: a write stall would hold the event loop, and Python with it."""
    options = WriteOptions()
    options.no_slowdown = True
    return options


def scan_options() -> ReadOptions:
    """Leave the block cache to point reads."""
    options = ReadOptions()
    options.fill_cache(False)  # type: ignore[call-arg]  # the stub lost its argument
    # No upper bound: RocksDB keeps a pointer to it that rocksdict does not keep alive, and a scan
    # then ends early wherever the freed bytes happen to say.
    return options
