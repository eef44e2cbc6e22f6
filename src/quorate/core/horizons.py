# SPDX-License-Identifier: GPL-3.0-or-later
"""Below what nothing may win any more: the lock and the horizon of each partition held here.

Both are *boundaries*: the beginning of a slice of stamp time (`digests`). A record with an older
stamp is below.

    lock      nothing below it may win here. Durable before it is told: a promise.
    horizon   garbage below it was dropped, or is being dropped (`exchanges.collection` says when).
              Never above the lock.

*Garbage* at a boundary is a tombstone, or has expired by then, and is below, by its stamp and by
its link. That depends on the record and the boundary alone, so all replicas drop the same. What
carries on what was read has the stamp of that, and its link tells when it was made. Digests count
it by the link: who agree at a boundary before that agree on what was read, and one may have missed
the rest. A tombstone of that kind (GETDEL) has its own time as its expiry too.

What is refused is what could bring back what was dropped, or make replicas drop different rows:
where nothing, or garbage, is held, all that is below the lock; and garbage below it wherever it
would win. A live record may take the place of a live one, as EXPIRE does with a version directly
above that of a month ago: neither of the two is dropped. And where nothing is held, garbage below
the horizon would be dropped at once: it counts as kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from quorate.core.values.record import Record
from quorate.core.values.slots import PARTITION_COUNT
from quorate.core.values.versions import ABSENT, link_of, pack_version, stamp_at

FENCE_META: Final = b"fence"
"""With the partition behind it."""


class Fenced(Exception):
    """A record was refused: nothing below `bound` may win here, for ever if `is_final`."""

    def __init__(self, bound: bytes, *, is_final: bool) -> None:
        super().__init__()
        self.bound = bound
        self.is_final = is_final


class Fence:
    """The lock and the horizon of one partition."""

    __slots__ = ("digest", "horizon", "is_swept", "lock")

    def __init__(self, lock: int, horizon: int, digest: int, *, is_swept: bool) -> None:
        self.lock = lock
        self.horizon = horizon
        self.digest = digest
        """What all replicas told when the lock was set."""
        self.is_swept = is_swept
        """Whether all garbage below the horizon is gone."""


StoredFence = tuple[int, int, int, bool]
"""Lock, horizon, digest, and whether it is swept."""


class Fences:
    """Those of this node's partitions that have any."""

    __slots__ = ("_by_partition", "_put", "_slice_ms", "highest")

    def __init__(
        self,
        get: Callable[[bytes], bytes | None],
        put: Callable[[bytes, bytes | None], None],
        slice_ms: int,
    ) -> None:
        """`get` and `put` a meta entry."""
        self._put = put
        self._slice_ms = slice_ms
        self._by_partition: dict[int, Fence] = {}
        for partition in range(PARTITION_COUNT):
            blob = get(fence_name(partition))
            if blob is not None:
                lock, horizon, digest, is_swept = msgspec.msgpack.decode(blob, type=StoredFence)
                self._by_partition[partition] = Fence(lock, horizon, digest, is_swept=is_swept)
        self.highest = ABSENT
        """No partition refuses a version at or above it."""
        self._find_highest()

    def of(self, partition: int) -> Fence | None:
        """What there is of a partition."""
        return self._by_partition.get(partition)

    def horizon(self, partition: int) -> int:
        """The horizon of a partition; 0 if there is none."""
        fence = self._by_partition.get(partition)
        return 0 if fence is None else fence.horizon

    def horizons(self, partitions: Iterable[int]) -> dict[int, int]:
        """The horizons of those of these partitions that have one."""
        found = self._by_partition
        return {each: at for each in partitions if each in found and (at := found[each].horizon)}

    def boundary(self, partition: int) -> int:
        """The lock of a partition; 0 if there is none."""
        fence = self._by_partition.get(partition)
        return 0 if fence is None else fence.lock

    def locked(self, partition: int) -> bytes:
        """The lowest version that is not below the lock of a partition."""
        return self.beginning(self.boundary(partition))

    def collected(self, partition: int) -> bytes:
        """The lowest version that is not below the horizon of a partition."""
        return self.beginning(self.horizon(partition))

    def is_swept(self, partition: int) -> bool:
        """Whether no garbage below the horizon of a partition is left."""
        fence = self._by_partition.get(partition)
        return fence is None or fence.is_swept

    def unswept(self) -> list[int]:
        """The partitions that have to be gone through."""
        return [each for each, fence in self._by_partition.items() if not fence.is_swept]

    # --- changing them -----------------------------------------------------------------------

    def lock(self, partition: int, boundary: int, digest: int) -> None:
        """Let nothing below the boundary win from now on, on the ground of this digest."""
        fence = self._by_partition.get(partition) or Fence(0, 0, 0, is_swept=True)
        assert boundary >= fence.horizon, f"partition {partition}: a lock below its horizon"
        fence.lock, fence.digest = boundary, digest
        self._keep(partition, fence)

    def unlock(self, partition: int) -> None:
        """Take a lock back at which nothing was dropped."""
        fence = self._by_partition[partition]
        fence.lock, fence.digest = fence.horizon, 0
        self._keep(partition, fence)

    def advance(self, partition: int, horizon: int) -> None:
        """Garbage below the boundary is to go."""
        fence = self._by_partition.get(partition) or Fence(0, 0, 0, is_swept=True)
        if horizon > fence.horizon:
            fence.horizon, fence.is_swept = horizon, False
            fence.lock = max(fence.lock, horizon)
            self._keep(partition, fence)

    def swept(self, partition: int) -> None:
        """No garbage below the horizon is left."""
        fence = self._by_partition[partition]
        fence.is_swept = True
        self._keep(partition, fence)

    def forget(self, partition: int) -> None:
        """This node's copy of the partition is given up."""
        if self._by_partition.pop(partition, None) is not None:
            self._put(fence_name(partition), None)
            self._find_highest()

    def _keep(self, partition: int, fence: Fence) -> None:
        self._by_partition[partition] = fence
        stored: StoredFence = fence.lock, fence.horizon, fence.digest, fence.is_swept
        self._put(fence_name(partition), msgspec.msgpack.encode(stored))
        self._find_highest()

    def _find_highest(self) -> None:
        lock = max([fence.lock for fence in self._by_partition.values()], default=0)
        self.highest = self.beginning(lock) if lock else ABSENT

    # --- judging records ---------------------------------------------------------------------

    def beginning(self, boundary: int) -> bytes:
        """The lowest version that is not below a boundary."""
        return beginning(boundary, self._slice_ms)

    def is_garbage(self, record: Record, boundary: int) -> bool:
        """Whether all replicas that agree at the boundary may drop the record."""
        end_ms = boundary * self._slice_ms
        return (
            (record.is_tombstone or record.expires_ms > 0)
            and record.expires_ms <= end_ms
            and record.version < self.beginning(boundary)
            and link_of(record.version) < stamp_at(end_ms)
        )

    def refuses(self, record: Record, held: Record | None, lock: int) -> bool:
        """Whether a record that would win over `held` must not."""
        if record.version >= self.beginning(lock):
            return False
        return held is None or self.is_garbage(held, lock) or self.is_garbage(record, lock)

    def is_proven(self, partition: int, record: Record, lock: int) -> bool:
        """Whether a record, which another replica holds with this lock, may win here whatever is
        held: all that was dropped here was dropped, or beaten by the record, there."""
        own = self.boundary(partition)
        return 0 < own <= lock and not self.is_garbage(record, own)

    def lets_in(self, partition: int, record: Record, held: Record | None) -> bool:
        """Whether to keep a record that would win over `held`; False if it is garbage of which
        nothing has to be kept. Fenced if it is refused."""
        fence = self._by_partition.get(partition)
        if fence is None or not self.refuses(record, held, fence.lock):
            return True
        if held is None and self.is_garbage(record, fence.horizon):
            return False
        is_final = record.version < self.beginning(fence.horizon)
        raise Fenced(self.beginning(fence.lock), is_final=is_final)


def fence_name(partition: int) -> bytes:
    """Of the meta entry of a partition."""
    return FENCE_META + partition.to_bytes(2, "big")


def beginning(boundary: int, slice_ms: int) -> bytes:
    """The lowest version that is not below a boundary."""
    return pack_version(stamp_at(boundary * slice_ms), 0)


def pulled_lock(fences: list[tuple[int, int]]) -> int:
    """The lock that a new replica begins with, from the (lock, horizon) of each source of its copy.

    If all sources have one lock, the new replica takes it: tombstones may be dropped below it
    already. If they differ, the lock is still on its way to all, and no replica drops at it before
    all have it. The new replica then takes the highest horizon, below which tombstones are gone:
    sources with (7, 5) and (5, 5) give 5. With 7 it would refuse records between 5 and 7 that the
    other replicas still acknowledge.
    """
    locks = {lock for lock, _ in fences}
    return locks.pop() if len(locks) == 1 else max([horizon for _, horizon in fences], default=0)
