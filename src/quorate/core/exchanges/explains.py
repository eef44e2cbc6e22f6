# SPDX-License-Identifier: GPL-3.0-or-later
"""What each replica of a key holds of it, without the value: for people, who ask where a key is."""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent
from quorate.core.exchanges.scans import local_rows
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Topology
from quorate.core.turn import Begun, Parts
from quorate.core.values.events import Explain, ExplainResult, ReplicaView
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.slots import partition_of, row_of, slot_of
from quorate.core.values.versions import ABSENT

_NOTHING: Final = ScannedRow(b"", ABSENT, live=False, expires_ms=0)


class Question(Begun):
    """An explanation under way; at its deadline it is answered with what came."""

    __slots__ = ("damaged", "held", "hints", "key", "pending", "row", "topology")

    def __init__(self, event: Explain, topology: Topology, hints: Hints) -> None:
        super().__init__(event.waiter, 0)
        self.key = event.key
        self.row = row_of(event.key)
        self.topology = topology
        self.held: dict[Peer | None, ScannedRow] = {}
        """What replicas told; None is this node."""
        self.damaged: set[Peer | None] = set()
        """Those that told that their copy cannot be read."""
        self.pending = 0
        self.hints = hints

    def expired(self) -> ExplainResult:
        slot, partition = slot_of(self.key), partition_of(self.row)
        replicas = self.topology.partitions[partition]
        views = []
        for peer, url in zip(replicas.members, replicas.urls, strict=True):
            held = self.held.get(peer)
            views.append(
                ReplicaView(
                    url,
                    "self" if peer is None else peer.state,
                    None if held is None else held.version,
                    held is not None and held.live,
                    0 if held is None else held.expires_ms,
                    0 if peer is None else self.hints.count(peer),
                    peer in self.damaged,
                )
            )
        return ExplainResult(slot, partition, self.topology.epoch, views)

    def told(self, peer: Peer | None, answer: ScannedRows) -> None:
        """Note what a replica holds."""
        if answer.failed:
            self.damaged.add(peer)
            return
        # The key itself sorts before all others that begin with it.
        found = answer.rows[0] if answer.rows else None
        has_it = found is not None and found.row == self.row
        self.held[peer] = found if found is not None and has_it else _NOTHING


class Explains:
    """The exchange that asks every replica of a key for its version."""

    __slots__ = ("_hints", "_membership", "_outboxes", "_parts")

    def __init__(
        self, parts: Parts, membership: Membership, hints: Hints, outboxes: list[Outbox]
    ) -> None:
        self._parts = parts
        self._membership = membership
        self._hints = hints
        self._outboxes = outboxes

    def begin(self, event: Explain) -> None:
        """Ask every reachable replica."""
        topology = self._membership.current()
        question = Question(event, topology, self._hints)
        partition = partition_of(question.row)
        replicas = topology.partitions[partition]
        timeout_ms = event.timeout_ms or self._parts.settings.timeout_ms
        self._parts.requests.watch(question, timeout_ms)
        question.pending = 1
        if replicas.is_mine:
            question.told(
                None,
                local_rows(self._parts.replica, partition, after=b"", prefix=event.key, limit=1),
            )
        for peer in replicas.others:
            if peer.is_reachable:
                outbox = self._outboxes[peer.index]
                sent = Sent(outbox, self, ScannedRows, [question], ITEM_BYTES)
                outbox.send(sent, ScanRows(sent.batch, partition, b"", event.key, 1))
                question.pending += 1
        self._told(question)

    def answered(self, peer: Peer, ops: list[Question], answer: ScannedRows) -> None:
        """A replica told what it holds."""
        for question in ops:
            question.told(peer, answer)
            self._told(question)

    def lost(self, peer: Peer, ops: list[Question]) -> None:
        """A replica did not answer; what it holds stays unknown."""
        del peer
        for question in ops:
            self._told(question)

    def _told(self, question: Question) -> None:
        question.pending -= 1
        if not question.pending:
            self._parts.requests.end(question, question.expired())
