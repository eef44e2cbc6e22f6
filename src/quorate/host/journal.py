# SPDX-License-Identifier: GPL-3.0-or-later
"""What links count and say: shared by both directions of all links of a node.

Peers retry for ever and strangers try anything, so what they cause must not flood the log: a
refusal is logged once for each peer and reason (until a handshake with that peer succeeds), broken
protocol once in ten seconds with the number of times since. A stranger may give itself a new name
each time: refusals of who dialled us are limited by the address they came from, and in all. Texts
from outside are cut short and escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.values.events import Note
from quorate.errors import PeerProtocolError
from quorate.notation import show_text

_QUIET_MS: Final = 10_000
_TOLD_MAX: Final = 1000
"""Refusals remembered as logged; beyond it the oldest is forgotten, and may be logged again."""
_TEXT_CHARS: Final = 500
_MINUTE_MS: Final = 60_000
_ADDRESS_LINES_MAX: Final = 5
_STRANGER_LINES_MAX: Final = 20
"""Lines in a minute, of refused strangers: from one address, and from all."""
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


def _audited(peer: str, address: str) -> dict[str, int | str]:
    """What makes a refusal an audit event, in the words of all of these (`doors.audit`). Who does
    not say who it is goes by its address."""
    who = "unknown" if peer == address else peer
    return {"audit": True, "who": who, "from": address, "what": "link", "outcome": "refused"}


class LinkJournal:
    """Counters (monotonic since the start) and the rare log lines of links."""

    __slots__ = (
        *_COUNTERS,
        "_log",
        "_minute_ms",
        "_mono_ms",
        "_quiet_until_ms",
        "_refused_from",
        "_refused_unlogged",
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
        self._minute_ms = 0
        """When the minute of these began: refused strangers' lines by address, and those that were
        too many."""
        self._refused_from: dict[str, int] = {}
        self._refused_unlogged = 0
        self._quiet_until_ms: int | None = None
        self._unlogged = 0

    def counters(self) -> dict[str, int]:
        """Every counter by name."""
        return {name: getattr(self, name) for name in _COUNTERS}

    def refused(self, peer: str, reason: str, *, by: str, address: str = "") -> None:
        """Count a failed handshake; log it if this peer was not refused for this reason before.

        `by` says who is against it: `us` or `them`. `address` is that of a stranger who dialled us,
        and may call itself anything.
        """
        self.handshakes_refused += 1
        told = show_text(peer[:_TEXT_CHARS]), show_text(reason[:_TEXT_CHARS])
        if told in self._told or (address and self._has_said_enough_of(address)):
            return
        if len(self._told) >= _TOLD_MAX:
            del self._told[next(iter(self._told))]
        self._told[told] = None
        facts: dict[str, int | str] = {"peer": told[0], "reason": told[1], "by": by}
        if address:
            facts["address"] = address  # The one thing that a stranger does not choose.
            facts |= _audited(told[0], address)
        self._log(Note("warning", "link_refused", facts))

    def _has_said_enough_of(self, address: str) -> bool:
        """Whether one line more would be too many; what was, is told after its minute."""
        now_ms = self._mono_ms()
        if now_ms >= self._minute_ms + _MINUTE_MS:
            if self._refused_unlogged:
                facts = {"times": self._refused_unlogged, **_audited("several", "several")}
                self._log(Note("warning", "links_refused", facts))
            self._minute_ms, self._refused_unlogged = now_ms, 0
            self._refused_from.clear()
        lines = self._refused_from.get(address, 0)
        if lines == _ADDRESS_LINES_MAX or sum(self._refused_from.values()) == _STRANGER_LINES_MAX:
            self._refused_unlogged += 1
            return True
        self._refused_from[address] = lines + 1
        return False

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
            "peer": show_text(peer[:_TEXT_CHARS]),
            "error": show_text(str(error)[:_TEXT_CHARS]),
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
