# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a replica: of its copies, its clock, its cache, and its answers to writes."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from quorate.core import serving
from quorate.core.digests import Digests
from quorate.core.exchanges.look import Look
from quorate.core.exchanges.outbox import Outbox
from quorate.core.exchanges.repairs import Repairs
from quorate.core.node import CEILING_META
from quorate.core.replica import Replica
from quorate.core.serving import Serving
from quorate.core.topology.marks import Marks
from quorate.core.values.events import Batch
from quorate.core.values.messages import Greeting, Mutate, Mutated
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT, VERSION_MIN, HybridClock, ms_of, stamp_at, stamp_of
from quorate.sim.draw import Options
from quorate.storage.cached import CachedEngine
from tests.records import altered
from tests.simulation.plants.plant import Plant

_on_mutate: Final = Serving._on_mutate
_why_refused: Final = Serving.why_refused
_apply_over: Final = Replica.apply_over
_put_meta: Final = Replica.put_meta
_close_turn: Final = Replica.close_turn
_shown: Final = Replica.shown
_feed: Final = Digests.feed
_write_here: Final = Repairs._write_here
_said: Final = Marks.said


def _ack_at_once(self: Serving, outbox: Outbox, message: Mutate) -> None:
    calls = self._replica._calls
    before = len(calls)
    _on_mutate(self, outbox, message)
    for call in calls[before:]:
        call()
    del calls[before:]


def _expiry_by_own_clock(self: Serving, outbox: Outbox, message: Mutate) -> None:
    items = [
        (row, altered(record, expires_ms=self._turn.wall_ms + _ttl_ms(record)))
        if record.expires_ms
        else (row, record)
        for row, record in message.items
    ]
    _on_mutate(self, outbox, Mutate(message.batch, items))


def _ttl_ms(record: Record) -> int:
    return record.expires_ms - ms_of(stamp_of(record.version))


def _without_guard(self: Serving, row: bytes, record: Record) -> str:
    if self._turn.is_ahead(record.version):
        record = altered(record, version=VERSION_MIN)
    return _why_refused(self, row, record)


def _refused_have_no_place(
    batch: int,
    superseded: list[tuple[int, bytes]],
    refused: list[tuple[int, str]],
    busy: bool = False,
) -> Mutated:
    def place(index: int) -> int:
        return index - sum(each < index for each, _ in refused)

    return Mutated(
        batch,
        [(place(index), version) for index, version in superseded],
        [(place(index), reason) for index, reason in refused],
        busy,
    )


def _first_to_come_stays(self: Replica, row: bytes, record: Record, held: Record | None) -> bytes:
    if held is not None and stamp_of(held.version) == stamp_of(record.version):
        return ABSENT
    return _apply_over(self, row, record, held)


def _ceiling_in_memory(self: Replica, name: bytes, blob: bytes | None) -> None:
    if name != CEILING_META:
        _put_meta(self, name, blob)


def _ceiling_follows_the_guard(self: HybridClock) -> int:
    if self._last <= self._ceiling:
        return 0
    self._ceiling = min(self._last + stamp_at(self._skew_ms_max) // 2, self._guard)
    return self._ceiling


def _mark_of_the_batch_before(self: Replica) -> tuple[Batch | None, int]:
    batch, mark = _close_turn(self)
    if self._waiting and self._waiting[-1].mark == mark:
        self._waiting[-1].mark -= 1
    return batch, mark


def _shown_at_once(self: Replica, row: bytes) -> Record | None:
    entry = self._undurable.get(row)
    return entry[0] if entry is not None else _shown(self, row)


def _unguarded(self: HybridClock, stamp: int) -> bool:
    self._last = max(self._last, stamp)
    return True


def _repair_past_the_cache(self: Repairs, look: Look, record: Record) -> None:
    row, engine = look.row, self._replica._engine
    held = self._replica.latest(row)
    _write_here(self, look, record)
    if isinstance(engine, CachedEngine) and held is not None:
        self._replica.when_durable(lambda: engine.lru.put([(row, held)]))


def _whatever_is_remembered(self: Marks, greeting: Greeting, *, is_member: bool) -> None:
    _said(self, replace(greeting, mark=0), is_member=is_member)


def _unfed_over_a_record(self: Digests, row: bytes, old: bytes, new: bytes) -> None:
    if not old:
        _feed(self, row, old, new)


PLANTS: Final = (
    Plant("an ack before durable", Serving, "_on_mutate", _ack_at_once),
    Plant(
        "the durable mark is taken too early",
        Replica,
        "close_turn",
        _mark_of_the_batch_before,
    ),
    Plant("a record is shown before it is durable", Replica, "shown", _shown_at_once),
    Plant("equal stamps are resolved by arrival", Replica, "apply_over", _first_to_come_stays),
    Plant("the clock's ceiling is not persisted", Replica, "put_meta", _ceiling_in_memory),
    Plant(
        "a clock that was set back lowers the ceiling",
        HybridClock,
        "raise_ceiling",
        _ceiling_follows_the_guard,
    ),
    Plant("the clock follows beyond the guard", HybridClock, "observe", _unguarded),
    Plant("the guard is not checked", Serving, "why_refused", _without_guard),
    Plant(
        "an index is off by one after a refusal",
        serving,
        "Mutated",
        _refused_have_no_place,
    ),
    Plant(
        "a replica works out expiry by its own clock",
        Serving,
        "_on_mutate",
        _expiry_by_own_clock,
    ),
    Plant(
        "the cache is not updated by repair",
        Repairs,
        "_write_here",
        _repair_past_the_cache,
    ),
    Plant(
        "an old disk counts",
        Marks,
        "said",
        _whatever_is_remembered,
        Options(faults=frozenset({"rollback"})),
    ),
    Plant(
        "the digest is not fed what is overwritten",
        Digests,
        "feed",
        _unfed_over_a_record,
    ),
)
