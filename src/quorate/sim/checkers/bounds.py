# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds hold after every step, and nothing is left in the end (I26, P7): of requests, of hints, of
what peers have not answered, of caches.

Two bounds are judged with the room that the store says it needs. A read is counted with what it may
bring only after it was admitted. And what one step gives a peer is too much for it only afterwards:
all of that was admitted, or is one message of hints.
"""

from __future__ import annotations

from collections.abc import Iterable

from quorate.core.exchanges.outbox import ITEM_BYTES, MESSAGE_BYTES_MAX, UNANSWERED_BYTES_MAX
from quorate.core.node import Node
from quorate.sim.checkers.violation import Violation
from quorate.sim.checkers.watch import Step
from quorate.sim.machine import CACHE_BYTES_MAX, Machine


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


class Caches:
    """Looks at the cache in front of the disk after each step that touched anything."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def look(self, step: Step) -> None:
        """Judge what the cache holds."""
        machine = step.machine
        self._judge(machine, "entries", len(machine.lru), machine.cache_entries)
        self._judge(machine, "bytes", machine.lru.bytes_used, CACHE_BYTES_MAX)

    def _judge(self, machine: Machine, what: str, count: int, count_max: int) -> None:
        if not 0 <= count <= count_max:
            told = f"{machine.url} caches {count} {what}, and {count_max} at most"
            self.found.append(Violation("I26", b"", told))


class Bounds:
    """Looks at what a node counts, in every step: cheap on purpose."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def measure(self, node: Node) -> None:
        """Judge a node after a step."""
        parts, settings = node.parts, node.settings
        requests, hints = parts.requests, node.hints
        if not 0 <= requests.count <= settings.inflight_max:
            self._add(node, "requests in flight", requests.count, settings.inflight_max)
        bytes_max = settings.inflight_bytes_max + settings.value_bytes_max
        if not 0 <= requests.bytes <= bytes_max:
            self._add(node, "bytes of requests", requests.bytes, bytes_max)
        if not 0 <= hints.bytes <= settings.hint_bytes_max:
            self._add(node, "bytes of hints", hints.bytes, settings.hint_bytes_max)
        for box in node.outboxes:
            if not 0 <= box.unanswered_bytes <= UNANSWERED_BYTES_MAX:
                self._judge_peer(node, box.peer.url, box.unanswered_bytes)

    def _judge_peer(self, node: Node, url: str, unanswered_bytes: int) -> None:
        settings = node.settings
        room = settings.inflight_bytes_max + ITEM_BYTES * settings.inflight_max
        bytes_max = UNANSWERED_BYTES_MAX + room + MESSAGE_BYTES_MAX + settings.value_bytes_max
        if not 0 <= unanswered_bytes <= bytes_max:
            self._add(node, f"bytes unanswered by {url}", unanswered_bytes, bytes_max)

    def _add(self, node: Node, what: str, count: int, count_max: int) -> None:
        told = f"{node.settings.url} has {count} {what}, and {count_max} at most"
        self.found.append(Violation("I26", b"", told))
