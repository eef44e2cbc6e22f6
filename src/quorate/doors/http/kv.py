# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of `/kv`, for both lanes: what each method is, and what each result becomes.

Parameters and their limits are `request`'s. The fast lane takes of them what it cannot misread (a
key, and one digit of `r` for a read or of `w` for a write) and leaves the rest to the full service.
"""

from __future__ import annotations

from binascii import hexlify
from dataclasses import dataclass
from typing import Final

import msgspec

from quorate.core.topology.topology import consistency, majority
from quorate.core.values.events import GetResult, PutResult, Result, UpdateResult
from quorate.core.values.record import Record, is_live
from quorate.core.values.versions import chain_of, successor
from quorate.doors.access import Role
from quorate.doors.http.problems import Problem, Reply, problem_reply, reply_of
from quorate.errors import QuorateError
from quorate.host.store import Store


@dataclass(frozen=True, slots=True)
class Method:
    """What `/kv` does on an HTTP method."""

    operation: str
    """As it is counted."""
    role: Role
    parameters: frozenset[str]
    is_read: bool = False
    has_body: bool = False
    """Whether a request has a body, which is the value."""
    shows_body: bool = True
    """Whether an answer shows its body, or only the length of it."""


_PARAMETERS: Final = frozenset({"key", "r", "w", "timeout"})
METHODS: Final = {
    b"GET": Method("GET /kv", Role.READ, _PARAMETERS, is_read=True),
    b"HEAD": Method("HEAD /kv", Role.READ, _PARAMETERS, is_read=True, shows_body=False),
    b"PUT": Method("PUT /kv", Role.WRITE, _PARAMETERS | {"since_ms", "ttl"}, has_body=True),
    b"DELETE": Method("DELETE /kv", Role.WRITE, _PARAMETERS | {"since_ms"}),
}

_VALUE_LINES: Final = (
    b"Content-Type: application/octet-stream\r\n"
    b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Consistency: %b\r\n'
)
_WRITTEN_LINES: Final = (
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Acks: %d/%d\r\nQuorate-Consistency: %b\r\n'
)
_REPEATED_LINES: Final = (
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Repeated: true\r\nQuorate-Consistency: %b\r\n'
)
_ABSENT: Final = Problem(404, "not_found", "Not found", "there is no value under this key")


class Answers:
    """From results to answers. Each says in one word, such as `linearizable` (P2), how consistent
    a key is whose operations are all made with this `r` and `w`, in the topology as it is now."""

    __slots__ = ("_default", "_store", "_topology")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._topology: object = self
        self._default = b""
        """The word for requests that name neither `r` nor `w`."""

    def of(self, result: Result, *, r: int, w: int, wall_ms: int) -> Reply:
        """The answer to a read or a write with these `r` and `w`; 0 stands for what is configured.
        That to a HEAD is the GET's."""
        if self._store.topology() is not self._topology:
            self._topology = self._store.topology()
            self._default = self._word(0, 0)
        word = self._word(r, w) if r or w else self._default
        if isinstance(result, GetResult):
            record = result.record
            if (
                record is None
                or record.value is None
                or (record.expires_ms and not is_live(record, wall_ms=wall_ms))
            ):
                absent = reply_of(_ABSENT._replace(facts={"answers": result.answers}))
                lines = absent.lines + b"Quorate-Consistency: %b\r\n" % word
                return msgspec.structs.replace(absent, lines=lines)
            version = hexlify(record.version)
            return Reply(200, _VALUE_LINES % (version, version, word), record.value)
        if isinstance(result, PutResult):
            version = hexlify(result.version)
            lines = _WRITTEN_LINES % (version, version, result.acks, result.replicas, word)
            if result.restamped:
                lines += b"Quorate-Restamped: true\r\n"
            return Reply(200, lines, b"ok")
        assert isinstance(result, QuorateError)
        return problem_reply(result)

    def of_update(self, result: UpdateResult, *, request: int, shows_value: bool) -> Reply:
        """The answer to a write that took effect by `Update`, under the number `request`. One that
        did so before is told the version that it made then, and the value only if that is still
        the newest."""
        record = result.after
        assert record is not None, "no edit of this door leaves a key as it was"
        version = _version_of(record, request) if result.is_repeated else record.version
        text, word = hexlify(version), self._word(0, 0)
        if result.is_repeated:
            # Nobody acknowledged it now; a majority holds it, or what came after it.
            lines = _REPEATED_LINES % (text, text, word)
        else:
            lines = _WRITTEN_LINES % (text, text, result.acks, result.replicas, word)
        if not shows_value:
            return Reply(200, lines, b"ok")
        return Reply(200, lines, record.value or b"" if record.version == version else b"")

    def _word(self, r: int, w: int) -> bytes:
        topology, config = self._store.topology(), self._store.config
        if topology is not None:
            return topology.consistency(r=r, w=w).value.encode()
        n = config.replication
        r, w = r or config.r or majority(n), w or config.w or majority(n)
        return consistency(n=n, r=r, w=w).value.encode()


def _version_of(record: Record, request: int) -> bytes:
    """The version that the request of this number made, which the record remembers: the next link
    that is told of, or the record's own."""
    before = next(link for link, number in record.winners if number == request)
    later = [link for link, _ in record.winners if link > before]
    return successor(chain_of(record.version), later[0]) if later else record.version
