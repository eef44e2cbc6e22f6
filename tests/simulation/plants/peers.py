# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of hints, liveness, and of what requests and messages are remembered by."""

from __future__ import annotations

from typing import Final

from quorate.core.exchanges.hints import RETRY_MS, Hints, _Queue
from quorate.core.exchanges.outbox import Outbox, Sent, Unanswered
from quorate.core.exchanges.write import Write
from quorate.core.exchanges.writes import Writes
from quorate.core.node import Node
from quorate.core.topology import greeting as handshake
from quorate.core.topology.layout import Member
from quorate.core.topology.liveness import Liveness
from quorate.core.topology.membership import Membership
from quorate.core.topology.peer import Peer
from quorate.core.turn import Alarm, Parked, Requests
from quorate.core.values.events import Get, Put, Result, Waiter
from quorate.core.values.messages import Greeting, Message, Mutate, Mutated
from quorate.core.values.versions import pack_version, stamp_at
from quorate.errors import QuorateError
from quorate.sim.draw import Options
from quorate.sim.faults import MILD
from tests.records import altered
from tests.simulation.plants.plant import Plant

_replay: Final = Hints.replay
_send: Final = Outbox.send
_acked: Final = Writes._acked
_make_peer: Final = Node._make_peer
_heard: Final = Liveness.heard
_place: Final = Membership._place
_answer: Final = Requests.answer
_park: Final = Requests.park


def _forget_what_was_sent(self: Hints, peer: Peer) -> None:
    queue = self._queues[peer.index]
    was_under_way = queue.is_under_way
    _replay(self, peer)
    if queue.is_under_way and not was_under_way:
        *_, sent = queue.outbox.sent.values()
        assert isinstance(sent, Sent)
        self._forget(queue, sent.ops)


def _lost_is_delivered(self: Hints, peer: Peer, ops: list[tuple[bytes, int]]) -> None:
    self.answered(peer, ops, Mutated(0, [], []))


def _count_none(_: Hints, queue: _Queue) -> None:
    queue.uncounted = None


def _stamp_hints_anew(self: Outbox, sent: Unanswered, message: Message) -> None:
    if isinstance(sent, Sent) and isinstance(sent.exchange, Hints) and isinstance(message, Mutate):
        version = pack_version(stamp_at(self.turn.wall_ms), 0)
        items = [(row, altered(record, version=version)) for row, record in message.items]
        message = Mutate(message.batch, items)
    _send(self, sent, message)


def _count_twice(self: Writes, done: list[Write], bit: int) -> None:
    _acked(self, done, bit)
    for write in done:
        silent = write.replicas.mask & ~write.acks
        _acked(self, [write], silent & -silent)


def _count_from_one(self: Node, url: str, index: int) -> Peer:
    peer = _make_peer(self, url, index)
    self.outboxes[index]._batch = 0
    return peer


def _known_by_its_url(self: Membership, member: Member, *, is_alone: bool) -> Peer | None:
    is_own = member.url == self._settings.url
    return None if is_own else _place(self, member, is_alone=is_alone)


def _down_for_ever(self: Liveness, peer: Peer) -> None:
    was_up = peer.is_up
    _heard(self, peer)
    peer.is_up = was_up
    peer.judge()


def _keep_the_bytes(self: Requests, waiter: Waiter, result: Result, size: int) -> None:
    del size
    _answer(self, waiter, result, 0)


def _park_once(
    self: Requests, event: Get | Put, error: QuorateError, *, wait_ms: int, again: Parked | None
) -> None:
    if again is None:
        _park(self, event, error, wait_ms=wait_ms, again=None)


def _without_alarm(self: Hints, queue: _Queue) -> None:
    queue.due_ms = self._turn.mono_ms + RETRY_MS


def _reachable_in_the_next_step(self: Liveness, peer: Peer) -> None:
    was_reachable = peer.is_reachable
    _heard(self, peer)
    if peer.is_reachable and not was_reachable:
        peer.is_reachable = False
        Alarm(self._turn, peer.judge).soon()


def _nobody_is_a_twin(acceptor: Greeting, dialler: Greeting) -> bool:
    del acceptor, dialler
    return False


PLANTS: Final = (
    Plant("a hint is deleted before its ack", Hints, "replay", _forget_what_was_sent),
    Plant("hints that were lost count as delivered", Hints, "lost", _lost_is_delivered),
    Plant("a restart forgets hints", Hints, "_count", _count_none),
    Plant(
        "hints are stamped anew when they are replayed",
        Outbox,
        "send",
        _stamp_hints_anew,
    ),
    Plant("the same replica counts twice", Writes, "_acked", _count_twice),
    Plant(
        "a new disk at a member's URL is that member",
        Membership,
        "_place",
        _known_by_its_url,
        Options(nodes=3, replication=3, operations=100, faults=frozenset({"wipe", "kill"})),
    ),
    Plant(
        "batch numbers begin at 1 after a restart",
        Node,
        "_make_peer",
        _count_from_one,
        Options(faults=frozenset({"echo"})),
    ),
    Plant(
        "a peer once down stays down",
        Liveness,
        "heard",
        _down_for_ever,
        Options(nodes=4, replication=2, faults=frozenset({"isolate"})),
    ),
    Plant("requests' bytes are not given back", Requests, "answer", _keep_the_bytes),
    Plant("a request parked twice is forgotten", Requests, "park", _park_once),
    Plant(
        "hints that are due again have no alarm",
        Hints,
        "_put_off",
        _without_alarm,
        Options(faults=MILD),
    ),
    Plant(
        "a peer that answers is asked only in the next step",
        Liveness,
        "heard",
        _reachable_in_the_next_step,
    ),
    Plant(
        "a link is taken from any process with a peer's URL",
        handshake,
        "is_other_reached",
        _nobody_is_a_twin,
        Options(faults=frozenset({"twin"})),
    ),
)
