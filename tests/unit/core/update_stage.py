# SPDX-License-Identifier: GPL-3.0-or-later
"""A node that coordinates read-modify-writes, with two replicas beside it that the test plays."""

from __future__ import annotations

from typing import Any

from quorate.core.exchanges.attempt import REMEMBERED
from quorate.core.values.events import Batch, Edit, Edited, Update, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import link_of, successor
from tests.unit.core.alone import Alone, Asker, record_at
from tests.unit.core.write_stage import alone_of

KEY = b"k"
ROW = row_of(KEY)
OLD = record_at(-10, b"41")
"""What all hold, where nothing else is said."""


def add(found: Record | None) -> Edited:
    return Edited(b"%d" % (int(found.value or b"0") + 1 if found is not None else 1))


def leave(found: Record | None) -> None:
    del found


def stage(held: Record | None = OLD, **settings: Any) -> Alone:
    """Node 0, which holds this, as the others do."""
    alone = alone_of(**settings)
    if held is not None:
        alone.disk.format(Batch([(ROW, held)], [], []))
    return alone


def update(alone: Alone, edit: Edit = add, *, key: bytes = KEY, **options: Any) -> Asker:
    asker = Asker()
    alone.step(Update(asker, key, edit, **options))
    return asker


def done(asker: Asker) -> UpdateResult:
    assert isinstance(asker.result, UpdateResult), asker.result
    return asker.result


def values(asker: Asker) -> tuple[bytes | None, bytes | None]:
    """Before and after."""
    result = done(asker)
    before = None if result.before is None else result.before.value
    return before, None if result.after is None else result.after.value


def pass_ms(alone: Alone, ms: int) -> None:
    """Let time go by, and the node wake whenever it wants to."""
    until_ms = alone.mono_ms + ms
    while alone.wake_ms is not None and alone.wake_ms <= until_ms:
        alone.step(after_ms=max(alone.wake_ms - alone.mono_ms, 0))
    alone.step(after_ms=until_ms - alone.mono_ms)


def successor_of(base: Record, value: bytes | None, *, number: int) -> Record:
    """What somebody else made of a record."""
    version = successor(base.version, 1)
    winners = (*base.winners, (link_of(base.version), number))[-REMEMBERED:]
    return Record(version, value, prior=base.version, winners=winners)
