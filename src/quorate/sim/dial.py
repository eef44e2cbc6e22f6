# SPDX-License-Identifier: GPL-3.0-or-later
"""How a simulated connection comes to be: the kernels shake hands, then the processes take it.

Three things can keep it from that. Nobody answers, since the way is cut or the machine is off: then
the kernel asks again until its process gives up. There is no process: then the other kernel refuses
at once. Or the process is paused, or has no file descriptor: then the connection is there for the
one who asked, and waits in the other kernel until the process takes it.
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
        if self._is_over or self._life != wire.source.life:
            return
        if wire.is_cut or wire.back.is_cut or wire.target.is_silent:
            # Nobody answers: the kernel asks again until it is told to give up.
            wire.world.after(wire.random.uniform(*AGAIN_MS), self._look)
        elif not wire.target.is_running:
            wire.source.later(0.0, partial(self._connection.dial_failed, ""))
        else:
            mine = Socket(wire.source, wire, is_dialled=True)
            theirs = Socket(wire.target, wire.back, is_dialled=False)
            mine.other, theirs.other = theirs, mine
            wire.source.later(0.0, partial(self._made, mine))
            wire.target.later(0.0, theirs.accept)

    def _made(self, socket: Socket) -> None:
        """The process hears of it, even if the connection is lost again by then."""
        if self._is_over:
            socket.abort()
            self._wire.source.sockets.pop(socket, None)
        else:
            socket.begin(self._connection)
