# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that behave as TCP does, and worse.

A `Wire` is one direction between two machines; a connection is a pair of `Socket`s, and what each
writes travels on the wire of its direction: in order, as bytes. A cut holds bytes back and a heal
delivers them late, as retransmission does. A break loses an unknown end of what was under way, in
mid-frame too. What arrives at a paused machine, or at one that does not read, waits in its kernel.
A connection on which nothing is confirmed for long breaks, at both ends, as keepalive and user
timeout see to. What links make of all that (greetings, twins, back-off, outboxes) is `host.links`
and `host.acceptor`, which run here as they run in the field.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, Final, Protocol

from quorate.host.system import Connection
from quorate.sim.disk import flipped
from quorate.sim.noise import Noise, cut_in_pieces
from quorate.sim.trace import Recorder
from quorate.sim.world import GAP_MS, Span, UpTo, World, draw_up_to
from quorate.wire.frames import MAGIC

BREAK_MS: Final = 5.0
"""Within which the end of a broken connection's bytes still arrives."""
# Not Final: mypyc takes a constant that is a tuple of floats for one that is not set.
SILENCE_MS: Span = (12_000.0, 14_000.0)
"""After so long without any sign from the other kernel a connection is lost (`runtime.sockets`)."""
TORN_SHARE: Final = 0.5
"""So many of the broken connections bring the beginning of a write last, and not its end."""


class End(Protocol):
    """A machine as connections see it."""

    name: str
    life: int
    """Counts the lives of its process: what belonged to an earlier one is gone."""
    outbox_bytes_max: int
    is_silent: bool
    """Whether not even its kernel answers."""
    sockets: dict[Socket, None]
    """Open ones, in the order in which they came to be."""

    @property
    def is_running(self) -> bool:
        """Whether there is a process; a paused one too."""

    @property
    def is_reading(self) -> bool:
        """Whether it takes what its kernel has for it."""

    @property
    def can_accept(self) -> bool:
        """Whether it takes connections: it reads, and has a file descriptor for one more."""

    def later(self, ms: float, call: Callable[[], None]) -> object:
        """Have the process make a call, when it is not paused."""

    def incoming(self) -> Connection:
        """The process's end of a connection that somebody asked for."""

    def fault(self, what: str, error: Exception) -> None:
        """The process raised what it must not."""


class Socket:
    """One end of a connection (`host.system.Channel`)."""

    def __init__(self, owner: End, wire: Wire, *, is_dialled: bool) -> None:
        self.owner = owner
        self.is_dialled = is_dialled
        """Whether its process asked for the connection."""
        self.life = owner.life
        self.wire = wire
        """What is written here travels on it."""
        self.connection: Connection | None = None
        """The process's end of it; None until the process has taken it."""
        self.other: Socket
        self.is_forgotten = False
        """Whether the other kernel knows the connection no more (half-open)."""
        self.is_lost = False
        """Whether this kernel knows that the connection is lost."""
        self.is_whole = True
        """Whether nothing that was written is lost."""
        self.in_flight: deque[bytes | None] = deque()
        """What was written and has not arrived; None is the end of it."""
        self.last_ms = 0.0
        """When the last of `in_flight` arrives."""
        self.on_line_ms = 0.0
        """When a slow line will have sent all that was written."""
        self.is_greeted = False
        """Whether a greeting came."""
        self.unread_bytes = 0
        """Bytes that were written and that nobody confirms: a cut holds them up, or the other
        process does not read, or its kernel does not know the connection."""
        self._lost_after_ms = 0.0
        """If the connection is not whole: what would arrive later than this is lost."""
        self._is_closing = False
        self._is_told = False
        """Whether the process knows that the connection is lost."""
        self._inbox: list[bytes] = []
        owner.sockets[self] = None

    # --- what its process does (`host.system.Channel`) ---------------------------------------

    def write(self, data: bytes) -> None:
        assert not self._is_told, "a lost channel is not written to"
        assert not self._is_closing, "a closed channel is not written to"
        if self.get_write_buffer_size() > self.owner.outbox_bytes_max:
            self.owner.fault("write", AssertionError("an outbox holds more than its bound"))
        if self.is_lost or self.is_forgotten:
            self.wire.fault("frame swallowed")
            self.unread_bytes += len(data)
        else:
            self.wire.carry(self, data)

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes + self.wire.backlog_bytes(self.on_line_ms)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.wire.carry(self, None)

    def abort(self) -> None:
        self._is_closing = True
        if not self.is_lost:
            self.break_off(self.wire.draw_break_ms())
            self.lose()

    def get_extra_info(self, name: str) -> Any:
        return (self.other.owner.name, 0) if name == "peername" else None

    # --- the way of what it wrote ------------------------------------------------------------

    def is_arriving(self) -> bool:
        """Whether what arrives now is not lost."""
        return self.is_whole or self.wire.world.now <= self._lost_after_ms

    def break_off(self, tail_ms: float) -> None:
        """Lose what would arrive in more than `tail_ms`, then the connection at the other end."""
        if self.is_whole:
            self.cut_off(tail_ms)
            self.wire.world.at(self._lost_after_ms + GAP_MS, self._end_broken)

    def _end_broken(self) -> None:
        """Tell the other end; what arrives last may be the beginning of a write."""
        torn = self.in_flight[0] if self.in_flight else None
        random = self.wire.random
        if torn is not None and len(torn) > 1 and random.random() < TORN_SHARE:
            self.wire.fault("frame torn")
            self.wire.reach(self, torn[: random.randrange(1, len(torn))])
        self.wire.end(self)

    def cut_off(self, tail_ms: float = 0.0) -> None:
        """Lose what would arrive in more than `tail_ms`, and what is held up; tell nobody."""
        self.is_whole = False
        self._lost_after_ms = self.wire.world.now + tail_ms
        self.wire.drop(self)

    # --- the way of what the other end wrote -------------------------------------------------

    def take(self, data: bytes) -> None:
        """Bytes are in this kernel; one that knows of no such connection says so."""
        if self.is_lost:
            self.wire.world.after(self.wire.draw_transit_ms(), partial(self.wire.end, self))
            return
        if data.startswith(MAGIC):
            self.is_greeted = True
        if self.connection is None or self._inbox or not self.owner.is_reading:
            self._inbox.append(data)
            self.other.unread_bytes += len(data)
        else:
            self._deliver(data)

    def accept(self) -> None:
        """Have the process take a connection that it was asked for; if it cannot, that waits."""
        if self.connection is None and not self.is_dialled and self.owner.can_accept:
            self.begin(self.owner.incoming())

    def begin(self, connection: Connection) -> None:
        """The connection is there for the process."""
        self.connection = connection
        connection.connection_made(self)
        self.read()

    def read(self) -> None:
        """The process reads what its kernel took meanwhile, in one piece, and hears of a loss."""
        if self.connection is None:
            self.accept()
            return
        if not (self.owner.is_reading or self._is_closing):
            return
        inbox, self._inbox = self._inbox, []
        if inbox:
            data = b"".join(inbox)
            self.other.unread_bytes -= len(data)
            self._deliver(data)
        if self.is_lost and not self._is_told and self.life == self.owner.life:
            self._is_told = self._is_closing = True
            self.owner.sockets.pop(self, None)
            self.connection.connection_lost(None)

    def _deliver(self, data: bytes) -> None:
        """Who has closed a connection hears no more of it."""
        assert self.connection is not None
        try:
            for piece in self.other.wire.pieces_of(data):
                if not self._is_closing:
                    self.connection.data_received(piece)
        except Exception as error:
            self.owner.fault("connection_failed", error)
            self.abort()

    def finish(self) -> None:
        """The other end has closed the connection: it is lost after all that was written."""
        if not self.is_lost:
            self.is_lost = True
            self.owner.later(0.0, self.read)

    def lose(self) -> None:
        """The connection is gone; the process hears some of what came, and that it is lost."""
        if not self.is_lost:
            del self._inbox[self.wire.random.randint(0, len(self._inbox)) :]
            self.finish()

    def die(self, *, is_silent: bool) -> None:
        """Its process is gone; the other end hears of it, or does not for long."""
        self.owner.sockets.pop(self, None)
        if self.is_lost:
            return
        self.is_lost = self._is_closing = True
        if is_silent:
            self.cut_off(self.wire.draw_break_ms())
            self.other.forget()
        else:
            self.other.cut_off()
            self.break_off(self.wire.draw_break_ms())

    def forget(self) -> None:
        """The other kernel does not know the connection any more; this end learns so late."""
        self.cut_off()
        self.is_forgotten = True
        self.wire.world.after(self.wire.draw_silence_ms(), self.lose)


class Wire:
    """One direction between two machines."""

    def __init__(
        self, world: World, recorder: Recorder, source: End, target: End, latency_ms: UpTo
    ) -> None:
        self.world = world
        self.latency_ms = latency_ms
        """Of one piece of bytes."""
        self.bytes_per_ms = 0.0
        """How much the line carries; 0 is without a limit."""
        self.noise: Noise | None = None
        self.is_cut = False
        self.back: Wire
        """The other direction."""
        self.random: Random = world.generator(f"{source.name} {target.name}")
        self._recorder = recorder
        self.source = source
        self.target = target
        self._held: list[tuple[Socket, bytes | None]] = []
        """What has come as far as the cut."""
        self._broken: list[Socket] = []
        """Broken connections whose other ends cannot hear of it because of a cut."""
        self._cuts = 0
        self._idle_ms = 0.0
        """When the line has carried all that was sent, if it is a slow one."""

    # --- connections -------------------------------------------------------------------------

    def sockets(self) -> list[Socket]:
        """The source's ends of connections that it asked the target for."""
        return [
            each
            for each in self.source.sockets
            if each.wire is self and each.is_dialled and not each.is_lost
        ]

    def reset(self) -> None:
        """Break these connections."""
        for socket in self.sockets():
            self._recorder.say(
                self.source.name, "break", f"of the connection to {self.target.name}"
            )
            socket.other.cut_off()
            socket.break_off(self.draw_break_ms())
            socket.lose()

    def forget(self) -> None:
        """Leave them half-open: what is sent goes nowhere, and both ends learn so late."""
        self.fault("half-open")
        for socket in self.sockets():
            socket.forget()
            socket.other.forget()

    def found_out(self) -> None:
        """The target knows nothing of such connections, and says so."""
        for socket in self.sockets():
            if socket.is_forgotten:
                socket.lose()

    @property
    def queued_bytes(self) -> int:
        """What was sent and is held up, or not on its way yet."""
        held = sum(each.unread_bytes for each in self.sockets())
        return self.backlog_bytes(self._idle_ms) + held

    # --- cuts --------------------------------------------------------------------------------

    def cut(self) -> None:
        """Let nothing through."""
        if not self.is_cut:
            self.is_cut = True
            self._cuts += 1
            self.world.after(self.draw_silence_ms(), partial(self._give_up, self._cuts))

    def _give_up(self, cuts: int) -> None:
        """A cut lasts too long: neither end's bytes are confirmed any more."""
        if self.is_cut and cuts == self._cuts:
            # Each kernel finds out by itself: neither hears from the other.
            for socket in [*self.sockets(), *self.back.sockets()]:
                socket.other.cut_off()
                socket.other.lose()
                socket.cut_off()
                socket.lose()

    def heal(self) -> None:
        """Let everything through, first what was held back."""
        if not self.is_cut:
            return
        self.is_cut = False
        held, self._held = self._held, []
        for socket, data in reversed(held):
            # Before what was written later and has not arrived.
            socket.in_flight.appendleft(data)
            socket.unread_bytes -= len(data or b"")
        for socket, data in held:
            self._schedule(socket, len(data or b""))
        broken, self._broken = self._broken, []
        for socket in broken:
            self.world.after(self.draw_transit_ms(), partial(self.end, socket))

    def drop(self, socket: Socket) -> None:
        """Lose what the kernel of a broken connection still had to send: it delays nobody else."""
        if self._held:
            self._held = [each for each in self._held if each[0] is not socket]
        if backlog := self.backlog_bytes(self._idle_ms):
            lost = min(backlog, sum(len(data or b"") for data in socket.in_flight))
            self._idle_ms -= lost / self.bytes_per_ms

    # --- bytes -------------------------------------------------------------------------------

    def carry(self, socket: Socket, data: bytes | None) -> None:
        """Bring what was written to the other end; None is the end of it."""
        if self.noise is None or data is None or data.startswith(MAGIC):
            self._send(socket, data)
        else:
            self._send_in_noise(socket, data, self.noise)

    def _send(self, socket: Socket, data: bytes | None) -> None:
        socket.in_flight.append(data)
        self._schedule(socket, len(data or b""))
        socket.on_line_ms = self._idle_ms

    def _schedule(self, socket: Socket, size: int) -> None:
        """Have the next piece of what a socket wrote arrive in due time: whichever is the first by
        then. So a cut that ends while pieces are under way changes nothing in their order."""
        socket.last_ms = max(self._transit(size), socket.last_ms + GAP_MS)
        self.world.at(socket.last_ms, partial(self._arrive, socket))

    def _arrive(self, socket: Socket) -> None:
        if not socket.is_arriving():
            return
        data = socket.in_flight.popleft()
        if self.is_cut:
            self._held.append((socket, data))
            socket.unread_bytes += len(data or b"")
        elif data is not None:
            self.reach(socket, data)
        else:
            socket.other.finish()
            socket.finish()

    def _arrive_alone(self, socket: Socket, data: bytes) -> None:
        if socket.is_arriving():
            self.reach(socket, data)

    def reach(self, socket: Socket, data: bytes) -> None:
        """Bytes are at the other end; in a cut they are lost."""
        if not self.is_cut:
            socket.other.take(data)

    def end(self, socket: Socket) -> None:
        """The other end hears that the connection is broken."""
        if self.is_cut:
            self._broken.append(socket)
        else:
            socket.other.lose()

    def _send_in_noise(self, socket: Socket, data: bytes, noise: Noise) -> None:
        draw = self.random.random
        if draw() < noise.late:
            self.fault("frame late")
            self.world.after(self.random.uniform(*noise.late_ms), partial(self._arrive_late, data))
        if draw() < noise.loss:
            self.fault("frame lost")
            return
        if draw() < noise.damage:
            self.fault("frame damaged")
            self._send(socket, flipped(data, self.random.randrange(len(data) * 8)))
            return
        is_doubled = draw() < noise.duplicate
        if is_doubled:
            self.fault("frame duplicated")
        for _ in range(1 + is_doubled):
            if draw() < noise.reorder:
                self.fault("frame reordered")
                arrival_ms = self._transit(len(data)) + draw() * noise.reorder_ms
                self.world.at(arrival_ms, partial(self._arrive_alone, socket, data))
            else:
                self._send(socket, data)

    def _arrive_late(self, data: bytes) -> None:
        """Bytes arrive on the newest connection that there is by then."""
        sockets = self.sockets()
        if sockets and not self.is_cut and sockets[-1].other.is_greeted:
            sockets[-1].other.take(data)

    def _transit(self, size: int) -> float:
        """When so many bytes that are sent now arrive, if none are before them."""
        start_ms = self.world.now
        if self.bytes_per_ms:
            start_ms = self._idle_ms = max(start_ms, self._idle_ms) + size / self.bytes_per_ms
        return start_ms + draw_up_to(self.random, self.latency_ms)

    def backlog_bytes(self, until_ms: float) -> int:
        """What a slow line has not sent yet, if it will have sent all by `until_ms`."""
        if not self.bytes_per_ms:
            return 0
        return int(max(0.0, until_ms - self.world.now) * self.bytes_per_ms)

    def pieces_of(self, data: bytes) -> list[bytes]:
        """What is read at a time."""
        if self.noise is None or self.random.random() >= self.noise.pieces:
            return [data]
        self.fault("frame in pieces")
        return cut_in_pieces(data, self.random)

    def draw_break_ms(self) -> float:
        """How much longer bytes of a broken connection arrive."""
        return self.random.uniform(0.0, BREAK_MS)

    def draw_silence_ms(self) -> float:
        """Until a kernel that hears nothing gives a connection up."""
        return self.random.uniform(*SILENCE_MS)

    def draw_transit_ms(self) -> float:
        """How long something without a size takes to the other side."""
        return draw_up_to(self.random, self.latency_ms)

    def fault(self, name: str) -> None:
        """Count what was done to a frame."""
        self._recorder.fault(self.source.name, name, f"to {self.target.name}")
