# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds hold after every step (I26, P7): requests, hints, and what peers have not answered.

Two bounds are judged with the room that the store says it needs. A read is counted with what it may
bring only after it was admitted. And what one step gives a peer is too much for it only afterwards:
all of that was admitted, or is one message of hints.
"""

from __future__ import annotations

from quorate.core.node import Node
from quorate.core.peers import ITEM_BYTES, MESSAGE_BYTES_MAX, UNANSWERED_BYTES_MAX
from quorate.sim.checkers.violation import Violation


class Bounds:
    """Looks at what a node counts, in every step: cheap on purpose."""

    def __init__(self) -> None:
        self.found: list[Violation] = []

    def measure(self, node: Node) -> None:
        """Judge a node after a step."""
        parts, settings = node.parts, node.settings
        requests, hints = parts.requests, parts.hints
        if not 0 <= requests.count <= settings.inflight_max:
            self._add(node, "requests in flight", requests.count, settings.inflight_max)
        bytes_max = settings.inflight_bytes_max + settings.value_bytes_max
        if not 0 <= requests.bytes <= bytes_max:
            self._add(node, "bytes of requests", requests.bytes, bytes_max)
        if not 0 <= hints.bytes <= settings.hint_bytes_max:
            self._add(node, "bytes of hints", hints.bytes, settings.hint_bytes_max)
        for peer in node.membership.peers.values():
            if not 0 <= peer.unanswered_bytes <= UNANSWERED_BYTES_MAX:
                self._judge_peer(node, peer.url, peer.unanswered_bytes)

    def _judge_peer(self, node: Node, url: str, unanswered_bytes: int) -> None:
        settings = node.settings
        room = settings.inflight_bytes_max + ITEM_BYTES * settings.inflight_max
        bytes_max = UNANSWERED_BYTES_MAX + room + MESSAGE_BYTES_MAX + settings.value_bytes_max
        if not 0 <= unanswered_bytes <= bytes_max:
            self._add(node, f"bytes unanswered by {url}", unanswered_bytes, bytes_max)

    def _add(self, node: Node, what: str, count: int, count_max: int) -> None:
        told = f"{node.settings.url} has {count} {what}, and {count_max} at most"
        self.found.append(Violation("I26", b"", told))
