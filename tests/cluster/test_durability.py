# SPDX-License-Identifier: GPL-3.0-or-later
"""Acknowledged writes survive (P1), and what failed is told honestly (P3), on real processes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from quorate.client import Client
from quorate.errors import Outcome, QuorumUnreachable
from tests.cluster.load import Load, missing
from tests.cluster.processes import Cluster, fetch, quorate, wait_until

ROUNDS = 10


def test_no_acknowledged_write_is_lost_when_all_nodes_are_killed_at_once(cluster: Cluster) -> None:
    """`kill -9` of all three under load, ten times."""
    acknowledged: dict[str, str] = {}
    for round_number in range(ROUNDS):
        with Load(cluster.urls, writers=6, name=f"round{round_number}") as load:
            load.wait_for(100)
            for node in cluster.nodes:
                node.signal(signal.SIGKILL)
        acknowledged |= load.acknowledged
        for node in cluster.nodes:
            node.wait()
        cluster.start()
        assert missing(cluster.urls[round_number % 3], load.acknowledged) == []
    assert missing(cluster.urls[0], acknowledged) == []


def test_a_killed_node_interrupts_nobody_and_gets_all_it_missed(cluster: Cluster) -> None:
    """I25: W = R = 2 of 3 go on without it; hints bring it up to date within 10 s."""
    victim, *others = cluster.nodes
    with Load([node.url for node in others], writers=6) as load:
        load.wait_for(100)
        victim.kill()
        killed_s = time.monotonic()
        before = load.count
        load.wait_for(before + 500)
    assert [str(each.error) for each in load.failures if each.at_s > killed_s + 0.1] == []
    assert sum(node.hints_for(victim.url) for node in others) > 0
    victim.start()
    cluster.wait_ready()
    wait_until(
        lambda: all(node.hints_for(victim.url) == 0 for node in others),
        within_s=10,
        what="all hints taken",
    )
    # R = 1 through the victim reads its own copy only.
    assert missing(victim.url, load.acknowledged, r=1) == []


def test_without_a_quorum_a_write_is_not_applied_and_a_read_is_not_a_404(cluster: Cluster) -> None:
    """Two of three down."""
    survivor, *others = cluster.nodes
    with Client(survivor.url) as client:
        client.put("kept", "before")
        for node in others:
            node.kill()
        # Until it has seen the links break it may still send the write: then it is UNKNOWN.
        wait_until(
            lambda: all(survivor.member(node.url)["state"] != "up" for node in others),
            within_s=5,
            what="both seen to be gone",
        )
        began_s = time.monotonic()
        with pytest.raises(QuorumUnreachable) as caught:
            client.put("kept", "after")
        assert caught.value.outcome is Outcome.NOT_APPLIED
        assert 3.0 <= time.monotonic() - began_s < 4.0
        for key in ("kept", "never written"):
            status, body = fetch(f"{survivor.url}/kv?key={key.replace(' ', '%20')}")
            assert status == 503, body
            assert json.loads(body)["code"] == "quorum_unreachable"
        got = quorate("get", "--target", survivor.url, "kept")
        assert (got.returncode, got.stdout) == (3, b"")
        cluster.start()
        found = client.get("kept")
        assert found is not None
        assert found.value == b"before"


def test_a_write_that_waits_succeeds_when_a_replica_comes_back_in_time(tmp_path: Path) -> None:
    with Cluster(tmp_path, "-write-wait=15s") as cluster:
        survivor, *others = cluster.nodes
        for node in others:
            node.kill()
        with Load([survivor.url], writers=1) as load:
            others[0].start()
            load.wait_for(1)
        assert load.failures == []


def test_a_paused_node_comes_back_by_itself_on_every_peer(tmp_path: Path) -> None:
    """SIGSTOP until it is down, then SIGCONT; nobody rejoins anything."""
    with Cluster(tmp_path, "-heartbeat=200ms") as cluster:
        paused, *others = cluster.nodes
        paused.signal(signal.SIGSTOP)
        for node in others:
            node.sees(paused.url, "down")
        with Client(others[0].url) as client:
            assert client.put("while", "paused").acks >= 2
        paused.signal(signal.SIGCONT)
        for node in others:
            node.sees(paused.url, "up")
        wait_until(
            lambda: missing(paused.url, {"while": "paused"}, r=1) == [],
            within_s=10,
            what="the hint arrived",
        )
