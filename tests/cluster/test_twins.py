# SPDX-License-Identifier: GPL-3.0-or-later
"""A copied data directory, started beside the original under its URL, on real processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.load import Load, missing
from tests.cluster.processes import Cluster, NodeProcess, fetch, wait_until
from tests.ports import free_port

ENDS_WITHIN_S = 30.0


@pytest.fixture
def twin(cluster: Cluster, tmp_path: Path) -> Iterator[NodeProcess]:
    """The first node's, not started."""
    original = cluster.nodes[0]
    assert original.stop() == 0
    port = free_port()
    twin = NodeProcess(tmp_path, port, [f"-advertise={original.url}", *original.flags[2:]])
    shutil.copytree(original.data, twin.data)
    cluster.start()
    yield twin
    if twin.is_running:
        twin.kill()


def test_a_twin_is_refused_disturbs_nobody_says_what_it_is_and_ends(
    cluster: Cluster, twin: NodeProcess
) -> None:
    original, *others = cluster.nodes
    with Load(cluster.urls, writers=2) as load:
        load.wait_for(100)
        twin.start()
        for other in others:
            wait_until(partial(_has_refused, other), within_s=15, what=f"{other.url} refuses it")
        status, body = fetch(f"{twin.url}/kv?key=k", method="PUT", body=b"of the twin")
        assert (status, json.loads(body)["outcome"]) == (503, "not_applied")
        load.wait_for(load.count + 100)
    assert [str(each.error) for each in load.failures] == []
    assert missing(others[0].url, load.acknowledged) == []
    wait_until(lambda: not twin.is_running, within_s=ENDS_WITHIN_S, what="the twin ends")
    assert twin.wait() == 1
    assert "two nodes with one identity" in twin.log.read_text()
    for other in others:
        assert other.member(original.url)["state"] == "up"


def _has_refused(node: NodeProcess) -> bool:
    return "two nodes with one URL" in node.log.read_text()
