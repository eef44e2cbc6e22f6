# SPDX-License-Identifier: GPL-3.0-or-later
"""Links that behave as TCP does, and worse.

A link carries one direction: frames in order, as bytes. A cut holds them back and a heal delivers
them late, as retransmission does; a break loses an unknown suffix of what was under way. So does a
paused target, whose kernel goes on taking bytes. A link on which nothing is confirmed for long
breaks, in both directions, as keepalive and user timeout see to; so does one whose outbox runs
over, and one whose bytes are damaged, for the checksum finds it.

`Noise` is what TCP never does but a proxy or a broken transport may: whole frames lost, doubled, in
another order, or once more after minutes. The protocol must stand that too.
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Final, NamedTuple, Protocol

import msgspec

from quorate.core.topology.greeting import TWIN_MS, is_other_reached, judge
from quorate.core.values.events import Event, LinkDown, LinkUp, PeerFrame, Welcome
from quorate.core.values.messages import Frame, Greeting
from quorate.errors import PeerProtocolError
from quorate.sim.disk import flipped
from quorate.sim.trace import Journal, host_of
from quorate.sim.world import GAP_MS, Limits, Span, World, draw_up_to
from quorate.wire.frames import (
    FrameParser,
    FrameTooLarge,
    GreetingParser,
    encode_frame,
    encode_greeting,
)

BREAK_MS: Final = 5.0
"""Within which the end of a broken link's bytes still arrives; a new link takes longer."""
# Not Final: mypyc takes a constant that is a tuple of floats for one that is not set.
REDIAL_MS: Span = (10.0, 50.0)
SILENCE_MS: Span = (12_000.0, 14_000.0)
"""After so long without any sign from the other kernel a link is lost (`transport.sockets`)."""
OUTBOX_BYTES_MAX: Final = 64 << 20
"""As `transport.links` has it."""


class Noise(NamedTuple):
    """What becomes of whole frames: a probability each."""

    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Frames that arrive out of order, up to `reorder_ms` late."""
    late: float = 0.0
    """Frames that come once more, `late_ms` later, whatever became of the link."""
    damage: float = 0.0
    """Frames in which a bit is flipped."""
    reorder_ms: float = 50.0
    late_ms: Span = (1_000.0, 180_000.0)


class End(Protocol):
    """A machine as its links see it."""

    url: str
    """Where it is reached."""

    @property
    def is_running(self) -> bool:
        """Whether there is a process; a paused one too."""

    @property
    def is_listening(self) -> bool:
        """Whether it runs and is not paused: a handshake is answered, what arrives is read."""

    def greeting(self) -> Greeting:
        """How its node introduces itself."""

    def receive(self, event: Event) -> None:
        """Give its node an event."""

    def end(self, reason: str) -> None:
        """End its process."""


class Link:
    """The direction from `source` to `target`."""

    def __init__(
        self, world: World, journal: Journal, source: End, target: End, latency_ms: Limits
    ) -> None:
        self.latency_ms = latency_ms
        self.bytes_per_ms = 0.0
        """How much the line carries; 0 is no limit."""
        self.outbox_bytes_max = OUTBOX_BYTES_MAX
        self.noise: Noise | None = None
        self.is_cut = False
        self.is_up = False
        self.refusal = ""
        """Why the last handshake failed."""
        self.back: Link | None = None
        """The other direction."""
        self.rivals: list[Link] = [self]
        """All that lead to the target from a process with the source's URL. Of these a target keeps
        one, the newest."""
        self._world = world
        self._journal = journal
        self._source = source
        self._target = target
        self._random: Random = world.generator(f"{source.url} {target.url}")
        self._parser = FrameParser()
        """Of the target; frames come whole, so it serves one link after another."""
        self._held: list[bytes] = []
        """What arrived at a cut, or at a paused process."""
        self._held_bytes = 0
        self._process = 0
        """Of the target, when the link came up."""
        self._source_process = 0
        self._twin_since_ms: float | None = None
        """Since when every try was refused because another process has the source's URL."""
        self._is_dialling = False
        self._is_forgotten = False
        """Whether the other kernel knows this link no more (half-open)."""
        self._dials = 0
        self._generation = 0
        self._cuts = 0
        self._last_ms = 0.0
        """When the last frame under way arrives."""
        self._idle_ms = 0.0
        """When the line has carried all that was sent, if it is a slow one."""
        self._lost_after_ms = float("inf")
        """Of a broken link: what would arrive later is lost."""

    def __repr__(self) -> str:
        return f"{host_of(self._source.url)} -> {host_of(self._target.url)}"

    # --- coming and going --------------------------------------------------------------------

    def dial(self) -> None:
        """Connect, however often it takes."""
        if not (self._is_dialling or self.is_up):
            self._is_dialling = True
            self._twin_since_ms = None
            self._dials += 1
            self._try_later(BREAK_MS)

    def _try_later(self, least_ms: float = 0.0) -> None:
        ms = least_ms + self._draw(REDIAL_MS)
        self._world.after(ms, partial(self._try, self._dials))

    def _try(self, dials: int) -> None:
        if not self._is_dialling or dials != self._dials:
            return
        is_cut = self.is_cut or (self.back is not None and self.back.is_cut)
        if is_cut or not (self._source.is_listening and self._target.is_listening):
            self._twin_since_ms = None
            self._try_later()
            return
        # As the two ends do: the acceptor judges the dialler's greeting, then the other way round.
        mine = _through_wire(self._source.greeting())
        reached = self.back.reached if self.back is not None else 0
        answer = msgspec.structs.replace(self._target.greeting(), reached=reached)
        refusal = judge(answer, mine)
        theirs = _through_wire(msgspec.structs.replace(answer, refusal=refusal))
        self.refusal = theirs.refusal or judge(mine, theirs)
        if self.refusal:
            self._try_later()
            self._look_for_twin(theirs, mine)
            return
        self._is_dialling = False
        self.is_up = True
        self._is_forgotten = False
        self._process, self._source_process = theirs.process, mine.process
        for rival in self.rivals:
            if rival is not self:
                rival.reset()
        if self.back is not None:
            self.back.keep_only(theirs.process)
        self._say("link", f"to {host_of(self._target.url)} is up")
        self._source.receive(Welcome(theirs))
        self._source.receive(LinkUp(self._target.url, theirs.version))

    def _look_for_twin(self, theirs: Greeting, mine: Greeting) -> None:
        """End a process that has been refused for so long that another must have its URL."""
        if not is_other_reached(theirs, mine):
            self._twin_since_ms = None
        elif self._twin_since_ms is None:
            self._twin_since_ms = self._world.now
        elif self._world.now - self._twin_since_ms >= TWIN_MS:
            self._source.end("two nodes with one identity")

    @property
    def reached(self) -> int:
        """The process that the link leads to; 0 while it is down."""
        return self._process if self.is_up else 0

    def keep_only(self, process: int) -> None:
        """The other direction came up, and leads to `process`: end what comes from any other."""
        for link in self.rivals:
            if link._source_process != process:
                link.reset()

    def lead_to(self, end: End) -> None:
        """The target's address leads to another machine from now on: a new link goes there."""
        self._target = end
        self.reset()

    def hang_up(self) -> None:
        """The source is gone: so is the link, and nobody dials."""
        self._drop(self._draw((0.0, BREAK_MS)))
        self._is_dialling = False

    def reset(self, *, is_target_dead: bool = False) -> None:
        """Break the link; the source hears of it and dials again."""
        if self.is_up:
            self._say("link", f"to {host_of(self._target.url)} is down")
            self._is_forgotten = False
            self._drop(0.0 if is_target_dead else self._draw((0.0, BREAK_MS)))
            self._source.receive(LinkDown(self._target.url))
            self.dial()

    def forget(self) -> None:
        """Leave the link half-open: what is sent goes nowhere, and the source learns so late."""
        if self.is_up and not self._is_forgotten:
            self._drop(0.0)
            self.is_up = True
            self._is_forgotten = True
            generation = self._generation
            self._world.after(self._draw(SILENCE_MS), lambda: self._reset_if(generation))

    def found_out(self) -> None:
        """The target's machine is back, and knows nothing of a link that looks up."""
        if self._is_forgotten:
            self.reset()

    def cut(self) -> None:
        """Let nothing through."""
        if not self.is_cut:
            self.is_cut = True
            self._cuts += 1
            cuts = self._cuts
            self._world.after(self._draw(SILENCE_MS), lambda: self._give_up(cuts))

    def _give_up(self, cuts: int) -> None:
        """A cut lasts too long: neither direction's bytes are confirmed any more."""
        if self.is_cut and cuts == self._cuts:
            self.reset()
            if self.back is not None:
                self.back.reset()

    def heal(self) -> None:
        """Let everything through, first what was held back."""
        if self.is_cut:
            self.is_cut = False
            for data in self._take_held():
                self._carry(data)

    def resume(self) -> None:
        """The target reads again what its kernel took meanwhile."""
        if not self.is_cut:
            for data in self._take_held():
                self._deliver(data)

    def _reset_if(self, generation: int) -> None:
        if generation == self._generation:
            self.reset()

    def _drop(self, tail_ms: float) -> None:
        self.is_up = False
        self._generation += 1
        self._lost_after_ms = self._world.now + tail_ms
        self._last_ms = self._idle_ms = self._world.now
        held = self._take_held()
        if self._target.is_running and not self.is_cut:
            # In the kernel of a paused process: it is read by and by.
            for data in held[: self._random.randint(0, len(held))]:
                self._hold(data)

    # --- frames ------------------------------------------------------------------------------

    def send(self, frame: Frame) -> None:
        """Carry a frame; lost without a link. A large one is split as transports split it."""
        if not self.is_up:
            return
        if (self._held_bytes or self.bytes_per_ms) and self.queued_bytes > self.outbox_bytes_max:
            self._fault("overflow")
            self.reset()
            return
        try:
            data = encode_frame(frame)
        except FrameTooLarge:
            half = len(frame.messages) // 2
            if half:
                self.send(Frame(frame.epoch, frame.clock, frame.messages[:half]))
                self.send(Frame(frame.epoch, frame.clock, frame.messages[half:]))
            return
        if self._is_forgotten:
            self._fault("swallowed")
        elif self.noise is None:
            self._carry(data)
        else:
            self._carry_in_noise(data, self.noise)

    @property
    def queued_bytes(self) -> int:
        """What was sent and is not on its way yet, or is held up."""
        backlog_ms = max(0.0, self._idle_ms - self._world.now)
        return self._held_bytes + int(backlog_ms * self.bytes_per_ms)

    def _carry(self, data: bytes) -> None:
        self._last_ms = max(self._transit(data), self._last_ms + GAP_MS)
        self._world.at(self._last_ms, partial(self._arrive, data, self._generation))

    def _transit(self, data: bytes) -> float:
        """When a frame that is sent now arrives, if none is before it."""
        start_ms = self._world.now
        if self.bytes_per_ms:
            start_ms = self._idle_ms = max(start_ms, self._idle_ms) + len(data) / self.bytes_per_ms
        return start_ms + draw_up_to(self._random, self.latency_ms)

    def _carry_in_noise(self, data: bytes, noise: Noise) -> None:
        draw = self._random.random
        generation = self._generation
        if draw() < noise.late:
            self._fault("late")
            self._world.after(self._draw(noise.late_ms), lambda: self._arrive_late(data))
        if draw() < noise.loss:
            self._fault("lost")
            return
        if draw() < noise.damage:
            self._fault("damaged")
            bad = flipped(data, self._random.randrange(len(data) * 8))
            self._world.at(self._transit(data), lambda: self._arrive_damaged(bad, generation))
            return
        copies = 1
        if draw() < noise.duplicate:
            self._fault("duplicated")
            copies = 2
        for _ in range(copies):
            if draw() < noise.reorder:
                self._fault("reordered")
                arrival_ms = self._transit(data) + draw() * noise.reorder_ms
                self._world.at(arrival_ms, lambda: self._arrive(data, generation))
            else:
                self._carry(data)

    def _arrive(self, data: bytes, generation: int) -> None:
        if generation != self._generation and (
            self.is_cut or self._world.now > self._lost_after_ms
        ):
            return
        if self.is_cut or not self._target.is_listening:
            self._hold(data)
        else:
            self._deliver(data)

    def _arrive_late(self, data: bytes) -> None:
        if self._target.is_listening and not self.is_cut:
            self._deliver(data)

    def _arrive_damaged(self, data: bytes, generation: int) -> None:
        if generation != self._generation:
            return
        try:
            self._deliver(data)
        except PeerProtocolError:
            self._parser = FrameParser()
            self.reset()

    def _deliver(self, data: bytes) -> None:
        url = self._source.url
        for frame in self._parser.feed(data):
            self._target.receive(PeerFrame(url, frame))

    def _hold(self, data: bytes) -> None:
        if self._target.is_running or self.is_cut:
            self._held.append(data)
            self._held_bytes += len(data)

    def _take_held(self) -> list[bytes]:
        held, self._held, self._held_bytes = self._held, [], 0
        return held

    # --- inside ------------------------------------------------------------------------------

    def _draw(self, span: Span) -> float:
        return self._random.uniform(*span)

    def _fault(self, what: str) -> None:
        target = host_of(self._target.url)
        self._journal.fault(host_of(self._source.url), f"frame {what}", f"to {target}")

    def _say(self, what: str, told: str) -> None:
        self._journal.say(host_of(self._source.url), what, told)


def _through_wire(greeting: Greeting) -> Greeting:
    """What the other end reads of a greeting."""
    heard = GreetingParser().feed(encode_greeting(greeting))
    assert heard is not None, "a whole greeting was sent"
    return heard
