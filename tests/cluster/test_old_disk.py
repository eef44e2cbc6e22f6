# SPDX-License-Identifier: GPL-3.0-or-later
"""A data directory that is put back as it was before, on real disks: its copies do not count."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path

from quorate.client import Client
from quorate.config import Config
from quorate.core.values.slots import PARTITION_COUNT
from tests.cluster.processes import Cluster, NodeProcess, fetch, wait_until

KEYS = [f"key{number}" for number in range(200)]
REFUSED = re.compile(
    r"^quorate: this disk is older than what node (http://localhost:[0-9]+) saw of it "
    r"\(([0-9: .-]{23}) < ([0-9: .-]{23})\): its copies do not count\. "
    r"Start with -old-disk=refill to give them up$",
    re.MULTILINE,
)


def put_all(cluster: Cluster, value: str) -> None:
    with Client(cluster.urls) as client:
        for key in KEYS:
            client.put(key, value.encode())


def tells_of_all(other: NodeProcess, node: NodeProcess) -> bool:
    return other.member(node.url)["keys"] == len(KEYS) + 1


def is_refilled(node: NodeProcess) -> bool:
    """Whether this node, and not the one before it at its URL, has copies of everything."""
    members = json.loads(fetch(f"{node.url}/nodes")[1])
    (own,) = [each for each in members if each["state"] == "self"]
    phase: str = json.loads(fetch(f"{node.url}/topology")[1])["phase"]
    return own["partitions"] == PARTITION_COUNT and phase == "stable"


def has_all(urls: list[str]) -> bool:
    with Client(urls) as client:
        found = map(client.get, KEYS)
        return all(value is not None and value.value == b"new" for value in found)


def put_back(node: NodeProcess, kept: Path) -> None:
    shutil.rmtree(node.data)
    shutil.copytree(kept, node.data)


def test_an_old_directory_is_refused_and_refilled_on_demand(tmp_path: Path) -> None:
    assert Config().old_disk == "refuse"
    kept = tmp_path / "backup"
    with Cluster(tmp_path) as cluster:
        node, *others = cluster.nodes
        put_all(cluster, "old")
        assert node.stop() == 0
        shutil.copytree(node.data, kept)
        cluster.start()
        put_all(cluster, "new")
        with Client(cluster.urls) as client:
            client.put("last", b"new", w=3)
        # The ping that tells of it tells the mark, too.
        for other in others:
            wait_until(partial(tells_of_all, other, node), within_s=10, what="heard")
        node.kill()
        put_back(node, kept)

        before = node.log.read_text()
        node.start()
        assert node.wait() == 2
        told = node.log.read_text()[len(before) :]
        refused = REFUSED.search(told)
        assert refused, told[-2000:]
        assert refused[1] in cluster.urls[1:]
        assert refused[2] < refused[3]
        assert "disk_is_old" in told
        assert has_all(cluster.urls[1:])

        node.flags.append("-old-disk=refill")
        cluster.start()
        wait_until(lambda: is_refilled(node), within_s=60, what="refilled")
        (aside,) = tmp_path.glob(f"{node.data.name}.old-*")
        assert (aside / "FORMAT").exists()
        assert "old_disk_moved_aside" in node.log.read_text()
        # From its own copies alone.
        for key in KEYS:
            assert fetch(f"{node.url}/kv?key={key}&r=1")[:2] == (200, b"new")
        others[0].kill()
        assert has_all([node.url])
