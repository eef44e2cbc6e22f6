# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's connection: bytes to commands, commands to the store, replies to bytes.

Invariants. Pipelined commands act as if run one after the other, though they run at once: a command
waits until those before it are answered if they touch a key of its, and one of the two writes.
At most `window` commands are under way; while others wait, nothing is read, so a client that sends
without reading holds up only itself. What a connection keeps of commands until it has answered all
is bounded, and what large commands keep of it comes out of a budget shared with all connections.
Every limit ends in waiting or in a closed connection, not in memory.
Nothing is made per operation but the event and its waiter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from quorate.doors.redis.command import Access, Command
from quorate.doors.redis.pending import PARTS_MAX
from quorate.doors.redis.refused import ALLOWED_IN_MULTI, NOT_YET
from quorate.doors.redis.session import CommandError, RespDoor, Session
from quorate.doors.redis.table import SPELLED, find
from quorate.runtime.store import Store
from quorate.wire import resp
from quorate.wire.resp import CommandParser

WINDOW_FIRST: Final = 8
WINDOW_MAX: Final = 1024
"""Requests of a connection under way at once, about. It begins small and follows the size of
replies, because what a read will answer is not known before: after a large value it is 1."""
BEGUN_MAX: Final = 64
"""Commands begun in one turn, so that a large value is seen before a whole window is read."""
FLUSH_BYTES_LARGE: Final = 1 << 20
"""Replies of one turn above this make the window smaller, below it larger."""
REPLY_BYTES_MAX: Final = 8 << 20
"""No command begins while more than these wait in line to be written."""
TRACKED_KEYS_MAX: Final = 4096
REQUEST_BYTES_MAX: Final = 4 << 20
"""Keys remembered as under way, and bytes that came, since all commands were answered. Above either
nothing begins and nothing is read until they are again: a client that never pauses is made to."""
FREE_BYTES: Final = 64 * 1024
"""A half command up to here costs the budget nothing, so that small ones always get through."""
_BUSY: Final = "BUSY too many request bytes are arriving (outcome=not_applied)"
STALL_SECONDS: Final = 30.0
"""How long a client may take over half a command, or leave its answers unread."""
_BULK_SLACK: Final = 1024

_NONE, _READ, _WRITE = Access.NONE, Access.READ, Access.WRITE
_spelled = SPELLED.get


class RespConnection(Session):
    """The protocol object for one client; bytes that were already read come by `data_received`.

    An asyncio.Protocol in all but its base (`Speaker`).
    """

    __slots__ = (
        "_backlog",
        "_charged_bytes",
        "_half_since",
        "_half_timer",
        "_is_alone",
        "_is_read_paused",
        "_is_write_paused",
        "_parser",
        "_parts",
        "_reads",
        "_request_bytes",
        "_stall_timer",
        "_taken_bytes",
        "_transport",
        "_window",
        "_writes",
        "_written_bytes",
    )

    def __init__(self, store: Store, door: RespDoor) -> None:
        super().__init__(store, door)
        self._parser = CommandParser(bulk_bytes_max=store.config.value_bytes_max + _BULK_SLACK)
        self._transport: asyncio.Transport | None = None
        self._backlog: deque[list[bytes]] = deque()
        """Commands that came and may not begin yet."""
        self._reads: set[bytes] = set()
        """Keys read by commands under way, and perhaps by ones already answered."""
        self._writes: set[bytes] = set()
        self._request_bytes = 0
        """Bytes that came since all commands were answered."""
        self._charged_bytes = 0
        """What was taken from the budget for large commands, until they are answered."""
        self._is_alone = False
        """Whether the command under way bears no other beside it."""
        self._parts = 0
        """Requests that commands of many keys have, or had, under way beside their own place."""
        self._window = WINDOW_FIRST
        self._is_read_paused = False
        self._is_write_paused = False
        self._written_bytes = 0
        self._taken_bytes = 0
        """Of those written, how many had left when `_stall_timer` was set."""
        self._stall_timer: asyncio.TimerHandle | None = None
        self._half_since = 0.0
        """When the half command at the end of what came began; 0 without one."""
        self._half_timer: asyncio.TimerHandle | None = None

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = _address(transport.get_extra_info("peername"))
        self.laddr = _address(transport.get_extra_info("sockname"))
        self.door.connections_received += 1
        self.id = self.door.connections_received
        self.door.sessions[self.id] = self

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        # Results that still come find nobody to write to.
        self.flush_asked = self.closing = self.is_gone = True
        self.queue.clear()
        self._backlog.clear()
        self._parser.stop("")
        self._settle_charge()
        self.door.sessions.pop(self.id, None)
        for timer in (self._stall_timer, self._half_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if (
            self.queue
            or self._backlog
            or self._is_write_paused
            or self.closing
            or parser.is_partial
            or parser.fault is not None
            or (args := resp.plain_command(data)) is None
        ):
            self._take(data)
            return
        # The usual chunk: a single command, and none before it to wait for.
        self._request_bytes += len(data)
        self.door.commands_processed += 1
        has_begun = self._begin(args)
        assert has_begun, "there was nothing to wait for"
        if self.closing or (self.queue and self.queue[0].reply):
            self._proceed()

    def _take(self, data: bytes) -> None:
        commands = self._parser.feed(data)
        self._backlog.extend(commands)
        self._request_bytes += len(data)
        if self._parser.is_partial:
            self._watch_half(is_new=bool(commands))
            self._settle_charge()
        else:
            self._half_since = 0.0
        self.door.commands_processed += len(commands)
        self._proceed()

    def eof_received(self) -> bool:
        """Answer what was asked before the end; half a command is dropped."""
        self.finish()
        return True

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._watch_stall()
        self._read_on_or_close()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._proceed()

    # --- commands in, replies out ---

    def finish(self) -> None:
        """Take no more bytes, answer what came, close."""
        self._parser.stop("")
        self._proceed()

    def flush(self) -> None:
        """Write the replies that are ready, all at once, and begin what waited for them."""
        transport, queue = self._transport, self.queue
        if transport is None:
            return
        self.flush_asked = False
        if queue and (replies := queue[0].reply):
            queue.popleft()
            if queue and queue[0].reply:
                replies = self._join(replies)
            if not queue:
                self._forget_commands()
            # uvloop raises on a write after close.
            if not transport.is_closing():
                size = len(replies)
                self._written_bytes += size
                self.reply_bytes -= size
                if size > FLUSH_BYTES_LARGE or self._window < WINDOW_MAX or self.saw_large:
                    self._fit_window(size)
                transport.write(replies)
        if self._backlog or self.closing or self._is_read_paused or self._parser.fault is not None:
            self._proceed()

    def _join(self, first: bytes) -> bytes:
        """`first` and the replies behind it that are ready, out of the queue."""
        queue = self.queue
        replies = [first]
        while queue and (reply := queue[0].reply):
            replies.append(reply)
            queue.popleft()
        return b"".join(replies)

    def _forget_commands(self) -> None:
        """All that began are answered."""
        self._reads.clear()
        self._writes.clear()
        self._is_alone = False
        self._parts = 0
        self._request_bytes = 0
        if self._charged_bytes:
            self._settle_charge()

    def abort(self) -> None:
        """Drop the client: its connection cannot be trusted to answer in order any more."""
        if self._transport is not None:
            self._transport.abort()

    def _fit_window(self, reply_bytes: int) -> None:
        """Have more commands under way after small replies, fewer after large ones."""
        if self.saw_large:
            self.saw_large = False
            self._window = 1
        elif reply_bytes > FLUSH_BYTES_LARGE:
            self._window = max(self._window // 4, 1)
        else:
            self._window *= 2

    def _proceed(self) -> None:
        """Begin what may begin; then read on, or wait, or close."""
        backlog, queue = self._backlog, self.queue
        has_room = not self._is_full
        enough = len(queue) + BEGUN_MAX
        limit = min(self._window, enough)
        while (
            backlog
            and len(queue) < limit
            and (has_room or not queue)
            and self.reply_bytes <= REPLY_BYTES_MAX
            and not (self._is_alone or self._is_write_paused or self.closing)
        ):
            args = backlog.popleft()
            if not self._begin(args):
                backlog.appendleft(args)
                break
        fault = self._parser.fault
        if fault is not None and not backlog and not self.closing:
            if fault:
                self.answer(resp.error(fault))
            self.closing = True
        is_cut_short = bool(backlog) and len(queue) == enough
        if (is_cut_short or (queue and queue[0].reply)) and not self.flush_asked:
            self.flush_asked = True
            self.store.flush_soon(self)
        if backlog or not has_room or self.closing or self._is_write_paused or self._is_read_paused:
            self._read_on_or_close()

    @property
    def _is_full(self) -> bool:
        """Whether all commands under way must be answered before another begins."""
        return bool(self.queue) and (
            self._request_bytes > REQUEST_BYTES_MAX
            or len(self._reads) + len(self._writes) > TRACKED_KEYS_MAX
        )

    def _begin(self, args: list[bytes]) -> bool:
        """Begin a command. False, and nothing done: it has to wait for those under way."""
        try:
            command = _spelled(args[0]) if args else None
            if command is None:
                command = find(args)
            arity = command.arity
            if len(args) != arity and (arity > 0 or len(args) < -arity):
                command.check_arity(args)
            if self.in_multi and command.name not in ALLOWED_IN_MULTI:
                raise CommandError(NOT_YET)
            access = command.access
            if access is _READ:
                if args[1] in self._writes:
                    return False
                self._reads.add(args[1])
            elif access is _WRITE:
                if args[1] in self._writes or args[1] in self._reads:
                    return False
                self._writes.add(args[1])
            elif access is not _NONE and not self._admit(command, args):
                return False
            command.run(self, args)
        except CommandError as refusal:
            self.answer(resp.error(refusal.text))
        return True

    def _admit(self, command: Command, args: list[bytes]) -> bool:
        """`_begin`'s question for commands of many keys or any."""
        if command.access is Access.ALONE:
            self._is_alone = not self.queue
            return self._is_alone
        keys = command.keys.of(args)
        parts = min(len(keys), PARTS_MAX)
        if self.queue and len(self.queue) + self._parts + parts > self._window:
            return False
        is_read = command.access is Access.READ_MANY
        if not (self._writes.isdisjoint(keys) and (is_read or self._reads.isdisjoint(keys))):
            return False
        (self._reads if is_read else self._writes).update(keys)
        self._parts += parts
        return True

    def _read_on_or_close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if self.closing:
            self._backlog.clear()
            if not self.queue and not transport.is_closing():
                transport.close()
                self._watch_stall()
        elif self._backlog or self._is_write_paused or self._is_full:
            if not self._is_read_paused:
                self._is_read_paused = True
                transport.pause_reading()
        elif self._is_read_paused:
            self._is_read_paused = False
            transport.resume_reading()

    def _settle_charge(self) -> None:
        """Have of the budget what the half command needs, and no less than what was charged while
        the commands that it was charged for are not answered."""
        needed = max(self._parser.held_bytes - FREE_BYTES, 0)
        if (self.queue or self._backlog) and needed < self._charged_bytes:
            return
        if needed <= self._charged_bytes:
            self.door.bodies.give_back(self._charged_bytes - needed)
        elif not self.door.bodies.take(needed - self._charged_bytes):
            self._parser.stop(_BUSY)
            return
        self._charged_bytes = needed

    # --- clients that are too slow ---

    def _watch_half(self, *, is_new: bool) -> None:
        """Give the half command at the end its time; `is_new`: it began in this chunk."""
        if is_new or not self._half_since:
            self._half_since = self.door.timers.time()
        if self._half_timer is None:
            self._half_timer = self.door.timers.call_later(STALL_SECONDS, self._check_half)

    def _check_half(self) -> None:
        self._half_timer = None
        if not self._half_since:
            return
        if self._is_read_paused:
            # Its rest may be waiting in the socket, and we are the ones who do not read.
            self._half_since = self.door.timers.time()
        left = self._half_since + STALL_SECONDS - self.door.timers.time()
        if left > 0:
            self._half_timer = self.door.timers.call_later(left, self._check_half)
        else:
            self._parser.stop("ERR Protocol error: command not completed in time")
            self._proceed()

    def _watch_stall(self) -> None:
        if self._stall_timer is None:
            self._taken_bytes = self._count_taken()
            self._stall_timer = self.door.timers.call_later(STALL_SECONDS, self._check_stall)

    def _check_stall(self) -> None:
        self._stall_timer = None
        if self._transport is None or not (self._is_write_paused or self.closing):
            return
        if self._count_taken() == self._taken_bytes:
            self._transport.abort()
        else:
            self._watch_stall()

    def _count_taken(self) -> int:
        """Bytes of answers that the system has taken off our hands."""
        transport = self._transport
        return self._written_bytes - (transport.get_write_buffer_size() if transport else 0)


def _address(name: object) -> str:
    """A socket's address as Redis writes it."""
    if not isinstance(name, tuple):
        return str(name or "")
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"
