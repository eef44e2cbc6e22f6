# SPDX-License-Identifier: GPL-3.0-or-later
"""A replica tells a promise or an acceptance only when a power cut would leave it (I7).

One that is told, counted and lost may be given once more, otherwise. For a client to see that takes
two more faults at the right time: who proposed must not come to write what was decided.
"""

from __future__ import annotations

from quorate.core.horizons import beginning
from quorate.core.values.events import PeerFrame
from quorate.core.values.messages import NO_BALLOT, AcceptRows, PrepareRows, RowVote, Said
from quorate.core.values.slots import partition_of
from quorate.core.values.versions import chain_of
from quorate.core.votes import decode_votes, is_phantom
from quorate.sim.checkers.watch import Judge, Step
from quorate.sim.machine import Machine

_GIVEN = (Said.PROMISED, Said.ACCEPTED)


class VotesTold(Judge):
    """Looks at the disk whenever a replica tells its votes."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[tuple[Machine, int, int, int], list[tuple[bytes, bytes | None]]] = {}
        """Row and base of each question that is not answered, by the machine and which of its
        lives, and by who asked in which batch."""

    def look(self, step: Step) -> None:
        """Judge the votes that a step tells."""
        machine, life = step.machine, step.machine.life
        frames = [event for event in machine.events if isinstance(event, PeerFrame)]
        for peer, message in [(each.peer, said) for each in frames for said in each.frame.messages]:
            if isinstance(message, PrepareRows | AcceptRows):
                place = machine, life, peer, message.batch
                self._asked[place] = [(item[0], item[1]) for item in message.items]
        for peer, answer in step.voted:
            # A frame that came twice is answered twice.
            asked = self._asked.pop((machine, life, peer, answer.batch), [])
            for (row, base), vote in zip(asked, answer.votes, strict=False):
                if vote.said in _GIVEN:
                    self._judge(machine, row, vote.base if base is None else base, vote)

    def _judge(self, machine: Machine, row: bytes, base: bytes, vote: RowVote) -> None:
        disk = machine.disk
        # What was damaged or given up since is told to nobody any more.
        if disk.vote_rots[row] or disk.drops(row) or _is_durable(machine, row, base, vote):
            return
        told = f"{machine.url} tells {Said(vote.said).name} for {base.hex()}: a power cut loses it"
        self.blame("I7", told, row)


def _is_durable(machine: Machine, row: bytes, base: bytes, vote: RowVote) -> bool:
    disk, slice_ms = machine.disk, machine.settings.slice_ms
    _, horizon = disk.fence(partition_of(row))
    if base < beginning(horizon, slice_ms):
        return True  # Gone with what was collected.
    blob = disk.durable_votes(row)
    if blob is None:
        return False
    votes = decode_votes(blob)
    # What was accepted on a phantom may have been given up, as it can be decided no more.
    accepted = NO_BALLOT if is_phantom(base) else vote.accepted
    return base <= votes.floor or any(
        [
            each.is_resolved or (each.promised >= vote.promised and each.accepted >= accepted)
            for each in votes.instances
            # What is resolved speaks for all that is below on its chain.
            if each.base == base
            or (each.is_resolved and each.base > base and chain_of(each.base) == chain_of(base))
        ]
    )
