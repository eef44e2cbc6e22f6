# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands see of a client's connection, and the line that keeps answers in order.

A command that needs the store makes a `Pending`, which takes its place in the session's queue and
is the waiter of its own events. When it has its reply it asks for one flush per turn, and the flush
writes all replies that are ready at the head of the queue. No Future, task or coroutine is made for
an operation.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.core.topology.topology import Topology
from quorate.core.values.status import Status
from quorate.doors.access import ANYBODY, Principal
from quorate.doors.budget import ByteBudget
from quorate.doors.flow import Flow, Limits
from quorate.doors.limits import Timers
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
