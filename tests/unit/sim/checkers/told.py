# SPDX-License-Identifier: GPL-3.0-or-later
"""Histories told by hand: three replicas, one key, the values that their puts say."""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.core.values.events import GetResult, PutResult, UpdateResult
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version, successor
from quorate.sim.history import ClientOperation, Evidence, History, Kind
from quorate.sim.tokens import token_of, tokens_of

KEY = b"k"
EPOCH_MS = 1_000_000


def version(number: int, node: int = 1) -> bytes:
    """The version of a write that is the `number`th."""
    return pack_version(number, node)


def record(value: bytes | None, number: int = 1, *, expires_ms: int = 0) -> Record:
    """What a replica holds."""
    return Record(version(number), value, expires_ms)


def of_put(
    value: bytes | None, asked_ms: float, done_ms: float, *, number: int = 1, w: int = 0
) -> ClientOperation:
    """A write that two of three replicas acknowledged; None deletes."""
    kind = Kind.DELETE if value is None else Kind.PUT
    op = ClientOperation(0, 0, 0, kind, KEY, asked_ms=float(asked_ms), value=value, w=w)
    tokens = None if value is None else tokens_of(value)
    if tokens:
        op.client, op.serial, op.attempt = tokens[0].name
    op.done_ms = float(done_ms)
    op.result = PutResult(version(number), max(w, 2), 3)
    return op


def of_update(
    kind: Kind,
    asked_ms: float,
    done_ms: float,
    *,
    client: int = 900,
    before: Record | None = None,
    after: Record | None = None,
) -> ClientOperation:
    """A read-modify-write that made one record of another, or left it."""
    op = ClientOperation(0, client, 0, kind, KEY, asked_ms=float(asked_ms))
    op.done_ms = float(done_ms)
    op.wall_ms = EPOCH_MS + int(done_ms)
    if after is not None and after.value is not None:
        op.expires_ms = after.expires_ms
    op.result = UpdateResult(before, after, 2, 3)
    return op


def linked(value: bytes | None, link: int, *, number: int = 1, expires_ms: int = 0) -> Record:
    """What a read-modify-write made of what the `number`th write wrote."""
    return Record(successor(version(number), link), value, expires_ms)


def token(label: bytes, *, key: bytes = KEY, count: int = 0) -> bytes:
    """A value that says who wrote it; each label is another client."""
    return token_of((int.from_bytes(label, "big"), 0, 0), key, count=count)


def of_get(
    value: bytes | None, asked_ms: float, done_ms: float, *, number: int = 0, r: int = 0
) -> ClientOperation:
    """A read that found a value; None with a number finds a tombstone, without one nothing."""
    op = ClientOperation(0, 0, 0, Kind.GET, KEY, asked_ms=float(asked_ms), r=r)
    op.done_ms = float(done_ms)
    op.wall_ms = EPOCH_MS + int(done_ms)
    found = None if value is None and not number else record(value, number or 1)
    op.result = GetResult(found, max(r, 2))
    return op


def history(*operations: ClientOperation) -> History:
    """In the order in which they were asked, numbered so unless their values say a number."""
    told = History()
    told.operations = sorted(operations, key=lambda op: op.asked_ms)
    for serial, op in enumerate(told.operations):
        if not op.client:
            op.serial = serial
    return told


def evidence(**changes: Any) -> Evidence:
    """Three replicas, majorities, nothing wrong."""
    sound = Evidence(n=3, r=2, w=2, epoch_ms=EPOCH_MS, replicas={KEY: [0, 1, 2]})
    return msgspec.structs.replace(sound, **changes)


def left(*records: Record | None, **changes: Any) -> Evidence:
    """What is on the disks of nodes 0, 1, 2."""
    return evidence(settled={KEY: dict(enumerate(records))}, **changes)
