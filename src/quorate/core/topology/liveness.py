# SPDX-License-Identifier: GPL-3.0-or-later
"""Who answers: the heartbeats of one node.

`down_after` heartbeats in a row without an answer mark a peer down, one answer of any kind marks it
up again. Only answers count: they alone show that both directions work.

While there are few links, each heartbeat pings everyone. From MESH_MAX on it costs the same however
many there are: it pings

- who *owes* an answer: it missed the last ping, or a request has waited for a heartbeat. At most
  OWING_MAX of these, drawn anew each time;
- SAMPLE others, by turns in a shuffled order, so that everyone comes up in each round.

Who was not pinged has missed nothing. So a node that is asked nothing may have been dead for as
long as a round takes (about four minutes among 1,000) without this one's knowing. That costs nobody
anything: a broken link tells at once, and the first request that waits makes it owe an answer.

Where most of the sample is silent the trouble is more likely this node's own: a stalled process, a
lossy line. Then nobody is marked down, and the next heartbeat comes later (after Lifeguard, Dadgar
and others 2018). The sample alone is judged, which was drawn of all that are up: of those that owe
an answer silence is no surprise. Example: a zone of a third of the nodes is cut off. About three of
the eight in a sample are silent, so they are marked down one after another. Were those that owe
counted too, they would soon outvote the five. A node that is cut off for good loses its links after
some seconds, and then it marks down whom it has no link to.

Left out: asking others before suspecting (SWIM). A wrong suspicion costs a hint, and is over with
the next answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from quorate.core.topology.peer import Ground, Peer
from quorate.core.turn import Alarm, Turn
from quorate.core.values.settings import Settings

if TYPE_CHECKING:
    from random import Random

MESH_MAX: Final = 16
"""Nodes, this one included, of which each pings all."""
OWING_MAX: Final = 16
SAMPLE: Final = 8
BEAT_MS_MAX: Final = 16_000
"""Of a node that hears few of its peers."""


class Liveness:
    """The heartbeats of one node."""

    __slots__ = (
        "_alarm",
        "_beat_ms",
        "_down_after",
        "_owes",
        "_peers",
        "_ping",
        "_random",
        "_round",
        "_sample",
        "_since_ms",
        "_turn",
        "_usual_ms",
        "hears_few",
        "is_apart",
    )

    def __init__(
        self,
        settings: Settings,
        turn: Turn,
        peers: list[Peer],
        *,
        ping: Callable[[list[Peer]], None],
        owes: Callable[[Peer, int], bool],
        random: Random,
    ) -> None:
        """`ping` sends a heartbeat, which is to be answered at once. `owes` says whether a peer has
        left a request unanswered for so many milliseconds."""
        self._turn = turn
        self._usual_ms = self._beat_ms = settings.heartbeat_ms
        self._down_after = settings.down_after
        self._peers = peers
        self._ping = ping
        self._owes = owes
        self._random = random
        self._round: list[Peer] = []
        """Whose turn is yet to come in this round, the next one last."""
        self._sample: list[Peer] = []
        """Who was pinged at the last heartbeat because it was its turn."""
        self._since_ms = 0
        """Since when most of these are silent, if they are."""
        self.hears_few = ""
        """That they are, one line; empty if they are not."""
        self.is_apart = False
        """Whether they are for as long as a peer may be silent before it is down."""
        self._alarm = Alarm(turn, self._beat)
        self._alarm.at(0)

    def _beat(self) -> None:
        """Count misses, and ping."""
        self._look_at_sample()
        # From now, not from when it was due: a paused process does not catch up on beats it
        # missed and call everyone down in one instant.
        self._alarm.at(self._turn.mono_ms + self._beat_ms)
        linked: list[Peer] = []
        owing: list[Peer] = []
        for peer in self._peers:
            is_owing = self._owes_answer(peer)
            peer.has_answered = peer.is_asked = False
            if peer.is_linked:
                linked.append(peer)
                if is_owing:
                    owing.append(peer)
        asked = linked
        self._sample = []
        if len(linked) >= MESH_MAX:
            if len(owing) > OWING_MAX:
                owing = self._random.sample(owing, OWING_MAX)
            self._sample = self._draw()
            asked = list(dict.fromkeys([*owing, *self._sample]))
        for peer in asked:
            peer.is_asked = True
        self._ping(asked)

    def _look_at_sample(self) -> None:
        """See whether most of those whose turn it was are silent, and beat more slowly if so."""
        asked = len(self._sample)
        silent = sum([not peer.has_answered for peer in self._sample])
        if 2 * silent > asked:
            if not self.hears_few:
                self._since_ms = self._turn.mono_ms
                self._turn.note_rarely("warning", "few_peers_heard", silent=silent, asked=asked)
            # The first of them were asked a heartbeat before.
            lasts_ms = self._turn.mono_ms - self._since_ms + self._usual_ms
            self.is_apart = lasts_ms >= self._down_after * self._usual_ms
            self.hears_few = (
                f"this node hears few of its peers: {silent} of the {asked} that it asked last are "
                "silent, so it takes none for down; look at its own network and load"
            )
            self._beat_ms = max(min(2 * self._beat_ms, BEAT_MS_MAX), self._usual_ms)
        else:
            self.is_apart, self.hears_few = False, ""
            self._beat_ms = self._usual_ms

    def _owes_answer(self, peer: Peer) -> bool:
        """Whether it is silent though it was asked; it is counted as a miss if that was a ping."""
        if peer.has_answered:
            return False
        if (peer.is_asked or not peer.is_linked) and not self.hears_few:
            self._miss(peer)
        return peer.misses > 0 or self._owes(peer, self._usual_ms)

    def _draw(self) -> list[Peer]:
        """The next whose turn it is, of those that are up."""
        drawn: dict[Peer, None] = {}
        for _ in range(2):
            while self._round and len(drawn) < SAMPLE:
                peer = self._round.pop()
                if peer.is_linked and peer.is_up:
                    drawn[peer] = None
            if not self._round:
                self._round = list(self._peers)
                self._random.shuffle(self._round)
        return list(drawn)

    def tell(self, concerned: Collection[Peer | None]) -> None:
        """Ping out of turn, as there is something to hear. While there are few links everyone is to
        hear it, later those whom it concerns; the others do with the next heartbeats."""
        linked = [peer for peer in self._peers if peer.is_linked]
        if len(linked) >= MESH_MAX:
            linked = [peer for peer in linked if peer in concerned]
        self._ping(linked)

    def tell_crowd(self) -> None:
        """Ping all out of turn that would not hear it with the next heartbeat, which reaches
        everyone while there are few links."""
        linked = [peer for peer in self._peers if peer.is_linked]
        if len(linked) >= MESH_MAX:
            self._ping(linked)

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

    def _miss(self, peer: Peer) -> None:
        peer.misses += 1
        if peer.is_up and peer.misses >= self._down_after:
            peer.is_up = False
            peer.judge()
            if peer.ground is not Ground.HEARSAY:
                self._turn.note("warning", "peer_down", peer=peer.url, misses=peer.misses)
