# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds hold after every step, and nothing is left in the end (I26, P7): of requests, of hints, of
what peers have not answered, of caches.

Two bounds may be exceeded by what was already let in. The bytes of requests, by one value: a read
is counted with the value that it brings only after it was admitted. What a peer has not answered,
by what one step sends it: the outbox notices only afterwards that it is full, and all that was sent
had been admitted, or is one message of hints.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.core.exchanges.outbox import ITEM_BYTES, MESSAGE_BYTES_MAX, UNANSWERED_BYTES_MAX
from quorate.core.node import Node
from quorate.sim.checkers.watch import Judge, Step
from quorate.sim.history import Violation
from quorate.sim.machine import CACHE_BYTES_MAX


def at_rest(nodes: Iterable[Node]) -> list[Violation]:
    """What nodes still count, though nothing is left to do: it would add up for ever."""
    found = []
    for node in nodes:
        parts = node.parts
        boxes = node.outboxes
        left = {
            "requests in flight": parts.requests.count,
            "bytes of requests": parts.requests.bytes,
            "requests that wait to begin": int(parts.requests.has_parked),
            "messages without answer": sum(len(box.sent) for box in boxes),
            "bytes unanswered": sum(abs(box.unanswered_bytes) for box in boxes),
            "bytes of hints, and no hint": 0 if node.hints.total else node.hints.bytes,
        }
        for what, count in left.items():
            if count:
                told = f"{node.settings.url} is at rest and has {count} {what}"
                found.append(Violation("I26", b"", told))
    return found


class Bounds(Judge):
    """Looks at what a node counts, and at the cache in front of its disk."""

    def look(self, step: Step) -> None:
        """Judge what the cache holds."""
        machine, lru = step.machine, step.machine.lru
        self._bound(machine.url, "cached entries", len(lru), machine.cache_entries)
        self._bound(machine.url, "cached bytes", lru.bytes_used, CACHE_BYTES_MAX)

    def measure(self, node: Node) -> None:
        """Judge a node after a step."""
        requests, hints, settings = node.parts.requests, node.hints, node.settings
        url, bytes_max = settings.url, settings.inflight_bytes_max + settings.value_bytes_max
        self._bound(url, "requests in flight", requests.count, settings.inflight_max)
        self._bound(url, "bytes of requests", requests.bytes, bytes_max)
        self._bound(url, "bytes of hints", hints.bytes, settings.hint_bytes_max)
        for box in node.outboxes:
            if not 0 <= box.unanswered_bytes <= UNANSWERED_BYTES_MAX:
                room = ITEM_BYTES * settings.inflight_max + MESSAGE_BYTES_MAX
                most = UNANSWERED_BYTES_MAX + bytes_max + room
                self._bound(url, f"bytes unanswered by {box.peer.url}", box.unanswered_bytes, most)

    def _bound(self, url: str, what: str, count: int, count_max: int) -> None:
        if not 0 <= count <= count_max:
            self.blame("I26", f"{url} has {count} {what}, and {count_max} at most")
