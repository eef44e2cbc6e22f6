# SPDX-License-Identifier: GPL-3.0-or-later
"""What a read-modify-write is built on, by what replicas told."""

from __future__ import annotations

from quorate.core.exchanges.rounds import Round
from quorate.core.topology.topology import Groups, lacking
from quorate.core.values.messages import RowVote
from quorate.core.values.record import Record
from quorate.core.values.versions import ABSENT


def newest(asked: Round, votes: dict[int, RowVote]) -> Record | None:
    """The newest record that was told, or that this node had and others need not send."""
    found: Record | None = None
    if any([vote.base == asked.known for vote in votes.values()]):
        found = asked.held
    for vote in votes.values():
        held = vote.held
        if held is not None and (found is None or held.version > found.version):
            found = held
    return found


def holders(votes: dict[int, RowVote], base: bytes) -> int:
    """The replicas that tell this base."""
    found = 0
    for bit, vote in votes.items():
        if vote.base == base:
            found |= bit
    return found


def base_of(record: Record | None, votes: dict[int, RowVote], majorities: Groups) -> bytes | None:
    """The version to build on, `record` being the newest that is held. None if the replicas tell of
    different locks.

    A phantom that a majority tells is above all that could be finished below it, whatever live
    record one replica has there. Short of a majority it says nothing against a live record: some
    replica may have locked, and the others taken that record since.
    """
    highest = max([vote.base for vote in votes.values()])
    version = ABSENT if record is None else record.version
    if version == highest:
        return version
    for base in sorted({vote.base for vote in votes.values()}, reverse=True):
        if base > version and not lacking(holders(votes, base), majorities):
            return base
    is_told = any([vote.base == version for vote in votes.values()])
    return version if is_told and record is not None and not record.is_tombstone else None
