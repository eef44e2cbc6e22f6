# SPDX-License-Identifier: GPL-3.0-or-later
"""What happened: the readable transcript, its hash, and the count of injected faults.

A transcript has one line for each event: virtual time in milliseconds, node, what, and why. It is
written as things happen, and only if somebody wants it; heartbeats are left out. The hash covers
all that every node did: of each step its time, batch, sends, answers and notes, encoded. It is the
same in every process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from xxhash import xxh3_128

from quorate.core.horizons import FENCE_META, StoredFence
from quorate.core.values.events import (
    Batch,
    Durable,
    Effects,
    Event,
    Get,
    GetResult,
    LinkDown,
    LinkUp,
    PeerFrame,
    Put,
    PutResult,
    Result,
    Scan,
    StorageState,
    Update,
    UpdateResult,
    Waiter,
)
from quorate.core.values.frequent import Fields
from quorate.core.values.messages import (
    AcceptRows,
    Agree,
    Known,
    Message,
    Mutate,
    Ping,
    Pong,
    PrepareRows,
    Read,
    ReadAnswer,
    RowsVoted,
    Said,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import key_of, partition_of
from quorate.core.values.versions import VERSION_BYTES, link_of, ms_of, stamp_of
from quorate.errors import QuorateError
from quorate.notation import show_bytes, show_size
from quorate.sim.clock import EPOCH_MS
from quorate.sim.world import World

_SHOWN_CHARS: Final = 40
_SHOWN_ROWS: Final = 4


class Trace:
    """Gives lines to `write`, without line ends."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self.names: dict[int, str] = {}
        """Of machines, by the ids that their disks have or had."""
        self._asked: dict[Waiter, tuple[int, float]] = {}
        """Requests without an answer: number, and when it was asked."""
        self._count = 0

    def line(self, ms: float, who: str, what: str, told: str) -> None:
        """One event."""
        self._write(f"{ms:12.3f}  {who:<4} {what:<8} {told}")

    def step(self, ms: float, who: str, events: Sequence[Event], effects: Effects) -> None:
        """What a node was told, and what it does about it."""
        for event in events:
            what, told = self._event(ms, event)
            if told:
                self.line(ms, who, what, told)
        if effects.batch is not None:
            self.line(ms, who, "store", f"mark {effects.mark}: {_told_batch(effects.batch)}")
        for peer, messages in effects.sends.items():
            if not _is_heartbeat(messages):
                self.line(ms, who, "send", f"to {self.names[peer]}: {_told_messages(messages)}")
        for waiter, result in effects.answers:
            number, asked_ms = self._asked.pop(waiter, (0, ms))
            told = f"#{number} {told_result(result)}, after {ms - asked_ms:.1f} ms"
            self.line(ms, who, "answer", told)
        for note in effects.notes:
            facts = " ".join(f"{name}={value}" for name, value in note.facts.items())
            self.line(ms, who, "note", f"{note.event} {facts}")

    def _event(self, ms: float, event: Event) -> tuple[str, str]:
        if isinstance(event, PeerFrame):
            messages = event.frame.messages
            told = f"{self.names[event.peer]}: {_told_messages(messages)}"
            return "hear", "" if _is_heartbeat(messages) else told
        if isinstance(event, LinkUp | LinkDown):
            told = "up" if isinstance(event, LinkUp) else "down"
            return "link", f"to {self.names[event.peer]} is {told}"
        if isinstance(event, Durable):
            return "durable", f"up to mark {event.mark}"
        if isinstance(event, StorageState):
            return "storage", event.reason or "takes writes"
        waiter: Waiter | None = getattr(event, "waiter", None)
        if waiter is None:
            return "", ""
        self._count += 1
        self._asked[waiter] = self._count, ms
        return "ask", f"#{self._count} {_told_request(event)}"


class Recorder:
    """What all parts of one world report to."""

    def __init__(self, world: World, trace: Trace | None) -> None:
        self.faults: Counter[str] = Counter()
        """What was done to the cluster, by name."""
        self.steps = 0
        self._world = world
        self._trace = trace
        # Nobody forges a run: what is not made to resist that is quick, and enough.
        self._hash = xxh3_128()

    def name(self, node_id: int, name: str) -> None:
        """Know what to call who has a disk's id: the first that has it, where it was copied."""
        if self._trace is not None:
            self._trace.names.setdefault(node_id, name)

    def fault(self, who: str, name: str, why: str = "") -> None:
        """Count a fault, and tell of it."""
        self.faults[name] += 1
        if self._trace is not None:
            self._trace.line(self._world.now, who, "fault", f"{name} {why}".rstrip())

    def say(self, who: str, what: str, told: str) -> None:
        """Tell of something that is no fault."""
        if self._trace is not None:
            self._trace.line(self._world.now, who, what, told)

    def step(self, who: str, events: Sequence[Event], effects: Effects) -> None:
        """A node took a step."""
        self.steps += 1
        done = (
            self._world.now,
            who,
            effects.mark,
            effects.batch,
            effects.sends,
            [result for _, result in effects.answers],
            effects.notes,
            effects.peers,
        )
        self._hash.update(_encode(done))
        if self._trace is not None:
            self._trace.step(self._world.now, who, events, effects)

    def digest(self) -> str:
        """The hash of all that every node did so far."""
        # Declared, as the wheel is built where xxhash is not there to say so itself.
        digest: str = self._hash.hexdigest()
        return digest


def host_of(url: str) -> str:
    """A machine's name in transcripts: `n2` of `http://n2:1`."""
    return url.partition("//")[2].partition(":")[0]


def _plain(thing: object) -> object:
    if isinstance(thing, Record):
        return thing.body
    if isinstance(thing, Fields):
        return {name: getattr(thing, name) for name in thing.__match_args__}
    assert isinstance(thing, QuorateError), f"{thing!r} is no result"
    return [thing.code, str(thing), thing.outcome and thing.outcome.value]


_encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode


# --- words ---------------------------------------------------------------------------------------


def _told_request(event: Event) -> str:
    key = show_bytes(getattr(event, "key", b""))[:_SHOWN_CHARS]
    quorum = "".join(
        f", {name}={getattr(event, name)}" for name in ("r", "w") if getattr(event, name, 0)
    )
    if isinstance(event, Put):
        if event.value is None:
            return f"delete {key}{quorum}"
        expiry = f", expires at {event.expires_ms - EPOCH_MS} ms" if event.expires_ms else ""
        return f"put {key} = {_told_value(event.value)}{quorum}{expiry}"
    if isinstance(event, Get):
        return f"get {key}{quorum}"
    if isinstance(event, Update):
        return f"{event.edit!r} {key}" + f", as request {event.request:x}" * bool(event.request)
    if isinstance(event, Scan):
        return f"scan {show_bytes(event.prefix)[:_SHOWN_CHARS]}*{quorum}"
    return f"{type(event).__name__} {key}".rstrip()


def told_result(result: Result | None) -> str:
    """What came of a request, in a few words."""
    if result is None:
        return "no answer"
    if isinstance(result, QuorateError):
        outcome = f", {result.outcome.value}" if result.outcome is not None else ""
        return f"fails: {result}{outcome}"
    if isinstance(result, GetResult):
        repaired = f", {result.repaired} repaired" if result.repaired else ""
        found = "nothing" if result.record is None else _told_record(result.record)
        return f"finds {found}, {result.answers} answers{repaired}"
    if isinstance(result, PutResult):
        flags = ", moved" * result.moved or ", restamped" * result.restamped
        flags += ", superseded" * result.superseded
        told = _told_version(result.version)
        return f"is done {told}, {result.acks} of {result.replicas} acks{flags}"
    if isinstance(result, UpdateResult):
        return _told_update(result)
    return f"ends in {type(result).__name__}"


def _told_update(result: UpdateResult) -> str:
    after = "nothing" if result.after is None else _told_record(result.after)
    if result.is_repeated:
        return f"was done before; there is {after}"
    before = "nothing" if result.before is None else _told_record(result.before)
    if result.after is None:
        return f"leaves {before}"
    return f"makes {after} of {before}, {result.acks} of {result.replicas} acks"


def _told_record(record: Record) -> str:
    value = "a tombstone" if record.value is None else _told_value(record.value)
    return f"{value} {_told_version(record.version)}"


def _told_value(value: bytes) -> str:
    if len(value) > _SHOWN_CHARS:
        return f"{show_bytes(value[:_SHOWN_CHARS])}... ({show_size(len(value))})"
    return show_bytes(value)


def _told_version(version: bytes) -> str:
    """A version as milliseconds since the beginning, counter, the end of its tie-break, and its
    link."""
    if not version:
        return "@nothing"
    stamp = stamp_of(version)
    ms, counter = ms_of(stamp) - EPOCH_MS, stamp & 0xFFFF
    told = f"@{ms}.{counter}/{version[12:VERSION_BYTES].hex()}"
    link = link_of(version)
    return f"{told}+{link}" if link else told


def _told_batch(batch: Batch) -> str:
    told = [
        f"{show_bytes(key_of(row))[:_SHOWN_CHARS]} "
        + ("dropped" if record is None else _told_version(record.version))
        for row, record in batch.records
    ]
    parts = [f"partition {partition_of(start)} dropped" for start, _ in batch.dropped_rows]
    parts += told[:_SHOWN_ROWS] + [f"{len(told) - _SHOWN_ROWS} more"] * (len(told) > _SHOWN_ROWS)
    if batch.dropped_hints:
        parts.append(f"ranges of hints dropped: {len(batch.dropped_hints)}")
    if batch.votes:
        parts.append(f"votes on {len(batch.votes)} rows")
    kept = sum(blob is not None for _, blob in batch.hints)
    if kept:
        parts.append(f"hints kept: {kept}")
    if kept < len(batch.hints):
        parts.append(f"hints done: {len(batch.hints) - kept}")
    # The last of an entry is what is kept.
    kept_meta = {name: blob for name, blob in batch.meta if name != b"keys"}
    parts += [_told_meta(name, blob) for name, blob in kept_meta.items()]
    return ", ".join(parts)


def _told_meta(name: bytes, blob: bytes | None) -> str:
    if not name.startswith(FENCE_META):
        return show_bytes(name)
    partition = int.from_bytes(name[len(FENCE_META) :], "big")
    if blob is None:
        return f"partition {partition} has no lock"
    lock, horizon, _, is_swept = msgspec.msgpack.decode(blob, type=StoredFence)
    if lock > horizon:
        return f"partition {partition} is locked"
    return f"partition {partition} " + ("has no garbage" if is_swept else "has a horizon")


def _told_messages(messages: Iterable[Message]) -> str:
    counts: Counter[str] = Counter()
    for message in messages:
        if isinstance(message, Mutate):
            counts["Mutate"] += len(message.items)
        elif isinstance(message, Read):
            counts["Read"] += len(message.full) + len(message.brief)
        elif isinstance(message, PrepareRows | AcceptRows):
            counts[type(message).__name__] += len(message.items)
        elif isinstance(message, RowsVoted):
            counts.update([Said(vote.said).name.lower() for vote in message.votes])
        elif isinstance(message, ReadAnswer):
            counts["ReadAnswer"] += len(message.records) + len(message.versions)
        else:
            counts[type(message).__name__] += 1
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _is_heartbeat(messages: Iterable[Message]) -> bool:
    return all(isinstance(message, Agree | Known | Ping | Pong) for message in messages)
