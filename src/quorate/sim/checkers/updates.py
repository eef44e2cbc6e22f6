# SPDX-License-Identifier: GPL-3.0-or-later
"""A read-modify-write is answered with what its edit makes of what it found (P2, P3), directly
above that; and of several attempts of one request one takes effect at most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from quorate.core.values.events import UpdateResult
from quorate.core.values.versions import chain_of, link_of
from quorate.sim.edits import OperationEdit
from quorate.sim.history import WRITES_TOKEN, ClientOperation, Evidence, History, Violation
from quorate.sim.tokens import Name, last_of

MadeVersions = dict[tuple[bytes, Name], bytes]
"""By key and operation: the version that it made, as far as anybody saw."""


def check(history: History, evidence: Evidence) -> Iterator[Violation]:
    """Answers that are not what an edit makes, and requests that took effect twice."""
    for op in history.operations:
        fault = _fault(op)
        if fault:
            yield Violation("P3", op.key, f"{op}: {fault}")
    yield from _repeated(history, _made(history, evidence))


def _fault(op: ClientOperation) -> str:
    result = op.result
    if not isinstance(result, UpdateResult) or result.is_repeated:
        return ""
    made = OperationEdit(op)(result.before)
    after = result.after
    if made is None or after is None:
        return "" if made is None and after is None else f"its edit makes {made}"
    # A tombstone expires when it was made.
    expires_ms = after.expires_ms if after.value is None else made.expires_ms
    if (made.value, expires_ms) != (after.value, after.expires_ms):
        return f"its edit makes {made}"
    before = result.before
    if not link_of(after.version):
        return "its version has no link"
    if before is not None and (
        chain_of(before.version) != chain_of(after.version) or before.version >= after.version
    ):
        return "its version is not one after what it found"
    return ""


def _made(history: History, evidence: Evidence) -> MadeVersions:
    """The versions that updates made: as they were told, or as others found them."""
    found: MadeVersions = {}
    for op in history.operations:
        wrote = op.wrote
        if op.is_update and wrote is not None:
            found[op.key, op.name] = wrote.version
    seen = itertools.chain(
        ((op.key, record) for op in history.operations for record in op.told),
        (
            (key, record)
            for key, copies in evidence.settled.items()
            for record in copies.values()
            if record is not None
        ),
    )
    for key, record in seen:
        last = last_of(record.value)
        if last is not None and link_of(record.version):
            writer = history.by_name.get(last)
            if writer is not None and writer.kind in WRITES_TOKEN:
                # Another expiry comes later: the lowest version is that of the token.
                known = found.get((key, last), record.version)
                found[key, last] = min(known, record.version)
    return found


def _repeated(history: History, made: MadeVersions) -> Iterator[Violation]:
    attempts: dict[int, list[ClientOperation]] = {}
    for op in history.operations:
        if op.request:
            attempts.setdefault(op.request, []).append(op)
    for ops in attempts.values():
        effective = [op for op in ops if (op.key, op.name) in made]
        for op, again in itertools.pairwise(effective):
            yield Violation("P2", op.key, f"{op} took effect, and again as {again}")
