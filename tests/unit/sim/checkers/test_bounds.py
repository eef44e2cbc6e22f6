# SPDX-License-Identifier: GPL-3.0-or-later
"""A bound that does not hold is found, whichever it is (I26)."""

from __future__ import annotations

import pytest

from quorate.core.node import Node
from quorate.core.peers import UNANSWERED_BYTES_MAX
from quorate.sim.checkers.bounds import Bounds
from tests.unit.sim.checkers.steps import Stage


@pytest.fixture
def node(stage: Stage) -> Node:
    return stage.cluster.node(0)


def _told(node: Node) -> list[str]:
    bounds = Bounds()
    bounds.measure(node)
    return [each.told for each in bounds.found]


def test_a_node_within_its_bounds_is_fine(node: Node) -> None:
    settings = node.settings
    node.parts.requests.count = settings.inflight_max
    node.parts.requests.bytes = settings.inflight_bytes_max
    node.parts.hints.bytes = settings.hint_bytes_max
    for peer in node.membership.peers.values():
        peer.unanswered_bytes = UNANSWERED_BYTES_MAX + settings.inflight_bytes_max
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
    node.parts.hints.bytes = size
    (told,) = _told(node)
    assert f"has {size} bytes of hints" in told


@pytest.mark.parametrize("size", [-1, 1 << 30])
def test_bytes_that_a_peer_has_not_answered_are_counted(node: Node, size: int) -> None:
    next(iter(node.membership.peers.values())).unanswered_bytes = size
    (told,) = _told(node)
    assert f"has {size} bytes unanswered by http://n1:1" in told
