# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands see of a client's connection, and what waits for the result of one write or read.
`one_key` has what waits for a read-modify-write, `gather` what waits for many requests.

A command that needs the store makes a `Pending`, which takes its place in the session's queue and
is the waiter of its own events. When it has its reply it asks for one flush per turn, and the flush
writes all replies that are ready at the head of the queue. No Future, task or coroutine is made for
an operation.

What a read will answer is not known before, so its size is watched: after a large value fewer reads
are under way at once.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from quorate.core.topology.topology import Topology
from quorate.core.values.events import Get, GetResult, PutResult, Result
from quorate.core.values.record import Record, is_live
from quorate.doors.access import ANYBODY, Principal, Role
from quorate.doors.answered import (
    OK,
    Answered,
    Operation,
    Waiting,
    WaitingLine,
    outcome_word,
)
from quorate.doors.errors import answer_for, outcome_of
from quorate.doors.flow import SMALL_REPLY_BYTES, VALUE_BYTES_LARGE, Flow, Limits
from quorate.doors.limits import (
    REQUEST_SECONDS,
    ByteBudget,
    Deadlines,
    Timers,
    no_room_for_reply,
)
from quorate.doors.principals import Principals
from quorate.doors.redis.kept import Block, WatchedKeys
from quorate.doors.redis.plans import RedisRefusal
from quorate.doors.redis.work import Work
from quorate.errors import Outcome, Overloaded, QuorateError
from quorate.host.store import Store
from quorate.wire import resp

_BULK_OF: Final = [b"$%d\r\n" % size for size in range(SMALL_REPLY_BYTES + 1)]
"""How the bulk string of so many bytes begins. Most values are so small."""
ACKS_NONE: Final = 1 << 30
"""`Session.acks_min` while nothing was written since the last WAIT."""
REPLY_AGE_MS_MAX: Final = 1000
"""How long the large replies are reused that are made of the layout and the states of nodes."""
NOAUTH: Final = "NOAUTH Authentication required."
WINDOW_FIRST: Final = 8
WINDOW_MAX: Final = 1024
"""Requests of a connection under way at once: at first, and at most."""


class CommandError(Exception):
    """A command refused before anything was asked of the store; its text is the error reply's."""


class RespDoor(Limits):
    """What all connections of the Redis door share: limits, the register of clients, counters."""

    def __init__(
        self,
        store: Store,
        bodies: ByteBudget,
        replies: ByteBudget,
        *,
        principals: Principals,
        timers: Timers | None = None,
    ) -> None:
        super().__init__(
            bodies,
            replies,
            timers or asyncio.get_running_loop(),
            window_first=WINDOW_FIRST,
            window_max=WINDOW_MAX,
            idle_seconds=store.config.idle_timeout_ms / 1000,
        )
        self.newcomers = Deadlines(self.timers, REQUEST_SECONDS)
        """Connections that have yet to send a command."""
        self.kept = Deadlines(self.timers, REQUEST_SECONDS)
        """What clients have the node keep between commands."""
        self.store = store
        self.principals = principals
        self.sessions: dict[int, Session] = {}
        self.started_ms = store.wall_ms()
        self.answered = Answered("redis")
        self.unknown = self.answered.operation("unknown")
        """What there is no command for."""
        self.counted: dict[bytes, Any] = {}
        """What came of the commands in `table.SPELLED`, by spelling: each a `CountedCommand` of
        `command`, which needs this module."""
        self.connections_received = 0
        self.commands_processed = 0
        self.counts_before: dict[str, int] = {}
        """By name what was counted up to the last CONFIG RESETSTAT, which INFO leaves out."""
        self.scan_positions: dict[int, bytes] = {}
        """Where SCANs stopped inside a huge partition, oldest first (`scan`)."""
        self.work = Work(store)
        self._replies: dict[tuple[str, int], tuple[int, str, bytes]] = {}

    def close(self) -> None:
        """Let no connection run into a limit any more."""
        self.newcomers.close()
        self.kept.close()
        super().close()

    def topology(self) -> Topology:
        """Who holds what. CommandError while that is not known."""
        topology = self.store.topology()
        if topology is None:
            raise CommandError(f"CLUSTERDOWN {self.store.status().reason}")
        return topology

    def reply(self, name: str, protocol: int, make: Callable[[], object], *, of: str = "") -> bytes:
        """The encoded value of `make`, kept under `name` for up to REPLY_AGE_MS_MAX, and as long as
        what it is made `of` is the same."""
        now = self.store.wall_ms()
        made_ms, made_of, reply = self._replies.get((name, protocol), (0, "", b""))
        if made_of != of or not 0 <= now - made_ms < REPLY_AGE_MS_MAX:
            reply = resp.encode(make(), protocol)
            self._replies[name, protocol] = now, of, reply
        return reply


class Session(ABC):
    """One client: its place in line, its protocol version, its names."""

    __slots__ = (
        "acks_before",
        "acks_min",
        "block",
        "came_ns",
        "created_ms",
        "door",
        "flow",
        "flush_asked",
        "id",
        "laddr",
        "lib_name",
        "lib_version",
        "name",
        "null",
        "operation",
        "peer",
        "principal",
        "protocol",
        "queue",
        "source",
        "store",
        "watch",
    )

    def __init__(self, store: Store, door: RespDoor) -> None:
        self.store = store
        self.door = door
        self.came_ns = 0
        """When the last packet came."""
        self.operation: Operation = door.unknown
        """What the command that begins now is counted as."""
        self.queue = WaitingLine()
        self.flow = Flow(self, self.queue, door)
        self.principal: Principal = ANYBODY
        self.flush_asked = False
        """Whether `flush` will be called this turn. Stays set once the client is gone."""
        self.acks_min = ACKS_NONE
        """The fewest copies that a write of this client since its last WAIT was acked with."""
        self.acks_before = ACKS_NONE
        """The same up to the last WAIT."""
        self.created_ms = store.wall_ms()
        self.id = 0
        self.peer = self.laddr = self.source = ""
        self.block: Block | None = None
        """What was queued since MULTI; None outside of a transaction."""
        self.watch: WatchedKeys | None = None
        """What is watched; None if nothing is."""
        self.lib_name = self.lib_version = b""
        self.reset()

    def reset(self) -> None:
        """Be as after connecting (RESET)."""
        self.use_protocol(2)
        self.name = b""
        self.leave_block()

    def leave_block(self) -> None:
        """Queue commands no more, and watch nothing (EXEC, DISCARD)."""
        if self.block is not None:
            self.block.let_go()
            self.block = None
        self.unwatch()

    def unwatch(self) -> None:
        """Watch nothing any more."""
        if self.watch is not None:
            self.watch.let_go()
            self.watch = None

    def permit(self, role: Role, keys: list[bytes], *, name: str) -> None:
        """CommandError unless the client may run the command of this name, which asks for `role`,
        on these keys."""
        principal = self.principal
        if not principal.name:
            if role is Role.ADMIN:
                self.door.principals.audit.permission_refused(who="", source=self.source, what=name)
            raise CommandError(NOAUTH)
        if principal.has(role):
            try:
                other = principal.forbidden(role, keys)
            except Overloaded as error:
                raise CommandError(f"{answer_for(error).prefix} {error.detail}") from None
            if other is None:
                return
            what = f"{name} on a key"
            refusal = f"to access the '{other[:128].decode('utf-8', 'replace')}' key"
        else:
            what, refusal = name, f"to run the '{name}' command"
        self.door.principals.audit.permission_refused(
            who=principal.name, source=self.source, what=what
        )
        raise CommandError(f"NOPERM User {principal.name} has no permissions {refusal}")

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

    def answer(self, reply: bytes, outcome: str = OK) -> None:
        """Answer the current command at once. `outcome`: as what it is counted."""
        pending = Pending(self)
        pending.outcome = outcome
        if len(reply) > SMALL_REPLY_BYTES and not self.flow.has_room(len(reply)):
            reply = pending.failed(no_room_for_reply())
        pending.reply = reply
        self.flow.reply_bytes += len(reply)

    def refuse(self, text: str) -> None:
        """Answer the current command, of which nothing was done, with an error."""
        self.answer(resp.error(text), Outcome.NOT_APPLIED.value)

    def answer_value(self, value: object) -> None:
        """Answer the current command with a nested value in the client's protocol."""
        self.answer(resp.encode(value, self.protocol))


class Pending(Waiting):
    """A command whose reply is not written yet."""

    __slots__ = ("session",)

    def __init__(self, session: Session) -> None:
        super().__init__(session.queue, session.operation, session.came_ns)
        self.session = session

    def resolve(self, reply: bytes) -> None:
        """Take the reply, or say that there is no room for it, and have it written at the end of
        the turn if it is next in line."""
        if len(reply) > SMALL_REPLY_BYTES and not self.session.flow.has_room(len(reply)):
            reply = self.failed(no_room_for_reply())
        self.keep(reply)

    def resolve_failed(self, result: Result, *, wrote: bool = False) -> None:
        """Take the error that the command ends with. `wrote`: another part of it was written, so
        that the whole is UNKNOWN whatever the error says of its own."""
        self.resolve(self.failed(result, wrote=wrote))

    def failed(self, result: Result, *, wrote: bool = False) -> bytes:
        """The reply for an error, and the command is counted as failed so."""
        assert isinstance(result, QuorateError), f"unexpected {type(result).__name__}"
        self.outcome = outcome_word(Outcome.UNKNOWN if wrote else outcome_of(result))
        return told(result, Outcome.UNKNOWN if wrote else result.outcome)

    def keep(self, reply: bytes) -> None:
        """`resolve` with a reply that has room: it is small, or was charged before."""
        self.reply = reply
        session = self.session
        session.flow.reply_bytes += len(reply)
        if not session.flush_asked and session.queue.first is self:
            session.flush_asked = True
            session.store.flush_soon(session)


class Collecting(Pending):
    """A command that keeps something of its reply until it is whole."""

    __slots__ = ("_held_bytes",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._held_bytes = 0

    def hold(self, count: int) -> bool:
        """Charge `count` bytes more that were collected. False: there is no room for them."""
        flow = self.session.flow
        if count > SMALL_REPLY_BYTES and not flow.has_room(count):
            return False
        self._held_bytes += count
        flow.reply_bytes += count
        return True

    def hold_only(self, count: int) -> bool:
        """`hold`, in place of what was charged before."""
        self.release(self._held_bytes)
        return self.hold(count)

    def release(self, count: int) -> None:
        """`count` bytes of it are not kept any more."""
        self._held_bytes -= count
        self.session.flow.reply_bytes -= count

    def resolve(self, reply: bytes) -> None:
        """The reply takes the place of what was collected."""
        self.release(self._held_bytes)
        super().resolve(reply)


def told(error: QuorateError, outcome: Outcome | None) -> bytes:
    """The error reply that says `outcome` of the command."""
    if isinstance(error, RedisRefusal):
        return resp.error(f"{answer_for(error).prefix} {error.detail}")
    facts = [f"outcome={outcome.value}"] if outcome is not None else []
    facts += [f"{name}={value}" for name, value in error.facts.items()]
    text = f"{answer_for(error).prefix} {error.detail}"
    return resp.error(f"{text} ({' '.join(facts)})" if facts else text)


def visible(result: GetResult, session: Session) -> Record | None:
    """The record of a read if a client may see it, else None. The session notes a large one."""
    record = result.record
    if is_large(record):
        session.flow.saw_large = True
    return record if is_live(record, wall_ms=session.store.wall_ms()) else None


def is_large(record: Record | None) -> bool:
    """Whether it has a value that is read one at a time."""
    return record is not None and record.size >= VALUE_BYTES_LARGE


class PendingGet(Pending):
    """A read answered with the value: the hot path of GET."""

    __slots__ = ()

    def done(self, result: Result) -> None:
        """Take the result of a Get."""
        session = self.session
        if type(result) is not GetResult:
            self.resolve_failed(result)
            return
        record = result.record
        value = None if record is None else record.value
        if (
            record is None
            or value is None
            or (record.expires_ms and not is_live(record, wall_ms=session.store.wall_ms()))
        ):
            self.reply = session.null
        else:
            size = len(value)
            if size <= SMALL_REPLY_BYTES:
                self.reply = b"%b%b\r\n" % (_BULK_OF[size], value)
            else:
                if size >= VALUE_BYTES_LARGE:
                    session.flow.saw_large = True
                if session.flow.has_room(size):
                    self.reply = resp.bulk(value)
                else:
                    self.reply = self.failed(no_room_for_reply())
        # `resolve` once more, without the call.
        session.flow.reply_bytes += len(self.reply)
        if not session.flush_asked and session.queue.first is self:
            session.flush_asked = True
            session.store.flush_soon(session)


class PendingPut(Pending):
    """An ordinary write, answered `+OK`: the hot path of SET."""

    __slots__ = ()

    def done(self, result: Result) -> None:
        """Take the result of a Put."""
        if type(result) is not PutResult:
            self.resolve_failed(result)
            return
        session = self.session
        if result.acks < session.acks_min:
            session.acks_min = result.acks
        self.reply = resp.OK
        session.flow.reply_bytes += len(resp.OK)
        if not session.flush_asked and session.queue.first is self:
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
            self.resolve_failed(result)
