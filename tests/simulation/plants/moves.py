# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of copies that move: of what is pulled from whom, when that counts, and what is dropped.

Each is a rule of the protocol that is left out, as in a model of it. `test_moves` shows what each
rule is for; here it is asked whether chance finds it too.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from quorate.core.exchanges import vote_pulls
from quorate.core.exchanges.outbox import Outbox
from quorate.core.exchanges.pulls import Pulls
from quorate.core.exchanges.sources import CopyPage, CopySources
from quorate.core.exchanges.surplus import Surplus
from quorate.core.moved_votes import ToldVote
from quorate.core.serving import Serving
from quorate.core.topology.layout import Layout
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Replicas
from quorate.core.turn import Parts
from quorate.core.values.messages import Frame, Pull, ScannedRow
from quorate.core.values.settings import majority
from quorate.core.votes import Votes
from quorate.sim.acts import CHANGES, STRIKES
from quorate.sim.draw import Options
from tests.simulation.plants.plant import Plant

_replicas: Final = Replicas.__init__
_on_frame: Final = Serving.on_frame
_sources: Final = CopySources.of
_newest: Final = CopyPage.newest
_next_partition: Final = Pulls._next_partition
_kept: Final = Pulls._kept
_adopted: Final = Surplus.adopted
_surplus: Final = Surplus.__init__

MOVES: Final = frozenset((*CHANGES, *STRIKES))
SINGLE: Final = Options(nodes=4, replication=1, faults=MOVES)
"""Worlds in which copies move, and there is one of each key."""
BEHIND: Final = Options(nodes=4, replication=3, faults=frozenset(("leave", "behind")))
"""Those in which one of three lacks something when another leaves."""
WEAK: Final = Options(nodes=4, replication=3, w=1, r=1, faults=MOVES)
"""The same where one of three may alone have what was acknowledged."""
ALONE: Final = BEHIND._replace(w=1, r=1)
"""Those in which who leaves may alone have what was acknowledged."""
LOST: Final = Options(nodes=5, replication=3, faults=frozenset(("bury", "behind")))
"""Those in which one of three lacks something when another is lost."""


def _readers_of_the_old_row(self: Replicas, rows: list[list[Peer | None]], **named: object) -> None:
    _replicas(self, rows, **named)  # type: ignore[arg-type]
    self.readers = self.readers[:1] * len(self.readers)


def _one_source(self: CopySources, partition: int) -> list[Peer] | None:
    sources = _sources(self, partition)
    return sources and sources[-1:]


def _sent_is_newest(self: CopyPage) -> dict[bytes, tuple[ScannedRow, Peer]]:
    found = _newest(self)
    for peer, told in self.answers.items():
        sent = zip(told.rows, told.records, strict=False)
        found |= {each.row: (each, peer) for each, _ in sent if each.row in found}
    return found


def _lost_ones_count(self: CopySources, partition: int) -> list[Peer] | None:
    sources, layout = _sources(self, partition), self._membership.layout
    assert layout is not None
    lost = set(layout.replicas(partition)).intersection(layout.lost)
    return sources and sources[: len(sources) - len(lost)]


def _told_at_once(self: Pulls) -> None:
    _next_partition(self)
    if not self.left:
        self._finish(self._epoch)


def _kept_of_any_epoch(self: Pulls) -> tuple[int, list[int]]:
    epoch, complete = _kept(self)
    return self._membership.epoch if epoch else 0, complete


def _leavers_are_the_last(self: CopySources, partition: int) -> list[Peer] | None:
    layout = self._membership.layout
    assert layout is not None
    row, shall = layout.replicas(partition), layout.ids(dict(layout.moves)[partition])
    peers = [self._membership.peer(each) for each in row]
    others = [each for each in peers if each is not None]
    there = [each for each in others if each.is_reachable and not each.is_lost]
    needed = len(row) - majority(len(row)) + 1 - (len(peers) - len(others))
    there.sort(key=lambda peer: (peer.id not in shall, peer.speed))
    return there[:needed] if len(there) >= needed else None


def _dropped_at_joint(
    self: Surplus, before: Layout | None, layout: Layout, *, resumed: frozenset[int]
) -> None:
    table = list(layout.table)
    for partition, shall in layout.moves:
        table[partition] = tuple([index for index in table[partition] if index in shall])
    _adopted(self, before, replace(layout, table=tuple(table)), resumed=resumed)


class _Ignored(set[int]):
    """Is asked whether it has something, and has nothing."""

    def __contains__(self, partition: object) -> bool:
        return False

    def isdisjoint(self, partitions: object) -> bool:
        del partitions
        return True


def _nothing_is_withheld(self: Surplus, parts: Parts, *named: object) -> None:
    parts.replica.withheld = _Ignored()
    _surplus(self, parts, *named)  # type: ignore[arg-type]


def _gainers_where_rows_grow(self: Layout) -> set[int]:
    found = {index for each, row in self.moves for index in set(row) - set(self.table[each])}
    return {self.members[index].id for index in found}


def _pulls_of_any_epoch(self: Serving, outbox: Outbox, frame: Frame) -> None:
    pulls = [each for each in frame.messages if type(each) is Pull]
    others = [each for each in frame.messages if type(each) is not Pull]
    _on_frame(self, outbox, replace(frame, messages=others))
    for each in pulls:
        self._on_pull(outbox, each)


def _voters_of_the_old_row(self: Replicas, rows: list[list[Peer | None]], **named: object) -> None:
    _replicas(self, rows, **named)  # type: ignore[arg-type]
    self.majorities = self.majorities[:1] * len(self.majorities)


def _taken_by_nobody(votes: Votes, told: ToldVote) -> None:
    del votes, told


PLANTS: Final = (
    Plant("a read asks the old row alone", Replicas, "__init__", _readers_of_the_old_row, SINGLE),
    Plant("a pull asks one source alone", CopySources, "of", _one_source, BEHIND),
    Plant("what came with a list is the newest", CopyPage, "newest", _sent_is_newest, LOST),
    Plant("a lost disk counts as a source", CopySources, "of", _lost_ones_count, LOST),
    Plant("who leaves need not be pulled", CopySources, "of", _leavers_are_the_last, ALONE),
    Plant("pulled is told before it is durable", Pulls, "_next_partition", _told_at_once, SINGLE),
    Plant("what was kept of another pull counts", Pulls, "_kept", _kept_of_any_epoch, SINGLE),
    Plant("copies are given up at joint", Surplus, "adopted", _dropped_at_joint, SINGLE),
    Plant("a row shrinks unpulled", Layout, "gainers", _gainers_where_rows_grow, WEAK),
)
RARE: Final = (
    Plant("what is withheld is used", Surplus, "__init__", _nothing_is_withheld, SINGLE),
    Plant(
        "a pull is answered under another layout", Serving, "on_frame", _pulls_of_any_epoch, SINGLE
    ),
    Plant("votes are not pulled", vote_pulls, "take_votes", _taken_by_nobody, BEHIND),
    Plant("a vote needs the old row alone", Replicas, "__init__", _voters_of_the_old_row, SINGLE),
)
"""What chance hardly ever finds. A copy must be given up and gained again before the disk has
dropped it; who gives a copy must miss each layout since, and still hear the question, and then take
a write; who proposes must be away for as long as a move takes, at the very moment at which its
record is decided and nobody has been told."""
