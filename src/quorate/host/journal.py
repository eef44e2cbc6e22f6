# SPDX-License-Identifier: GPL-3.0-or-later
"""What links count and say: shared by both directions of all links of a node.

Peers retry for ever and strangers try anything, so what they cause must not flood the log: a
refusal is logged once for each peer and reason (until a handshake with that peer succeeds), broken
protocol once in ten seconds with the number of times since. Texts from outside are cut short.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.values.events import Note
from quorate.errors import PeerProtocolError

_QUIET_MS: Final = 10_000
_TOLD_MAX: Final = 1000
"""Refusals remembered as logged; beyond it the oldest is forgotten, and may be logged again."""
_TEXT_CHARS: Final = 300
_COUNTERS: Final = (
    "bytes_received",
    "bytes_sent",
    "frames_dropped",
    "frames_received",
    "frames_sent",
    "handshakes_refused",
    "links_overflowed",
    "protocol_errors",
)


class LinkJournal:
    """Counters (monotonic since the start) and the rare log lines of links."""

    __slots__ = (
        *_COUNTERS,
        "_log",
        "_mono_ms",
        "_quiet_until_ms",
        "_told",
        "_unlogged",
    )

    def __init__(self, *, log: Callable[[Note], None], mono_ms: Callable[[], int]) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.frames_dropped = 0
        """Not sent: no link, link over its bound, or a message too large for any frame."""
        self.frames_received = 0
        self.frames_sent = 0
        self.handshakes_refused = 0
        self.links_overflowed = 0
        self.protocol_errors = 0
        self._log = log
        self._mono_ms = mono_ms
        self._told: dict[tuple[str, str], None] = {}
        self._quiet_until_ms: int | None = None
        self._unlogged = 0

    def counters(self) -> dict[str, int]:
        """Every counter by name."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def refused(self, peer: str, reason: str, *, by: str) -> None:
        """Count a failed handshake; log it if this peer was not refused for this reason before.

        `by` says who is against it: `us` or `them`.
        """
        self.handshakes_refused += 1
        told = peer[:_TEXT_CHARS], reason[:_TEXT_CHARS]
        if told in self._told:
            return
        if len(self._told) >= _TOLD_MAX:
            del self._told[next(iter(self._told))]
        self._told[told] = None
        self._log(Note("warning", "link_refused", {"peer": told[0], "reason": told[1], "by": by}))

    def agreed(self, peer: str) -> None:
        """A handshake succeeded: should `peer` be refused again one day, that is news."""
        for told in [told for told in self._told if told[0] == peer]:
            del self._told[told]

    def broke_protocol(self, peer: str, error: PeerProtocolError) -> None:
        """Count it; log it unless one was logged a moment ago."""
        self.protocol_errors += 1
        self._unlogged += 1
        now_ms = self._mono_ms()
        if self._quiet_until_ms is not None and now_ms < self._quiet_until_ms:
            return
        facts: dict[str, int | str] = {
            "peer": peer[:_TEXT_CHARS],
            "error": str(error)[:_TEXT_CHARS],
            "times": self._unlogged,
        }
        self._quiet_until_ms = now_ms + _QUIET_MS
        self._unlogged = 0
        self._log(Note("warning", "peer_broke_protocol", facts))

    def overflowed(self, peer: str, queued_bytes: int) -> None:
        """A peer did not read what was sent to it, and its link was given up."""
        self.links_overflowed += 1
        self._log(Note("warning", "link_overflowed", {"peer": peer, "queued_bytes": queued_bytes}))

    def too_large(self, peer: str, error: ValueError) -> None:
        """A single message is longer than a frame may be: a fault of ours, not of the peer."""
        self._log(Note("error", "message_too_large", {"peer": peer, "error": str(error)}))
