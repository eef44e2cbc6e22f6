# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node does for its peers: takes their frames, keeps their records, answers their reads.

A write is acknowledged only when it is durable here. It is refused, with a reason, when its stamp
is none or past the clock guard, its row is not its key's, its partition is not ours, its value is
over the limit, or the disk takes no writes; a refused record leaves no trace.
"""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.outbox import MESSAGE_BYTES_MAX, Peer
from quorate.core.exchanges.scans import LIMIT_MAX, local_rows
from quorate.core.parts import Parts
from quorate.core.topology.liveness import Liveness
from quorate.core.topology.membership import Membership
from quorate.core.values.messages import (
    Frame,
    Message,
    Mutate,
    Mutated,
    Ping,
    Pong,
    Read,
    ReadAnswer,
    ScannedRows,
    ScanRows,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import is_row, partition_of
from quorate.core.values.versions import ABSENT, pack_version
from quorate.errors import StorageError

_ANSWERS: Final = (Mutated, ReadAnswer, ScannedRows)
_LOWEST: Final = pack_version(1, 0)
"""No clock gives out stamp 0."""


class Serving:
    """The peers' door into this node."""

    __slots__ = (
        "_liveness",
        "_membership",
        "_parts",
        "_replica",
        "_turn",
        "_untrusted",
    )

    def __init__(self, parts: Parts, membership: Membership, liveness: Liveness) -> None:
        self._parts = parts
        self._replica = parts.replica
        self._turn = parts.turn
        self._membership = membership
        self._liveness = liveness
        self._untrusted: set[str] = set()
        """Peers whose clock was ahead of the guard when last heard: noted when it becomes so."""

    def on_frame(self, peer: Peer, frame: Frame) -> None:
        """Take all messages of a frame, in order."""
        if not peer.is_heard:
            peer.is_heard = True
            peer.judge_reachable()
        self._trust(peer, self._parts.clock.observe(frame.clock))
        layout = self._membership.layout
        same_epoch = layout is not None and frame.epoch == layout.epoch
        for message in frame.messages:
            if isinstance(message, _ANSWERS):
                self._liveness.heard(peer)
                if not peer.on_answer(message):
                    self._turn.note_rarely("error", "peer_answered_out_of_shape", peer=peer.url)
            elif isinstance(message, Ping):
                self._on_ping(peer, message)
            elif isinstance(message, Pong):
                self._liveness.heard(peer)
            elif same_epoch:
                self._on_request(peer, message)
            else:
                self._turn.counters["requests_of_another_epoch"] += 1

    def why_refused(self, row: bytes, record: Record) -> str:
        """Why this replica will not keep the record; empty if it will."""
        if record.version > self._turn.version_max:
            return "the stamp is further ahead than clocks may differ"
        if record.version < _LOWEST:
            return "no stamp"
        if not is_row(row):
            # Where it would be kept, reads of the key never look, and scans would show it.
            return "the row is not the key's"
        placement = self._membership.placement
        if placement is None or not placement.is_mine[partition_of(row)]:
            return "not a replica of this key"
        value = record.value
        if value is not None and len(value) > self._parts.settings.value_bytes_max:
            return "the value is too large"
        return ""

    def _trust(self, peer: Peer, is_within: bool) -> None:
        if is_within:
            self._untrusted.discard(peer.url)
        elif peer.url not in self._untrusted:
            self._untrusted.add(peer.url)
            self._turn.note_rarely("error", "peer_clock_too_far_ahead", peer=peer.url)

    def _on_request(self, peer: Peer, message: Message) -> None:
        if isinstance(message, Mutate):
            self._on_mutate(peer, message)
        elif isinstance(message, Read):
            self._on_read(peer, message)
        elif isinstance(message, ScanRows):
            self._on_scan(peer, message)

    def _on_mutate(self, peer: Peer, message: Mutate) -> None:
        if self._replica.trouble.code:
            peer.say(Mutated(message.batch, [], [], busy=True))
            return
        superseded: list[tuple[int, bytes]] = []
        refused: list[tuple[int, str]] = []
        apply = self._replica.apply
        for index, (row, record) in enumerate(message.items):
            reason = self.why_refused(row, record)
            if reason:
                refused.append((index, reason))
                continue
            try:
                higher = apply(row, record)
            except StorageError as error:
                self._turn.note_rarely(
                    "error", "engine_unreadable", peer=peer.url, reason=str(error)
                )
                peer.say(Mutated(message.batch, [], [], busy=True))
                return
            if higher:
                superseded.append((index, higher))
        if refused:
            self._turn.counters["peer_writes_refused"] += len(refused)
        answer = Mutated(message.batch, superseded, refused)
        self._replica.when_durable(lambda: peer.say(answer))

    def _on_read(self, peer: Peer, message: Read) -> None:
        failed: list[bytes] = []
        records: list[Record | None] = []
        size = 0
        for row in message.full:
            record = self._shown(row, failed)
            records.append(record)
            if record is not None and record.value is not None:
                size += len(record.value)
            if size >= MESSAGE_BYTES_MAX:
                peer.say(ReadAnswer(message.batch, records, [], failed))
                records, failed, size = [], [], 0
        versions = []
        for row in message.brief:
            record = self._shown(row, failed)
            versions.append(ABSENT if record is None else record.version)
        if records or versions:
            peer.say(ReadAnswer(message.batch, records, versions, failed))

    def _shown(self, row: bytes, failed: list[bytes]) -> Record | None:
        placement = self._membership.placement
        assert placement is not None, "requests of our epoch come only when there is a layout"
        if not placement.is_mine[partition_of(row)]:
            failed.append(row)
            return None
        try:
            return self._replica.shown(row)
        except StorageError:
            failed.append(row)
            return None

    def _on_scan(self, peer: Peer, message: ScanRows) -> None:
        placement = self._membership.placement
        assert placement is not None, "requests of our epoch come only when there is a layout"
        if not placement.is_mine[message.partition]:
            peer.say(ScannedRows(message.batch, [], more=False, failed=True))
            return
        told = local_rows(
            self._replica,
            message.partition,
            after=message.after,
            prefix=message.prefix,
            limit=min(message.limit, LIMIT_MAX),
        )
        peer.say(ScannedRows(message.batch, told.rows, told.more, told.failed))

    def _on_ping(self, peer: Peer, message: Ping) -> None:
        peer.keys = message.keys
        peer.bytes_used = message.bytes_used
        self._membership.learn(message.members)
        peer.say(Pong(message.batch))
