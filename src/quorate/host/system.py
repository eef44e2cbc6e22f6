# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs by which a node reaches the operating system, and those by which it is reached.

A node asks for the time, for a call later, for a sync, for a connection, for a log line, and for
its own end (`System`). It is told of connections in the words of asyncio's protocols
(`Connection`) and writes to them in those of its transports (`Channel`): asyncio's loops then call
the state machines of `links` and `acceptor` directly, without an adapter for each frame.

All calls are made on one thread, and none from inside the call that asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from quorate.core.values.events import Instant, Note
from quorate.core.values.messages import Greeting
from quorate.notation import URL_CHARS_MAX, is_one_of, is_url, show_text, split_url

_HOSTS_SHOWN: Final = 4


class Proof(NamedTuple):
    """What the other end of a connection proved before it said anything."""

    refusal: str = ""
    """Why it is no node of this cluster, one line for an operator; empty if it is one, or nodes
    have nothing to prove here."""
    node_id: int = 0
    """Which node it is; 0 if that is not proved."""
    silence: str = ""
    """Why it may be that it ends each connection before it greets; empty if that says nothing."""
    hosts: tuple[str, ...] = ()
    """Where it may be: what its certificate is for, names and addresses, if that names no node.
    Empty if nothing is proved of that."""

    def contradiction(self, theirs: Greeting) -> str:
        """The refusal of a node that greets as another than its certificate is of; else empty."""
        if not theirs.node_id and not theirs.url:
            return ""  # It claims nothing: it asks where it is seen, or speaks no protocol of ours.
        if self.node_id not in (0, theirs.node_id):
            proven, said = f"{self.node_id:012x}", f"{theirs.node_id:012x}"
            return f"its certificate is of node {proven}, and it calls itself {said}"
        if not self.hosts or not theirs.url:
            return ""
        if is_url(theirs.url) and is_one_of(split_url(theirs.url)[0], self.hosts):
            return ""
        proven = show_text(", ".join(self.hosts[:_HOSTS_SHOWN]))
        return (
            f"its certificate is for {proven}, and it calls itself"
            f" {show_text(theirs.url[:URL_CHARS_MAX])}: it needs one for the host of its URL"
        )


class Timer(Protocol):
    """Something that will happen."""

    def cancel(self) -> object:
        """Have it not happen; no fault if it has."""


class Channel(Protocol):
    """The sending side of one connection."""

    def write(self, data: bytes) -> None:
        """Send the bytes, after those before them. Not on a channel that is closing."""

    def get_write_buffer_size(self) -> int:
        """Bytes written that the operating system has not taken yet."""

    def is_closing(self) -> bool:
        """Whether it is closed, or its connection lost."""

    def close(self) -> None:
        """Let what was written leave, and end the connection."""

    def abort(self) -> None:
        """End the connection now; what was not sent is lost."""

    def get_extra_info(self, name: str) -> Any:
        """`peername`: the other end's address as a tuple, host first; None if not known. `socket`:
        the operating system's."""


class Connection(Protocol):
    """One end of a connection: hears that it is there, each piece of bytes, and that it is lost."""

    def connection_made(self, channel: Channel, /) -> None:
        """The connection is there."""

    def data_received(self, data: bytes, /) -> None:
        """Bytes came, in pieces of any size."""

    def eof_received(self) -> bool | None:
        """The other end sends no more. Anything but True ends the connection."""

    def connection_lost(self, exc: Exception | None, /) -> None:
        """The connection is gone. The last call."""

    def pause_writing(self) -> None:
        """The other end reads more slowly than we write."""

    def resume_writing(self) -> None:
        """It has caught up."""


class Dialled(Connection, Protocol):
    """A connection that we ask for."""

    def dial_failed(self, why_not_tried: str) -> None:
        """It did not come to be, and never will: nobody answers there. Or, with a reason, nobody
        was asked, as no peer may be at that address; or the two do not trust each other."""


class System(Protocol):
    """The operating system as a node uses it."""

    def now(self) -> Instant:
        """The time."""

    def soon(self, call: Callable[[], None], /) -> object:
        """Make the call once all that has arrived by now was told."""

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        """Make the call in `ms`."""

    def sync(self, done: Callable[[BaseException | None], None], /) -> None:
        """Sync the engine, without waiting, and call `done` with what went wrong, if anything. One
        at a time. A disk may take for ever."""

    def dial(self, url: str, connection: Dialled) -> Timer:
        """Connect to a peer; `cancel` gives it up."""

    def proof(self, channel: Channel, /) -> Proof:
        """What the other end proved when the connection began."""

    def tune(self, channel: Channel) -> None:
        """Set what the operating system is to do for a connection between nodes: send at once, and
        end it when the other machine confirms nothing for long."""

    def log(self, note: Note) -> None:
        """Write a line of the log. OSError if that cannot be."""

    def fault(self, what: str, error: Exception) -> None:
        """Report an exception that should not have been. Never raises."""

    def end(self, reason: str, /) -> None:
        """End the process: the node cannot go on. Asked for once."""
