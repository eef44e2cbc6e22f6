# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a key lives and what each replica has of it, for people."""

from __future__ import annotations

from typing import cast

from quorate.core.events import Explain, ExplainResult, ReplicaView
from quorate.core.messages import Read, ReadAnswer
from quorate.core.parts import Parts
from quorate.core.peers import ITEM_BYTES, Answer, Peer, Sent
from quorate.core.placement import Placement
from quorate.core.record import ABSENT
from quorate.core.requests import Operation
from quorate.core.slots import partition_of, row_of, slot_of
from quorate.errors import Corrupt, NotReady


class Question(Operation):
    """An explanation under way; at its deadline it is answered with what came."""

    __slots__ = ("hints", "key", "pending", "placement", "row", "versions")

    def __init__(self, event: Explain, placement: Placement, parts: Parts) -> None:
        super().__init__(event.waiter, 0)
        self.key = event.key
        self.row = row_of(event.key)
        self.placement = placement
        self.versions: dict[str, bytes] = {}
        self.pending = 0
        self.hints = parts.hints

    def expired(self) -> ExplainResult:
        slot, partition = slot_of(self.key), partition_of(self.row)
        placement = self.placement
        peers = {peer.url: peer for peer in placement.others[partition]}
        views = [
            ReplicaView(
                url,
                peers[url].state if url in peers else "self",
                self.versions.get(url),
                self.hints.count(url),
            )
            for url in placement.layout.replicas(partition)
        ]
        return ExplainResult(slot, partition, placement.layout.epoch, views)


class Explains:
    """The exchange that asks every replica of a key for its version."""

    __slots__ = ("_parts", "placement")

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.placement: Placement | None = None

    def begin(self, event: Explain) -> None:
        """Ask every reachable replica."""
        placement = self.placement
        if placement is None:
            raise NotReady("the cluster's layout is not known yet")
        question = Question(event, placement, self._parts)
        partition = partition_of(question.row)
        timeout_ms = event.timeout_ms or self._parts.settings.timeout_ms
        self._parts.requests.watch(question, timeout_ms)
        question.pending = 1
        if placement.is_mine[partition]:
            self._ask_self(question, placement.own_url)
        for peer in placement.others[partition]:
            if peer.is_reachable:
                batch = peer.next_batch()
                sent = peer.expect(self, batch, ReadAnswer, size=ITEM_BYTES)
                sent.more = [question]
                peer.say(Read(batch, [], [question.row]))
                question.pending += 1
        self._told(question)

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """A replica told its version."""
        question = cast(Question, sent.more[0])
        told = cast(ReadAnswer, answer)
        if not told.failed:
            question.versions[peer.url] = told.versions[0]
        self._told(question)

    def lost(self, peer: Peer, sent: Sent) -> None:
        """A replica did not answer; its version stays unknown."""
        del peer
        self._told(cast(Question, sent.more[0]))

    def _ask_self(self, question: Question, url: str) -> None:
        try:
            record = self._parts.replica.shown(question.row)
        except Corrupt:
            return
        question.versions[url] = ABSENT if record is None else record.version

    def _told(self, question: Question) -> None:
        question.pending -= 1
        if not question.pending:
            self._parts.requests.end(question, question.expired())
