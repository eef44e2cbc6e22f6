# SPDX-License-Identifier: GPL-3.0-or-later
"""A `runtime.store.Store` in one dictionary, for the tests of doors.

It answers in a later turn of the loop, as the real one does, and can be told to hold its answers
back, to fail every request with an error, and what time it is. It judges what a door leaves to the
core: `w` and `r` above the number of replicas.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import Any

from quorate.config import Config
from quorate.core.topology.layout import first_layout
from quorate.core.topology.peer import Peer
from quorate.core.topology.topology import Topology
from quorate.core.turn import Alarm, Turn
from quorate.core.values.events import (
    Change,
    ChangeResult,
    Check,
    CheckResult,
    Event,
    Explain,
    ExplainResult,
    Forget,
    ForgetResult,
    Get,
    GetResult,
    Join,
    JoinResult,
    LocalGet,
    LocalPut,
    LocalResult,
    LocalScan,
    Put,
    PutResult,
    ReplicaView,
    Result,
    Scan,
    ScanResult,
    Update,
    UpdateResult,
    Waiter,
)
from quorate.core.values.messages import ScannedRow
from quorate.core.values.record import Record, is_live, wins
from quorate.core.values.slots import key_of, row_of, slot_of
from quorate.core.values.status import CandidateView, MemberView, Status
from quorate.core.values.versions import link_of, pack_version, stamp_at, stamp_of, successor
from quorate.core.values.wish import Preview, Share, Wish
from quorate.errors import Conflict, InvalidRequest, Outcome, QuorateError
from quorate.host.store import Sink

NODES = ("http://127.0.0.1:8000", "http://127.0.0.1:8001", "http://127.0.0.1:8002")


@functools.cache
def topology_of(nodes: tuple[str, ...], replication: int, *, r: int = 0, w: int = 0) -> Topology:
    """As the first of the nodes sees it. Planned once: tests make a thousand stores of the same."""
    layout = first_layout(nodes, replication=replication)
    came = Alarm(Turn(), lambda: None)
    peers = {url: Peer(url, index, came) for index, url in enumerate(nodes[1:])}
    return Topology(layout, own_url=nodes[0], peer_of=lambda each: peers.get(each.url), r=r, w=w)


def _id_of(url: str) -> str:
    """The first node's is 0123456789ab."""
    return f"{0x0123456789AB + NODES.index(url):012x}" if url in NODES else ""


class FakeStore:
    """Three make-believe replicas that always agree."""

    def __init__(self, config: Config | None = None) -> None:
        self.has_layout = True
        self.config = config or Config(nodes=NODES, advertise=NODES[0])
        self._pending: deque[Event] = deque()
        self._sinks: dict[Sink, None] = {}
        self._is_scheduled = False
        self.stamp = 0
        """Of the version given out last."""
        config = self.config
        self._topology: Topology | None = topology_of(
            config.nodes, config.replication, r=config.r, w=config.w
        )
        self.reset()

    def reset(self) -> None:
        """Forget everything but what was never answered."""
        self.records: dict[bytes, Record] = {}
        """By key."""
        self.events: list[Event] = []
        """Everything submitted, in order."""
        self.failure: QuorateError | None = None
        """What every request ends with, while set."""
        self.now_ms = 1_700_000_000_000
        self.is_ready = True
        self.known: set[str] = set(NODES)
        self.candidates: list[CandidateView] = []
        self.clients: dict[str, str] = {}
        """Where clients reach a member, by its URL."""
        self.epoch = 1
        """Of the layout; each change makes another."""
        self.moving = 0
        """Copies that are not where they belong; each takes 1000 bytes."""
        self.waits: list[str] = []
        self.holding_up: str = ""
        """The URL of the member for which the last full agreement waits."""
        self.level = self.next_level = 1
        self.level_waits: list[str] = []
        self.counters: dict[str, int] = {"requests": 0}
        self._is_held = False

    # --- the protocol ---------------------------------------------------------------------------

    def submit(self, event: Event) -> None:
        self.events.append(event)
        self._pending.append(event)
        self._schedule()

    def flush_soon(self, sink: Sink) -> None:
        self._sinks[sink] = None
        self._schedule()

    def wall_ms(self) -> int:
        return self.now_ms

    def topology(self) -> Topology | None:
        return self._topology

    def _reason(self) -> str:
        if not self.has_layout:
            return "the cluster's layout is not known yet"
        return "" if self.is_ready else "the disk is stuck"

    def status(self) -> Status:
        replicas = min(self.config.replication, len(self.config.nodes))
        return Status(
            url=self.config.advertise,
            id="0123456789ab",
            cluster=self.config.cluster,
            version="0.0.0",
            epoch=self.epoch,
            ready=self.is_ready,
            reason=self._reason(),
            replication=self.config.replication,
            replicas=replicas,
            w=self.config.w or replicas // 2 + 1,
            r=self.config.r or replicas // 2 + 1,
            keys=len(self.records),
            bytes=sum(len(record.value or b"") for record in self.records.values()),
            inflight=len(self._pending),
            hints=0,
            hint_bytes=0,
            members=[self._member(url) for url in sorted(self.known)],
            candidates=self.candidates,
            counters=dict(self.counters),
            phase="moving" if self.moving else "stable",
            moving=self.moving > 0,
            left=0,
            waits=list(self.waits),
            agreed_age_s=90,
            agreed_waits="",
            level=self.level,
            next_level=self.next_level,
            level_waits=list(self.level_waits),
            tombstones=0,
            tombstones_wait="",
        )

    # --- what tests turn --------------------------------------------------------------------------

    def hold(self) -> None:
        """Answer nothing until `release`."""
        self._is_held = True

    def release(self) -> None:
        """Answer everything held back, and whatever comes."""
        self._is_held = False
        self._schedule()

    def fill(self, key: bytes, value: bytes | None, *, expires_ms: int = 0) -> Record:
        """Give `key` a record as if it had been put long ago."""
        record = Record(self.next_version(), value, expires_ms)
        self.records[key] = record
        return record

    def next_version(self) -> bytes:
        """A version above all given out before."""
        self.stamp += 1
        return pack_version((self.now_ms << 16) + self.stamp, 0x0123456789AB)

    # --- how it answers ---------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._is_scheduled = False
        while self._pending and not self._is_held:
            event = self._pending.popleft()
            waiter: Waiter = event.waiter  # type: ignore[union-attr]
            waiter.done(self.failure or self._answer(event))
        sinks = list(self._sinks)
        self._sinks.clear()
        for sink in sinks:
            sink.flush()

    def _answer(self, event: Event) -> Result:
        answers: dict[type, Callable[[Any], Result]] = {
            Get: self._get,
            Put: self._put,
            Update: self._update,
            Scan: self._scan,
            LocalScan: self._scan,
            Explain: self._explain,
            LocalGet: self._local_get,
            LocalPut: self._local_put,
            Join: self._join,
            Forget: self._forget,
            Change: self._change,
            Check: lambda event: CheckResult(1024, int(event.is_asked), 0, 0),
        }
        return answers[type(event)](event)

    def _get(self, event: Get) -> Result:
        if event.r > 3:
            return InvalidRequest("r is more than there are replicas", r=event.r, replicas=3)
        return GetResult(self.records.get(event.key), answers=event.r or 2)

    def _put(self, event: Put) -> Result:
        if event.w > 3:
            return InvalidRequest("w is more than there are replicas", w=event.w, replicas=3)
        version = self.next_version()
        self.records[event.key] = Record(version, event.value, event.expires_ms)
        return PutResult(version, acks=event.w or 2, replicas=3)

    def _update(self, event: Update) -> Result:
        held = self.records.get(event.key)
        winners = held.winners if held is not None else ()
        if event.request and event.request in (number for _, number in winners):
            return UpdateResult(None, held, 2, 3, is_repeated=True)
        is_young = held is not None and stamp_of(held.version) >= stamp_at(event.since_ms)
        if event.since_ms and is_young:
            return Conflict("it cannot be told", outcome=Outcome.UNKNOWN)
        before = held if is_live(held, wall_ms=self.now_ms) else None
        try:
            edited = event.edit(before)
        except QuorateError as error:
            error.outcome = error.outcome or Outcome.NOT_APPLIED
            return error
        if edited is None:
            # Nothing was written, so nobody acknowledged.
            return UpdateResult(before, None, 0, 0)
        version = successor(held.version if held is not None else pack_version(0, 0))
        after = Record(
            version,
            edited.value,
            # A tombstone that has no stamp of its own tells when it was made.
            edited.expires_ms if edited.value is not None else self.now_ms,
            held.version if held is not None else b"",
            (*winners, (link_of(held.version if held is not None else b""), event.request))[-6:],
        )
        self.records[event.key] = after
        return UpdateResult(before, after, 2, 3)

    def _scan(self, event: Scan | LocalScan) -> Result:
        rows: list[ScannedRow] = []
        for row in sorted(row_of(key) for key in self.records):
            record = self.records[key_of(row)]
            if row <= event.cursor or not key_of(row).startswith(event.prefix):
                continue
            shows_expired = isinstance(event, Scan) and event.expired and record.value is not None
            if not shows_expired and not is_live(record, wall_ms=self.now_ms):
                continue
            if len(rows) == event.limit:
                return ScanResult(rows, rows[-1].row, True)
            rows.append(ScannedRow(row, record.version, True, record.expires_ms))
        return ScanResult(rows, b"", True)

    def _explain(self, event: Explain) -> Result:
        record = self.records.get(event.key)
        version = record.version if record else b""
        slot = slot_of(event.key)
        replicas = [ReplicaView(url, "up", version, bool(record), 0, 0) for url in NODES]
        return ExplainResult(slot, slot >> 4, 1, replicas)

    def _local_get(self, event: LocalGet) -> Result:
        return LocalResult(self.records.get(event.key))

    def _local_put(self, event: LocalPut) -> Result:
        if wins(event.record, self.records.get(event.key)):
            self.records[event.key] = event.record
        held = self.records[event.key]
        return LocalResult(held, held == event.record)

    def _join(self, event: Join) -> Result:
        known = event.url in self.known
        self.known.add(event.url)
        return JoinResult(known, owns=event.url in NODES, member=event.url in NODES)

    def _forget(self, event: Forget) -> Result:
        if event.url in NODES:
            return InvalidRequest("this member holds copies", url=event.url)
        known = event.url in self.known
        self.known.discard(event.url)
        return ForgetResult(known)

    def _change(self, event: Change) -> Result:
        wish = event.wish
        named = [*wish.leave, *[name for pair in wish.replace for name in pair]]
        named += [name for name, _ in (*wish.weights, *wish.zones)]
        if set(named) - self.known:
            return InvalidRequest("no member of the cluster is called that", name=named[0])
        if len(wish.leave) > len(NODES) - 3 and not wish.is_forced:
            return InvalidRequest("2 nodes cannot hold 3 copies of each key")
        if wish.raises_level and self.level_waits:
            return Conflict("; ".join(self.level_waits))
        if event.from_epoch not in (0, self.epoch):
            reason = "the cluster has changed since"
            return Conflict(reason, outcome=Outcome.NOT_APPLIED, epoch=self.epoch)
        shares = [
            Share(
                url=url,
                id=_id_of(url),
                zone="",
                weight=0 if url in wish.leave else 1,
                before=1024,
                after=0 if url in wish.leave else 1024,
                gains=0,
                gives=1024 if url in wish.leave else 0,
            )
            for url in NODES
        ]
        plan = Preview(
            endangered=0,
            gone=0,
            epoch=self.epoch,
            replication=wish.replication or 3,
            shares=shares,
            copies=self.moving,
            bytes=self.moving * 1000,
            crowded=[],
            unanswered=[f"{NODES[0]} was started with -W=9"] if wish.is_forced else [],
            weakened=[f"{NODES[0]} was started with -R=2"] if wish.is_forced else [],
            level=self.next_level if wish.raises_level else self.level,
        )
        is_so = wish.raises_level and self.level == self.next_level
        if event.is_preview or is_so or wish in (Wish(), Wish(stops=True)):
            return ChangeResult(0, plan)
        self.level = plan.level
        self.epoch += 1
        return ChangeResult(self.epoch, plan)

    def _member(self, url: str) -> MemberView:
        return MemberView(
            url=url,
            id=_id_of(url),
            state="self" if url == self.config.advertise else "up",
            owns=url in NODES,
            partitions=1024 if url in NODES else 0,
            last_seen_ms=0,
            failures=0,
            version="0.0.0",
            level=self.next_level,
            protocol=4,
            zone="",
            keys=len(self.records),
            bytes=0,
            hints=0,
            refusal="",
            w=2,
            r=2,
            member=url in NODES,
            weight=1,
            left=0,
            lost=False,
            client=self.clients.get(url, ""),
            holds_up=url == self.holding_up,
        )
