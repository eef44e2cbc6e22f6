# SPDX-License-Identifier: GPL-3.0-or-later
"""Having a majority hold a record that a read-modify-write read, or that was decided.

The record is no write of its own: it keeps its version, and nobody is told of it.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.outbox import Outbox, Records
from quorate.core.horizons import Fenced
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import PENDING, Groups, Replicas, Verdict, verdict
from quorate.core.turn import Parts
from quorate.core.values.messages import Mutated
from quorate.core.values.record import Record
from quorate.errors import StorageError


class Spread:
    """One record, on its way to the replicas of its row."""

    __slots__ = (
        "_then",
        "acks",
        "failed",
        "groups",
        "is_hinted",
        "is_over",
        "record",
        "replicas",
        "row",
    )

    def __init__(
        self,
        row: bytes,
        record: Record,
        replicas: Replicas,
        then: Callable[[Spread], None],
        *,
        groups: Groups = (),
        holders: int = 0,
        is_hinted: bool = True,
    ) -> None:
        """`then` is called once: when these groups have it, majorities if none are given, or cannot
        any more. `holders` are known to hold it. `is_hinted`: whether who cannot be reached gets it
        later."""
        self.row = row
        self.record = record
        self.replicas = replicas
        self.groups = groups or replicas.majorities
        self.acks = holders
        """The replicas that hold it, or something higher."""
        self.failed = 0
        self.is_hinted = is_hinted
        self.is_over = False
        self._then = then

    def judge(self) -> None:
        """Tell who waits, once there is anything to tell."""
        if not self.is_over and self.verdict() is not PENDING:
            self.is_over = True
            self._then(self)

    def verdict(self) -> Verdict:
        """Whether enough have it."""
        return verdict(self.acks, self.failed, self.groups)


class Spreads:
    """The exchange that sends them."""

    __slots__ = ("_hints", "_lanes", "_replica", "_turn")

    def __init__(self, parts: Parts, hints: Hints) -> None:
        self._hints = hints
        self._replica = parts.replica
        self._turn = parts.turn
        self._lanes: list[Records[Spread]] = []
        """By the index of the peer."""

    def open(self, outbox: Outbox) -> None:
        """Be able to send to one more peer."""
        self._lanes.append(Records(outbox, self))

    def begin(self, spread: Spread) -> None:
        """Send it to all that are not known to hold it. `then` is called later."""
        for peer in spread.replicas.others:
            if spread.acks & peer.bit:
                continue
            if peer.is_reachable:
                self._lanes[peer.index].add(spread.row, spread.record, spread)
            else:
                self._missed(spread, peer)
        if spread.replicas.is_mine and not spread.acks & OWN_BIT:
            self._keep(spread)
        spread.judge()

    def _keep(self, spread: Spread) -> None:
        """Keep this node's own copy."""
        record = spread.record
        if self._replica.trouble.code or self._turn.is_ahead(record.version):
            spread.failed |= OWN_BIT
            return
        try:
            higher = self._replica.apply(spread.row, record)
        except (StorageError, Fenced):
            spread.failed |= OWN_BIT
            return
        if self._turn.is_ahead(higher):
            spread.failed |= OWN_BIT
        else:
            self._replica.when_durable(lambda: self._acked(spread, OWN_BIT))

    def answered(self, peer: Peer, ops: list[Spread], answer: Mutated) -> None:
        """A replica has the records on disk, but for some."""
        refused = {*[index for index, _ in answer.refused], *[index for index, _ in answer.fenced]}
        # What no trusted clock gave out can neither be beaten nor believed.
        is_ahead = self._turn.is_ahead
        refused.update([index for index, each in answer.superseded if is_ahead(each)])
        for index, spread in enumerate(ops):
            if index in refused:
                spread.failed |= peer.bit
                spread.judge()
            else:
                self._acked(spread, peer.bit)

    def lost(self, peer: Peer, ops: list[Spread]) -> None:
        """A replica did not answer."""
        for spread in ops:
            self._missed(spread, peer)
            spread.judge()

    def _missed(self, spread: Spread, peer: Peer) -> None:
        spread.failed |= peer.bit
        if spread.is_hinted:
            self._hints.add(peer, spread.row, spread.record)

    def _acked(self, spread: Spread, bit: int) -> None:
        spread.acks |= bit
        spread.judge()
