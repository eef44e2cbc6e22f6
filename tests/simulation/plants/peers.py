# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of hints, liveness, and of what requests and messages are remembered by."""

from __future__ import annotations

from typing import Final, cast

from msgspec.structs import replace

from quorate.core.exchanges.hints import Hints, _Queue
from quorate.core.exchanges.outbox import Answer, Exchange, Peer, Sent
from quorate.core.node import Node
from quorate.core.requests.admission import Parked, Requests
from quorate.core.topology import greeting as handshake
from quorate.core.topology.liveness import Liveness
from quorate.core.values.clock import stamp_at
from quorate.core.values.events import Get, Put, Result, Waiter
from quorate.core.values.messages import Greeting, Mutated
from quorate.core.values.record import Record
from quorate.core.values.versions import pack_version
from quorate.errors import QuorateError
from quorate.sim.plan import MILD, Options
from tests.simulation.plants.plant import Plant

_replay: Final = Hints.replay
_send_items: Final = Peer.send_items
_on_answer: Final = Peer.on_answer
_make_peer: Final = Node._make_peer
_heard: Final = Liveness.heard
_answer: Final = Requests.answer
_park: Final = Requests.park


def _forget_what_was_sent(self: Hints, peer: Peer) -> None:
    queue = self._queues[peer.url]
    before = queue.sent
    _replay(self, peer)
    if queue.sent is not None and queue.sent is not before:
        self._forget(queue, cast("list[tuple[bytes, int]]", queue.sent.ops))


def _lost_is_delivered(self: Hints, peer: Peer, sent: Sent) -> None:
    self.answered(peer, sent, Mutated(sent.batch, [], []))


def _begin_without_hints(self: Hints, url: str) -> None:
    self._queues[url] = _Queue(url)


def _stamp_hints_anew(
    self: Peer,
    exchange: Exchange,
    items: list[tuple[bytes, Record]],
    ops: list[object],
    *,
    size: int,
) -> Sent:
    if isinstance(exchange, Hints):
        version = pack_version(stamp_at(exchange._turn.wall_ms), 0)
        items = [(row, replace(record, version=version)) for row, record in items]
    return _send_items(self, exchange, items, ops, size=size)


def _take_answers_again(self: Peer, answer: Answer) -> bool:
    sent = self.sent.get(answer.batch)
    is_fit = _on_answer(self, answer)
    if sent is not None and isinstance(answer, Mutated):
        self.sent[sent.batch] = sent
        sent.bytes = 0
    return is_fit


def _count_from_one(self: Node, url: str) -> Peer:
    peer = _make_peer(self, url)
    peer._batch = 0
    return peer


def _down_for_ever(self: Liveness, peer: Peer) -> None:
    was_up = peer.is_up
    _heard(self, peer)
    peer.is_up = was_up


def _keep_the_bytes(self: Requests, waiter: Waiter, result: Result, size: int) -> None:
    del size
    _answer(self, waiter, result, 0)


def _park_once(
    self: Requests, event: Get | Put, error: QuorateError, *, wait_ms: int, again: Parked | None
) -> None:
    if again is None:
        _park(self, event, error, wait_ms=wait_ms, again=None)


def _without_alarm(self: Hints, peer: Peer) -> None:
    if self._queues[peer.url].due_ms <= self._turn.mono_ms:
        _replay(self, peer)


def _reachable_in_the_next_step(self: Liveness, peer: Peer) -> None:
    was_reachable = peer.is_reachable
    _heard(self, peer)
    peer.is_reachable = was_reachable


def _nobody_is_a_twin(acceptor: Greeting, dialler: Greeting) -> bool:
    del acceptor, dialler
    return False


PLANTS: Final = (
    Plant("a hint is deleted before its ack", Hints, "replay", _forget_what_was_sent),
    Plant("hints that were lost count as delivered", Hints, "lost", _lost_is_delivered),
    Plant("a restart forgets hints", Hints, "open", _begin_without_hints),
    Plant(
        "hints are stamped anew when they are replayed",
        Peer,
        "send_items",
        _stamp_hints_anew,
    ),
    Plant("the same replica counts twice", Peer, "on_answer", _take_answers_again),
    Plant(
        "batch numbers begin at 1 after a restart",
        Node,
        "_make_peer",
        _count_from_one,
        Options(faults=frozenset({"echo"})),
    ),
    Plant("a peer once down stays down", Liveness, "heard", _down_for_ever),
    Plant("requests' bytes are not given back", Requests, "answer", _keep_the_bytes),
    Plant("a request parked twice is forgotten", Requests, "park", _park_once),
    Plant(
        "hints that are due again have no alarm",
        Hints,
        "replay",
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
