# SPDX-License-Identifier: GPL-3.0-or-later
"""Three nodes in one process: frames are handed over as values, nothing is encoded or stored away.

Node 0 coordinates. `ask` returns when every node has nothing more to say.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Final

from quorate.core.node import Node
from quorate.core.values.events import Durable, Event, Instant, LinkUp, Met, PeerFrame, Result
from quorate.core.values.messages import Frame, Message
from quorate.sim.cluster import settings_of, url_of
from quorate.storage.memory import MemoryEngine

URLS: Final = tuple(map(url_of, range(3)))
_WALL_MS: Final = 1_700_000_000_000


class CountedResults:
    """Takes results, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def done(self, result: Result) -> None:
        del result
        self.count += 1


class BareCluster:
    """Node and engine by URL."""

    def __init__(self) -> None:
        self._now = Instant(0, _WALL_MS)
        self._engines = {url: MemoryEngine() for url in URLS}
        self._nodes = {url: _node(number, self._engines[url]) for number, url in enumerate(URLS)}
        for url in URLS:
            met: list[Event] = []
            for other, node in self._nodes.items():
                if other != url:
                    met += [Met(node.membership.greeting()), LinkUp(node.settings.node_id)]
            self._settle(url, met)

    def ask(self, events: Sequence[Event]) -> None:
        """Give the first node these requests in one turn, and everybody what follows. All of it
        takes a millisecond: clocks that stood still would run out of stamps."""
        self._now = Instant(self._now.mono_ms + 1, self._now.wall_ms + 1)
        self._settle(URLS[0], events)

    def _settle(self, url: str, events: Sequence[Event]) -> None:
        turns = deque([(url, events)])
        while turns:
            at, heard = turns.popleft()
            for other, frame in self._turn(at, heard).items():
                turns.append((other, [PeerFrame(self._nodes[at].settings.node_id, frame)]))

    def _turn(self, url: str, events: Sequence[Event]) -> dict[str, Frame]:
        """A turn of the loop, as the driver does it with a disk that is done at once."""
        node, said = self._nodes[url], dict[str, list[Message]]()
        while True:
            effects = node.step(events, self._now)
            for peer, messages in effects.sends.items():
                said.setdefault(url_of(peer - 1), []).extend(messages)
            for waiter, result in effects.answers:
                waiter.done(result)
            if effects.batch is None:
                break
            self._engines[url].write(effects.batch)
            events = [Durable(effects.mark)]
        epoch, clock = node.frame_header()
        return {peer: Frame(epoch, clock, messages) for peer, messages in said.items()}


def _node(number: int, engine: MemoryEngine) -> Node:
    settings = settings_of(number, range(3), w=2, r=2)
    return Node(settings, engine, random.Random(number), Instant(0, _WALL_MS))
