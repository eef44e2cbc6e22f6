# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a node asks for the copy of a partition that it gains, and what their lists are worth: see
`exchanges.pulls`."""

from __future__ import annotations

from collections.abc import Collection
from operator import attrgetter
from typing import Final, NamedTuple

from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.turn import Parts
from quorate.core.values.messages import ScannedRow, ScannedRows
from quorate.core.values.record import Record
from quorate.core.values.settings import majority
from quorate.core.values.slots import ascend, key_of, partition_bounds
from quorate.core.values.versions import ABSENT, made_of, ms_of, stamp_of
from quorate.notation import show_utc

_speed: Final = attrgetter("speed")
_CUT_TO: Final = 3
"""Shorter rows of a cluster that was recovered may be what that left, whatever N is by now."""


class Ahead(NamedTuple):
    """What sources list that is further ahead than clocks may differ, and is not here yet."""

    agreed: dict[bytes, bytes]
    """By row: the version that a majority of its replicas list. It is taken: no later write can
    beat it, whoever else has it, and one wrong clock alone did not spread it."""
    passed: set[tuple[bytes, bytes]]
    """Rows and versions above that which are left out: only replicas that stay list them, and
    enough others have told of the row."""
    at: set[Peer]
    """Who lists anything else above that."""


NOTHING_AHEAD: Final = Ahead({}, set(), set())


class CopyPage:
    """Some rows of one partition, while they are asked for."""

    __slots__ = ("ahead", "answers", "began_ms", "bound", "is_short", "partition", "pending")

    def __init__(self, partition: int, began_ms: int) -> None:
        self.partition = partition
        self.began_ms = began_ms
        self.answers: dict[Peer, ScannedRows] = {}
        self.pending = 0
        """Answers to come."""
        self.bound = b""
        """Up to which row all of these have told; empty if to the end of the partition."""
        self.ahead = NOTHING_AHEAD
        self.is_short = False
        """Whether it is to be tried again."""

    def newest(self) -> dict[bytes, tuple[ScannedRow, Peer]]:
        """By row: the newest version that is listed, and by whom; who sent its record, if anybody
        of them did."""
        found: dict[bytes, tuple[ScannedRow, Peer]] = {}
        sound = [(peer, told) for peer, told in self.answers.items() if not told.failed]
        for peer, told in sorted(sound, key=_has_sent, reverse=True):
            for each in told.rows:
                if self.bound and each.row > self.bound:
                    break
                if (each.row, each.version) in self.ahead.passed:
                    continue
                known = found.get(each.row)
                if known is None or each.version > known[0].version:
                    found[each.row] = each, peer
        return found

    def sent(self, wanted: dict[Peer, list[bytes]]) -> list[tuple[bytes, Record]]:
        """The records of these rows that came with the lists. They are taken out of `wanted`: the
        rest is to be asked for."""
        found: list[tuple[bytes, Record]] = []
        for peer, rows in [*wanted.items()]:
            told = self.answers[peer]
            sent = {each.row: body for each, body in zip(told.rows, told.records, strict=False)}
            found += [(row, sent[row]) for row in rows if row in sent]
            wanted[peer] = [row for row in rows if row not in sent]
            if not wanted[peer]:
                del wanted[peer]
        return found


class CopySources:
    """Those of the partition that is under way."""

    __slots__ = ("_membership", "_parts", "ahead", "damaged", "distrusted", "why_none")

    def __init__(self, parts: Parts, membership: Membership) -> None:
        self._parts = parts
        self._membership = membership
        self.damaged: set[Peer] = set()
        """Those that cannot read what comes next."""
        self.distrusted: set[Peer] = set()
        """Those that listed what is stamped too far ahead."""
        self.ahead = ""
        """Which row of these pages is, where, and until when, in words; empty if none is."""
        self.why_none = ""
        """Why there was none for a partition."""

    def begin(self) -> None:
        """Nothing is known of the partition that comes next."""
        self.damaged, self.distrusted, self.ahead = set(), set(), ""

    def facts(self, after: bytes) -> dict[str, str]:
        """What does not let rows behind `after` be got, for the log."""
        at = ", ".join(sorted([peer.url for peer in self.damaged | self.distrusted]))
        facts = {"after": repr(after), "at": at}
        return {**facts, "ahead": self.ahead} if self.ahead else facts

    def of(self, partition: int) -> list[Peer] | None:
        """The replicas to get a partition's rows from: N - majority + 1 of them, so that each
        acknowledged write, which a majority holds, is on one. Of three replicas that is two.

        All that leave the partition are among them, then the fastest of the others; no more of
        those that are distrusted than it takes. This node's own copy counts as one, if it has one:
        so the list is empty if one of two copies is lost and this node has the other. None if too
        few can be asked now; `why_none` says why."""
        needed, must, stay = self._replicas(partition)
        others = [each for each in stay if each.is_reachable and each not in self.damaged]
        for peer in must:
            if not peer.is_reachable:
                self.why_none = f"partition {partition} waits for {peer.url}: {_why(peer)}"
                return None
        needed -= len([peer for peer in must if peer not in self.damaged])
        others.sort(key=_speed)
        if len(others) < needed:
            self.why_none = (
                f"partition {partition} waits for {needed} of its replicas to be reachable, "
                f"readable; {len(others)} are"
            )
            return None
        trusted = [peer for peer in others if peer not in self.distrusted]
        more = needed + len([peer for peer in must if peer in self.distrusted - self.damaged])
        # Where those are too few, all are asked: a majority may have the very same.
        return must + (trusted[: max(more, 0)] if len(trusted) >= more else others)

    def _replicas(self, partition: int) -> tuple[int, list[Peer], list[Peer]]:
        """How many replicas must be heard, and whom to ask: those that leave the partition, and
        those that stay. Lost disks are in neither.

        The number is N - majority + 1, less this node's own copy and less each founder that was
        never met, which acknowledged nothing; at least 1 if anybody has a copy and this node has
        none. Where recovery left too few of a row, all whose disks are not lost must be heard, as
        one may have an acknowledged write alone: of five copies two are left, and a write was on
        three."""
        membership, layout = self._membership, self._membership.layout
        assert layout is not None
        row, shall = layout.table[partition], dict(layout.moves)[partition]
        needed, least = len(row) - majority(len(row)) + 1, 1
        if layout.recovery and len(row) < max(majority(layout.replication), _CUT_TO):
            needed = len([index for index in row if layout.members[index].id not in layout.lost])
        leaving: list[Peer] = []
        staying: list[Peer] = []
        for index in row:
            member = layout.members[index]
            peer = membership.peer(member.id)
            if peer is None or not member.is_bound:
                needed -= 1
            elif not peer.is_lost:
                (staying if index in shall else leaving).append(peer)
            if peer is None:
                least = 0
        return max(needed, least if leaving or staying else 0), leaving, staying

    def sound(self, sources: list[Peer]) -> list[Peer]:
        """The sources that can read their next rows: without those of `damaged`, which `of` keeps
        in its list if they leave the partition. N - majority + 1 remain."""
        return [each for each in sources if each not in self.damaged]

    def judge(self, page: CopyPage) -> None:
        """See how far a page goes that all have answered, and what there is stamped too far ahead.
        StorageError if what is here cannot be read."""
        page.bound = _bound_of(page.answers.values())
        page.ahead = self._ahead_in(page.answers, page.bound, page.partition)

    def _ahead_in(self, answers: dict[Peer, ScannedRows], bound: bytes, partition: int) -> Ahead:
        turn, listed = self._parts.turn, dict[bytes, dict[bytes, set[Peer]]]()
        for peer, told in answers.items():
            for each in told.rows:
                if bound and each.row > bound:
                    break
                if turn.is_ahead(each.version) and self._is_news(each.row, each.version):
                    listed.setdefault(each.row, {}).setdefault(each.version, set()).add(peer)
        if not listed:
            return NOTHING_AHEAD
        layout = self._membership.layout
        assert layout is not None
        enough = majority(len(layout.table[partition]))
        needed, leaving, _ = self._replicas(partition)
        told_by = {peer for peer, told in answers.items() if not told.failed}
        ahead = Ahead({}, set(), set())
        for row, versions in sorted(listed.items()):
            for version in [each for each, at in versions.items() if len(at) >= enough]:
                ahead.agreed[row] = version
            rest = {v: at for v, at in versions.items() if v > ahead.agreed.get(row, ABSENT)}
            if not rest:
                continue
            at = set[Peer]().union(*rest.values())
            if at.isdisjoint(leaving) and len(told_by - at) >= needed:
                ahead.passed.update([(row, version) for version in rest])
                continue
            if not ahead.at:
                self.ahead = _in_words(row, min(rest), rest[min(rest)], self._parts)
            ahead.at.update(at)
        return ahead

    def _is_news(self, row: bytes, version: bytes) -> bool:
        """Whether nothing as new is here. StorageError if what is here cannot be read."""
        held = self._parts.replica.latest(row)
        return held is None or held.version < version

    def count_own(self, partition: int) -> bool:
        """Whether this node has had a copy of the partition all along, which counts with others: of
        a row that becomes shorter."""
        layout = self._membership.layout
        assert layout is not None
        return any([self._membership.peer(each) is None for each in layout.replicas(partition)])

    def is_any_away(self, partition: int) -> bool:
        """Whether a replica that may have what the others cannot read is not there."""
        layout = self._membership.layout
        assert layout is not None
        peers = [self._membership.peer(each) for each in layout.replicas(partition)]
        return any([peer is not None and not (peer.is_there or peer.is_lost) for peer in peers])


def _why(peer: Peer) -> str:
    return "down" if not peer.is_up else "no link to it" if not peer.is_linked else "too busy"


def _has_sent(answer: tuple[Peer, ScannedRows]) -> bool:
    return bool(answer[1].records)


def is_fit(answer: ScannedRows, partition: int, after: bytes) -> bool:
    """Whether these are rows of a partition behind `after`, in order; and some, if it has more."""
    rows = [each.row for each in answer.rows]
    first, past = partition_bounds(partition)
    if not rows:
        return not answer.more
    return ascend(rows, after) and first <= rows[0] and rows[-1] < past


def _bound_of(answers: Collection[ScannedRows]) -> bytes:
    sound = [told for told in answers if not told.failed]
    if len(sound) < len(answers):
        # Who leaves and cannot read its next row is asked again behind the next row of others.
        return min([told.rows[0].row for told in sound if told.rows], default=b"")
    # Past the last row of a page that was cut, that source has not spoken yet.
    return min([told.rows[-1].row for told in sound if told.more], default=b"")


def _in_words(row: bytes, version: bytes, peers: set[Peer], parts: Parts) -> str:
    """Which key is stamped too far ahead, where, and until when it is."""
    ms = ms_of(max(stamp_of(version), made_of(version))) - parts.settings.max_clock_skew_ms
    urls = ", ".join(sorted([peer.url for peer in peers]))
    return f"key {key_of(row)!r} at {urls} is stamped too far ahead until {show_utc(ms)} UTC"
