# SPDX-License-Identifier: GPL-3.0-or-later
"""Open votes (`core.votes`) that a lock waits for: they are brought to their end, or given up.

Who proposed may be dead, so this node finishes what it accepted (`Updates.finish`). On a phantom
that may be impossible. For example: A alone locked 12:01 and accepted `12:01+1`, and B and C have
gone on to later boundaries. Of the phantom 12:01 these say GONE, for good, and A would wait with
its lock for ever. So A asks them for a promise for that very instance. Who then says GONE has not
accepted the record, and never will, if

- before it was asked it had told a boundary past the lock, without the lock, which it so never has
  again; and
- it holds nothing at or above the record. Else it may have accepted that, and have taken its lock
  back when it held something newer: repair brings this here, and the vote is not open any more.

Where no majority is left without these, the record cannot be decided, and this node drops it. What
it promised stays. Source: checked in the model of the protocol (docs/simulation.md).

Which votes of a partition are open is not known after a restart. Until it has been gone through,
some rows in a step, its lock stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.exchanges.counting import REST_BUSY_MS, REST_MS, ROWS_PER_STEP
from quorate.core.exchanges.rounds import Round, Rounds
from quorate.core.topology.membership import Membership
from quorate.core.topology.topology import Verdict, verdict
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import NO_BALLOT, Instance, Said
from quorate.core.values.slots import partition_of
from quorate.errors import StorageError


class OpenVotes:
    """Those of this node that hold up its locks."""

    __slots__ = (
        "_alarm",
        "_finish",
        "_membership",
        "_parts",
        "_replica",
        "_room",
        "_room_ms",
        "_rounds",
        "_turn",
        "_unknown",
        "_votes",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        rounds: Rounds,
        finish: Callable[[bytes], None],
    ) -> None:
        """`finish` has what was accepted for a row brought to its end."""
        self._parts = parts
        self._turn = parts.turn
        self._replica = parts.replica
        self._votes = parts.votes
        self._membership = membership
        self._rounds = rounds
        self._finish = finish
        self._unknown: dict[int, None] = {}
        """Partitions of which some votes are to be gone through, in order."""
        self._room, self._room_ms = ROWS_PER_STEP, 0
        """How many more rows may be gone through in this millisecond, and which that is."""
        self._alarm = Alarm(parts.turn, self._go_through)

    def hold_up_lock(self, partition: int, boundary: int) -> bool:
        """Whether votes are open that a lock at this boundary would bring to nothing. Has them
        brought to their end."""
        if not self._is_known(partition):
            return True
        try:
            rows = self._votes.open_below(partition, boundary)
        except StorageError:
            return True
        for row in rows:
            self._turn.counters["locks_waited_for_votes"] += 1
            self._finish(row)
        return bool(rows)

    def stand_in_the_way(self, partition: int, boundary: int) -> bool:
        """Whether votes are known to be open that a lock at this boundary would bring to nothing.
        Has them brought to their end."""
        return self._votes.is_known(partition) and self.hold_up_lock(partition, boundary)

    def hold_up_unlock(self, partition: int, passed: int) -> bool:
        """Whether votes are open that count on the lock of the partition. Has them brought to their
        end. `passed`: the bits of the replicas that told a boundary past the lock, without it."""
        if not self._is_known(partition):
            return True
        try:
            found = self._votes.open_on(partition)
        except StorageError:
            return True
        for row, instance in found:
            self._turn.counters["locks_waited_for_votes"] += 1
            self._finish(row)
            self._ask(row, instance, passed)
        return bool(found)

    # --- what is open ------------------------------------------------------------------------

    def _is_known(self, partition: int) -> bool:
        """Whether it is known which votes of the partition are open. Goes through some of them if
        there is room for that, and through the others later."""
        if self._votes.is_known(partition):
            return True
        self._unknown[partition] = None
        self._go_through()
        return self._votes.is_known(partition)

    def _go_through(self) -> None:
        """Go through some votes, those of a partition after those of another."""
        now = self._turn.mono_ms
        if self._room_ms != now:
            self._room, self._room_ms = ROWS_PER_STEP, now
        while self._room > 0 and self._unknown:
            partition = next(iter(self._unknown))
            try:
                self._room -= self._votes.go_through(partition, self._room) + 1
            except StorageError:
                # Whoever would lock it asks again.
                del self._unknown[partition]
                continue
            if self._votes.is_known(partition):
                del self._unknown[partition]
        if self._unknown:
            rest_ms = REST_BUSY_MS if self._parts.requests.count else REST_MS
            self._alarm.at(now + rest_ms)

    # --- what is given up --------------------------------------------------------------------

    def _ask(self, row: bytes, instance: Instance, passed: int) -> None:
        """Ask about an instance, if those that passed its lock can settle it."""
        replicas = self._membership.current().partitions[partition_of(row)]
        if verdict(0, passed, replicas.majorities) is not Verdict.LOST:
            return
        epoch = self._membership.epoch

        def heard() -> None:
            self._heard(asked, instance, passed, epoch)

        # The lowest ballot is in nobody's way.
        asked = Round(row, instance.base, NO_BALLOT, replicas=replicas, heard=heard)
        self._rounds.ask(asked)

    def _heard(self, asked: Round, instance: Instance, passed: int, epoch: int) -> None:
        """Give the record up once it is known that it cannot be decided."""
        record = instance.record
        if epoch != self._membership.epoch or record is None:
            asked.is_over = True
            return
        never = 0
        for bit, vote in asked.told.items():
            is_behind = vote.held is None or vote.held.version < record.version
            if bit & passed and vote.said == Said.GONE and is_behind:
                never |= bit
        if asked.verdict_without(never) is Verdict.LOST:
            asked.is_over = True
            self._give_up(asked.row, instance)
        elif not asked.sent & ~(asked.failed | asked.said(*Said)):
            asked.is_over = True

    def _give_up(self, row: bytes, instance: Instance) -> None:
        if self._replica.trouble.code:
            return
        try:
            self._votes.give_up(row, instance)
        except StorageError:
            return
        self._turn.counters["votes_given_up"] += 1
