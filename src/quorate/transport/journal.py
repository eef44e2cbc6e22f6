# SPDX-License-Identifier: GPL-3.0-or-later
"""What links count and say: shared by both directions of all links of a node.

Peers retry for ever and strangers try anything, so what they cause must not flood the log: a
refusal is logged once for each peer and reason (until a handshake with that peer succeeds), broken
protocol once in ten seconds with the number of times since. Texts from outside are cut short.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from quorate.errors import PeerProtocolError

_QUIET_S: Final = 10.0
_TOLD_MAX: Final = 1000
"""Refusals remembered as logged; beyond it the oldest is forgotten, and may be logged again."""
_TEXT_CHARS: Final = 300

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class Journal:
    """Counters (monotonic since the start) and the rare log lines of links."""

    __slots__ = (
        "_clock",
        "_quiet_until",
        "_told",
        "_unlogged",
        "bytes_received",
        "bytes_sent",
        "frames_dropped",
        "frames_received",
        "frames_sent",
        "handshakes_refused",
        "links_overflowed",
        "protocol_errors",
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.frames_dropped = 0
        """Not sent: no link, link over its bound, or a message too large for any frame."""
        self.frames_received = 0
        self.frames_sent = 0
        self.handshakes_refused = 0
        self.links_overflowed = 0
        self.protocol_errors = 0
        self._clock = clock
        self._told: dict[tuple[str, str], None] = {}
        self._quiet_until = 0.0
        self._unlogged = 0

    def counters(self) -> dict[str, int]:
        """Every counter by name."""
        names = [name for name in self.__slots__ if not name.startswith("_")]
        return {name: getattr(self, name) for name in names}

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
        _log.warning("link_refused", peer=told[0], reason=told[1], by=by)

    def agreed(self, peer: str) -> None:
        """A handshake succeeded: should `peer` be refused again one day, that is news."""
        for told in [told for told in self._told if told[0] == peer]:
            del self._told[told]

    def broke_protocol(self, peer: str, error: PeerProtocolError) -> None:
        """Count it; log it unless one was logged a moment ago."""
        self.protocol_errors += 1
        self._unlogged += 1
        now = self._clock()
        if now < self._quiet_until:
            return
        _log.warning(
            "peer_broke_protocol",
            peer=peer[:_TEXT_CHARS],
            error=str(error)[:_TEXT_CHARS],
            times=self._unlogged,
        )
        self._quiet_until = now + _QUIET_S
        self._unlogged = 0

    def overflowed(self, peer: str, queued_bytes: int) -> None:
        """A peer did not read what was sent to it, and its link was given up."""
        self.links_overflowed += 1
        _log.warning("link_overflowed", peer=peer, queued_bytes=queued_bytes)

    def too_large(self, peer: str, error: ValueError) -> None:
        """A single message is longer than a frame may be: a fault of ours, not of the peer."""
        _log.error("message_too_large", peer=peer, error=str(error))
