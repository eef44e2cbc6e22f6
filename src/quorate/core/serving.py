# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node does for its peers: takes their frames, keeps their records, answers their reads.

A write is acknowledged only when it is durable here. It is refused, with a reason, when its stamp
is none or past the clock guard, its row is not its key's, its partition is not ours, its value is
over the limit, or the disk takes no writes; a refused record leaves no trace.

Some answers are longer than what asks for them: a thousand rows of a megabyte are asked for in
20 kB. So what a step answers to one peer is bounded, and to all, in bytes and in rows looked for;
requests beyond that are put off until the peer has read what it was sent (`LinkRoom`), in order,
and beyond a second bound, of one peer and of all, dropped: whoever asked counts that as no answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from quorate.core.exchanges.agreement import Agreement
from quorate.core.exchanges.anti_entropy import LIST_ROWS_MAX, listed
from quorate.core.exchanges.changes import Changes
from quorate.core.exchanges.outbox import (
    MESSAGE_BYTES_MAX,
    ROW_BYTES,
    STEP_BYTES_MAX,
    STEP_BYTES_MAX_ALL,
    Outbox,
)
from quorate.core.exchanges.scans import local_rows
from quorate.core.exchanges.surplus import withheld_of
from quorate.core.horizons import Fenced
from quorate.core.moved_votes import told_votes
from quorate.core.topology.layout import FIRST_EPOCH
from quorate.core.topology.liveness import Liveness
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.turn import Parts
from quorate.core.values.events import SCAN_ROWS_MAX
from quorate.core.values.messages import (
    Accept,
    AcceptRows,
    Agree,
    AskSums,
    Foundation,
    Frame,
    Known,
    ListBuckets,
    Listed,
    Message,
    Mutate,
    Mutated,
    OtherEpoch,
    Ping,
    Pong,
    Prepare,
    PrepareRows,
    Pull,
    PulledVotes,
    Read,
    ReadAnswer,
    RowsVoted,
    ScannedRows,
    ScanRows,
    Sums,
    Voted,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import BUCKETS, is_row, partition_of
from quorate.core.values.versions import ABSENT, VERSION_MIN, link_of
from quorate.core.voting import Voting
from quorate.errors import StorageBusy, StorageError

SUMS_BYTES: Final = 9 * BUCKETS
"""Of an answer with sums."""
PUT_OFF_BYTES_MAX: Final = 8 << 20
"""Of requests of one peer that are put off."""
PUT_OFF_BYTES_MAX_ALL: Final = 64 << 20
"""Of those of all."""
_ANSWERS: Final = frozenset(
    {Mutated, ReadAnswer, ScannedRows, Voted, Sums, Listed, RowsVoted, PulledVotes}
)
"""Asked by type: isinstance with a Struct that a message is not costs as much as most of a read."""
_SIGNS_OF_LIFE: Final = _ANSWERS | {Pong, OtherEpoch}
"""Only what answers shows that both directions work."""
_SIGNALS: Final = frozenset({Ping, Pong, OtherEpoch, Agree, Known, Foundation})
BELOW_HORIZON: Final = "it is older than what was dropped here for good"


class PutOff:
    """Requests of one peer that wait for it to read."""

    __slots__ = ("bytes", "epoch", "requests")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        """Under which they were asked."""
        self.requests: deque[tuple[Read | ScanRows, int]] = deque()
        """Each with its size."""
        self.bytes = 0


class Serving:
    """The peers' door into this node."""

    __slots__ = (
        "_agreement",
        "_changes",
        "_liveness",
        "_membership",
        "_parts",
        "_replica",
        "_requests",
        "_turn",
        "_value_bytes_max",
        "put_off",
    )

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        liveness: Liveness,
        changes: Changes,
        agreement: Agreement,
    ) -> None:
        self._agreement = agreement
        self._changes = changes
        self._parts = parts
        self._replica = parts.replica
        self._turn = parts.turn
        self._value_bytes_max = parts.settings.value_bytes_max
        self._membership = membership
        self._liveness = liveness
        self.put_off: dict[Peer, PutOff] = {}
        """Requests that wait, by who asked."""
        voting = Voting(parts, membership, self.why_refused)
        self._requests: dict[type[Message], Callable[[Outbox, Any], None]] = {
            Mutate: self._on_mutate,
            Read: self._on_long,
            ScanRows: self._on_long,
            Pull: self._on_pull,
            AskSums: self._on_ask_sums,
            ListBuckets: self._on_list,
            PrepareRows: voting.hear,
            AcceptRows: voting.hear,
        }

    def on_frame(self, outbox: Outbox, frame: Frame) -> None:
        """Take all messages of a frame, in order."""
        peer = outbox.peer
        if not (peer.is_heard and peer.has_answered):
            self._note_life(peer, frame)
        if self._parts.clock.observe(frame.clock) is peer.is_ahead:
            self._note_clock(peer)
        membership = self._membership
        if peer.epoch < frame.epoch:
            peer.epoch = frame.epoch
        refused: list[int] = []
        message: Any
        for message in frame.messages:
            kind = type(message)
            if kind in _ANSWERS:
                if not outbox.on_answer(message):
                    self._turn.note_rarely("error", "peer_answered_out_of_shape", peer=peer.url)
            elif (
                kind in self._requests
                and frame.epoch == membership.epoch > FIRST_EPOCH
                and (membership.marks.counts or self._is_eventual(peer))
            ):
                self._requests[kind](outbox, message)
            elif kind in _SIGNALS:
                self._on_signal(outbox, message, frame.epoch)
            elif kind in (Prepare, Accept) and self._changes.is_open(message.number):
                # It names the epoch that it is about; the frame's is of no interest.
                self._changes.vote(outbox, message)
            else:
                refused.append(message.batch)
        if refused:
            self._turn.counters["requests_of_another_epoch"] += len(refused)
            outbox.say(OtherEpoch(membership.epoch, refused))

    def _is_eventual(self, peer: Peer) -> bool:
        """Whether the quorums of a peer's requests need not meet: then an old copy breaks nothing
        that these promise."""
        topology = self._membership.current()
        return sum(topology.quorums(peer.told.w, peer.told.r)) <= topology.n

    def why_refused(self, row: bytes, record: Record) -> str:
        """Why this replica will not keep the record; empty if it will."""
        version = record.version
        if self._turn.is_ahead(version):
            return "the stamp is further ahead than clocks may differ"
        if version < VERSION_MIN and not link_of(version):
            return "no stamp"
        if not is_row(row):
            # Where it would be kept, reads of the key never look, and scans would show it.
            return "the row is not the key's"
        topology = self._membership.topology
        if topology is None or not topology.is_mine(row):
            return "not a replica of this key"
        if record.size > self._value_bytes_max:
            return "the value is too large"
        return ""

    def _note_life(self, peer: Peer, frame: Frame) -> None:
        """Tell the failure detector that the peer sends; and, if an answer is in the frame, that it
        answers. Until the next heartbeat further frames would say no more."""
        self._liveness.spoke(peer)
        if any(type(message) in _SIGNS_OF_LIFE for message in frame.messages):
            self._liveness.heard(peer)

    def _note_clock(self, peer: Peer) -> None:
        """The peer's clock went past the guard, or came back."""
        peer.is_ahead = not peer.is_ahead
        if peer.is_ahead:
            self._turn.note_rarely("error", "peer_clock_too_far_ahead", peer=peer.url)

    def _on_signal(
        self,
        outbox: Outbox,
        message: Ping | Pong | OtherEpoch | Agree | Known | Foundation,
        epoch: int,
    ) -> None:
        answer: Known | None = None
        if isinstance(message, Ping):
            self._take_figures(outbox.peer, message)
            self._membership.roster.learn(message.members, of=outbox.peer)
            outbox.say(Pong(message.batch))
            if epoch == self._membership.epoch:
                answer = self._membership.facts.compare(message.facts)
        elif isinstance(message, Known):
            answer = self._membership.facts.hear(message, of=outbox.peer)
        elif isinstance(message, OtherEpoch):
            self._on_other_epoch(outbox, message)
        elif isinstance(message, Agree) and epoch == self._membership.epoch:
            self._agreement.hear(outbox.peer, message)
        elif isinstance(message, Foundation):
            self._changes.founders.hear(outbox.peer, message)
        elif isinstance(message, Pong):
            outbox.ponged(message.batch)
        if answer is not None:
            outbox.say(answer)

    def _take_figures(self, peer: Peer, message: Ping) -> None:
        told = peer.told
        told.keys, told.bytes_used = message.keys, message.bytes_used
        told.left, told.unreadable = message.left, message.unreadable
        told.waits = message.waits
        if peer.is_linked and self._membership.has(peer.id):
            # Who is at its URL for sure: anybody may dial, and say that it is another.
            self._membership.marks.hear(peer.id, message.mark)
        if told.pulled != message.pulled:
            told.pulled = message.pulled
            self._changes.look_soon()

    def _on_other_epoch(self, outbox: Outbox, message: OtherEpoch) -> None:
        membership = self._membership
        if message.layout and message.epoch > membership.epoch:
            # Before the refusals: what was refused for it is then begun anew, and not lost.
            membership.hear_of(message.layout, outbox.peer.url)
        outbox.on_refusal(message.batches)
        if message.epoch < membership.epoch:
            # It has not what it was told: it is told again, ahead of all else.
            outbox.peer.epoch = message.epoch
            outbox.is_stirred = True

    # --- answers that may be long ------------------------------------------------------------

    def _on_long(self, outbox: Outbox, message: Read | ScanRows) -> None:
        waiting = self.put_off.get(outbox.peer)
        if waiting is not None and not self._is_void(outbox, waiting):
            self._add(waiting, message)
        else:
            self._serve(outbox, message)

    def _serve(self, outbox: Outbox, message: Read | ScanRows) -> None:
        """Answer, or put off what this step has no room for."""
        rest: Read | ScanRows | None = message
        before = outbox.said_bytes
        if before < STEP_BYTES_MAX and self._turn.said_bytes < STEP_BYTES_MAX_ALL:
            if isinstance(message, Read):
                rest = self._on_read(outbox, message)
            else:
                rest = None
                self._on_scan(outbox, message)
            self._turn.said_bytes += outbox.said_bytes - before
        if rest is not None:
            waiting = self.put_off.setdefault(outbox.peer, PutOff(self._membership.epoch))
            self._add(waiting, rest)

    def _add(self, waiting: PutOff, message: Read | ScanRows) -> None:
        size = ROW_BYTES
        if isinstance(message, Read):
            size += sum([len(row) for row in message.full]) + sum(
                [len(row) for row in message.brief]
            )
        in_all = sum([each.bytes for each in self.put_off.values()])
        if waiting.bytes + size > PUT_OFF_BYTES_MAX or in_all + size > PUT_OFF_BYTES_MAX_ALL:
            self._turn.counters["peer_requests_dropped"] += 1
            return
        waiting.bytes += size
        waiting.requests.append((message, size))

    def _is_void(self, outbox: Outbox, waiting: PutOff) -> bool:
        """Whether what was put off is of another epoch by now; then it is refused as such."""
        epoch = self._membership.epoch
        if waiting.epoch == epoch:
            return False
        outbox.say(OtherEpoch(epoch, [message.batch for message, _ in waiting.requests]))
        del self.put_off[outbox.peer]
        return True

    def has_room(self, outbox: Outbox) -> None:
        """The peer has read most of what it was sent: go on with what was put off."""
        waiting = self.put_off.get(outbox.peer)
        if waiting is None or self._is_void(outbox, waiting):
            return
        if self._turn.said_bytes >= STEP_BYTES_MAX_ALL:
            # It comes before those that were served in this step, in the next one.
            return
        del self.put_off[outbox.peer]
        requests = waiting.requests
        while requests and outbox.peer not in self.put_off:
            message, size = requests.popleft()
            waiting.bytes -= size
            self._serve(outbox, message)
        if requests:
            # What is left of the last one comes before those behind it.
            for message, size in self.put_off[outbox.peer].requests:
                waiting.bytes += size
                requests.appendleft((message, size))
            self.put_off[outbox.peer] = waiting

    def forget(self, peer: Peer) -> None:
        """The link is down: what was put off is not waited for any more."""
        self.put_off.pop(peer, None)

    def _on_mutate(self, outbox: Outbox, message: Mutate) -> None:
        if self._replica.trouble.code:
            outbox.say(Mutated(message.batch, [], [], busy=True))
            return
        superseded: list[tuple[int, bytes]] = []
        refused: list[tuple[int, str]] = []
        fenced: list[tuple[int, bytes]] = []
        final = 0
        replica, lock = self._replica, message.lock
        for index, (row, record) in enumerate(message.items):
            reason = self.why_refused(row, record)
            if reason:
                refused.append((index, reason))
                continue
            try:
                higher = replica.apply(row, record, lock)
            except StorageError as error:
                if not isinstance(error, StorageBusy):
                    url, reason = outbox.peer.url, str(error)
                    self._turn.note_rarely("error", "engine_unreadable", peer=url, reason=reason)
                outbox.say(Mutated(message.batch, [], [], busy=True))
                return
            except Fenced as error:
                fenced.append((index, error.bound))
                if error.is_final:
                    final += 1
                    refused.append((index, BELOW_HORIZON))
                continue
            if higher:
                superseded.append((index, higher))
        if len(refused) > final:
            self._turn.counters["peer_writes_refused"] += len(refused) - final
        if fenced:
            self._turn.counters["peer_writes_fenced"] += len(fenced)
        denied = [i for i, _ in superseded if replica.never_held(message.items[i][1])]
        answer = Mutated(message.batch, superseded, refused, fenced=fenced, denied=denied)
        self._replica.when_durable(lambda: outbox.say(answer))

    def _on_read(self, outbox: Outbox, message: Read) -> Read | None:
        """Answer as far as this step has room; the rest of the question, None without any."""
        failed, size, full_count, partition = list[bytes](), 0, 0, message.partition
        records: list[Record | None] = []
        lock = self._replica.fences.boundary(partition) if partition >= 0 else 0
        for row in message.full:
            if outbox.said_bytes >= STEP_BYTES_MAX:
                break
            full_count += 1
            record = self._shown(row, failed)
            records.append(record)
            outbox.said_bytes += ROW_BYTES
            if record is not None:
                size += record.size
                outbox.said_bytes += record.size
            if size >= MESSAGE_BYTES_MAX:
                withheld = withheld_of(self._replica, failed)
                outbox.say(ReadAnswer(message.batch, records, [], failed, lock, withheld))
                records, failed, size = [], [], 0
        versions: list[bytes] = []
        for row in message.brief:
            if outbox.said_bytes >= STEP_BYTES_MAX:
                break
            record = self._shown(row, failed)
            versions.append(ABSENT if record is None else record.version)
            outbox.said_bytes += ROW_BYTES
        if records or versions:
            withheld = withheld_of(self._replica, failed)
            outbox.say(ReadAnswer(message.batch, records, versions, failed, lock, withheld))
        if full_count == len(message.full) and len(versions) == len(message.brief):
            return None
        full = message.full[full_count:]
        return Read(message.batch, full, message.brief[len(versions) :], partition)

    def _shown(self, row: bytes, failed: list[bytes]) -> Record | None:
        try:
            if self._membership.current().partitions[partition_of(row)].is_mine:
                return self._replica.shown(row)
        except StorageError:
            pass
        failed.append(row)
        return None

    def _on_pull(self, outbox: Outbox, message: Pull) -> None:
        if self._replica.trouble.code:
            # It would wait with all others for a disk that may confirm nothing for hours.
            self._turn.counters["peer_requests_dropped"] += 1
            return
        # The layout in force, and all that was taken under earlier ones, is durable then.
        epoch = self._membership.epoch
        self._replica.when_durable(lambda: self._tell_rows(outbox, message, epoch))

    def _tell_rows(self, outbox: Outbox, message: Pull, epoch: int) -> None:
        """List a partition for who shall hold it."""
        if epoch != self._membership.epoch:
            outbox.say(OtherEpoch(self._membership.epoch, [message.batch]))
        elif outbox.said_bytes >= STEP_BYTES_MAX:
            self._turn.counters["peer_requests_dropped"] += 1
        elif message.base is None:
            asked = ScanRows(message.batch, message.partition, message.after, b"", message.limit)
            self._on_scan(outbox, asked, MESSAGE_BYTES_MAX if message.is_full else 0)
        else:
            self._tell_votes(outbox, message, message.base)

    def _tell_votes(self, outbox: Outbox, message: Pull, base: bytes) -> None:
        """List what was voted in a partition for who shall hold it."""
        batch, partition = message.batch, message.partition
        limit = min(message.limit, SCAN_ROWS_MAX)
        try:
            if not self._membership.current().partitions[partition].is_mine:
                raise StorageBusy("no copy of it is held here")
            told, more = told_votes(
                *(self._replica, self._parts.votes, partition),
                after=message.after,
                base=base,
                limit=limit,
            )
        except StorageError:
            outbox.say(PulledVotes(batch, [], more=False, failed=True))
            return
        records = [each.record for _, _, _, each in told if each is not None]
        sizes = [each.size for each in records if each is not None]
        outbox.said_bytes += ROW_BYTES * (1 + len(told)) + sum(sizes)
        outbox.say(PulledVotes(batch, told, more))

    def _on_scan(self, outbox: Outbox, asked: ScanRows, room: int = 0) -> None:
        if not self._membership.current().partitions[asked.partition].is_mine:
            outbox.say(ScannedRows(asked.batch, [], more=False, failed=True))
            return
        told = local_rows(
            self._replica,
            asked.partition,
            after=asked.after,
            prefix=asked.prefix,
            limit=min(asked.limit, SCAN_ROWS_MAX),
            room=room,
        )
        size = ROW_BYTES + sum([record.size for record in told.records])
        outbox.said_bytes += size + sum([ROW_BYTES + len(row.row) for row in told.rows])
        fence = self._replica.fences.of(asked.partition)
        ends = (0, 0) if fence is None else (fence.lock, fence.horizon)
        outbox.say(ScannedRows(asked.batch, told.rows, told.more, told.failed, *ends, told.records))

    def _on_ask_sums(self, outbox: Outbox, message: AskSums) -> None:
        """Say in which buckets another replica is to look for a difference."""
        if outbox.said_bytes >= STEP_BYTES_MAX:
            self._turn.counters["peer_requests_dropped"] += 1
            return
        outbox.said_bytes += SUMS_BYTES
        sums = self._agreement.sums(message.partition, message.boundary)
        outbox.say(Sums(message.batch, sums))

    def _on_list(self, outbox: Outbox, message: ListBuckets) -> None:
        """List what another replica looks for a difference in."""
        if outbox.said_bytes >= STEP_BYTES_MAX:
            self._turn.counters["peer_requests_dropped"] += 1
            return
        if not self._membership.current().partitions[message.partition].is_mine:
            outbox.say(Listed(message.batch, [], b"", failed=True))
            return
        limit = min(message.limit, LIST_ROWS_MAX)
        told = listed(self._replica, message.partition, message.buckets, message.after, limit)
        outbox.said_bytes += limit * ROW_BYTES
        outbox.say(Listed(message.batch, told.rows, told.bound, told.failed))
