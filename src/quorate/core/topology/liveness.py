# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers. Every peer is pinged each heartbeat, for ever; `down_after` misses in a row mark it
down, one answer of any kind marks it up again. Only answers count: they alone show that both
directions work. Liveness changes where requests are sent, never where keys belong.

Left out until clusters grow past about 16 nodes: asking others before suspecting (SWIM).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Turn
from quorate.core.values.settings import Settings


class Liveness:
    """The heartbeats of one node."""

    __slots__ = ("_alarm", "_beat_ms", "_down_after", "_peers", "_ping", "_turn")

    def __init__(
        self,
        settings: Settings,
        turn: Turn,
        peers: dict[str, Peer],
        ping: Callable[[list[Peer]], None],
    ) -> None:
        """`ping` sends a heartbeat, which is to be answered at once."""
        self._turn = turn
        self._beat_ms = settings.heartbeat_ms
        self._down_after = settings.down_after
        self._peers = peers
        self._ping = ping
        self._alarm = Alarm(turn, self._beat)
        self._alarm.at(0)

    def _beat(self) -> None:
        """Count misses and ping everyone."""
        # From now, not from when it was due: a paused process does not catch up on beats it
        # missed and call everyone down in one instant.
        self._alarm.at(self._turn.mono_ms + self._beat_ms)
        peers = list(self._peers.values())
        for peer in peers:
            self._judge(peer)
        self._ping(peers)

    def linked(self, peer: Peer) -> None:
        """Our link to the peer came up. It is asked nothing before it is heard, which shows that
        its link to us is up too; the ping makes it speak."""
        peer.is_linked = True
        peer.is_heard = False
        peer.judge()
        self.heard(peer)
        self._ping([peer])

    def unlinked(self, peer: Peer) -> None:
        """Our link to the peer is gone."""
        peer.is_linked = False
        peer.judge()

    def spoke(self, peer: Peer) -> None:
        """A frame came from the peer: its link to us is up."""
        if not peer.is_heard:
            peer.is_heard = True
            peer.judge()

    def heard(self, peer: Peer) -> None:
        """The peer answered something."""
        peer.has_answered = True
        peer.last_answer_ms = self._turn.mono_ms
        if peer.misses:
            peer.misses = 0
        if not peer.is_up:
            peer.is_up = True
            # At once: what it answers may be followed by something to send it.
            peer.judge()
            self._turn.note("info", "peer_up", peer=peer.url)

    def _judge(self, peer: Peer) -> None:
        if peer.has_answered:
            peer.has_answered = False
            return
        peer.misses += 1
        if peer.is_up and peer.misses >= self._down_after:
            peer.is_up = False
            peer.judge()
            self._turn.note("warning", "peer_down", peer=peer.url, misses=peer.misses)
