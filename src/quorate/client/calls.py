# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client asks and how it reads the answer: HTTP requests and responses as values, no I/O.

Operations of a batch (`POST /batch`) each succeed or fail for themselves.

Whatever a node's answer is, an error says what became of a write (`outcome`); where the answer does
not say it (a proxy's own page, say), the write is UNKNOWN.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from quorate.errors import (
    BY_CODE,
    NEVER_BEGUN,
    Forbidden,
    InvalidRequest,
    KeyMissing,
    Outcome,
    PeerProtocolError,
    QuorateError,
    Unauthenticated,
    Unavailable,
)
from quorate.wire.http import Response, quote

_NOT_FACTS: Final = frozenset(
    {"type", "title", "status", "detail", "code", "outcome", "instance", "self"}
)
_VERSION: Final = re.compile('"?([0-9a-f]{28})"?')
_ESCAPED: Final = bytes([*range(32), *b'"\\'])
"""Bytes that JSON writes as two to six."""

Raw = str | bytes | bytearray | memoryview
"""A key or a value; text means its UTF-8 bytes."""


class Unreachable(Unavailable):
    """No node answered: none could be connected to, or the answer did not come in time."""

    code = "unreachable"


class TlsFailed(Unreachable):
    """No node answered, and each for want of TLS, or of a certificate that the other side trusts.
    Somebody has to change something: trying again does not help."""

    code = "tls"
    retryable = False


class Value(NamedTuple):
    """A key's value and the version that it was written with."""

    value: bytes
    version: str
    """28 hexadecimal digits; a later write of the key compares higher."""
    expires_ms: int | None = None
    """When it expires, in milliseconds since 1970, as a batch tells it; None: never. The answer to
    a get of one key does not tell it."""


class Written(NamedTuple):
    """An acknowledged write."""

    version: str
    acks: int
    """Replicas that held it when it was answered."""


class KeyPage(NamedTuple):
    """Some keys in the cluster's order."""

    keys: list[bytes]
    cursor: str
    """Where the next page begins; empty at the end."""
    complete: bool
    """False where too few replicas answered, so that a key may be missing."""


class Call(NamedTuple):
    """One request, ready to be sent to any node."""

    method: str
    target: str
    body: bytes | None = None
    is_write: bool = False


class BatchGet(NamedTuple):
    """Read a key."""

    key: Raw


class BatchPut(NamedTuple):
    """Write a key; it expires after `ttl` seconds, or at `expires_ms`, milliseconds since 1970."""

    key: Raw
    value: Raw
    ttl: int | None = None
    expires_ms: int | None = None


class BatchDelete(NamedTuple):
    """Delete a key."""

    key: Raw


BatchOperation = BatchGet | BatchPut | BatchDelete
BatchResult = Value | Written | QuorateError | None
"""Of a Get: its Value, or None where there is none; of a Put or Delete: Written. Of any: its error,
returned and not raised."""


def raw_bytes(what: Raw, *, name: str) -> bytes:
    """`what` as the cluster stores it; TypeError for anything but text and bytes.

    A number is not text: `bytes(5)` would be five zero bytes.
    """
    if isinstance(what, str):
        return what.encode()
    if isinstance(what, bytes | bytearray | memoryview):
        return bytes(what)
    raise TypeError(f"a {name} is str or bytes, not {type(what).__name__}")


def key_bytes(key: Raw, *, is_write: bool = False) -> bytes:
    """A key as the cluster stores it; KeyMissing for an empty one."""
    raw = raw_bytes(key, name="key")
    if not raw:
        outcome = Outcome.NOT_APPLIED if is_write else None
        raise KeyMissing("a key has at least one byte", outcome=outcome)
    return raw


def kv_call(method: str, key: Raw, value: Raw = b"", **chosen: float | None) -> Call:
    """GET, PUT or DELETE one key; a PUT writes `value`. See `options` for what may be chosen."""
    is_write = method != "GET"
    target = f"/kv?key={quote(key_bytes(key, is_write=is_write))}{options(**chosen)}"
    return Call(
        method, target, raw_bytes(value, name="value") if method == "PUT" else None, is_write
    )


def page_call(
    prefix: Raw, *, cursor: str, limit: int, r: int | None, timeout: float | None
) -> Call:
    """List keys that begin with `prefix`."""
    target = f"/keys?prefix={quote(raw_bytes(prefix, name='prefix'))}&limit={limit}"
    if cursor:
        target += f"&cursor={quote(cursor.encode())}"
    return Call("GET", target + options(r=r, timeout=timeout))


def batch_call(
    operations: Sequence[BatchOperation], *, r: int | None, w: int | None, timeout: float | None
) -> Call:
    """The request that does `operations`; `r`, `w` and `timeout` are for each."""
    import json  # Late: a single get or put never needs it.

    table = {"operations": [_as_json(operation) for operation in operations]}
    body = json.dumps(table, ensure_ascii=False)
    is_write = any(not isinstance(operation, BatchGet) for operation in operations)
    query = options(r=r, w=w, timeout=timeout)
    return Call("POST", "/batch" + query.replace("&", "?", 1), body.encode(), is_write=is_write)


def options(**values: float | None) -> str:
    """Query parameters for what is not None, to follow another one: `r`, `w`, and in seconds `ttl`
    and `timeout`."""
    text = ""
    for name, value in values.items():
        if value is None:
            continue
        shown = f"{max(1, round(value * 1000))}ms" if name == "timeout" else str(value)
        text += f"&{name}={quote(shown.encode())}"
    return text


def read_get(response: Response) -> Value | None:
    """The value, or None where the replicas said that there is none."""
    if response.status == 404 and _problem(response).get("code") == "not_found":
        return None
    return Value(response.body, _version(response, is_write=False))


def read_written(response: Response) -> Written:
    """The acknowledged write."""
    version = _version(response, is_write=True)
    acks = response.headers.get("quorate-acks", "").partition("/")[0]
    return Written(version, int(acks) if acks.isdigit() else 0)


def read_page(response: Response) -> KeyPage:
    """One page of keys."""
    table = read_json(response)
    try:
        keys = [unpacked(item) for item in table["keys"]]
        return KeyPage(keys, str(table["cursor"] or ""), bool(table["complete"]))
    except (KeyError, TypeError, ValueError):
        raise PeerProtocolError("a page of keys in an unknown form") from None


def read_batch(response: Response, operations: Sequence[BatchOperation]) -> list[BatchResult]:
    """One result for each operation, in their order; raises what failed the whole request."""
    is_write = any(not isinstance(operation, BatchGet) for operation in operations)
    table = read_json(response, is_write=is_write)
    try:
        results = table["results"]
        return [_result(*pair) for pair in zip(operations, results, strict=True)]
    except (KeyError, TypeError, ValueError):
        outcome = Outcome.UNKNOWN if is_write else None
        raise PeerProtocolError("a batch's answer in an unknown form", outcome=outcome) from None


def read_json(response: Response, *, is_write: bool = False) -> Any:
    """The JSON body of a successful answer."""
    import json

    _check(response, is_write=is_write)
    try:
        return json.loads(response.body)
    except ValueError:
        outcome = Outcome.UNKNOWN if is_write else None
        raise PeerProtocolError("the answer is no JSON", outcome=outcome) from None


def error_of(response: Response, *, is_write: bool) -> QuorateError | None:
    """What a response that is no success means, as an error of the taxonomy."""
    if 200 <= response.status < 300:
        return None
    return error_of_table(_problem(response), status=response.status, is_write=is_write)


def error_of_table(table: dict[str, Any], *, status: int, is_write: bool) -> QuorateError:
    """The error that a problem document, `table`, tells of."""
    kind = BY_CODE.get(str(table.get("code")), _kind_by_status(status))
    facts = {
        name: value
        for name, value in table.items()
        if name not in _NOT_FACTS and name.isidentifier() and isinstance(value, int | str)
    }
    detail = str(table.get("detail") or table.get("title") or _untold(status))
    return kind(detail, outcome=_outcome(table, kind) if is_write else None, **facts)


def _check(response: Response, *, is_write: bool) -> None:
    error = error_of(response, is_write=is_write)
    if error is not None:
        raise error


def _outcome(table: dict[str, Any], kind: type[QuorateError]) -> Outcome:
    try:
        return Outcome(table.get("outcome"))
    except ValueError:
        # Only what a node itself refused at once is sure not to have been applied.
        refused = "code" in table and issubclass(kind, NEVER_BEGUN)
        return Outcome.NOT_APPLIED if refused else Outcome.UNKNOWN


def _problem(response: Response) -> dict[str, Any]:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    import json

    try:
        table = json.loads(response.body)
    except ValueError:
        return {}
    return table if isinstance(table, dict) else {}


def _untold(status: int) -> str:
    if status == 401:
        return "HTTP status 401: give user= and password=, or token="
    return f"HTTP status {status}"


def _kind_by_status(status: int) -> type[QuorateError]:
    if status < 400:
        return PeerProtocolError
    known = {401: Unauthenticated, 403: Forbidden}
    return known.get(status, InvalidRequest if status < 500 else Unavailable)


def _version(response: Response, *, is_write: bool) -> str:
    """The version of a successful answer. PeerProtocolError without one: it is no node's answer,
    but for example a proxy's own page."""
    _check(response, is_write=is_write)
    version = response.headers.get("quorate-version") or response.headers.get("etag", "")
    found = _VERSION.fullmatch(version)
    if found is None:
        outcome = Outcome.UNKNOWN if is_write else None
        raise PeerProtocolError("the answer is not a node's: it has no version", outcome=outcome)
    return found[1]


def packed(raw: bytes) -> object:
    """Bytes as JSON text, or as `{"base64": ...}` where they are no UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        import base64  # Late, as json is.

        return {"base64": base64.b64encode(raw).decode()}


def unpacked(item: object) -> bytes:
    """The bytes that `packed` made `item` of."""
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, dict):
        import base64

        return base64.b64decode(item["base64"], validate=True)
    raise TypeError("neither text nor base64")


def _as_json(operation: BatchOperation) -> dict[str, object]:
    item: dict[str, object] = {
        "op": type(operation).__name__.removeprefix("Batch").lower(),
        "key": _short(key_bytes(operation.key, is_write=not isinstance(operation, BatchGet))),
    }
    if isinstance(operation, BatchPut):
        item["value"] = _short(raw_bytes(operation.value, name="value"))
        if operation.ttl is not None:
            item["ttl"] = operation.ttl
        if operation.expires_ms is not None:
            item["expires_ms"] = operation.expires_ms
    return item


def _short(raw: bytes) -> object:
    """Bytes as JSON text, or as base64 where that may be much shorter.

    A zero byte is six characters of JSON: a body of such would be refused as too long, though the
    value is not.
    """
    escaped = len(raw) - len(raw.translate(None, _ESCAPED))
    if 5 * escaped <= len(raw) // 3 + 16:
        return packed(raw)
    import base64

    return {"base64": base64.b64encode(raw).decode()}


def _result(operation: BatchOperation, item: dict[str, Any]) -> BatchResult:
    is_write = not isinstance(operation, BatchGet)
    status = int(item["status"])
    if status == 404 and not is_write:
        return None
    if status >= 400:
        return error_of_table(item, status=status, is_write=is_write)
    if is_write:
        return Written(str(item["version"]), int(item["acks"]))
    expires_ms = item.get("expires_ms")
    return Value(
        unpacked(item["value"]),
        str(item["version"]),
        None if expires_ms is None else int(expires_ms),
    )
