# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting what others voted on the rows of a partition (`core.moved_votes`), for `exchanges.pulls`.

Sources are asked a page at a time, each from where it ended: what one tells is true by itself, so
their pages need not end at one row. What they told waits until the rows are here: that an instance
is resolved is true of who holds what resolved it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent
from quorate.core.moved_votes import ToldVote, take_votes
from quorate.core.topology.peer import Peer
from quorate.core.turn import Parts
from quorate.core.values.messages import Pull, PulledVotes
from quorate.core.values.slots import ascend, partition_bounds
from quorate.core.values.versions import ABSENT
from quorate.errors import StorageError

PAGE_VOTES_MAX: Final = 200
_VotePlace = tuple[bytes, bytes]
"""Row, and the version of the instance, that a source told last."""
_BEGINNING: Final[_VotePlace] = b"", ABSENT


class VotePage:
    """What some sources are asked at once."""

    __slots__ = ("began_ms", "damaged", "is_short", "partition", "pending")

    def __init__(self, partition: int, began_ms: int, pending: int) -> None:
        self.partition = partition
        self.began_ms = began_ms
        self.pending = pending
        """Answers to come."""
        self.is_short = False
        """Whether it is to be tried again."""
        self.damaged: set[Peer] = set()
        """Sources that cannot read what comes next."""


class VotePulls:
    """The exchange that gets votes."""

    __slots__ = ("_done", "_outboxes", "_page", "_parts", "_places", "_told")

    def __init__(
        self, parts: Parts, outboxes: list[Outbox], done: Callable[[VotePage], None]
    ) -> None:
        """`done` is told of each page, unless another partition was begun meanwhile."""
        self._parts = parts
        self._outboxes = outboxes
        self._done = done
        self._page: VotePage | None = None
        self._places: dict[Peer, _VotePlace | None] = {}
        """How far each source has told; None: to the end."""
        self._told: list[list[ToldVote]] = []
        """What waits to be taken."""

    @property
    def is_asking(self) -> bool:
        """Whether a page is under way."""
        return self._page is not None

    @property
    def has_untaken(self) -> bool:
        """Whether some told what was not taken yet."""
        return bool(self._told)

    def begin(self) -> None:
        """Nothing is known of the next partition, or of this one any more."""
        self._page, self._places, self._told = None, {}, []

    def wanting(self, sources: list[Peer]) -> list[Peer]:
        """Those that have more to tell."""
        return [peer for peer in sources if self._places.get(peer, _BEGINNING) is not None]

    def ask(self, partition: int, peers: list[Peer]) -> None:
        """Ask these for their next page."""
        self._page = page = VotePage(partition, self._parts.turn.mono_ms, len(peers))
        for peer in peers:
            after, base = self._places.get(peer) or _BEGINNING
            outbox = self._outboxes[peer.index]
            sent = Sent(outbox, self, PulledVotes, [page], ITEM_BYTES)
            outbox.send(sent, Pull(sent.batch, partition, after, PAGE_VOTES_MAX, base))

    def answered(self, peer: Peer, ops: list[VotePage], answer: PulledVotes) -> None:
        """A source told its votes."""
        page = ops[0]
        if page is not self._page:
            return
        if answer.failed:
            page.damaged.add(peer)
        elif self._is_fit(peer, page.partition, answer):
            self._places[peer] = _place_of(answer.votes[-1]) if answer.more else None
            self._told.append(answer.votes)
        else:
            page.is_short = True
        self._heard(page)

    def lost(self, peer: Peer, ops: list[VotePage]) -> None:
        """A source did not answer."""
        del peer
        ops[0].is_short = True
        self._heard(ops[0])

    def _heard(self, page: VotePage) -> None:
        page.pending -= 1
        if page.pending or page is not self._page:
            return
        self._page = None
        self._done(page)

    def take(self) -> bool:
        """Remember what was told; False if that cannot be now: then it has to be told again. Once
        more makes no difference."""
        parts = self._parts
        if self._told and parts.replica.trouble.code:
            self.begin()
            return False
        try:
            for votes in self._told:
                for told in votes:
                    take_votes(parts.votes, told)
                parts.turn.counters["pulled_votes"] += len(votes)
        except StorageError:
            self.begin()
            return False
        self._told = []
        return True

    def _is_fit(self, peer: Peer, partition: int, answer: PulledVotes) -> bool:
        """Whether these are of rows of the partition, in order, behind what the source told; and
        some, if it has more."""
        if not answer.votes:
            return not answer.more
        places = [_place_of(told) for told in answer.votes]
        first, past = partition_bounds(partition)
        before = self._places.get(peer) or _BEGINNING
        rows = first <= places[0][0] and places[-1][0] < past
        return rows and ascend(places, before)


def _place_of(told: ToldVote) -> _VotePlace:
    row, _, _, instance = told
    return row, ABSENT if instance is None else instance.base
