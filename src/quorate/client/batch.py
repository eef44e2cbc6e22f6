# SPDX-License-Identifier: GPL-3.0-or-later
"""Several operations in one request (`POST /batch`): each succeeds or fails for itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from quorate.client.calls import (
    Call,
    Raw,
    Value,
    Written,
    error_of_table,
    key_bytes,
    options,
    packed,
    raw_bytes,
    read_json,
    unpacked,
)
from quorate.errors import Outcome, PeerProtocolError, QuorateError
from quorate.wire.http import Response


class Get(NamedTuple):
    """Read a key."""

    key: Raw


class Put(NamedTuple):
    """Write a key; it expires after `ttl` seconds."""

    key: Raw
    value: Raw
    ttl: int | None = None


class Delete(NamedTuple):
    """Delete a key."""

    key: Raw


Operation = Get | Put | Delete
BatchResult = Value | Written | QuorateError | None
"""Of a Get: its Value, or None where there is none; of a Put or Delete: Written. Of any: its error,
returned and not raised."""


def batch_call(
    operations: Sequence[Operation], *, r: int | None, w: int | None, timeout: float | None
) -> Call:
    """The request that does `operations`; `r`, `w` and `timeout` are for each."""
    body = json.dumps({"operations": [_packed(operation) for operation in operations]})
    is_write = any(not isinstance(operation, Get) for operation in operations)
    query = options(r=r, w=w, timeout=timeout)
    return Call("POST", "/batch" + query.replace("&", "?", 1), body.encode(), is_write=is_write)


def read_batch(response: Response, operations: Sequence[Operation]) -> list[BatchResult]:
    """One result for each operation, in their order; raises what failed the whole request."""
    is_write = any(not isinstance(operation, Get) for operation in operations)
    table = read_json(response, is_write=is_write)
    try:
        results = table["results"]
        return [_result(*pair) for pair in zip(operations, results, strict=True)]
    except (KeyError, TypeError, ValueError):
        outcome = Outcome.UNKNOWN if is_write else None
        raise PeerProtocolError("a batch's answer in an unknown form", outcome=outcome) from None


def _packed(operation: Operation) -> dict[str, object]:
    item: dict[str, object] = {
        "op": type(operation).__name__.lower(),
        "key": packed(key_bytes(operation.key, is_write=not isinstance(operation, Get))),
    }
    if isinstance(operation, Put):
        item["value"] = packed(raw_bytes(operation.value, name="value"))
        if operation.ttl is not None:
            item["ttl"] = operation.ttl
    return item


def _result(operation: Operation, item: dict[str, Any]) -> BatchResult:
    is_write = not isinstance(operation, Get)
    status = int(item["status"])
    if status == 404 and not is_write:
        return None
    if status >= 400:
        return error_of_table(item, status=status, is_write=is_write)
    if is_write:
        return Written(str(item["version"]), int(item["acks"]))
    return Value(unpacked(item["value"]), str(item["version"]))
