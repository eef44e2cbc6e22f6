# SPDX-License-Identifier: GPL-3.0-or-later
"""Getting the copies that a joint layout gives this node.

A partition moves on when who gains it has *pulled*: has heard, of each row, what N - majority + 1
of the replicas hold that had it before, and what each of them holds that leaves it, but for those
whose disk is lost. So nothing that was acknowledged by W of them, or by a leaving one alone, can
be missing. Each source has adopted this very layout, durably, before it tells, and so acknowledges
nothing under an earlier one that it has not told.

For example: partition 5 moves from 17, 23 and 42 to 17, 23 and 99; the disk 42 is lost. 99 asks 17
and 23 (two are N - majority + 1), a page of rows at a time, which versions each has. 17 sends its
records, too; of rows of which 23 has a newer version, that one is then asked for its record. What
99 acknowledges itself meanwhile is newer, and stays. With the first page it asks what each has
voted on successors (`core.moved_votes`), and takes that in when all rows are here.

In place of a source whose record is stamped further ahead than clocks may differ others are asked:
one wrong clock must not have two copies. What a majority of the replicas list is taken all the
same, and nothing that who leaves may have acknowledged alone is left out.

Where the sources have all locked what is old, or one has dropped some of it (`core.horizons`), so
has this node from the first page on; what it took before and they would refuse goes. Garbage below
the horizon goes when all is there.

One small page is under way at a time, and then there is a rest of as long as it took: clients are
served meanwhile. What is done is kept with the number of the layout: after a restart only the
partition that was under way is listed again, and nothing that was done for another layout counts.

Source: checked as `pull` in a model of the protocol, with each of these conditions left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from quorate.core.exchanges.outbox import ITEM_BYTES, Outbox, Sent, SentQuestions
from quorate.core.exchanges.sources import CopyPage, CopySources, is_fit
from quorate.core.exchanges.surplus import Surplus
from quorate.core.exchanges.vote_pulls import VotePage, VotePulls
from quorate.core.horizons import pulled_lock
from quorate.core.topology.layout import Layout
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Parts
from quorate.core.values.messages import Pull, Read, ReadAnswer, ScannedRow, ScannedRows
from quorate.core.values.record import Record
from quorate.core.values.slots import PAGE_BYTES, partition_bounds
from quorate.errors import StorageError

PULL_META: Final = b"pull"
"""The epoch for which copies are being got, and the partitions that are complete."""
PAGE_ROWS_MAX: Final = 25
PAGE_ROWS_MIN: Final = 1
OWN_ROWS_MAX: Final = 500
"""Looked at for a page, of what this node has already."""
AGAIN_MS: Final = 500
"""Until a page is tried again that could not be had."""
UNREADABLE_MS: Final = 5_000
"""After which a partition is done without that too few replicas can read."""
WAIT_NOTED_MS: Final = 10_000
"""What waits for so long is told in the log."""


class Pulls:
    """The exchange that lists rows and gets their records."""

    __slots__ = (
        "_after",
        "_alarm",
        "_bodies",
        "_complete",
        "_done",
        "_due_ms",
        "_epoch",
        "_gained",
        "_has_rows",
        "_horizon",
        "_membership",
        "_outboxes",
        "_page",
        "_parts",
        "_replica",
        "_row_bytes",
        "_sources",
        "_stored",
        "_surplus",
        "_turn",
        "_votes",
        "left",
        "pulled",
        "since_ms",
        "unreadable",
        "waits_for",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        outboxes: list[Outbox],
        done: Callable[[], None],
        gained: Callable[[int], None],
    ) -> None:
        """`done` is told when all is pulled, `gained` of each partition."""
        self._parts = parts
        self._turn = parts.turn
        self._replica = parts.replica
        self._membership = membership
        self._outboxes = outboxes
        self._stored = parts.replica.meta(PULL_META)
        self._done = done
        self._gained = gained
        self._alarm = Alarm(parts.turn, self._go_on)
        self._bodies = _Bodies(self)
        self._sources = CopySources(parts, membership)
        self._votes = VotePulls(parts, outboxes, self._voted)
        self._surplus = Surplus(parts, self._dropped)
        self._epoch = 0
        """Of the layout that it pulls for."""
        self._complete: list[int] = []
        self.left: list[int] = []
        """Partitions to pull; the first is under way."""
        self.unreadable: list[int] = []
        """Partitions that it does without for this layout: too few replicas can read them."""
        self.pulled = 0
        """The epoch for which all is pulled, durably; 0 if none."""
        self.waits_for = ""
        """Why it does not go on, one line; empty while it does."""
        self.since_ms = 0
        """When it last came forward."""
        self._page: CopyPage | None = None
        self._after = b""
        """Rows of the partition up to and including it are done."""
        self._horizon = 0
        """Of the partition: the highest of those from whom it is got."""
        self._has_rows = False
        """Whether all rows of the partition are here, and only votes are wanting."""
        self._row_bytes = 0
        """What a record lately took, about."""
        self._due_ms = 0

    def _kept(self) -> tuple[int, list[int]]:
        if self._stored is None:
            return 0, []
        return msgspec.msgpack.decode(self._stored, type=tuple[int, list[int]])

    def adopted(self, before: Layout | None, layout: Layout) -> None:
        """Another layout is in force, or the node starts (`before` is None): drop what that does
        not give it, and pull what it does."""
        node_id = self._parts.settings.node_id
        wanted = layout.gaining(node_id) if node_id not in layout.lost else []
        epoch, complete = self._kept()
        resumed = frozenset(wanted if epoch == layout.epoch else ())
        self._surplus.adopted(before, layout, resumed=resumed)
        self._complete = complete if epoch == layout.epoch else []
        self._epoch = layout.epoch
        self.left = [each for each in wanted if each not in self._complete]
        self.pulled = layout.epoch if wanted and not self.left else 0
        self._due_ms = 0
        self._forget_partition()
        self.unreadable = []
        self.waits_for, self.since_ms = "", self._turn.mono_ms
        if wanted and epoch != layout.epoch and not self._is_withheld():
            # With the layout: what is kept from now on is not left over from an earlier one.
            self._keep()
        self._alarm.soon()

    def _dropped(self) -> None:
        """No copies of an earlier layout are left, from this step on."""
        if self.left:
            self._keep()
            self._alarm.soon()

    def _is_withheld(self) -> bool:
        return not self._replica.withheld.isdisjoint(self.left)

    def _keep(self) -> None:
        self._stored = msgspec.msgpack.encode((self._epoch, self._complete))
        self._replica.put_meta(PULL_META, self._stored)

    # --- asking ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Ask for the next page, if none is under way and it is time."""
        is_asking = self._page is not None or self._votes.is_asking
        if not self.left or is_asking or self._is_withheld():
            return
        now = self._turn.mono_ms
        if now < self._due_ms:
            self._alarm.at(self._due_ms)
            return
        partition = self.left[0]
        sources = self._sources.of(partition)
        if sources is None:
            self._wait(partition)
        elif sources and not self._has_rows:
            self._ask(partition, sources)
        elif not self._votes.take():
            self._try_again()
        elif wanting := self._votes.wanting(self._sources.sound(sources)):
            self._votes.ask(partition, wanting)
        else:
            self._gain()

    def _wait(self, partition: int) -> None:
        """Nobody can be asked."""
        sources, now = self._sources, self._turn.mono_ms
        self.waits_for = sources.why_none
        is_late = now - self.since_ms >= UNREADABLE_MS
        if sources.damaged and is_late and not sources.is_any_away(partition):
            self._put_aside(partition)
            return
        # Damage may be mended meanwhile, as by a write.
        sources.damaged = set()
        self._try_again()

    def _ask(self, partition: int, sources: list[Peer]) -> None:
        """Ask for the next page of rows."""
        self._page = page = CopyPage(partition, self._turn.mono_ms)
        page.pending = len(sources)
        limit = PAGE_ROWS_MAX
        if self._row_bytes:
            limit = min(max(PAGE_BYTES // self._row_bytes, PAGE_ROWS_MIN), PAGE_ROWS_MAX)
        sound = self._sources.sound(sources)
        # Most rows are the same everywhere, so the records come with one list: but for a copy that
        # was here all along, which has most of them.
        full = [] if self._sources.count_own(partition) else sound[:1]
        for peer in sources:
            outbox = self._outboxes[peer.index]
            sent = Sent(outbox, self, ScannedRows, [page], ITEM_BYTES)
            pull = Pull(sent.batch, partition, self._after, limit, is_full=peer in full)
            outbox.send(sent, pull)
        wanting = self._votes.wanting(sound)
        if wanting and not self._after and not self._votes.has_untaken:
            self._votes.ask(partition, wanting)

    def _put_aside(self, partition: int) -> None:
        """Do without a partition of which too few replicas can read what they have: the layout goes
        on without it, and tries again later. Nobody guesses what the damaged bytes were."""
        facts = self._sources.facts(self._after)
        self._turn.note("error", "partition_unreadable", partition=partition, **facts)
        self.left.remove(partition)
        self.unreadable.append(partition)
        self._next_partition()

    def _next_partition(self) -> None:
        """Go on with the next, or be done."""
        self._forget_partition()
        self.waits_for, self.since_ms = "", self._turn.mono_ms
        if self.left:
            self._alarm.at(self._due_ms)
        else:
            epoch = self._epoch
            self._replica.when_durable(lambda: self._finish(epoch))

    def _forget_partition(self) -> None:
        """Nothing is known of the partition that comes next."""
        self._page, self._after, self._horizon, self._has_rows = None, b"", 0, False
        self._sources.begin()
        self._votes.begin()

    def _try_again(self) -> None:
        now = self._turn.mono_ms
        self.waits_for = self.waits_for or (
            f"partition {self.left[0]} waits for rows that did not come, or could not be kept"
        )
        if now - self.since_ms >= WAIT_NOTED_MS:
            self._turn.note_rarely("warning", "pull_waits", reason=self.waits_for)
        self._page = None
        self._due_ms = now + AGAIN_MS
        self._alarm.at(self._due_ms)

    # --- hearing -----------------------------------------------------------------------------

    def answered(self, peer: Peer, ops: list[CopyPage], answer: ScannedRows) -> None:
        """A source has listed its rows."""
        page = ops[0]
        page.answers[peer] = answer
        page.is_short |= not is_fit(answer, page.partition, self._after)
        self._told(page)

    def lost(self, peer: Peer, ops: list[CopyPage]) -> None:
        """A source did not answer."""
        del peer
        ops[0].is_short = True
        self._told(ops[0])

    def _told(self, page: CopyPage) -> None:
        page.pending -= 1
        if page.pending or page is not self._page:
            return
        failed = {peer for peer, told in page.answers.items() if told.failed}
        if self._is_wanting(failed, is_short=page.is_short):
            return
        try:
            self._sources.judge(page)
            if page.ahead.at:
                self._distrust(page.ahead.at)
                return
            wanted = self._wanted(page)
        except StorageError:
            self._try_again()
            return
        for row, record in page.sent(wanted):
            self.take(page, row, record)
        if page.is_short:
            self._try_again()
            return
        page.pending = sum([len(rows) for rows in wanted.values()])
        for peer, rows in wanted.items():
            self._bodies.ask(self._outboxes[peer.index], page, rows)
        if not wanted:
            self._page_done(page)

    def _is_wanting(self, failed: set[Peer], *, is_short: bool) -> bool:
        """Whether a page has to be tried again. Other replicas may be able to read what comes next;
        who leaves is asked all the same."""
        fresh = failed - self._sources.damaged
        if not (is_short or fresh):
            return False
        self._sources.damaged |= fresh
        self._try_again()
        return True

    def _distrust(self, ahead: set[Peer]) -> None:
        """These list what is too far ahead. Others may not, or a majority may list the same."""
        sources = self._sources
        self.waits_for = f"partition {self.left[0]} waits: {sources.ahead}"
        is_late = self._turn.mono_ms - self.since_ms >= UNREADABLE_MS
        if is_late and ahead <= sources.distrusted:
            self._put_aside(self.left[0])
        else:
            sources.distrusted |= ahead
            self._try_again()

    def _wanted(self, page: CopyPage) -> dict[Peer, list[bytes]]:
        """The rows to get from each source: those of which it has a newer version than this node,
        and the newest of all."""
        lock = pulled_lock([(told.lock, told.horizon) for told in page.answers.values()])
        # What a copy holds that was one all along was let in as it was elsewhere.
        is_fresh = not self._sources.count_own(page.partition)
        own = self._own_rows(page, lock) if lock and is_fresh else {}
        newest = page.newest()
        self._drop_refused(own, newest, lock)
        wanted: dict[Peer, list[bytes]] = {}
        for row in sorted(newest):
            each, peer = newest[row]
            held = self._replica.latest(row)
            if held is None or held.version < each.version:
                wanted.setdefault(peer, []).append(row)
        return wanted

    def _own_rows(self, page: CopyPage, lock: int) -> dict[bytes, Record]:
        """What this node took of the page's rows so far; from now on it takes nothing that these
        sources would refuse, as that may be what was deleted there and dropped."""
        fences, partition = self._replica.fences, page.partition
        self._horizon = max(self._horizon, *[told.horizon for told in page.answers.values()])
        fence = fences.of(partition)
        if fence is None or fence.lock < lock:
            fences.lock(partition, lock, 0)
        first, end = partition_bounds(partition)
        first = self._after + b"\0" if self._after else first
        past = page.bound + b"\0" if page.bound else end
        own, next_row = self._replica.newest(first, past, limit=OWN_ROWS_MAX)
        if next_row < past:
            page.bound = max(own)
        return own

    def _drop_refused(
        self,
        own: dict[bytes, Record],
        newest: dict[bytes, tuple[ScannedRow, Peer]],
        lock: int,
    ) -> None:
        """Drop what came here before the lock was known and the sources would not have taken."""
        replica = self._replica
        for row, record in own.items():
            listed = newest.get(row)
            held: Record | None = None
            if listed is not None:
                told = listed[0]
                held = Record(told.version, b"" if told.live else None, told.expires_ms)
            is_newer = held is None or held.version < record.version
            if is_newer and replica.fences.refuses(record, held, lock):
                self._turn.counters["pulled_rows_refused"] += 1
                replica.collect(row, record)

    def take(self, page: CopyPage, row: bytes, record: Record | None) -> None:
        """Keep what a source sent; None if it could not send it."""
        if page is not self._page:
            return
        version = b"" if record is None else record.version
        is_ahead = self._turn.is_ahead(version)
        is_late = is_ahead and page.ahead.agreed.get(row) != version
        if record is None or is_late or self._replica.trouble.code:
            page.is_short = True
            return
        if is_ahead:
            self._parts.note_ahead(version)
        size = ITEM_BYTES + len(row) + record.size
        self._row_bytes += (size - self._row_bytes) // 8 if self._row_bytes else size
        self._turn.counters["pulled_records"] += 1
        self._turn.counters["pulled_bytes"] += size
        try:
            self._replica.apply_over(row, record, self._replica.latest(row), is_listed=True)
        except StorageError:
            page.is_short = True

    def taken(self, page: CopyPage, count: int) -> None:
        """So many of the page's records came, or will not."""
        page.pending -= count
        if page.pending or page is not self._page:
            return
        if page.is_short:
            self._try_again()
        else:
            self._page_done(page)

    def _page_done(self, page: CopyPage) -> None:
        self._page, self._sources.ahead = None, ""
        self._after = page.bound
        self._has_rows = not page.bound
        self._come_forward(page.began_ms)

    def _voted(self, page: VotePage) -> None:
        """Sources told votes, or did not."""
        if self._is_wanting(page.damaged, is_short=page.is_short):
            return
        if self._has_rows:
            self._come_forward(page.began_ms)
        else:
            self._alarm.at(self._due_ms)

    def _come_forward(self, began_ms: int) -> None:
        """A page is done that was begun then: rest for as long as it took."""
        now = self._turn.mono_ms
        self.waits_for, self.since_ms = "", now
        self._due_ms = 2 * now - began_ms
        self._alarm.at(self._due_ms)

    def _gain(self) -> None:
        """All that there is of a partition is here."""
        partition = self.left.pop(0)
        if self._horizon:
            self._replica.fences.advance(partition, self._horizon)
        self._gained(partition)
        self._complete.append(partition)
        self._turn.counters["copies_pulled"] += 1
        self._keep()
        self._next_partition()

    def _finish(self, epoch: int) -> None:
        if epoch == self._epoch:
            self.pulled = epoch
            self._done()


class _Bodies:
    """The exchange that gets records."""

    __slots__ = ("_pulls",)

    def __init__(self, pulls: Pulls) -> None:
        self._pulls = pulls

    def ask(self, outbox: Outbox, page: CopyPage, rows: list[bytes]) -> None:
        """Ask a source for the records of these rows."""
        ops = [(page, row) for row in rows]
        sent = SentQuestions(outbox, self, ops, len(rows) * ITEM_BYTES, len(rows))
        sent.is_usual = False
        outbox.send(sent, Read(sent.batch, rows, []))

    def answered(self, peer: Peer, ops: list[tuple[CopyPage, bytes]], answer: ReadAnswer) -> None:
        """A source sent records, all of them or the first ones."""
        del peer
        failed = frozenset(answer.failed)
        page = ops[0][0]
        for (_, row), record in zip(ops, answer.records, strict=True):
            self._pulls.take(page, row, None if row in failed else record)
        self._pulls.taken(page, len(ops))

    def lost(self, peer: Peer, ops: list[tuple[CopyPage, bytes]]) -> None:
        """A source did not answer."""
        del peer
        page = ops[0][0]
        page.is_short = True
        self._pulls.taken(page, len(ops))
