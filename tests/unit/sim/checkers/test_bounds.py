# SPDX-License-Identifier: GPL-3.0-or-later
"""A bound that does not hold is found, whichever it is (I26)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from quorate.core.exchanges.outbox import UNANSWERED_BYTES_MAX, Sent
from quorate.core.node import Node
from quorate.core.values.events import Put
from quorate.core.values.messages import Mutate, Mutated
from quorate.errors import NotReady
from quorate.sim.checkers.bounds import Bounds, at_rest
from quorate.sim.machine import CACHE_BYTES_MAX
from quorate.storage.cached import ENTRY_BYTES, Lru
from tests.simulation import asking
from tests.simulation.asking import Handle
from tests.unit.sim.checkers.steps import ROW, Stage, record


@pytest.fixture
def node(stage: Stage) -> Node:
    return stage.cluster.machines[0].node


def _told(node: Node) -> list[str]:
    bounds = Bounds()
    bounds.measure(node)
    return [each.told for each in bounds.found]


def test_a_node_within_its_bounds_is_fine(node: Node) -> None:
    settings = node.settings
    node.parts.requests.count = settings.inflight_max
    node.parts.requests.bytes = settings.inflight_bytes_max
    node.hints.bytes = settings.hint_bytes_max
    for outbox in node.outboxes:
        outbox.unanswered_bytes = UNANSWERED_BYTES_MAX + settings.inflight_bytes_max
    assert _told(node) == []


@pytest.mark.parametrize("count", [-1, 50_001])
def test_requests_are_counted(node: Node, count: int) -> None:
    node.parts.requests.count = count
    (told,) = _told(node)
    assert f"has {count} requests in flight" in told


@pytest.mark.parametrize("size", [-1, 1 << 30])
def test_bytes_of_requests_are_counted(node: Node, size: int) -> None:
    node.parts.requests.bytes = size
    (told,) = _told(node)
    assert f"has {size} bytes of requests" in told


@pytest.mark.parametrize("size", [-1, (256 << 20) + 1])
def test_bytes_of_hints_are_counted(node: Node, size: int) -> None:
    node.hints.bytes = size
    (told,) = _told(node)
    assert f"has {size} bytes of hints" in told


@pytest.mark.parametrize("size", [-1, 1 << 30])
def test_bytes_that_a_peer_has_not_answered_are_counted(node: Node, size: int) -> None:
    node.outboxes[0].unanswered_bytes = size
    (told,) = _told(node)
    assert f"has {size} bytes unanswered by http://n1:8000" in told


# --- caches ------------------------------------------------------------------------------------


def _told_of_cache(stage: Stage, *sizes: int) -> list[str]:
    """Of a node that may cache two entries, and holds values of these sizes."""
    machine = stage.machines[0]
    machine.cache_entries = 2
    machine.lru = Lru(entries_max=9, bytes_max=1 << 30)
    machine.lru.put((b"%d" % place, record(1, bytes(size))) for place, size in enumerate(sizes))
    caches = Bounds()
    caches.look(stage.step(0))
    return [each.told for each in caches.found]


def test_a_cache_holds_no_more_than_it_may(stage: Stage) -> None:
    largest = CACHE_BYTES_MAX - ENTRY_BYTES - 1
    assert _told_of_cache(stage, 0, 0) == []
    assert _told_of_cache(stage, largest) == []
    assert _told_of_cache(stage, 0, 0, 0) == ["http://n0:8000 has 3 cached entries, and 2 at most"]
    (told,) = _told_of_cache(stage, largest + 1)
    assert (
        told
        == f"http://n0:8000 has {CACHE_BYTES_MAX + 1} cached bytes, and {CACHE_BYTES_MAX} at most"
    )


# --- at rest -----------------------------------------------------------------------------------


def test_nodes_that_are_done_have_nothing_left(stage: Stage) -> None:
    asking.must_put(stage.cluster, 0, b"k", b"v")
    stage.cluster.run(1_000)
    assert at_rest([machine.node for machine in stage.machines]) == []


def _expect(node: Node) -> None:
    outbox = node.outboxes[0]
    sent = Sent(outbox, node.hints, Mutated, [], 0)
    outbox.send(sent, Mutate(sent.batch, []))


def _park(node: Node, stage: Stage) -> None:
    put = Put(Handle(stage.cluster.world), b"k", b"v")
    node.parts.requests.park(put, NotReady("not yet"), wait_ms=1, again=None)


@pytest.mark.parametrize(
    ("leave", "told"),
    [
        (lambda node: setattr(node.parts.requests, "count", 1), "1 requests in flight"),
        (lambda node: setattr(node.parts.requests, "bytes", -7), "-7 bytes of requests"),
        (lambda node: setattr(node.outboxes[0], "unanswered_bytes", -7), "7 bytes unanswered"),
        (lambda node: setattr(node.hints, "bytes", 7), "7 bytes of hints, and no hint"),
        (_expect, "1 messages without answer"),
    ],
)
def test_what_is_left_of_requests_is_found(
    leave: Callable[[Node], None], told: str, node: Node, stage: Stage
) -> None:
    leave(node)
    (found,) = at_rest([machine.node for machine in stage.machines])
    assert (found.invariant, found.told) == ("I26", f"http://n0:8000 is at rest and has {told}")


def test_a_request_that_still_waits_is_found(node: Node, stage: Stage) -> None:
    _park(node, stage)
    (found,) = at_rest([node])
    assert "requests that wait to begin" in found.told


def test_hints_that_wait_are_no_leak(node: Node) -> None:
    """Their replica may be gone: `hints` judges whether they had to be delivered."""
    node.hints.add(node.membership.roster.peers[0], ROW, record(1))
    assert node.hints.bytes
    assert at_rest([node]) == []
