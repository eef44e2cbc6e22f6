# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of `/kv` and `/incr`, for both lanes: what each method is, what a request asks of the
store, and what each result becomes.

Parameters and their limits are `request`'s. Most requests say a key alone, and one digit of `r` for
a read or of `w` for a write: these the fast lane reads by itself. Whatever says more is an `Asked`,
in either lane.
"""

from __future__ import annotations

from binascii import hexlify
from typing import Final

from quorate.core.values.events import (
    Get,
    GetResult,
    Put,
    PutResult,
    Result,
    Update,
    UpdateResult,
    Waiter,
)
from quorate.core.values.record import EXPIRES_MS_MAX, Record, is_live
from quorate.core.values.versions import chain_of, successor
from quorate.doors.access import ROLE_BITS, Principal, Role
from quorate.doors.http.conditions import (
    IDEMPOTENCY,
    Lines,
    conditions_of,
    refuse_misplaced,
)
from quorate.doors.http.problems import Problem, problem_reply, reply_of
from quorate.doors.http.query import Query, parse_query
from quorate.doors.http.replies import Reply
from quorate.doors.http.updates import adding, amount_of, name_of, request_number, writing
from quorate.errors import InvalidRequest, PreconditionFailed, QuorateError
from quorate.host.store import Store


class Method:
    """What `/kv` does on an HTTP method, or `/incr`."""

    __slots__ = (
        "adds",
        "has_body",
        "is_read",
        "operation",
        "parameters",
        "role",
        "role_bit",
        "shows_body",
    )

    def __init__(
        self,
        operation: str,
        role: Role,
        parameters: frozenset[str],
        *,
        is_read: bool = False,
        has_body: bool = False,
        shows_body: bool = True,
        adds: bool = False,
    ) -> None:
        self.operation: Final = operation
        """The method and the path; as it is counted."""
        self.role: Final = role
        self.role_bit: Final = ROLE_BITS[role]
        self.parameters: Final = parameters
        self.is_read: Final = is_read
        self.has_body: Final = has_body
        """Whether a request has a body, which is the value."""
        self.shows_body: Final = shows_body
        """Whether an answer shows its body, or only the length of it."""
        self.adds: Final = adds
        """Whether it adds to a number. The answer says what that comes to, so who sends it must be
        allowed to read it, too."""


_PARAMETERS: Final = frozenset({"key", "r", "w", "timeout"})
METHODS: Final = {
    b"GET": Method("GET /kv", Role.READ, _PARAMETERS, is_read=True),
    b"HEAD": Method("HEAD /kv", Role.READ, _PARAMETERS, is_read=True, shows_body=False),
    b"PUT": Method("PUT /kv", Role.WRITE, _PARAMETERS | {"since_ms", "ttl"}, has_body=True),
    b"DELETE": Method("DELETE /kv", Role.WRITE, _PARAMETERS | {"since_ms"}),
}
"""Of `/kv`."""
METHODS_BY_LETTER: Final = {name[0]: method for name, method in METHODS.items()}
"""The same by the first byte, for a line that is known to begin with one of them."""
_COUNTED: Final = frozenset({"by", "key", "since_ms", "timeout", "ttl"})
INCREMENT: Final = Method("POST /incr", Role.WRITE, _COUNTED, adds=True)
REQUESTS: Final = {each.operation.encode(): each for each in (*METHODS.values(), INCREMENT)}
"""All of them, by the method and path of a request."""

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
        if type(result) is GetResult:
            record = result.record
            value = None if record is None else record.value
            if (
                record is None
                or value is None
                or (record.expires_ms and not is_live(record, wall_ms=wall_ms))
            ):
                absent = reply_of(_ABSENT._replace(facts={"answers": result.answers}))
                return absent.saying(b"Quorate-Consistency: %b\r\n" % word)
            version = hexlify(record.version)
            return Reply(
                200,
                b"Content-Type: application/octet-stream\r\n"
                b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Consistency: %b\r\n'
                % (version, version, word),
                value,
            )
        if type(result) is PutResult:
            lines = _written(hexlify(result.version), result.acks, result.replicas, word)
            if result.restamped:
                how = b"moved" if result.moved else b"true"
                lines += b"Quorate-Restamped: %b\r\n" % how
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
            lines = (
                b"Content-Type: text/plain; charset=utf-8\r\n"
                b'ETag: "%b"\r\nQuorate-Version: %b\r\n'
                b"Quorate-Repeated: true\r\nQuorate-Consistency: %b\r\n" % (text, text, word)
            )
        else:
            lines = _written(text, result.acks, result.replicas, word)
        if not shows_value:
            return Reply(200, lines, b"ok")
        return Reply(200, lines, record.value or b"" if record.version == version else b"")

    def of_unchanged(self, record: Record, *, r: int, w: int) -> Reply:
        """The answer to a read that knows the version that is there (304): it never has a body."""
        version, word = hexlify(record.version), self._word(r, w)
        lines = b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Consistency: %b\r\n'
        return Reply(304, lines % (version, version, word), b"")

    def _word(self, r: int, w: int) -> bytes:
        topology = self._store.topology()
        # Before there is one, all answers are errors, which do not say it.
        return b"" if topology is None else topology.consistency(r=r, w=w).value.encode()


class Asked:
    """What a request asks that may say anything that `/kv` and `/incr` take.

    Whatever depends on what is there is one `Update`, which takes effect once, on the record
    directly before it: a write under a condition, one that has a name by which it may be sent
    again, and an addition.
    """

    __slots__ = (
        "_by",
        "_conditions",
        "_name",
        "_request",
        "_since_ms",
        "_timeout_ms",
        "_ttl_ms",
        "is_update",
        "key",
        "method",
        "r",
        "w",
    )

    def __init__(self, method: Method, query: Query, lines: Lines) -> None:
        """`lines`: of the headers that decide. InvalidRequest, KeyMissing, KeyTooLarge."""
        self.method = method
        self._conditions = conditions_of(lines)
        self.key = query.key()
        self.r, self.w = query.quorum("r"), query.quorum("w")
        self._timeout_ms, self._ttl_ms = query.timeout_ms(), query.ttl_ms()
        self._name = "" if method.is_read else name_of(lines(IDEMPOTENCY))
        self._since_ms = query.number("since_ms", low=1, high=EXPIRES_MS_MAX, default=0)
        self._by = amount_of(query.get("by")) if method.adds else 0
        self._request = 0
        """The number under which the store remembers it."""
        self.is_update = not method.is_read and (
            method.adds or self._conditions.names_any or bool(self._name)
        )
        if self._since_ms and not self._name:
            raise InvalidRequest(f"since_ms is for a request with an {IDEMPOTENCY}")
        if self.is_update and (self.r or self.w):
            name = "r" if self.r else "w"
            raise InvalidRequest(
                f"{name} is not for this: what depends on the version that is there always needs "
                "a majority of the replicas",
                parameter=name,
            )

    @property
    def result_type(self) -> type[GetResult] | type[PutResult] | type[UpdateResult]:
        """What the store answers, unless by an error."""
        if self.method.is_read:
            return GetResult
        return UpdateResult if self.is_update else PutResult

    def event(self, waiter: Waiter, value: bytes | None, *, wall_ms: int) -> Get | Put | Update:
        """What to ask of the store; `value` is the body of a PUT."""
        method, key, timeout_ms = self.method, self.key, self._timeout_ms
        if method.is_read:
            return Get(waiter, key, self.r, timeout_ms)
        expires_ms = wall_ms + self._ttl_ms if self._ttl_ms else 0
        if not self.is_update:
            return Put(waiter, key, value, expires_ms, self.w, timeout_ms)
        if method.adds:
            edit, said = adding(self._by, expires_ms), b"%d" % self._by
        else:
            edit, said = writing(value, expires_ms, self._conditions), value or b""
        self._request = request_number(
            self._name, method.operation, said, self._conditions, ttl_ms=self._ttl_ms
        )
        # What is yet to be says nothing.
        since_ms = min(self._since_ms, wall_ms)
        return Update(waiter, key, edit, timeout_ms, self._request, since_ms, len(said))

    def judged(self, result: Result, answers: Answers, *, wall_ms: int) -> Result | Reply:
        """The answer, where only such a request has it; else a result that is answered like any
        other: the same, or PreconditionFailed."""
        if isinstance(result, UpdateResult):
            return answers.of_update(result, request=self._request, shows_value=self.method.adds)
        if not isinstance(result, GetResult) or not self._conditions.names_any:
            return result
        record = result.record
        # RFC 9110, 13.2.2: no condition is asked where there is no value.
        if record is None or not is_live(record, wall_ms=wall_ms):
            return result
        version = record.version.hex()
        try:
            self._conditions.check_read(version)
        except PreconditionFailed as failed:
            return failed
        if self._conditions.is_known(version):
            return answers.of_unchanged(record, r=self.r, w=self.w)
        return result


def understood(method: Method, query: bytes, lines: dict[str, list[str]]) -> Asked | None:
    """What a request asks; None if it is for the full service to refuse, or to say of a `w` that
    stands with a read how consistent that is."""
    try:
        if not method.is_read:
            refuse_misplaced(method.operation.partition(" ")[2], lines)
        parameters = parse_query(f"?{query.decode('ascii')}", allowed=method.parameters)
        asked = Asked(method, parameters, lambda name: lines.get(name, ()))
    except QuorateError:
        return None
    return None if (asked.w if method.is_read else asked.r) else asked


def may(principal: Principal, method: Method, key: bytes) -> bool:
    """Whether it has all roles for this key that the method asks for."""
    roles = (method.role, Role.READ) if method.adds else (method.role,)
    return all(principal.has(role) and principal.forbidden(role, (key,)) is None for role in roles)


def _written(version: bytes, acks: int, replicas: int, word: bytes) -> bytes:
    # Compiled, a format that stands where it is used is put together without being read.
    return (
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b'ETag: "%b"\r\nQuorate-Version: %b\r\nQuorate-Acks: %d/%d\r\nQuorate-Consistency: %b\r\n'
        % (version, version, acks, replicas, word)
    )


def _version_of(record: Record, request: int) -> bytes:
    """The version that the request of this number made, which the record remembers: the next link
    that is told of, or the record's own."""
    before = next(link for link, number in record.winners if number == request)
    later = [link for link, _ in record.winners if link > before]
    return successor(chain_of(record.version), later[0]) if later else record.version
