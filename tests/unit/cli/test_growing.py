# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting until copies have moved; the whole is shown by real nodes (tests/cluster)."""

from __future__ import annotations

import json

import pytest

from quorate.cli import growing
from quorate.cli.growing import _follow, _share_of
from quorate.cli.processes import NodeFailed
from quorate.client.blocking import Client
from tests.unit.client.scripted import Request, ScriptedNode, reply


def told(to_move: int, phase: str, **copies: int) -> bytes:
    members = [{"url": url, "copies": count} for url, count in copies.items()]
    facts = {"node": "n", "epoch": 3, "phase": phase, "replication": 3, "copies": 8}
    table = {**facts, "to_move": to_move, "waits": ["d waits"], "crowded": [], "members": members}
    return reply(200, json.dumps(table).encode())


def test_copies_are_followed_until_nothing_moves_and_the_node_has_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing, "_POLL_SECONDS", 0.0)
    answers = [
        told(0, "stable", a=8),  # Who joined is no member yet.
        told(6, "waiting", a=8, d=0),
        told(6, "moving", a=8, d=0),
        told(2, "moving", a=4, d=4),
        told(0, "moving", a=2, d=6),
        told(0, "stable", a=2, d=6),
    ]
    seen: list[str] = []

    def answer(request: Request) -> bytes:
        seen.append(request.target)
        return answers[len(seen) - 1]

    with ScriptedNode(answer) as node, Client(node.url) as client:
        assert _follow(client, lambda shown: _share_of(shown, "d") > 0) == 6
    assert seen == ["/topology"] * 6


def test_copies_that_do_not_move_in_time_are_told_with_what_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing, "_STEP_SECONDS", 0.0)
    with (
        ScriptedNode(lambda _: told(6, "moving", a=8)) as node,
        Client(node.url) as client,
        pytest.raises(NodeFailed, match="copies did not move in time; d waits"),
    ):
        _follow(client, lambda shown: _share_of(shown, "a") < 0)
