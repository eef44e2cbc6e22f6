# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis client: bytes to commands, commands to the store, replies to bytes.

Invariants. Pipelined commands act as if run one after the other, though they run at once: a command
waits until those before it are answered if both touch a key and one of the two writes it.
At most `flow.window` commands are under way; while others wait, nothing is read, so a client that
sends without reading holds up only itself. What a connection keeps of commands until it has
answered all is bounded, and what large commands keep of it comes out of a budget shared with all
connections. Every limit ends in waiting or in a closed connection, not in memory.
Nothing is made per operation but the event and its waiter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic_ns
from typing import Final

from quorate.doors.access import Patterns
from quorate.doors.answered import Answered, Operation
from quorate.doors.flow import (
    ARRIVING,
    CLOSED,
    ENDING,
    LEAVING,
    READING,
    REFUSING,
    REPLY_BYTES_MAX,
    Input,
)
from quorate.doors.guests import source_of
from quorate.doors.redis.command import Access, Command, CountedCommand
from quorate.doors.redis.gather import PARTS_MAX
from quorate.doors.redis.session import CommandError, RespDoor, Session
from quorate.doors.redis.table import SPELLED, find
from quorate.doors.redis.transactions import ABORTED, NOT_QUEUED, queue
from quorate.host.store import Store
from quorate.wire import resp
from quorate.wire.resp import CommandParser

BEGUN_MAX: Final = 64
"""Commands that may begin in one turn. The window shrinks once a read brings a large value; without
this, a whole window of such reads would be under way before the first is answered."""
TRACKED_KEYS_MAX: Final = 4096
REQUEST_BYTES_MAX: Final = 4 << 20
"""The keys that commands named, and the bytes that came, since no command was under way. Above
either maximum nothing begins and nothing is read until all commands are answered, and the counts
start anew: a client that pipelines without a pause is made to pause."""
_BUSY: Final = "BUSY too many request bytes are arriving (outcome=not_applied)"
_LATE: Final = "ERR Protocol error: command not completed in time"
_BULK_SLACK: Final = 1024
"""Values that are over the limit by so little are refused alone, and the connection goes on."""

_NONE: Final = Access.NONE
_READ: Final = Access.READ
_WRITE: Final = Access.WRITE
"""By names of ours that cannot change, which the compiled module need not look up."""


class RespConnection(Session):
    """The protocol object for one client; bytes that were already read come by `data_received`.

    An asyncio.Protocol in all but its base (`Speaker`).
    """

    __slots__ = (
        "_backlog",
        "_is_alone",
        "_only_is_read",
        "_only_key",
        "_parser",
        "_parts",
        "_reads",
        "_request_bytes",
        "_waiting",
        "_writes",
    )

    def __init__(self, store: Store, door: RespDoor) -> None:
        super().__init__(store, door)
        bytes_max = store.config.value_bytes_max
        self._parser = CommandParser(
            bulk_bytes_max=bytes_max + _BULK_SLACK, value_bytes_max=bytes_max
        )
        self._backlog: deque[list[bytes]] = deque()
        """Commands that came and may not begin yet."""
        self._reads: set[bytes] = set()
        """Keys read by commands under way, and perhaps by ones already answered."""
        self._writes: set[bytes] = set()
        self._only_key: bytes | None = None
        """Of the only command under way, if that is one on a key. It stands in neither set before a
        second begins: most are answered first, and need none."""
        self._only_is_read = False
        self._request_bytes = 0
        """Bytes that came since all commands were answered."""
        self._is_alone = False
        """A command under way runs alone, as KEYS does: none begins beside it."""
        self._parts = 0
        """Requests that commands of many keys began since all were answered: `MGET a b` adds 2."""
        self._waiting: tuple[list[bytes], Patterns] | None = None
        """The command that had to wait, and the patterns by which its client may run it."""

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.flow.open(transport)
        self.principal = self.door.principals.at(transport)
        self.door.principals.guests.judge(transport, self.principal)
        self._parser.is_strict = not self.principal.name
        self.source = source_of(transport)
        self.peer = _address(transport.get_extra_info("peername"))
        self.laddr = _address(transport.get_extra_info("sockname"))
        self.door.connections_received += 1
        self.id = self.door.connections_received
        self.door.sessions[self.id] = self
        self.door.newcomers.watch(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.flow.go(Input.LOST)
        # Results that still come find nobody to write to.
        self.flush_asked = True
        self.queue.clear()
        self._backlog.clear()
        self._waiting = None
        self.leave_block()
        self._parser.stop("")
        self.door.sessions.pop(self.id, None)
        self.door.newcomers.forget(self)

    def data_received(self, data: bytes) -> None:
        self.came_ns = monotonic_ns()
        self.flow.silent_sweeps = 0
        if (
            self.queue.count
            or self.flow.state is not READING
            or (args := resp.plain_command(data)) is None
        ):
            self._take(data)
            return
        # The usual chunk: a single command, and none before it to wait for.
        self._request_bytes += len(data)
        self.door.commands_processed += 1
        has_begun = self._begin(args)
        assert has_begun, "there was nothing to wait for"
        if (first := self.queue.first) is not None and first.reply:
            self._proceed()

    def _take(self, data: bytes) -> None:
        flow, parser = self.flow, self._parser
        if not flow.state.takes:
            return
        parser.is_strict = not self.principal.name
        commands = parser.feed(data)
        self._backlog.extend(commands)
        self._request_bytes += len(data)
        self.door.commands_processed += len(commands)
        if parser.is_partial:
            self._charge_requests()
            if commands:
                flow.go(Input.PROGRESS)
        if parser.fault is not None:
            flow.go(Input.END)
        self._proceed()

    def eof_received(self) -> bool:
        """Answer what was asked before the end; half a command is dropped."""
        self.finish()
        return self.flow.can_half_close

    def pause_writing(self) -> None:
        self.flow.choke()

    def resume_writing(self) -> None:
        self.flow.unchoke()
        self._proceed()

    def expired(self) -> None:
        """Let a client go that has sent no command since it came, but perhaps empty lines. Half a
        command has a deadline of its own."""
        flow = self.flow
        if flow.state is READING and self.queue.first is None and not flow.has_written:
            flow.go(Input.LATE)
        elif flow.state is ARRIVING and not flow.has_written:
            self.door.newcomers.watch(self)

    def late(self) -> None:
        self._parser.stop(_LATE)
        self._proceed()

    # --- commands in, replies out ---

    def finish(self) -> None:
        """Take no more bytes, answer what came, close."""
        self._parser.stop("")
        self.flow.go(Input.END)
        self._proceed()

    def flush(self) -> None:
        """Write the replies that are ready, all at once, and begin what waited for them."""
        flow, queue = self.flow, self.queue
        if flow.state is CLOSED:
            return
        self.flush_asked = False
        if replies := queue.take_ready():
            if queue.first is None:
                # All that began are answered, and what they kept is let go.
                if self._only_key is None:
                    self._reads.clear()
                    self._writes.clear()
                self._only_key = None
                self._is_alone = False
                self._parts = self._request_bytes = 0
                if flow.charged_bytes:
                    self._charge_requests()
            flow.write(replies)
        if flow.state is not READING and flow.state is not ARRIVING:
            if self._parser.is_strict and queue.first is None:
                # What a stranger sent behind the command that is answered now.
                self._take(b"")
            self._proceed()

    def _proceed(self) -> None:
        """Begin what may begin; then read on, or wait, or close."""
        backlog, queue, flow = self._backlog, self.queue, self.flow
        # All commands under way must be answered before another begins.
        is_full = queue.first is not None and (
            self._request_bytes > REQUEST_BYTES_MAX
            or len(self._reads) + len(self._writes) > TRACKED_KEYS_MAX
        )
        enough = queue.count + BEGUN_MAX
        limit = min(flow.window, enough)
        while (
            backlog
            and queue.count < limit
            and flow.reply_bytes <= REPLY_BYTES_MAX
            and not (is_full or self._is_alone or flow.is_choked or flow.state is LEAVING)
        ):
            args = backlog.popleft()
            if not self._begin(args):
                backlog.appendleft(args)
                break
            self._waiting = None
        if flow.state is ENDING and not backlog:
            if self._parser.fault:
                self.operation = self.door.unknown
                # The client may still be sending, and would see a reset instead of the refusal.
                self.refuse(self._parser.fault)
                flow.go(Input.REFUSE)
            else:
                flow.go(Input.LEAVE)
        is_cut_short = bool(backlog) and queue.count == enough
        is_next = (first := queue.first) is not None and bool(first.reply)
        if (is_cut_short or is_next) and not self.flush_asked:
            self.flush_asked = True
            self.store.flush_soon(self)
        if flow.state is LEAVING or flow.state is REFUSING:
            backlog.clear()
            self._waiting = None
            if queue.first is None:
                flow.go(Input.ANSWERED)
        elif backlog or is_full or (self._parser.is_strict and queue.first is not None):
            flow.go(Input.FULL)
        elif flow.state is not READING or self._parser.is_partial:
            flow.go(Input.PART if self._parser.is_partial else Input.WHOLE)

    def _begin(self, args: list[bytes]) -> bool:
        """Begin a command. False, and nothing done: it has to wait for those under way."""
        try:
            known: CountedCommand | None = self.door.counted.get(args[0]) if args else None
            counted = self._find(args) if known is None else known
            self.operation, command = counted.operation, counted.command
            arity = command.arity
            if len(args) != arity and (arity > 0 or len(args) < -arity):
                raise CommandError(f"ERR wrong number of arguments for '{command.name}' command")
            if not counted.role_bit & self.principal.role_bits and not self._has_waited(args):
                self.permit(command.role, command.keys.of(args), name=command.name)
            if self.block is not None and command.name not in NOT_QUEUED:
                queue(self, command, args)
                return True
            access = command.access
            if access is _READ or access is _WRITE:
                if not self._admit_key(args[1], is_read=access is _READ):
                    return self._wait(counted, args)
            elif access is not _NONE and not self._admit(command, args):
                return self._wait(counted, args)
            command.run(self, args)
        except CommandError as refusal:
            self._refuse(str(refusal))
        return True

    def _wait(self, counted: CountedCommand, args: list[bytes]) -> bool:
        """`_begin`'s answer for a command that has to wait, as may be found at each flush. Its keys
        are compared with its client's patterns once: that may take a fifth of a second."""
        patterns = self.principal.patterns
        if patterns is not None and not counted.role_bit & self.principal.role_bits:
            self._waiting = args, patterns
        return False

    def _has_waited(self, args: list[bytes]) -> bool:
        """Whether this very command was permitted when it came and had to wait. Then its keys need
        not be compared with the patterns again, unless the client has other patterns by now, as it
        has with other rights."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return False
        command, patterns = waiting
        return command is args and patterns is self.principal.patterns

    def _find(self, args: list[bytes]) -> CountedCommand:
        """The command of a spelling that comes for the first time, or that is not kept."""
        self.operation = self.door.unknown
        command = SPELLED.get(args[0]) if args else None
        if command is None:
            command = find(args)
            return CountedCommand(command, _operation(self.door.answered, command))
        counted = CountedCommand(command, _operation(self.door.answered, command))
        self.door.counted[args[0]] = counted
        return counted

    def _refuse(self, text: str) -> None:
        """Answer with an error; the transaction that the command was for, if any, is aborted."""
        if self.block is not None and not self.block.fault:
            self.block.fault = ABORTED
        self.refuse(text)

    def _admit_key(self, key: bytes, *, is_read: bool) -> bool:
        """`_begin`'s question for commands of one key."""
        if self.queue.first is None:
            self._only_key, self._only_is_read = key, is_read
            return True
        self._note_only_key()
        if key in self._writes or (not is_read and key in self._reads):
            return False
        (self._reads if is_read else self._writes).add(key)
        return True

    def _note_only_key(self) -> None:
        """A second command begins."""
        if self._only_key is not None:
            (self._reads if self._only_is_read else self._writes).add(self._only_key)
            self._only_key = None

    def _admit(self, command: Command, args: list[bytes]) -> bool:
        """`_begin`'s question for commands of many keys or any."""
        if command.access is Access.ALONE:
            self._is_alone = self.queue.first is None
            return self._is_alone
        keys = command.keys.of(args)
        parts = min(len(keys), PARTS_MAX)
        under_way = self.queue.count
        if under_way and under_way + self._parts + parts > self.flow.window:
            return False
        self._note_only_key()
        is_read = command.access is Access.READ_MANY
        if not (self._writes.isdisjoint(keys) and (is_read or self._reads.isdisjoint(keys))):
            return False
        (self._reads if is_read else self._writes).update(keys)
        self._parts += parts
        return True

    def _charge_requests(self) -> None:
        """Charge the budget for the half command. Never give back what finished commands were
        charged for before they are answered: of `SET k <1 MiB>` and half a GET behind it the
        megabyte stays charged until the SET is answered."""
        held = self._parser.held_bytes
        if held < self.flow.charged_bytes and (self.queue.count or self._backlog):
            return
        if not self.flow.charge(held):
            self._parser.stop(_BUSY)


def _operation(answered: Answered, command: Command) -> Operation:
    """What the command is counted as, from its first use on."""
    times = None
    if command.access is Access.READ or command.access is Access.READ_MANY:
        times = answered.reads
    elif command.access is Access.WRITE or command.access is Access.WRITE_MANY:
        times = answered.writes
    return answered.operation(command.name, times)


def _address(name: object) -> str:
    """A socket's address as Redis writes it."""
    if not isinstance(name, tuple):
        return str(name or "")
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"
