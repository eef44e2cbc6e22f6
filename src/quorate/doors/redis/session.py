# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands see of a client's connection, and what waits for their results: one write, one
read, a read that decides on a write, many of either.

A command that needs the store makes a `Pending`, which takes its place in the session's queue and
is the waiter of its own events. When it has its reply it asks for one flush per turn, and the flush
writes all replies that are ready at the head of the queue. No Future, task or coroutine is made for
an operation.

A write that carries on what was read (EXPIRE, GETDEL ...) says so with `derived_from`, so that it
never overwrites what was written meanwhile.

What a read will answer is not known before, so its size is watched: after a large value fewer reads
are under way at once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from quorate.core.topology.topology import Topology
from quorate.core.values.events import Get, GetResult, Put, PutResult, Result
from quorate.core.values.record import Record, is_live
from quorate.core.values.status import Status
from quorate.doors.access import ANYBODY, Principal
from quorate.doors.errors import answer_for
from quorate.doors.flow import VALUE_BYTES_LARGE, Flow, Limits
from quorate.doors.limits import ByteBudget, Timers, checked_key, checked_value
from quorate.errors import InvalidRequest, Outcome, QuorateError
from quorate.host.store import Store
from quorate.wire import resp

ACKS_NONE: Final = 1 << 30
"""`Session.acks_min` while nothing was written since the last WAIT."""
STATUS_AGE_MS_MAX: Final = 100
"""How long a status is reused: it costs a millisecond, and clients may ask in a loop."""
REPLY_AGE_MS_MAX: Final = 1000
"""Likewise the large replies made from the layout and the states of nodes."""
WINDOW_FIRST: Final = 8
WINDOW_MAX: Final = 1024
"""Requests of a connection under way at once: at first, and at most."""
PARTS_FIRST: Final = 16
PARTS_MAX: Final = 128
"""Requests that one command with many keys has under way at once: it begins with few and follows
the size of what is read."""


class CommandError(Exception):
    """A command refused before anything was asked of the store; its text is the error reply's."""


class RespDoor(Limits):
    """What all connections of the Redis door share: limits, the register of clients, counters."""

    def __init__(self, store: Store, bodies: ByteBudget, *, timers: Timers | None = None) -> None:
        super().__init__(
            bodies,
            timers or asyncio.get_running_loop(),
            window_first=WINDOW_FIRST,
            window_max=WINDOW_MAX,
        )
        self.store = store
        self.sessions: dict[int, Session] = {}
        self.started_ms = store.wall_ms()
        self.connections_received = 0
        self.commands_processed = 0
        self.scan_positions: dict[int, bytes] = {}
        """Where SCANs stopped inside a huge partition, oldest first (`scan`)."""
        self._status: tuple[int, Status] | None = None
        self._replies: dict[tuple[str, int], tuple[int, bytes]] = {}

    def status(self) -> Status:
        """The node's status, at most STATUS_AGE_MS_MAX old."""
        now = self.store.wall_ms()
        if self._status is None or not 0 <= now - self._status[0] < STATUS_AGE_MS_MAX:
            self._status = now, self.store.status()
        return self._status[1]

    def topology(self) -> Topology:
        """Who holds what. CommandError while that is not known."""
        topology = self.store.topology()
        if topology is None:
            raise CommandError("CLUSTERDOWN this node has not learnt the layout yet")
        return topology

    def reply(self, name: str, protocol: int, make: Callable[[], object]) -> bytes:
        """The encoded value of `make`, kept under `name` for up to REPLY_AGE_MS_MAX."""
        now = self.store.wall_ms()
        made_ms, reply = self._replies.get((name, protocol), (0, b""))
        if not 0 <= now - made_ms < REPLY_AGE_MS_MAX:
            reply = resp.encode(make(), protocol)
            self._replies[name, protocol] = now, reply
        return reply


class Session(ABC):
    """One client: its place in line, its protocol version, its names."""

    __slots__ = (
        "acks_before",
        "acks_min",
        "created_ms",
        "door",
        "flow",
        "flush_asked",
        "id",
        "in_multi",
        "laddr",
        "lib_name",
        "lib_version",
        "name",
        "null",
        "peer",
        "principal",
        "protocol",
        "queue",
        "reply_bytes",
        "store",
    )

    def __init__(self, store: Store, door: RespDoor) -> None:
        self.store = store
        self.door = door
        self.queue: deque[Pending] = deque()
        """Commands begun and not yet answered, in the order of their answers."""
        self.flow = Flow(self, self.queue, door)
        self.principal: Principal = ANYBODY
        self.flush_asked = False
        """Whether `flush` will be called this turn. Stays set once the client is gone."""
        self.reply_bytes = 0
        """Replies in the queue that wait to be written."""
        self.acks_min = ACKS_NONE
        """The fewest copies that a write of this client since its last WAIT was acked with."""
        self.acks_before = ACKS_NONE
        """The same up to the last WAIT."""
        self.created_ms = store.wall_ms()
        self.id = 0
        self.peer = self.laddr = ""
        self.lib_name = self.lib_version = b""
        self.reset()

    def reset(self) -> None:
        """Be as after connecting (RESET)."""
        self.use_protocol(2)
        self.name = b""
        self.in_multi = False

    def use_protocol(self, version: int) -> None:
        """Encode replies from now on as RESP2 or RESP3 has them."""
        self.protocol = version
        self.null = resp.NULL[version]

    @abstractmethod
    def flush(self) -> None:
        """Write the replies that are ready. Called by the store at the end of a turn."""

    @abstractmethod
    def late(self) -> None:
        """Refuse the half command whose rest did not come in time. Called by the flow."""

    def abort(self) -> None:
        """Drop the client. Called by the store when `flush` raised."""
        self.flow.abort()

    def answer(self, reply: bytes) -> None:
        """Answer the current command at once."""
        Pending(self).reply = reply
        self.reply_bytes += len(reply)

    def answer_value(self, value: object) -> None:
        """Answer the current command with a nested value in the client's protocol."""
        self.answer(resp.encode(value, self.protocol))


class Pending:
    """A command whose reply is not written yet."""

    __slots__ = ("reply", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reply = b""
        """Empty until it is known; no reply is empty."""
        session.queue.append(self)

    def resolve(self, reply: bytes) -> None:
        """Take the reply, and have it written at the end of the turn if it is next in line."""
        self.reply = reply
        session = self.session
        session.reply_bytes += len(reply)
        if not session.flush_asked and session.queue[0] is self:
            session.flush_asked = True
            session.store.flush_soon(session)


def failure(result: Result) -> bytes:
    """The error reply for a failed request."""
    assert isinstance(result, QuorateError), f"unexpected {type(result).__name__}"
    return _told(result, result.outcome)


def _told(error: QuorateError, outcome: Outcome | None) -> bytes:
    facts = [f"outcome={outcome.value}"] if outcome is not None else []
    facts += [f"{name}={value}" for name, value in error.facts.items()]
    text = f"{answer_for(error).prefix} {error.detail}"
    return resp.error(f"{text} ({' '.join(facts)})" if facts else text)


_GRAVITY: Final = {None: 0, Outcome.NOT_APPLIED: 1, Outcome.UNKNOWN: 2}


class PartsTally:
    """What became of the parts of one command. The whole is NOT_APPLIED only if every part is: MSET
    of two keys, of which one was written and one refused, is UNKNOWN."""

    __slots__ = ("error", "wrote")

    def __init__(self) -> None:
        self.error: QuorateError | None = None
        """The first of the gravest failures."""
        self.wrote = False
        """Whether any part was written."""

    def failed(self, error: QuorateError) -> None:
        """Count a part that failed."""
        if self.error is None or _GRAVITY[error.outcome] > _GRAVITY[self.error.outcome]:
            self.error = error

    def reply(self) -> bytes:
        """The error reply for the whole, of which a part failed."""
        assert self.error is not None
        return _told(self.error, Outcome.UNKNOWN if self.wrote else self.error.outcome)


def visible(result: GetResult, session: Session) -> Record | None:
    """The record of a read if a client may see it, else None. The session notes a large one."""
    record = result.record
    if _is_large(record):
        session.flow.saw_large = True
    return record if is_live(record, wall_ms=session.store.wall_ms()) else None


def _is_large(record: Record | None) -> bool:
    return (
        record is not None and record.value is not None and len(record.value) >= VALUE_BYTES_LARGE
    )


class PendingGet(Pending):
    """A read answered with the value: the hot path of GET."""

    __slots__ = ()

    def done(self, result: Result) -> None:
        """Take the result of a Get."""
        session = self.session
        if type(result) is not GetResult:
            self.resolve(failure(result))
            return
        record = result.record
        if (
            record is None
            or record.value is None
            or (record.expires_ms and not is_live(record, wall_ms=session.store.wall_ms()))
        ):
            self.reply = session.null
        else:
            size = len(record.value)
            if size >= VALUE_BYTES_LARGE:
                session.flow.saw_large = True
            self.reply = b"$%d\r\n%b\r\n" % (size, record.value)
        # `resolve` once more, without the call.
        session.reply_bytes += len(self.reply)
        if not session.flush_asked and session.queue[0] is self:
            session.flush_asked = True
            session.store.flush_soon(session)


class PendingPut(Pending):
    """An ordinary write, answered `+OK`: the hot path of SET."""

    __slots__ = ()

    def done(self, result: Result) -> None:
        """Take the result of a Put."""
        if type(result) is not PutResult:
            self.resolve(failure(result))
            return
        session = self.session
        if result.acks < session.acks_min:
            session.acks_min = result.acks
        self.reply = resp.OK
        session.reply_bytes += len(resp.OK)
        if not session.flush_asked and session.queue[0] is self:
            session.flush_asked = True
            session.store.flush_soon(session)


class PendingRead(Pending):
    """A read answered with something made of the record that clients may see."""

    __slots__ = ("_render",)

    def __init__(self, session: Session, key: bytes, render: Callable[[Record | None], bytes]):
        super().__init__(session)
        self._render = render
        session.store.submit(Get(self, key))

    def done(self, result: Result) -> None:
        """Take the result of the Get."""
        if type(result) is GetResult:
            self.resolve(self._render(visible(result, self.session)))
        else:
            self.resolve(failure(result))


class Change(NamedTuple):
    """What to write after a read. `derived`: it carries on the record that was read."""

    value: bytes | None
    expires_ms: int = 0
    derived: bool = False


Planner = Callable[[Record | None], tuple[bytes, Change | None]]
"""From the record that clients may see to the reply and what to write before it, if anything."""


class PendingUpdate(Pending):
    """A read, then the write it leads to, then the reply."""

    __slots__ = ("_key", "_plan", "_planned")

    def __init__(self, session: Session, key: bytes, plan: Planner):
        super().__init__(session)
        self._key = key
        self._plan = plan
        self._planned = b""
        session.store.submit(Get(self, key))

    def done(self, result: Result) -> None:
        """Take the result of the Get, then that of the Put."""
        session = self.session
        if type(result) is PutResult:
            session.acks_min = min(session.acks_min, result.acks)
            self.resolve(self._planned)
        elif type(result) is GetResult:
            record = visible(result, session)
            self._planned, change = self._plan(record)
            if change is None:
                self.resolve(self._planned)
                return
            derived_from = record.version if record is not None and change.derived else None
            session.store.submit(
                Put(self, self._key, change.value, change.expires_ms, derived_from=derived_from)
            )
        else:
            self.resolve(failure(result))


class Gather(Pending):
    """One request or more for each of many keys, at most PARTS_MAX keys at a time.

    All keys, and the `values` to write to them, are checked before anything is asked: of `MSET a 1
    <a key of 2 kB> 2` nothing is written. A failure starts no more, and the gravest is the reply
    once what is under way has ended.
    """

    __slots__ = ("_next", "_running", "_tally", "_width", "keys")

    def __init__(self, session: Session, keys: list[bytes], values: Sequence[bytes] = ()) -> None:
        super().__init__(session)
        self.keys = keys
        self._tally = PartsTally()
        self._next = 0
        self._running = 0
        self._width = PARTS_FIRST
        """How many parts may be under way: one more after each small result, 1 after a large."""
        try:
            for key in keys:
                checked_key(key)
            for value in values:
                checked_value(value, bytes_max=session.store.config.value_bytes_max)
        except InvalidRequest as error:
            self.fail(error)
        self._start()

    def ask(self, part: Part) -> None:
        """Submit the first request for `part`."""
        raise NotImplementedError

    def take(self, part: Part, result: Result) -> bool:
        """Take a part's result; False if another request was submitted for it. May `fail`."""
        raise NotImplementedError

    def conclude(self) -> bytes:
        """The reply when all parts are done."""
        raise NotImplementedError

    def fail(self, error: QuorateError) -> None:
        """Start no more parts and answer with `error`."""
        self._tally.failed(error)

    def on_part(self, part: Part, result: Result) -> None:
        """Called by each part with each of its results."""
        if isinstance(result, QuorateError):
            self.fail(result)
        elif not self.take(part, result):
            return
        is_large = type(result) is GetResult and _is_large(result.record)
        self._width = 1 if is_large else min(self._width + 1, PARTS_MAX)
        self._running -= 1
        self._start()

    def _start(self) -> None:
        error = self._tally.error
        while self._running < self._width and self._next < len(self.keys) and error is None:
            self._running += 1
            self._next += 1
            self.ask(Part(self, self._next - 1))
        if not self._running:
            self.resolve(self.conclude() if error is None else self._tally.reply())

    def note_write(self, result: PutResult) -> None:
        """Count a write that was done."""
        self._tally.wrote = True
        self.session.acks_min = min(self.session.acks_min, result.acks)


class Part:
    """The waiter for one key of a Gather."""

    __slots__ = ("_gather", "index")

    def __init__(self, gather: Gather, index: int) -> None:
        self._gather = gather
        self.index = index

    @property
    def key(self) -> bytes:
        """The key it is for."""
        return self._gather.keys[self.index]

    def done(self, result: Result) -> None:
        """Pass the result on."""
        self._gather.on_part(self, result)
