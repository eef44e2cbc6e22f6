# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines in virtual time, joined by the simulator's wires: hosts that run nothing, nodes reduced
to their links, and peers that speak raw bytes.

Times are exact: what takes 5 s has not happened a moment before. There are no turns here, so what
is due soon is made next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

import msgspec

from quorate.core.topology.greeting import answer
from quorate.core.values.events import Instant, LinkDown, LinkUp, Note
from quorate.core.values.messages import PROTOCOL_MAX, PROTOCOL_MIN, Frame, Greeting, Mutate, Pong
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.host.acceptor import Acceptor
from quorate.host.journal import LinkJournal
from quorate.host.links import OUTBOX_BYTES_MAX, PeerLinks
from quorate.host.system import Channel, Connection, Dialled, Proof, Timer
from quorate.sim import trace
from quorate.sim.dial import Dial
from quorate.sim.network import Socket, Wire
from quorate.sim.world import World
from quorate.wire.frames import GreetingParser, encode_greeting

LATENCY_MS = 1.0
MOMENT_MS = 10.0
"""Longer than a greeting and its answer take."""


def url_of(number: int) -> str:
    return f"http://10.0.0.{number}:7379"


def frame(number: int) -> Frame:
    return Frame(1, 1, [Pong(number)])


def big(mebibytes: int) -> Mutate:
    record = Record(b"v" * 14, bytes(mebibytes << 20))
    return Mutate(1, [(row_of(b"k"), record)])


class AtOnce(Random):
    """No wait between tries; remembers the ceilings that it was given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ceilings: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.ceilings.append(b)
        return a


class Never(Random):
    """Nobody tries again without being hurried."""

    def __init__(self) -> None:
        super().__init__(1)
        self.tries = 0

    def uniform(self, a: float, b: float) -> float:
        self.tries += 1
        return a + b + 1e12


class Net:
    """A world of hosts; wires come to be as they are asked for."""

    def __init__(self, seed: int = 1) -> None:
        self.world = World(seed)
        self.recorder = trace.Recorder(self.world, None)
        self.hosts: dict[str, Host] = {}
        """By the URL under which they are reached."""
        self._wires: dict[tuple[str, str], Wire] = {}

    def wire(self, source: Host, target: Host) -> Wire:
        """The direction from one to another."""
        key = source.name, target.name
        if key not in self._wires:
            there = Wire(self.world, self.recorder, source, target, (LATENCY_MS,))
            back = Wire(self.world, self.recorder, target, source, (LATENCY_MS,))
            there.back, back.back = back, there
            self._wires[key], self._wires[target.name, source.name] = there, back
        return self._wires[key]

    def run(self, ms: float = MOMENT_MS) -> None:
        """Let so much time pass."""
        self.world.run_to(self.world.now + ms)

    def run_until(self, condition: Callable[[], object], ms: float) -> float:
        """Let time pass until the condition holds, at most so much; how much it was."""
        began_ms = self.world.now
        assert self.world.run_until(condition, began_ms + ms), f"not within {ms} ms"
        return self.world.now - began_ms


class _Call:
    """Something due in one life of a host."""

    def __init__(self, host: Host, call: Callable[[], None]) -> None:
        self._host = host
        self._life = host.life
        self._call: Callable[[], None] | None = call
        host.calls[self] = None

    def cancel(self) -> None:
        self._call = None
        self._host.calls.pop(self, None)

    def make(self) -> None:
        host, call = self._host, self._call
        if call is None or self._life != host.life:
            self.cancel()
        elif host.is_paused:
            host.overdue.append(self)
        else:
            self.cancel()
            call()


class Host:
    """A machine with a kernel, and a process that is what `accepts` and what dials
    (`host.system.System`, `sim.network.End`)."""

    def __init__(self, net: Net, name: str) -> None:
        self.net = net
        self.name = name
        self.life = 0
        self.sockets: dict[Socket, None] = {}
        self.is_running = True
        self.is_silent = False
        self.is_paused = False
        self.is_deaf = False
        self.has_files = True
        self.outbox_bytes_max = OUTBOX_BYTES_MAX
        self.accepts: Callable[[], Connection] = Heard
        self.calls: dict[_Call, None] = {}
        """Those that are due."""
        self.overdue: list[_Call] = []
        self.tuned: list[Channel] = []
        self.notes: list[Note] = []
        self.faults: list[Exception] = []
        self.ends: list[str] = []
        self.why_not_tried = ""
        """Of every dial, if set: no peer may be there."""

    @property
    def is_reading(self) -> bool:
        return self.is_running and not self.is_paused and not self.is_deaf

    @property
    def can_accept(self) -> bool:
        return self.is_reading and self.has_files

    def incoming(self) -> Connection:
        return self.accepts()

    # --- what happens to it --------------------------------------------------------------------

    def die(self, *, is_silent: bool = False) -> None:
        """End the process at once."""
        self.is_running = self.is_paused = False
        self.is_silent = is_silent
        self.life += 1
        self.overdue = []
        for socket in list(self.sockets):
            socket.die(is_silent=is_silent)
        assert not self.sockets

    def revive(self) -> None:
        """Run again."""
        self.is_running, self.is_silent = True, False

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        overdue, self.overdue = self.overdue, []
        for call in overdue:
            self.net.world.after(0.0, call.make)
        self.later(0.0, self.read)

    def read(self) -> None:
        """Take what the kernel has."""
        for socket in list(self.sockets):
            socket.read()

    # --- `host.system.System` ------------------------------------------------------------------

    def now(self) -> Instant:
        ms = int(self.net.world.now)
        return Instant(ms, ms)

    def soon(self, call: Callable[[], None]) -> object:
        return self.later(0.0, call)

    def later(self, ms: float, call: Callable[[], None]) -> Timer:
        timer = _Call(self, call)
        self.net.world.after(ms, timer.make)
        return timer

    def sync(self, done: Callable[[BaseException | None], None]) -> None:
        del done
        raise AssertionError("links store nothing")

    def dial(self, url: str, connection: Dialled) -> Timer:
        target = self.net.hosts.get(url)
        if target is None or self.why_not_tried:
            return self.later(LATENCY_MS, partial(connection.dial_failed, self.why_not_tried))
        return Dial(self.net.wire(self, target), connection)

    def proof(self, channel: Channel) -> Proof:
        del channel
        return Proof()

    def tune(self, channel: Channel) -> None:
        self.tuned.append(channel)

    def log(self, note: Note) -> None:
        self.notes.append(note)

    def fault(self, what: str, error: Exception) -> None:
        del what
        self.faults.append(error)

    def end(self, reason: str) -> None:
        self.ends.append(reason)


class Told(NamedTuple):
    """What a connection heard: bytes, or in words what became of it."""

    ms: float
    what: bytes | str


class Heard:
    """A connection that notes what it hears; it may say something at once (`host.system.Dialled`).

    Without a host it has no time.
    """

    def __init__(
        self, host: Host | None = None, says: bytes = b"", *, closes: bool = False
    ) -> None:
        self.channel: Channel
        self.told: list[Told] = []
        self._host = host
        self._says = says
        self._closes = closes

    @property
    def data(self) -> bytes:
        return b"".join(each.what for each in self.told if isinstance(each.what, bytes))

    @property
    def words(self) -> list[str]:
        """All but the bytes."""
        return [each.what for each in self.told if isinstance(each.what, str)]

    @property
    def is_made(self) -> bool:
        return "made" in self.words

    @property
    def is_lost(self) -> bool:
        return "lost" in self.words

    def _note(self, what: bytes | str) -> None:
        ms = 0.0 if self._host is None else self._host.net.world.now
        self.told.append(Told(ms, what))

    def dial_failed(self, why_not_tried: str) -> None:
        self._note(f"failed {why_not_tried}".strip())

    def connection_made(self, channel: Channel) -> None:
        assert self.told == [], "the first call"
        self.channel = channel
        self._note("made")
        if self._says:
            channel.write(self._says)
        if self._closes:
            channel.close()

    def data_received(self, data: bytes) -> None:
        assert self.is_made
        assert not self.is_lost, "the last call"
        assert data
        self._note(data)

    def eof_received(self) -> bool | None:
        return None

    def connection_lost(self, _: Exception | None) -> None:
        assert self.is_made
        assert not self.is_lost
        self._note("lost")

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass


class Node:
    """A node reduced to its links, and all that they told it."""

    def __init__(
        self,
        net: Net,
        number: int,
        *,
        node_id: int = 0,
        cluster: str = "c",
        layout_hash: bytes = b"h" * 16,
        random: Random | None = None,
        process: int = 0,
        name: str = "",
    ) -> None:
        self.net = net
        self.url = url_of(number)
        self.id = node_id or number
        self.host = Host(net, name or f"n{number}")
        self.greeting = Greeting(
            PROTOCOL_MIN,
            PROTOCOL_MAX,
            cluster,
            self.url,
            self.id,
            1,
            layout_hash,
            "test",
            process=process or number,
            lineage=layout_hash,
        )
        self._random = random
        self.twins = 0
        """How often it was told that another process has its URL."""
        self.events: list[LinkUp | LinkDown] = []
        self.welcomes: list[Greeting] = []
        self.accepted: list[str] = []
        self.urls: dict[int, str] = {}
        """Of those that welcomed it, by their ids."""
        self.told: list[str] = []
        """Of all that links and acceptor told: the order in which they did."""
        self.frames: list[tuple[int, Frame]] = []
        self.listen()
        self.begin()

    def begin(self) -> None:
        """Have links as a process that has just started has them."""
        self.journal = LinkJournal(log=self.host.log, mono_ms=lambda: self.host.now().mono_ms)
        self.refusals: list[tuple[str, str]] = []
        self.links = PeerLinks(
            self.host,
            greeting=lambda: self.greeting,
            on_event=self._note,
            on_refused=lambda url, reason: self.refusals.append((url, reason)),
            on_welcome=self._welcome,
            on_twin=self._note_twin,
            random=self._random or Random(self.url),
            journal=self.journal,
        )
        self.acceptor = Acceptor(
            self.host,
            judge=self._judge,
            on_frames=self._hear,
            on_accepted=self._accept,
            journal=self.journal,
        )
        self.host.accepts = self.acceptor.connection

    def listen(self) -> None:
        """Have the URL lead here."""
        self.net.hosts[self.url] = self.host

    def restart(self) -> None:
        """Be killed, and be there again as another process."""
        self.host.die()
        self.greeting = msgspec.structs.replace(self.greeting, process=self.greeting.process + 100)
        self.host.revive()
        self.begin()

    def _judge(self, theirs: Greeting) -> Greeting:
        reached = self.links.reached(theirs)
        return answer(self.greeting, theirs, reached=reached)

    def _welcome(self, theirs: Greeting) -> None:
        self.acceptor.keep_only(theirs)
        self.urls[theirs.node_id] = theirs.url
        self.welcomes.append(theirs)
        self.told.append(f"welcome {theirs.layout.decode()}".strip())

    def _note(self, event: LinkUp | LinkDown) -> None:
        self.events.append(event)
        self.told.append(f"{type(event).__name__} {self.urls[event.peer]}")

    def _accept(self, theirs: Greeting) -> None:
        self.accepted.append(theirs.url)
        self.told.append(f"accepted {theirs.url}")
        self.links.hurry(theirs.url)

    def _note_twin(self) -> None:
        self.twins += 1

    def _hear(self, peer: int, frames: list[Frame]) -> None:
        self.frames += [(peer, each) for each in frames]
        self.told.append(f"frames {len(frames)}")

    def numbers(self) -> list[int]:
        """The numbers of the `frame`s that arrived."""
        return [m.batch for _, f in self.frames for m in f.messages if isinstance(m, Pong)]

    def is_up(self, url: str) -> bool:
        """Whether the last event about who is at `url` is a LinkUp."""
        return self.kinds(url)[-1:] == [LinkUp]

    def kinds(self, url: str) -> list[type[LinkUp | LinkDown]]:
        return [type(event) for event in self.events if self.urls[event.peer] == url]


def raw_peer(net: Net, number: int, says: bytes = b"", *, closes: bool = False) -> list[Heard]:
    """A machine whose process says the same on each connection, and does nothing else. Its
    connections so far."""
    host = Host(net, f"raw{number}")
    connections: list[Heard] = []

    def accept() -> Connection:
        connections.append(Heard(host, says, closes=closes))
        return connections[-1]

    host.accepts = accept
    net.hosts[url_of(number)] = host
    return connections


def answer_for(node: Node, number: int, **changes: object) -> bytes:
    """A greeting that is good for `node`, of the peer `number`, with changes."""
    return encode_greeting(greeting_for(node, number, **changes))


def greeting_for(node: Node, number: int, **changes: object) -> Greeting:
    changes = {"url": url_of(number), "node_id": number, "process": number, **changes}
    return msgspec.structs.replace(node.greeting, **changes)


def stranger(node: Node, says: bytes = b"") -> Heard:
    """Someone who has dialled `node` and said this."""
    net = node.net
    host = Host(net, f"stranger{len(net.hosts)}")
    net.hosts[host.name] = host
    connection = Heard(host, says)
    host.dial(node.url, connection)
    net.run()
    return connection


def answer_in(data: bytes) -> Greeting | None:
    return GreetingParser().feed(data) if data else None


def greeted(node: Node, number: int, **changes: object) -> Heard:
    """A raw peer that finished its handshake with `node`."""
    peer = stranger(node, answer_for(node, number, **changes))
    answer = answer_in(peer.data)
    assert answer is not None
    assert answer.refusal == ""
    return peer
