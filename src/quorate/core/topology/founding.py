# SPDX-License-Identifier: GPL-3.0-or-later
"""Who founds a cluster together, where no list says it (`-expect`): this node's part, as a pure
state machine.

Nodes that see each other agree on one list of exactly so many founders, which then is what `-nodes`
would have said. The rule that keeps two clusters from having a founder in common:

    A node promises to one list in its life, on disk, before it says so to anybody; and a list
    founds a cluster once every node of it has said that it promised to it.

So two lists with a common node never both found one, whatever is lost, late or restarted; two lists
that share nobody may: six nodes that expect three can be two clusters. A majority would not do: the
lists {A, B, C} and {B, C, D} each have one with B alone in between.

As a promise is for life, it is made only when all are likely to make the same. So a node first asks
all of its list whether they are free; who is holds itself free for that list a while, and answers
no other. All are: it promises, and asks them to. Whoever promised asks the others until all have.

    A -> B, C  ASK [A, B, C]          B, C -> A  FREE [A, B, C]
    A promises, on disk
    A -> B, C  PROMISE [A, B, C]      B, C promise, on disk, and -> all  PROMISED [A, B, C]

The node of the lowest id asks first, others some seconds later, by turns; who asks gives way to one
of a lower id. All that is not the promise may be lost or forgotten, and costs time.

A node that promised to a list that can never be founded, as another of it promised to a second one,
can found nothing any more. It goes to a cluster that a node of its list shows it, or begins with an
empty directory, and so as another node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from quorate.core.values.messages import Foundation, FoundStage

if TYPE_CHECKING:
    from random import Random

Founder = tuple[int, str]
"""The id of a disk, and where it is."""
Addressed = tuple[int, Foundation]
"""To whom, and what."""

ASK_MS: Final = 1_000
"""How long a node waits until all of its list are free."""
HOLD_MS: Final = 4_000
"""How long a node holds itself free for a list."""
TURN_MS: Final = 2_000
"""By how much later than the one before each node asks."""
AGAIN_MS: Final = 1_000
"""How often who promised asks the others to."""


class Founding:
    """One node's part. `keep` is what is to be stored at once, if anything; `kept` says that it is
    durable. `founded` is the list, once it is one."""

    __slots__ = (
        "_again_ms",
        "_asked_until_ms",
        "_count",
        "_free",
        "_held",
        "_held_until_ms",
        "_is_durable",
        "_own",
        "_random",
        "_replication",
        "_since_ms",
        "_yes",
        "founded",
        "keep",
        "promised",
    )

    def __init__(
        self, own: Founder, *, count: int, replication: int, stored: bytes | None, random: Random
    ) -> None:
        """`count` founders are expected; `stored` is what an earlier process was told to keep."""
        self._own = own
        self._count = count
        self._replication = replication
        self._random = random
        self.promised: tuple[Founder, ...] = decode_promise(stored)
        """To which list; empty while to none."""
        self._is_durable = stored is not None
        self._yes: set[int] = {own[0]} if stored is not None else set()
        """Who is known to have promised to it."""
        self._again_ms = 0
        self._held: tuple[Founder, ...] = ()
        """For which list it holds itself free."""
        self._held_until_ms = 0
        self._free: set[int] = set()
        """Who is, for the list that this node asks about; empty while it asks about none."""
        self._asked_until_ms = 0
        self._since_ms: int | None = None
        """Since when as many are seen as are expected."""
        self.keep: bytes | None = None
        self.founded: tuple[Founder, ...] = ()

    def look(self, now_ms: int, seen: Iterable[Founder]) -> list[Addressed]:
        """What to say now; `seen` are the others that can be reached and look for founders too."""
        if self.founded:
            return []
        if self.promised:
            return self._urge(now_ms)
        everybody = sorted([*seen, self._own])
        if len(everybody) < self._count:
            self._since_ms = None
            return []
        if self._since_ms is None:
            self._since_ms = now_ms
        if self._free and now_ms >= self._asked_until_ms:
            # Not all are free. Who tried at the same time shall not try again at the same time.
            self._free = set()
            self._since_ms = now_ms + self._random.randrange(TURN_MS)
        rank = everybody.index(self._own)
        is_held = now_ms < self._held_until_ms
        if self._free or is_held or now_ms < self._since_ms + rank * TURN_MS:
            return []
        return self._ask(now_ms, everybody)

    def _ask(self, now_ms: int, everybody: list[Founder]) -> list[Addressed]:
        first = everybody[: self._count]
        if self._own not in first:
            first = [*first[:-1], self._own]
        self._hold(tuple(first), now_ms)
        self._free = {self._own[0]}
        self._asked_until_ms = now_ms + ASK_MS
        return self._settle() or self._say(FoundStage.ASK, self._held)

    def hear(self, sender: int, message: Foundation, now_ms: int) -> list[Addressed]:
        """Take what another node says; what to say to that."""
        founders = tuple(message.founders)
        if not self._is_ours(sender, founders, message.replication):
            return []
        if message.stage == FoundStage.PROMISED:
            if founders == self.promised:
                self._yes.add(sender)
                self._count_promises()
        elif message.stage == FoundStage.FREE:
            if self._free and founders == self._held and not self.promised:
                self._free.add(sender)
                return self._settle()
        elif message.stage == FoundStage.ASK:
            return self._answer_ask(sender, founders, now_ms)
        elif not self.promised and (self._held == founders or now_ms >= self._held_until_ms):
            self._promise(founders)
        elif founders == self.promised and self._is_durable:
            return [(sender, self._message(FoundStage.PROMISED, founders))]
        return []

    def kept(self) -> list[Addressed]:
        """What was to be kept is durable: what to say now."""
        if self._is_durable or not self.promised:
            return []
        self._is_durable = True
        self._yes.add(self._own[0])
        self._count_promises()
        return self._say(FoundStage.PROMISED, self.promised)

    def waits_for(self) -> list[str]:
        """Where those are that have not said that they promised to this node's list."""
        return [url for node_id, url in self.promised if node_id not in self._yes]

    # --- parts of these --------------------------------------------------------------------------

    def _is_ours(self, sender: int, founders: tuple[Founder, ...], replication: int) -> bool:
        """Whether it is a list that this node could be of."""
        ids = {node_id for node_id, _ in founders}
        urls = {url for _, url in founders}
        return (
            len(founders) == len(ids) == len(urls) == self._count
            and self._own in founders
            and sender in ids
            and sender != self._own[0]
            and list(founders) == sorted(founders)
            and replication == self._replication
        )

    def _answer_ask(
        self, sender: int, founders: tuple[Founder, ...], now_ms: int
    ) -> list[Addressed]:
        is_held = now_ms < self._held_until_ms and self._held != founders
        gives_way = bool(self._free) and sender < self._own[0]
        if (self.promised and self.promised != founders) or (is_held and not gives_way):
            return []
        if self._held != founders:
            self._free = set()
        self._hold(founders, now_ms)
        return [(sender, self._message(FoundStage.FREE, founders))]

    def _hold(self, founders: tuple[Founder, ...], now_ms: int) -> None:
        self._held = founders
        self._held_until_ms = now_ms + HOLD_MS

    def _settle(self) -> list[Addressed]:
        """Promise, once all are free."""
        if len(self._free) < self._count:
            return []
        self._promise(self._held)
        return self._say(FoundStage.PROMISE, self.promised)

    def _promise(self, founders: tuple[Founder, ...]) -> None:
        assert not self.promised, "a node promises once in its life"
        self.promised = founders
        self.keep = msgspec.msgpack.encode(founders)

    def _urge(self, now_ms: int) -> list[Addressed]:
        if now_ms < self._again_ms:
            return []
        self._again_ms = now_ms + AGAIN_MS
        said = self._say(FoundStage.PROMISE, self.promised)
        return [(node_id, message) for node_id, message in said if node_id not in self._yes]

    def _count_promises(self) -> None:
        if self._is_durable and len(self._yes) == self._count:
            self.founded = self.promised

    def _say(self, stage: FoundStage, founders: Sequence[Founder]) -> list[Addressed]:
        """The same to all others of a list."""
        message = self._message(stage, founders)
        return [(node_id, message) for node_id, _ in founders if node_id != self._own[0]]

    def _message(self, stage: FoundStage, founders: Sequence[Founder]) -> Foundation:
        return Foundation(stage, list(founders), self._replication)


def decode_promise(stored: bytes | None) -> tuple[Founder, ...]:
    """The list that a node promised to; empty if it promised to none."""
    return () if stored is None else msgspec.msgpack.decode(stored, type=tuple[Founder, ...])
