# SPDX-License-Identifier: GPL-3.0-or-later
"""How a simulated connection comes to be: the kernels shake hands, then the processes take it.

A kernel that hears nothing, for a cut or a machine that is off, asks again until its process gives
up; one that has no process to give the connection to refuses it. A paused process, or one that has
no file descriptor left, takes it later: to the other side it is there at once.
"""

from __future__ import annotations

from functools import partial

from quorate.host.system import Dialled
from quorate.sim.network import Socket, Wire
from quorate.sim.world import Span

# Not Final: mypyc takes a constant that is a tuple of floats for one that is not set.
AGAIN_MS: Span = (10.0, 50.0)
"""Until a kernel asks again for a connection that nobody answered."""


class Dial:
    """A connection that is asked for (`host.system.Timer`)."""

    def __init__(self, wire: Wire, connection: Dialled) -> None:
        """Have the source of a wire ask its target."""
        self._wire = wire
        self._source = wire.source
        self._target = wire.target
        self._connection = connection
        self._life = wire.source.life
        self._is_over = False
        self._ask()

    def cancel(self) -> None:
        self._is_over = True

    def _ask(self) -> None:
        there_and_back_ms = self._wire.draw_transit_ms() + self._wire.back.draw_transit_ms()
        self._wire.world.after(there_and_back_ms, self._look)

    def _look(self) -> None:
        wire = self._wire
        if self._is_over or self._life != self._source.life:
            return
        if wire.is_cut or wire.back.is_cut or self._target.is_silent:
            # Nobody answers: the kernel asks again until it is told to give up.
            wire.world.after(wire.random.uniform(*AGAIN_MS), self._look)
        elif not self._target.is_running:
            self._source.later(0.0, partial(self._connection.dial_failed, ""))
        else:
            mine = Socket(self._source, wire, is_dialled=True)
            theirs = Socket(self._target, wire.back, is_dialled=False)
            mine.other, theirs.other = theirs, mine
            self._source.later(0.0, partial(self._made, mine))
            self._target.later(0.0, theirs.accept)

    def _made(self, socket: Socket) -> None:
        """The process hears of it, even if the connection is lost again by then."""
        if self._is_over:
            socket.abort()
            self._source.sockets.pop(socket, None)
        else:
            socket.begin(self._connection)
