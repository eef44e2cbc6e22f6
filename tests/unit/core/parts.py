# SPDX-License-Identifier: GPL-3.0-or-later
"""Single parts of a node, put together for tests of one of them."""

from __future__ import annotations

from quorate.core.exchanges.outbox import Answer, Peer, Sent
from quorate.core.topology.layout import Layout
from quorate.core.topology.placement import Placement


def urls(count: int) -> list[str]:
    """That many URLs, in order."""
    return [f"http://n{index}:1" for index in range(count)]


class Recorder:
    """An exchange that writes down what it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, list[object], Answer]] = []
        self.losses: list[tuple[str, list[object]]] = []

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        self.answers.append((peer.url, [*sent.ops, *sent.more], answer))

    def lost(self, peer: Peer, sent: Sent) -> None:
        self.losses.append((peer.url, [*sent.ops, *sent.more]))


def peer_of(
    url: str = "http://n9:1", *, exchange: Recorder | None = None, first_batch: int = 0
) -> Peer:
    """A peer whose every exchange is one recorder."""
    writes, reads = exchange or Recorder(), exchange or Recorder()
    return Peer(url, writes=writes, repairs=writes, reads=reads, first_batch=first_batch)


def placement_of(layout: Layout, *, own: int, w: int = 0, r: int = 0) -> Placement:
    """The layout seen from node `own`."""
    own_url = f"http://n{own}:1"
    peers = {url: peer_of(url) for url in layout.nodes if url != own_url}
    return Placement(layout, own_url=own_url, peers=peers, r=r, w=w)
