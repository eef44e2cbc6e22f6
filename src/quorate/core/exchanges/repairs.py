# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing what a read found back to replicas that are behind, and waiting until enough hold it.

A late write-back is hedged, and one that nobody could take is tried again while its read waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from quorate.core.exchanges.look import Look
from quorate.core.exchanges.outbox import Outbox, Records
from quorate.core.horizons import Fenced
from quorate.core.topology.peer import OWN_BIT, Peer
from quorate.core.topology.topology import lacking
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import Mutated
from quorate.core.values.record import Record
from quorate.errors import StorageError

WRITE_BACK_AGAIN_MS: Final = 20
"""Between two tries to find a replica for a write-back that nobody could take."""
WRITE_BACK_HEDGE_MS: Final = 50
"""Slower than most disks. Most that are written to then hold it already, and store nothing."""


class Repairs:
    """The exchange that writes records back to replicas that reads found behind."""

    __slots__ = (
        "_again",
        "_answer",
        "_lanes",
        "_late",
        "_look_again",
        "_replica",
        "_stranded",
        "_turn",
        "_waiting",
    )

    def __init__(
        self, parts: Parts, *, answer: Callable[[Look], None], look_again: Callable[[Look], None]
    ) -> None:
        """`answer` ends a read; `look_again` has it begin anew."""
        self._answer = answer
        self._look_again = look_again
        self._lanes: list[Records[Look]] = []
        """By the index of the peer."""
        self._replica = parts.replica
        self._turn = parts.turn
        self._stranded: list[Look] = []
        """Reads whose answer waits for one more copy that no replica could take."""
        self._again = Alarm(parts.turn, self._write_back_again)
        self._waiting: deque[tuple[int, Look]] = deque()
        """Reads whose answer waits for copies that were sent, oldest first, and when to hedge them.
        Those that were answered are dropped when they reach the head."""
        self._late = Alarm(parts.turn, self._hedge)

    def open(self, outbox: Outbox) -> None:
        """Be able to write back to one more peer."""
        self._lanes.append(Records(outbox, self))

    def send(self, look: Look, record: Record, behind: int) -> None:
        """Write `record` to the replicas that are behind."""
        if behind & OWN_BIT:
            self._write_here(look, record)
        for peer in look.replicas.others:
            if behind & peer.bit:
                if peer.is_reachable:
                    self._lanes[peer.index].add(look.row, record, look)
                else:
                    self.not_written_back(look, peer.bit)

    def answered(self, peer: Peer, ops: list[Look], answer: Mutated) -> None:
        """A replica holds the records."""
        superseded = {index for index, _ in answer.superseded}
        fenced = {index for index, _ in answer.fenced}
        refused = fenced.union([index for index, _ in answer.refused])
        for index, look in enumerate(ops):
            look.is_fenced |= index in fenced
            if index in refused:
                self.not_written_back(look, peer.bit)
            else:
                self.wrote_back(look, peer.bit, is_superseded=index in superseded)

    def lost(self, peer: Peer, ops: list[Look]) -> None:
        """A replica did not answer; the next read of the key will find it behind again."""
        for look in ops:
            self.not_written_back(look, peer.bit)

    def _write_here(self, look: Look, record: Record) -> None:
        # Others may agree on what is past the guard here: that is believed, but not taken.
        if self._replica.trouble.code or self._turn.is_ahead(record.version):
            self.not_written_back(look, OWN_BIT)
            return
        try:
            higher = self._replica.apply(look.row, record)
        except (StorageError, Fenced) as error:
            look.is_fenced |= isinstance(error, Fenced)
            self.not_written_back(look, OWN_BIT)
            return
        self._replica.when_durable(
            lambda: self.wrote_back(look, OWN_BIT, is_superseded=bool(higher))
        )

    # --- waiting for copies ----------------------------------------------------------------

    def wrote_back(self, look: Look, bit: int, *, is_superseded: bool) -> None:
        """A replica holds what this look read, or something newer."""
        if look.waiter is None or not look.keepers:
            return
        look.holders |= bit
        look.is_superseded |= is_superseded
        if lacking(look.holders, look.keepers):
            return
        if look.is_superseded:
            self._look_again(look)
        else:
            self._answer(look)

    def not_written_back(self, look: Look, bit: int) -> None:
        """A replica did not take what was to be written back: send it to another. If none is left,
        try all again WRITE_BACK_AGAIN_MS later."""
        if look.waiter is None or not look.keepers:
            return
        look.lost |= bit
        if not self._write_back(look):
            self._strand(look)

    def hedge_later(self, look: Look) -> None:
        """Send it to others too if a replica has not taken it WRITE_BACK_HEDGE_MS later."""
        order, due_ms = self._waiting, self._turn.mono_ms + WRITE_BACK_HEDGE_MS
        while order and order[0][1].waiter is None:
            order.popleft()
        order.append((due_ms, look))
        self._late.at(due_ms)

    def _hedge(self) -> None:
        """Send what a slow replica has not taken to all that were not sent it."""
        order = self._waiting
        while order and order[0][0] <= self._turn.mono_ms:
            _, look = order.popleft()
            if look.waiter is not None and self._write_back(look):
                self._turn.counters["reads_hedged"] += 1
                while self._write_back(look):
                    pass
        if order:
            self._late.at(order[0][0])

    def _write_back_again(self) -> None:
        """Send what nobody could take to those once more that did not take it."""
        stranded, self._stranded = self._stranded, []
        for look in stranded:
            if look.waiter is None:
                continue
            if look.is_fenced:
                self._look_again(look)
                continue
            # Not before: two replicas that take nothing would be sent it in turns, as fast as they
            # refuse.
            is_own_lost = look.lost & OWN_BIT
            look.asked &= ~look.lost
            look.lost = 0
            if is_own_lost and look.record is not None:
                self.send(look, look.record, OWN_BIT)
            elif not self._write_back(look):
                self._strand(look)

    def _strand(self, look: Look) -> None:
        self._stranded.append(look)
        self._again.at(self._turn.mono_ms + WRITE_BACK_AGAIN_MS)

    def _write_back(self, look: Look) -> bool:
        """Send what was read to one more replica; False if none can be reached."""
        wanted = lacking(look.holders, look.keepers) & ~look.asked
        for peer in look.replicas.others:
            if wanted & peer.bit and peer.is_reachable:
                assert look.record is not None, "there is something to write back"
                look.asked |= peer.bit
                self.send(look, look.record, peer.bit)
                return True
        return False
