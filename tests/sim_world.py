# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual time, and links that behave as TCP does.

Everything that happens is a call in one heap; ties fall in seeded order. A link carries one
direction: frames in order; a cut holds them back and a heal delivers them late, as retransmission
does; a break loses an unknown suffix of what was under way.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Protocol

from quorate.core.events import Event, LinkDown, LinkUp, PeerFrame, Welcome
from quorate.core.handshake import judge
from quorate.core.messages import Frame, Greeting
from quorate.wire.frames import FrameParser, FrameTooLarge, encode_frame

Span = tuple[float, float]
"""Milliseconds, least and most; draws are uniform."""
Limits = tuple[float, ...]
"""Milliseconds: one limit is drawn, then a time up to it. Several give a heavy tail."""

BREAK_MS = 5.0
"""Within which the end of a broken link's bytes still arrives; a new link takes longer."""
REDIAL_MS: Span = (10.0, 50.0)
GAP_MS = 1e-6
"""Between two things that must stay in order."""


class World:
    """One heap of calls, one generator, one time."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.now = 0.0
        self._heap: list[tuple[float, float, int, Callable[[], None]]] = []
        self._serial = count()

    def at(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made at a time."""
        heappush(self._heap, (ms, self.random.random(), next(self._serial), call))

    def after(self, ms: float, call: Callable[[], None]) -> None:
        """Have `call` made some time from now."""
        self.at(self.now + ms, call)

    def draw(self, span: Span) -> float:
        """A duration."""
        return self.random.uniform(*span)

    def draw_up_to(self, limits: Limits) -> float:
        """A duration."""
        return self.random.random() * self.random.choice(limits)

    def run_until(self, condition: Callable[[], object], deadline_ms: float) -> bool:
        """Go on until the condition holds or the time is over; whether it holds."""
        heap = self._heap
        while not condition():
            if not heap or heap[0][0] > deadline_ms:
                self.now = max(self.now, deadline_ms)
                return False
            self.now, _, _, call = heappop(heap)
            call()
        return True


class End(Protocol):
    """A host as its links see it."""

    @property
    def url(self) -> str:
        """Where it is reached."""

    @property
    def is_listening(self) -> bool:
        """Whether a handshake would be answered now."""

    def greeting(self) -> Greeting:
        """How its node introduces itself."""

    def receive(self, event: Event) -> None:
        """Give its node an event."""


class Link:
    """The direction from `source` to `target`."""

    def __init__(self, world: World, source: End, target: End, latency_ms: Limits) -> None:
        self.latency_ms = latency_ms
        self.is_cut = False
        self.is_up = False
        self.refusal = ""
        """Why the last handshake failed."""
        self._world = world
        self._source = source
        self._target = target
        self._held: list[bytes] = []
        self._is_dialling = False
        self._generation = 0
        self._last_ms = 0.0
        """When the last frame under way arrives."""
        self._lost_after_ms = float("inf")
        """Of a broken link: what would arrive later is lost."""

    def dial(self) -> None:
        """Connect, however often it takes."""
        if not (self._is_dialling or self.is_up):
            self._is_dialling = True
            self._world.after(BREAK_MS + self._world.draw(REDIAL_MS), self._try)

    def hang_up(self) -> None:
        """The source is gone: so is the link, and nobody dials."""
        self._drop(self._world.draw((0.0, BREAK_MS)))
        self._is_dialling = False

    def reset(self, *, is_target_dead: bool = False) -> None:
        """Break the link; the source hears of it and dials again."""
        if self.is_up:
            self._drop(0.0 if is_target_dead else self._world.draw((0.0, BREAK_MS)))
            self._source.receive(LinkDown(self._target.url))
            self.dial()

    def cut(self) -> None:
        """Let nothing through."""
        self.is_cut = True

    def heal(self) -> None:
        """Let everything through, first what was held back."""
        self.is_cut = False
        held, self._held = self._held, []
        for data in held:
            self._carry(data)

    def send(self, frame: Frame) -> None:
        """Carry a frame; lost without a link. A large one is split as transports split it."""
        if not self.is_up:
            return
        try:
            self._carry(bytes(encode_frame(frame)))
        except FrameTooLarge:
            half = len(frame.messages) // 2
            if half:
                self.send(Frame(frame.epoch, frame.clock, frame.messages[:half]))
                self.send(Frame(frame.epoch, frame.clock, frame.messages[half:]))

    def _carry(self, data: bytes) -> None:
        arrival_ms = self._world.now + self._world.draw_up_to(self.latency_ms)
        self._last_ms = max(arrival_ms, self._last_ms + GAP_MS)
        generation = self._generation
        self._world.at(self._last_ms, lambda: self._arrive(data, generation))

    def _arrive(self, data: bytes, generation: int) -> None:
        is_old = generation != self._generation
        if is_old and (self.is_cut or self._world.now > self._lost_after_ms):
            return
        if self.is_cut:
            self._held.append(data)
            return
        for frame in FrameParser().feed(data):
            self._target.receive(PeerFrame(self._source.url, frame))

    def _drop(self, tail_ms: float) -> None:
        self.is_up = False
        self._generation += 1
        self._lost_after_ms = self._world.now + tail_ms
        self._held = []
        self._last_ms = self._world.now

    def _try(self) -> None:
        if not self._is_dialling:
            return
        if not (self._source.is_listening and self._target.is_listening) or self.is_cut:
            self._world.after(self._world.draw(REDIAL_MS), self._try)
            return
        mine, theirs = self._source.greeting(), self._target.greeting()
        self.refusal = judge(mine, theirs)
        if self.refusal:
            self._world.after(self._world.draw(REDIAL_MS), self._try)
            return
        self._is_dialling = False
        self.is_up = True
        self._source.receive(Welcome(theirs))
        self._source.receive(LinkUp(self._target.url, theirs.version))
