# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this node's disk is as far as it was: old disks are found out by their marks.

A directory that was put back as it was before has its id, and lacks what was acknowledged since. So
each node tells, with its pings, how far its disk is: its *mark*, the ceiling of its clock, which is
stored with all that it promises (`values.versions`), and told only once it is durable. Peers keep
the highest mark of each member: in memory at once, on disk every KEEP_MS. Who starts hears, in the
answer to each of its greetings, what that peer remembers. Is it more than what its disk has, then
this disk is an old one, and its process ends.

Example: B has heard the mark 12:58:31 of A, and A's directory is put back as it was at 12:40. B
answers A's first greeting with 12:58:31, which is above the 12:40:07 that A has found.

Invariants:
- A copy *counts*, in quorums of which reads and writes meet, only when a majority of the members
  (this node included) have said what they remember; or all have, but for those at whose URL our own
  link finds another disk: what these remembered nobody can say any more. So have votes.
- Only the first answer of a member to this process is judged: it can have heard this process's own
  marks, which are higher than what it found, in no answer but a later one. (Frames go over our own
  link, behind the answer.)
- A mark is taken from a node that our own link leads to, and kept for as long as a layout names it.

Left out: a rollback of less than a step of the ceiling, or to before the last ping that was heard,
and one whose lost time the node spent unheard by all who answer now (docs/design.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import msgspec

from quorate.core.turn import Alarm, Turn
from quorate.core.values.messages import Greeting
from quorate.core.values.settings import majority
from quorate.core.values.versions import ms_of
from quorate.errors import NotReady
from quorate.notation import show_text, show_utc

MARKS_META: Final = b"marks"
KEEP_MS: Final = 10_000
"""How long a mark that was heard may be in memory alone."""
SAID_MAX: Final = 100_000
"""Nodes whose first answer is remembered as judged; more are not judged."""


class Marks:
    """How far this node's disk is, and how far it knows those of others to be."""

    __slots__ = (
        "_alarm",
        "_found",
        "_has_news",
        "_heard",
        "_is_final",
        "_said",
        "_store",
        "_turn",
        "counted",
        "counts",
        "has_accepted",
        "own",
        "refusal",
    )

    def __init__(
        self,
        turn: Turn,
        store: Callable[[bytes, bytes | None], None],
        *,
        found: int,
        is_final: bool,
    ) -> None:
        """`found` is the ceiling on the disk; `store` keeps a meta entry. Unless `is_final`, an old
        disk is only told of: a power cut may make one, or an operator accepts it."""
        self._turn = turn
        self._alarm = Alarm(turn, self.keep)
        self._store = store
        self._found = found
        self._is_final = is_final
        self._heard: dict[int, int] = {}
        """The highest mark of each member, by its id."""
        self._has_news = False
        """Whether any is in memory alone."""
        self._said: set[int] = set()
        """Whose first answer was judged, by id."""
        self.own = found
        """What this node tells: durable."""
        self.counts = not is_final
        """Whether this node's copies count, and its votes."""
        self.counted: Callable[[], None] = lambda: None
        """Called once they do, after some time in which they did not."""
        self.has_accepted = False
        """Whether an old disk was since the node last looked: its mark is to be that of now."""
        self.refusal = ""
        """Why this disk must not be used, one line; empty if it may be."""

    def open(self, stored: bytes | None, *, is_fresh: bool) -> None:
        """Remember what an earlier run did. A directory that was never in a cluster is not old."""
        self.counts = self.counts or is_fresh
        if stored is not None:
            self._heard = msgspec.msgpack.decode(stored, type=dict[int, int])

    def reach(self, ceiling: int) -> None:
        """This ceiling is durable: it may be told."""
        self.own = ceiling

    def hear(self, node_id: int, mark: int) -> None:
        """A member told its mark."""
        if mark > self._heard.get(node_id, 0):
            self._heard[node_id] = mark
            self._has_news = True
            self._alarm.at(self._turn.mono_ms + KEEP_MS)

    def of(self, node_id: int) -> int:
        """The highest mark that was heard of a member; 0 if none was."""
        return self._heard.get(node_id, 0)

    def keep(self) -> None:
        """Store what was heard, if that is more than is stored. It is no promise, and so moves no
        mark: else nodes that are idle would keep each other writing."""
        if self._has_news:
            self._has_news = False
            self._store(MARKS_META, msgspec.msgpack.encode(self._heard))

    def forget_others(self, members: Collection[int]) -> None:
        """Remember the marks of these alone."""
        for node_id in [each for each in self._heard if each not in members]:
            del self._heard[node_id]

    def said(self, greeting: Greeting, *, is_member: bool) -> None:
        """A peer answered our greeting, and said what it remembers of us."""
        if greeting.node_id in self._said or len(self._said) >= SAID_MAX:
            return
        self._said.add(greeting.node_id)
        if not is_member or greeting.mark <= self._found or self.refusal:
            return
        found, seen = _shown(ms_of(self._found)), _shown(ms_of(greeting.mark))
        url = show_text(greeting.url)
        self._turn.note(
            "critical" if self._is_final else "warning",
            "disk_is_old",
            peer=url,
            found=found,
            seen=seen,
        )
        self.has_accepted = not self._is_final
        if self._is_final:
            self.refusal = (
                f"this disk is older than what node {url} saw of it ({found} < {seen}): its copies "
                "do not count. Start with -old-disk=refill to give them up"
            )

    def error(self) -> NotReady:
        """Why this node's copies do not count."""
        return NotReady(
            "too few members have said yet whether this node's disk is as far as it was"
        )

    def look(self, own_id: int, members: Collection[int], successor: Callable[[int], int]) -> None:
        """Count, if enough have said what they remember. `members`: the ids of all whose disks are
        known and not lost; `successor`: of the disk that is where one of them was, or 0."""
        if self.counts or own_id not in members or self.refusal:
            return
        heard = {own_id} | self._said.intersection(members)
        self.counts = len(heard) >= majority(len(members)) or all(
            [each in heard or successor(each) in self._said for each in members]
        )
        if self.counts:
            self.counted()


def _shown(ms: int) -> str:
    """To the millisecond: the two may lie in one second."""
    return f"{show_utc(ms)}.{ms % 1000:03}" if ms else show_utc(ms)
