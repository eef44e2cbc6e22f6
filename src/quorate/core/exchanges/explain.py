# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a key lives and what each replica has of it, for people."""

from __future__ import annotations

from typing import Final, cast

from quorate.core.exchanges.outbox import ITEM_BYTES, Answer, Peer, Sent
from quorate.core.exchanges.scans import local_rows
from quorate.core.parts import Parts
from quorate.core.requests.admission import Operation
from quorate.core.topology.placement import Placement
from quorate.core.values.events import Explain, ExplainResult, ReplicaView
from quorate.core.values.messages import ScannedRow, ScannedRows, ScanRows
from quorate.core.values.slots import partition_of, row_of, slot_of
from quorate.core.values.versions import ABSENT
from quorate.errors import NotReady

_NOTHING: Final = ScannedRow(b"", ABSENT, live=False, expires_ms=0)


class Question(Operation):
    """An explanation under way; at its deadline it is answered with what came."""

    __slots__ = ("held", "hints", "key", "pending", "placement", "row")

    def __init__(self, event: Explain, placement: Placement, parts: Parts) -> None:
        super().__init__(event.waiter, 0)
        self.key = event.key
        self.row = row_of(event.key)
        self.placement = placement
        self.held: dict[str, ScannedRow] = {}
        """What replicas told, by URL."""
        self.pending = 0
        self.hints = parts.hints

    def expired(self) -> ExplainResult:
        slot, partition = slot_of(self.key), partition_of(self.row)
        placement = self.placement
        peers = {peer.url: peer for peer in placement.others[partition]}
        views = []
        for url in placement.layout.replicas(partition):
            state = peers[url].state if url in peers else "self"
            held = self.held.get(url)
            views.append(
                ReplicaView(
                    url,
                    state,
                    None if held is None else held.version,
                    held is not None and held.live,
                    0 if held is None else held.expires_ms,
                    self.hints.count(url),
                )
            )
        return ExplainResult(slot, partition, placement.layout.epoch, views)

    def told(self, url: str, answer: ScannedRows) -> None:
        """Note what a replica holds; of a scan that met damage, nothing."""
        if answer.failed:
            return
        # The key itself sorts before all others that begin with it.
        found = answer.rows[0] if answer.rows else None
        has_it = found is not None and found.row == self.row
        self.held[url] = found if found is not None and has_it else _NOTHING


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
            question.told(
                placement.own_url,
                local_rows(self._parts.replica, partition, after=b"", prefix=event.key, limit=1),
            )
        for peer in placement.others[partition]:
            if peer.is_reachable:
                batch = peer.next_batch()
                sent = peer.expect(self, batch, ScannedRows, size=ITEM_BYTES)
                sent.more = [question]
                peer.say(ScanRows(batch, partition, b"", event.key, 1))
                question.pending += 1
        self._told(question)

    def answered(self, peer: Peer, sent: Sent, answer: Answer) -> None:
        """A replica told what it holds."""
        question = cast(Question, sent.more[0])
        question.told(peer.url, cast(ScannedRows, answer))
        self._told(question)

    def lost(self, peer: Peer, sent: Sent) -> None:
        """A replica did not answer; what it holds stays unknown."""
        del peer
        self._told(cast(Question, sent.more[0]))

    def _told(self, question: Question) -> None:
        question.pending -= 1
        if not question.pending:
            self._parts.requests.end(question, question.expired())
