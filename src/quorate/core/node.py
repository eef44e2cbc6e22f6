# SPDX-License-Identifier: GPL-3.0-or-later
"""A node: a function from a batch of events to a batch of effects.

`step(events, now)` reads no clock, socket, file, thread or global randomness, and awaits nothing.
Same state, events, `now` and random generator: same effects. Storage is read inside a step through
the injected engine; what is to be stored, sent and answered comes out as `Effects`. A step takes
the events, then makes the calls that are due (`turn`), then flushes what all that has to say.

The parts: `writes`, `updates`, `reads`, `scans` coordinate requests; `replica` is this node's
copies; an `outbox` for each peer gathers what it is told in a turn; `hints` and `membership` do
what their names say; `peer` knows who answers; `turn` bounds and expires what clients asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from quorate.core.exchanges.agreement import Agreement
from quorate.core.exchanges.changes import Changes
from quorate.core.exchanges.explains import Explains
from quorate.core.exchanges.hints import Hints
from quorate.core.exchanges.look import Look
from quorate.core.exchanges.open_votes import OpenVotes
from quorate.core.exchanges.outbox import Outbox
from quorate.core.exchanges.pulls import Pulls
from quorate.core.exchanges.reads import Reads
from quorate.core.exchanges.rounds import Rounds
from quorate.core.exchanges.scans import Scans
from quorate.core.exchanges.spreads import Spreads
from quorate.core.exchanges.updates import Updates
from quorate.core.exchanges.write import Write
from quorate.core.exchanges.writes import Writes
from quorate.core.local import Local
from quorate.core.replica import Reader
from quorate.core.serving import Serving
from quorate.core.topology.layout import Layout
from quorate.core.topology.liveness import Liveness
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Ground, Peer
from quorate.core.turn import Alarm, Parked, Parts, not_applied, size_of, too_large
from quorate.core.values.events import (
    Batch,
    Change,
    Check,
    Discovered,
    Durable,
    Effects,
    Event,
    Explain,
    Forget,
    ForgetResult,
    Get,
    Instant,
    Join,
    JoinResult,
    LinkDown,
    LinkRefused,
    LinkRoom,
    LinkUp,
    LocalGet,
    LocalPut,
    LocalScan,
    Met,
    PeerFrame,
    Put,
    Scan,
    Stop,
    StorageState,
    Update,
    Waiter,
)
from quorate.core.values.messages import Message, Ping
from quorate.core.values.record import is_expiry
from quorate.core.values.settings import Settings
from quorate.core.values.slots import ROW_END
from quorate.core.values.status import Status
from quorate.core.values.versions import ms_of, stamp_at
from quorate.core.views import status_of
from quorate.errors import (
    ClockUntrusted,
    InvalidRequest,
    KeyMissing,
    KeyTooLarge,
    NotReady,
    QuorateError,
    StorageError,
)

if TYPE_CHECKING:
    from random import Random

CEILING_META: Final = b"ceiling"
FIRST_BATCH_BITS: Final = 62
"""Room above for all the messages of a process."""
STARTUP_SKEW_MS_MAX: Final = 60_000
"""A wall clock further behind the stored ceiling than this is absurd: the node does not start."""


class Node:
    """One member of a cluster. `engine` is read in steps, all else comes and goes by `step`."""

    def __init__(self, settings: Settings, engine: Reader, random: Random, now: Instant) -> None:
        """Take up what `engine` holds. ClockUntrusted if the wall clock is far behind the last
        stamp that this node gave out."""
        ceiling = _ceiling_of(engine, now)
        self.settings: Final = settings
        # Asked for each request: a Struct's attributes are looked up by their names.
        self._key_bytes_max: Final = settings.key_bytes_max
        self._value_bytes_max: Final = settings.value_bytes_max
        self.parts: Final = Parts(settings, engine, random, ceiling=ceiling)
        parts, turn = self.parts, self.parts.turn
        turn.begin(now.mono_ms, now.wall_ms, stamp_max=0)
        self.outboxes: Final[list[Outbox]] = []
        """By the index of the peer."""
        self._came: Final = Alarm(turn, self._on_came)
        self._retry: Final = Alarm(turn, self._unpark)
        self.membership: Final = Membership(
            settings,
            turn,
            self._make_peer,
            process=parts.process,
            serial=max(now.wall_ms, 0),
            adopted=self._on_adopted,
            store=parts.replica.put_meta,
            ceiling=ceiling,
        )
        self.roster: Final = self.membership.roster
        self.hints: Final = Hints(
            engine=engine, replica=parts.replica, turn=turn, bytes_max=settings.hint_bytes_max
        )
        self.rounds: Final = Rounds(parts, self.membership)
        self.spreads: Final = Spreads(parts, self.hints)
        asking = self.membership, self.rounds, self.spreads
        self.writes: Final = Writes(parts, *asking, hints=self.hints, retry=self._retry)
        self.updates: Final = Updates(parts, *asking)
        self.reads: Final = Reads(parts, self.membership)
        self.scans: Final = Scans(parts, self.membership, self.outboxes)
        self.explains: Final = Explains(parts, self.membership, self.hints, self.outboxes)
        self.liveness: Final = Liveness(
            settings, turn, self.roster.peers, ping=self._ping, owes=self._owes, random=random
        )
        open_votes = OpenVotes(parts, self.membership, self.rounds, self.updates.finish)
        self.agreement: Final = Agreement(parts, self.membership, self.outboxes, open_votes)
        moving = parts, self.membership, self.outboxes
        self.pulls: Final = Pulls(*moving, self._on_pulled, self.agreement.gained)
        self.changes: Final = Changes(*moving, self.liveness.tell, self.pulls)
        self.serving: Final = Serving(
            parts, self.membership, self.liveness, self.changes, self.agreement
        )
        self.membership.marks.counted = Alarm(turn, self.liveness.tell_crowd).soon
        self.is_stopping = False
        self._handlers: Final = self._table()
        is_blank = not (ceiling or self.changes.has_voted) and _is_empty(engine)
        self.membership.open(engine.get_meta, is_blank=is_blank)

    # --- the one way in and out --------------------------------------------------------------

    def step(self, events: Sequence[Event], now: Instant) -> Effects:
        """Take the events in order; returns all that follows from them and from the time."""
        turn, clock = self.parts.turn, self.parts.clock
        turn.begin(now.mono_ms, now.wall_ms, stamp_max=clock.begin(now.wall_ms))
        for event in events:
            # Most are one of four: looking it up, and a call without types, would cost more.
            if isinstance(event, Get):
                self._on_small(event)
            elif isinstance(event, Put):
                self._on_put(event)
            elif isinstance(event, PeerFrame):
                self._on_frame(event)
            elif isinstance(event, Durable):
                self.parts.replica.on_durable(event.mark)
            else:
                self._handlers[type(event)](event)
        turn.ring()
        return self._flush()

    def _flush(self) -> Effects:
        turn = self.parts.turn
        peers = self.roster.close_turn() if self.roster.has_changed else None
        batch, mark = self._close_batch()
        epoch = self.membership.epoch
        sends: dict[int, list[Message]] = {}
        for outbox in self.outboxes:
            if outbox.is_stirred:
                messages, peer = outbox.collect(), outbox.peer
                if peer.epoch < epoch and peer.is_linked:
                    # Ahead of requests, which it would refuse.
                    peer.epoch = epoch
                    messages = [self.membership.announcement(), *messages]
                if messages and peer.is_linked:
                    sends[peer.id] = messages
        # By place and at once: each field that is set later costs as much as half of this.
        wake_ms, end = turn.wake_ms(), self.membership.marks.refusal
        return Effects(batch, mark, sends, turn.answers, turn.notes, peers, wake_ms, end)

    def _close_batch(self) -> tuple[Batch | None, int]:
        replica, writes, hints = self.parts.replica, self.writes, self.hints
        while True:
            voted = self.changes.has_granted or self.membership.marks.has_accepted
            if voted or writes.has_stamped or replica.keeps or replica.votes.fresh:
                self._raise_ceiling()
            if writes.own:
                writes.close_turn()
            if hints.fresh:
                hints.close_turn()
            batch, mark = replica.close_turn()
            # Without a batch, what waited for nothing else may happen now, and may write.
            if batch is not None or not replica.release_settled():
                return batch, mark

    def _raise_ceiling(self) -> None:
        self.writes.has_stamped = self.changes.has_granted = False
        self.membership.marks.has_accepted = False
        ceiling, replica = self.parts.clock.raise_ceiling(), self.parts.replica
        if ceiling:
            replica.put_meta(CEILING_META, ceiling.to_bytes(8, "big"))
            # Not before: after a power cut this disk would look like an old one.
            replica.when_durable(lambda: self.membership.marks.reach(ceiling))

    def _on_came(self) -> None:
        """Peers became reachable: they get their hints, and parked requests are tried again."""
        for outbox in self.outboxes:
            if outbox.peer.has_come:
                outbox.peer.has_come = False
                self.hints.replay(outbox.peer)
        self.changes.look()
        self._unpark()

    def _on_adopted(self, before: Layout | None, layout: Layout) -> None:
        """Another layout is in force: what is under way begins anew under it."""
        self.hints.rename()
        self.pulls.adopted(before, layout)
        self.agreement.adopted(layout)
        for operation in self.parts.requests.under_way():
            if isinstance(operation, Write):
                self.writes.begin_anew(operation)
            elif isinstance(operation, Look):
                self.reads.begin_anew(operation)
        self.updates.begin_anew()
        self.changes.adopted(layout)
        self._retry.soon()

    def _on_pulled(self) -> None:
        """This node has all copies that it is to hold: others wait for that."""
        self.liveness.tell(self.membership.voters().values())
        self.changes.look_soon()

    def _unpark(self) -> None:
        if self.parts.requests.has_parked:
            for parked in self.parts.requests.unpark():
                self._begin(parked.event, parked)

    # --- client requests ---------------------------------------------------------------------

    def _on_small(self, event: Get | Update) -> None:
        """It brings no value, or none that is known to be written."""
        size = event.size if isinstance(event, Update) else 0
        if self._admit(event.waiter, event.key, size):
            self._begin(event, None)

    def _on_put(self, event: Put) -> None:
        value = event.value
        if value is not None and len(value) > self._value_bytes_max:
            self._refuse(event.waiter, too_large(value, self.settings))
        elif event.expires_ms and not is_expiry(event.expires_ms):
            self._refuse(event.waiter, InvalidRequest("no such expiry", given=event.expires_ms))
        elif self._admit(event.waiter, event.key, size_of(event)):
            self._begin(event, None)

    def _begin(self, event: Get | Put | Update, parked: Parked | None) -> None:
        try:
            if isinstance(event, Get):
                self.reads.begin(event, parked)
            elif isinstance(event, Put):
                self.writes.begin(event, parked)
            else:
                self.updates.begin(event, parked)
        except QuorateError as error:
            self.parts.requests.answer(event.waiter, not_applied(error), size_of(event))

    def _on_look(self, event: Scan | Explain) -> None:
        """It asks several replicas what they hold, and changes nothing."""
        if self._admit(event.waiter, event.key if isinstance(event, Explain) else b"-", 0):
            try:
                if isinstance(event, Scan):
                    self.scans.begin(event)
                else:
                    self.explains.begin(event)
            except QuorateError as error:
                self.parts.requests.answer(event.waiter, error, 0)

    def _admit(self, waiter: Waiter, key: bytes, size: int) -> bool:
        """Count the request in, or refuse it."""
        if not 0 < len(key) <= self._key_bytes_max or self.is_stopping:
            self._refuse(waiter, self._why_not(key))
            return False
        try:
            self.parts.requests.admit(size)
        except QuorateError as error:
            self._refuse(waiter, error)
            return False
        return True

    def _why_not(self, key: bytes) -> QuorateError:
        if not key:
            return KeyMissing("a key is needed")
        limit = self._key_bytes_max
        if len(key) > limit:
            return KeyTooLarge("the key is too large", bytes=len(key), bytes_max=limit)
        return NotReady("this node is stopping")

    def _refuse(self, waiter: Waiter, error: QuorateError) -> None:
        self.parts.turn.answers.append((waiter, not_applied(error)))

    # --- members ------------------------------------------------------------------------------

    def _on_join(self, event: Join) -> None:
        try:
            is_new = self.roster.add(event.url, Ground.ANNOUNCED)
        except InvalidRequest as error:
            self._refuse(event.waiter, error)
            return
        peer = self.roster.at(event.url)
        if peer is not None:
            peer.misses = 0
            # One whose disk was given up is none once its copies have moved.
            peer.is_wanted = peer.is_lost or not self.membership.is_member(peer)
            self.changes.look_soon()
        topology = self.membership.topology
        mine = peer is None and event.url == self.settings.url
        owns = topology is not None and (peer is not None or mine) and peer in topology.copies()
        if peer is None:
            is_member = self.membership.is_in and mine
        else:
            is_member = self.membership.is_member(peer) and not peer.is_lost
        result = JoinResult(not is_new, owns and is_member, is_member)
        self.parts.turn.answers.append((event.waiter, result))

    def _on_change(self, event: Change) -> None:
        try:
            self.changes.ask(event)
        except QuorateError as error:
            self._refuse(event.waiter, error)

    def _on_check(self, event: Check) -> None:
        if event.is_asked:
            self.agreement.check()
        self.parts.turn.answers.append((event.waiter, self.agreement.counting.result()))

    def _on_forget(self, event: Forget) -> None:
        try:
            result = ForgetResult(self.roster.forget(event.url))
            self.parts.turn.answers.append((event.waiter, result))
        except InvalidRequest as error:
            self._refuse(event.waiter, error)

    # --- what the runtime reports ------------------------------------------------------------

    def _on_frame(self, event: PeerFrame) -> None:
        peer = self.roster.by_id.get(event.peer)
        if peer is not None:
            self.serving.on_frame(self.outboxes[peer.index], event.frame)

    def _on_link_up(self, event: LinkUp) -> None:
        peer = self.roster.by_id.get(event.peer)
        if peer is not None:
            self.roster.reached(peer)
            self.liveness.linked(peer)

    def _on_link_down(self, event: LinkDown) -> None:
        peer = self.roster.by_id.get(event.peer)
        if peer is not None:
            peer.epoch = 0
            self.liveness.unlinked(peer)
            self.serving.forget(peer)
            self.outboxes[peer.index].lose_all()

    def _on_link_room(self, event: LinkRoom) -> None:
        peer = self.roster.by_id.get(event.peer)
        if peer is not None:
            self.serving.has_room(self.outboxes[peer.index])

    def _on_storage_state(self, event: StorageState) -> None:
        self.parts.replica.trouble = event

    def _on_stop(self, _: Stop) -> None:
        self.is_stopping = True
        self.membership.marks.keep()
        for parked in self.parts.requests.unpark():
            parked.error = not_applied(NotReady("this node is stopping"))
            self.parts.requests.refuse(parked)

    # --- questions of the runtime ------------------------------------------------------------

    def frame_header(self) -> tuple[int, int]:
        """Epoch and hybrid clock for the next frame."""
        clock = self.parts.clock
        return self.membership.epoch, max(clock.last, stamp_at(self.parts.turn.wall_ms))

    @property
    def inflight(self) -> int:
        """Requests admitted and not answered."""
        return self.parts.requests.count

    def status(self) -> Status:
        """A snapshot for people and monitoring."""
        return status_of(
            *(self.parts, self.membership, self.hints, self.pulls, self.agreement),
            liveness=self.liveness,
            put_off=self.changes.wants.put_off(),
            is_stopping=self.is_stopping,
        )

    # --- construction ------------------------------------------------------------------------

    def _table(self) -> dict[type[Event], Callable[[Any], None]]:
        """What is done with each kind of event, but for the most frequent ones."""
        local = Local(self.parts, self.scans, self.serving, self._admit)
        return {
            Update: self._on_small,
            Scan: self._on_look,
            Explain: self._on_look,
            LocalGet: local.get,
            LocalPut: local.put,
            LocalScan: local.scan,
            Join: self._on_join,
            Forget: self._on_forget,
            Change: self._on_change,
            Check: self._on_check,
            LinkUp: self._on_link_up,
            LinkDown: self._on_link_down,
            LinkRefused: lambda event: self.roster.refused(event.url, event.reason),
            Discovered: lambda event: self.roster.discover(event.urls, known_as=event.known_as),
            LinkRoom: self._on_link_room,
            Met: lambda event: self.membership.meet(event.greeting, is_answer=event.is_answer),
            StorageState: self._on_storage_state,
            Stop: self._on_stop,
        }

    def _make_peer(self, url: str, index: int) -> Peer:
        parts = self.parts
        peer = Peer(url, index, self._came)
        there = self.roster.at(url)
        if there is not None and there.is_bound:
            # Hints for who is at this URL are that member's, and this is another disk.
            peer.names = ()
        if index < len(self.outboxes):
            # The place of a member that was forgotten: nothing of it is under way.
            outbox = self.outboxes[index]
            outbox.peer = peer
            self.hints.open(outbox)
            return peer
        outbox = Outbox(
            peer,
            parts.turn,
            timeout_ms=self.settings.timeout_ms,
            first_batch=parts.random.getrandbits(FIRST_BATCH_BITS),
        )
        self.outboxes.append(outbox)
        self.writes.open(outbox)
        self.rounds.open(outbox)
        self.spreads.open(outbox)
        self.reads.open(outbox)
        self.hints.open(outbox)
        return peer

    def _owes(self, peer: Peer, ms: int) -> bool:
        return self.outboxes[peer.index].owes(ms)

    def _ping(self, peers: list[Peer]) -> None:
        """Ask whether they live, and tell how far this node is."""
        facts, pulls, marks = self.membership.facts, self.pulls, self.membership.marks
        members, known, mark, waits = facts.strangers(), facts.hash(), marks.own, not marks.counts
        keys, size = self.parts.replica.keys, self.parts.replica.bytes_used()
        done, left, not_read = pulls.pulled, len(pulls.left), pulls.unreadable
        for peer in peers:
            outbox = self.outboxes[peer.index]
            batch = outbox.next_batch()
            told = Ping(batch, members, keys, size, done, left, not_read, mark, known, waits)
            outbox.ping(told)


def _ceiling_of(engine: Reader, now: Instant) -> int:
    """Below which all stamps are that this node gave out. ClockUntrusted if that is absurd."""
    ceiling = int.from_bytes(engine.get_meta(CEILING_META) or b"", "big")
    behind_ms = ms_of(ceiling) - now.wall_ms
    if behind_ms > STARTUP_SKEW_MS_MAX:
        raise ClockUntrusted(
            "this machine's clock is behind the last stamp in the data directory",
            behind_s=behind_ms // 1000,
        )
    return ceiling


def _is_empty(engine: Reader) -> bool:
    """Whether no record was ever kept here."""
    try:
        return next(iter(engine.scan(b"", ROW_END)), None) is None
    except StorageError:
        return False
