# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client asks and how it reads the answer: HTTP requests and responses as values, no I/O.

Operations of a batch (`POST /batch`) each succeed or fail for themselves.

Whatever a node's answer is, an error says what became of a write (`outcome`); where the answer does
not say it (a proxy's own page, say), the write is UNKNOWN.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from quorate.errors import (
    BY_CODE,
    NEVER_BEGUN,
    Conflict,
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

PAGE_KEYS: Final = 1000
"""The most that a node lists at once (`core.values.events.SCAN_ROWS_MAX`)."""
_NOT_FACTS: Final = frozenset(
    {"type", "title", "status", "detail", "code", "outcome", "instance", "self"}
)
_VERSION: Final = re.compile('"?([0-9a-f]{28}(?:[0-9a-f]{16})?)"?')
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


class LeaseTaken(Conflict):
    """Another holder has the lease, and had it until the time to wait for it was over."""

    code = "lease_taken"


class LeaseLost(Conflict):
    """The lease is not held any more: it ran out, or somebody replaced it."""

    code = "lease_lost"


class Value(NamedTuple):
    """A key's value and the version that it was written with."""

    value: bytes
    version: str
    """28 or 44 hexadecimal digits; a later write of the key compares higher."""
    expires_ms: int | None = None
    """When it expires, in milliseconds since 1970, as a batch tells it; None: never. The answer to
    a get of one key does not tell it."""


class Written(NamedTuple):
    """An acknowledged write."""

    version: str
    acks: int
    """Replicas that held it when it was answered; 0, for "not told", where the answer was lost, and
    it was found out later that it is done."""


class Incremented(NamedTuple):
    """What an increment made of a counter."""

    value: int | None
    """None if this was found out late: the answer to a first request was lost, and others have
    changed the counter since."""
    version: str
    acks: int


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
    headers: Mapping[str, str] = {}
    has_name: bool = False
    """Whether nodes know it again if it is sent once more."""

    @property
    def is_fast(self) -> bool:
        """Whether nodes answer it in their fast lane (docs/http.md). Another one leads its
        connection out of that, for good."""
        return self.target.startswith(("/kv?", "/incr?"))


class Doubt:
    """A write, and whether it may be sent again: the first that failed with an unknown outcome says
    what the call ends with, unless it turns out later that it took effect."""

    def __init__(self, call: Call) -> None:
        self.call = call
        """What to send next."""
        self.needs_time = False
        """Whether `tell_time` comes before that."""
        self._unknown: QuorateError | None = None

    def is_over(self, error: QuorateError | None, *, is_late: bool) -> bool:
        """Whether the write is done. False: send `call`. Raises what failed where it cannot, or
        (`is_late`) must not be sent."""
        if error is None:
            return True
        if self._unknown is None:
            is_unknown = isinstance(error, Unavailable) and error.outcome is Outcome.UNKNOWN
            if not is_unknown or not self.call.has_name:
                raise error
            self._unknown = error
            # Of a version that is still there it is known that nothing was built on it.
            self.needs_time = "If-Match" not in self.call.headers
        elif not isinstance(error, Unavailable):
            # Not remembered; or another version is there, which may be built on what this wrote.
            raise self._unknown from error
        if is_late:
            raise self._unknown
        return False

    def tell_time(self, answer: Response, *, seconds: float) -> None:
        """Have the write say since when it is under way: so many seconds, by the clock of the node
        that answered now. Without a clock, for ever."""
        from email.utils import mktime_tz, parsedate_tz  # Late: rarely needed.

        date = parsedate_tz(answer.headers.get("date", ""))
        since_ms = 1 if date is None else int((mktime_tz(date) - seconds) * 1000)
        self.call = self.call._replace(target=f"{self.call.target}&since_ms={since_ms}")
        self.needs_time = False


class BatchGet(NamedTuple):
    """Read a key."""

    key: Raw


class BatchPut(NamedTuple):
    """Write a key; it expires after `ttl` seconds, or at `expires_ms`, milliseconds since 1970.
    `if_absent`: only if there is no value; PreconditionFailed otherwise."""

    key: Raw
    value: Raw
    ttl: int | None = None
    expires_ms: int | None = None
    if_absent: bool = False


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


def once(call: Call, *, if_version: str | None = None, if_absent: bool = False) -> Call:
    """The same write under a condition, and with a name by which a node knows it if it is sent
    again. InvalidRequest for what is no condition."""
    headers = {"Idempotency-Key": os.urandom(16).hex()}
    if if_version is not None:
        version = _VERSION.fullmatch(if_version)
        if if_absent or version is None:
            raise InvalidRequest(
                "a write is for one version, of 28 or 44 hexadecimal digits as a get or put tells "
                "it, or for none there",
                outcome=Outcome.NOT_APPLIED,
            )
        headers["If-Match"] = f'"{version[1]}"'
    elif if_absent:
        headers["If-None-Match"] = "*"
    return call._replace(headers=headers, has_name=True)


def increment_call(key: Raw, by: int, *, ttl: int | None, timeout: float | None) -> Call:
    """Add `by` to a counter, once."""
    target = f"/incr?key={quote(key_bytes(key, is_write=True))}&by={by}"
    target += options(ttl=ttl, timeout=timeout)
    return once(Call("POST", target, b"", is_write=True))


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


def read_incremented(response: Response) -> Incremented:
    """What a counter came to."""
    version, acks = read_written(response)
    try:
        return Incremented(int(response.body) if response.body else None, version, acks)
    except ValueError:
        raise PeerProtocolError("the counter is no number", outcome=Outcome.UNKNOWN) from None


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


def back_off(tries: int) -> float:
    """Seconds to wait before another try, after so many: at random, so that those who were in each
    other's way are not again."""
    import random  # Late: few calls are ever tried again.

    return random.uniform(0.0, min(0.004 * 2**tries, 0.25))


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
        if operation.if_absent:
            item["if_absent"] = True
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
