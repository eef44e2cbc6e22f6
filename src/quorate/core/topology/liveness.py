# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers. Every peer is pinged each heartbeat, for ever; `down_after` misses in a row mark it
down, one answer of any kind marks it up again. Only answers count: they alone show that both
directions work. Liveness changes where requests are sent, never where keys belong.

Left out until clusters grow past about 16 nodes: asking others before suspecting (SWIM).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.exchanges.outbox import Peer
from quorate.core.parts import Parts
from quorate.core.values.messages import Ping


class Liveness:
    """The heartbeats of one node."""

    __slots__ = ("_beat_ms", "_due_ms", "_parts", "_turn", "peers")

    def __init__(self, parts: Parts, peers: dict[str, Peer]) -> None:
        self._parts = parts
        self._turn = parts.turn
        self._beat_ms = parts.settings.heartbeat_ms
        self._due_ms: int | None = None
        self.peers = peers

    def beat(self, members: Callable[[], list[str]]) -> None:
        """Count misses and ping everyone, if a heartbeat is due; say when the next is.

        `members`: all URLs that this node knows; they ride on the pings.
        """
        now = self._turn.mono_ms
        if self._due_ms is None or now >= self._due_ms:
            # From now, not from when it was due: a paused process does not catch up on beats it
            # missed and call everyone down in one instant.
            self._due_ms = now + self._beat_ms
            known = members()
            for peer in self.peers.values():
                self._judge(peer)
                self._ping(peer, known)
        self._turn.wake_at(self._due_ms)

    def linked(self, peer: Peer, members: list[str]) -> None:
        """Our link to the peer came up. It is asked nothing before it is heard, which shows that
        its link to us is up too; the ping makes it speak."""
        peer.is_linked = True
        peer.is_heard = False
        self.heard(peer)
        self._ping(peer, members)

    def heard(self, peer: Peer) -> None:
        """The peer answered something."""
        peer.has_answered = True
        peer.last_answer_ms = self._turn.mono_ms
        if peer.misses:
            peer.misses = 0
        if not peer.is_up:
            peer.is_up = True
            # At once: what it answers may be followed by something to send it.
            peer.judge_reachable()
            self._turn.note("info", "peer_up", peer=peer.url)

    def _judge(self, peer: Peer) -> None:
        if peer.has_answered:
            peer.has_answered = False
            return
        peer.misses += 1
        if peer.is_up and peer.misses >= self._parts.settings.down_after:
            peer.is_up = False
            self._turn.note("warning", "peer_down", peer=peer.url, misses=peer.misses)

    def _ping(self, peer: Peer, members: list[str]) -> None:
        replica = self._parts.replica
        peer.say(Ping(peer.next_batch(), members, replica.keys, replica.bytes_used()))
