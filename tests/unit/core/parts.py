# SPDX-License-Identifier: GPL-3.0-or-later
"""Single parts of a node, put together for tests of one of them."""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.outbox import Outbox, PeerAnswer, Questions, Records
from quorate.core.topology.layout import Layout
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Topology
from quorate.core.turn import Alarm, Turn

TIMEOUT_MS: Final = 1_000


def urls(count: int) -> list[str]:
    """That many URLs, in order."""
    return [f"http://n{index}:1" for index in range(count)]


class Recorder:
    """An exchange that writes down what it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, list[object], PeerAnswer]] = []
        self.losses: list[tuple[str, list[object]]] = []

    def answered(self, peer: Peer, ops: list[object], answer: PeerAnswer) -> None:
        self.answers.append((peer.url, ops, answer))

    def lost(self, peer: Peer, ops: list[object]) -> None:
        self.losses.append((peer.url, ops))


def peer_of(url: str = "http://n9:1", index: int = 0, *, turn: Turn | None = None) -> Peer:
    """A peer that was never met."""
    return Peer(url, index, Alarm(turn or Turn(), lambda: None))


def reachable(peer: Peer) -> Peer:
    """The peer, with links both ways."""
    peer.is_linked = peer.is_heard = True
    peer.judge()
    return peer


class Box:
    """An outbox whose every lane is of one recorder."""

    def __init__(
        self,
        url: str = "http://n9:1",
        index: int = 0,
        *,
        turn: Turn | None = None,
        first_batch: int = 0,
    ) -> None:
        self.turn = turn or Turn()
        self.peer = peer_of(url, index, turn=self.turn)
        self.out = Outbox(self.peer, self.turn, timeout_ms=TIMEOUT_MS, first_batch=first_batch)
        self.recorder = Recorder()
        self.hedged: list[list[object]] = []
        self.records: Records[object] = Records(self.out, self.recorder)
        self.questions: Questions[object] = Questions(self.out, self.recorder, self._hedge)

    def _hedge(self, late: Peer, ops: list[object]) -> None:
        assert late is self.peer
        self.hedged.append(ops)

    def pass_ms(self, ms: int) -> None:
        """Let time go by, and make the calls that are due."""
        self.turn.begin(self.turn.mono_ms + ms, 0, stamp_max=0)
        self.turn.ring()


def topology_of(layout: Layout, *, own: int, w: int = 0, r: int = 0) -> Topology:
    """The layout seen from node `own`."""
    own_url = f"http://n{own}:1"
    others = sorted(set(layout.urls()) - {own_url})
    peers = {url: peer_of(url, index) for index, url in enumerate(others)}
    return Topology(layout, own_url=own_url, peer_of=lambda member: peers.get(member.url), r=r, w=w)
