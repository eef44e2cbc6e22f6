# SPDX-License-Identifier: GPL-3.0-or-later
"""A node as a process: signals under load, a log that cannot be written, and too few file
descriptors."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.load import Load, missing
from tests.cluster.processes import Cluster, NodeProcess, fetch, wait_until
from tests.ports import free_port


def test_a_node_told_to_stop_under_load_ends_cleanly_and_loses_nothing(cluster: Cluster) -> None:
    """SIGTERM drains; the others go on."""
    stopped, *others = cluster.nodes
    with Load(cluster.urls, writers=6) as load:
        load.wait_for(100)
        assert stopped.stop() == 0
        load.wait_for(load.count + 100)
    unknown = [each for each in load.failures if each.error.outcome is None]
    assert unknown == []
    assert missing(others[0].url, load.acknowledged) == []


def test_a_busy_client_of_several_nodes_notices_no_orderly_stop(cluster: Cluster) -> None:
    """It is told to go elsewhere before its connection is closed: else it could not know what
    became of the write that was on its way."""
    with Load([",".join(cluster.urls)], writers=8) as load:
        for node in cluster.nodes:
            load.wait_for(load.count + 100)
            assert node.stop() == 0
            node.start()
            cluster.wait_ready()
    assert [str(each.error) for each in load.failures] == []


def test_a_second_signal_ends_a_node_at_once(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    node.signal(signal.SIGSTOP)
    node.signal(signal.SIGTERM)
    node.signal(signal.SIGINT)
    node.signal(signal.SIGCONT)
    assert node.wait() in (0, 128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_what_a_node_makes_is_for_its_user_alone(tmp_path: Path) -> None:
    """Where others have a say, and where a variable is not for it."""
    node = NodeProcess(tmp_path / "made", free_port(), ["-log-format=json"])
    node.log = tmp_path / "log"
    node.environment = {"QUORATE_PORT": "tcp://10.96.0.12:8000"}
    before = os.umask(0o022)
    try:
        node.start()
    finally:
        os.umask(before)
    try:
        wait_until(node.is_ready, within_s=20, what="ready")
        assert fetch(f"{node.url}/kv?key=k", method="PUT", body=b"v")[0] == 200
        assert node.stop() == 0
    finally:
        if node.is_running:
            node.kill()
    made = [tmp_path / "made", *(tmp_path / "made").rglob("*")]
    assert len(made) > 8
    wide = {path: oct(path.stat().st_mode) for path in made if path.stat().st_mode & 0o077}
    assert wide == {}
    assert '"variable_ignored"' in node.log.read_text()


@pytest.mark.parametrize("log", ["full", "closed", "unread"])
def test_a_log_that_cannot_be_written_costs_only_its_lines(quick: Cluster, log: str) -> None:
    """P1. On a full disk, or a pipe that nobody reads any more, or that is there and full: what a
    step stores, sends and answers does not depend on what it has to tell."""
    mute, other, lost = quick.nodes
    mute.stop()
    reading, pipe = os.pipe()
    if log == "closed":
        os.close(reading)
    if log == "unread":
        os.set_blocking(pipe, False)
        with contextlib.suppress(BlockingIOError):
            while os.write(pipe, b"x" * 512):
                pass
        os.set_blocking(pipe, True)
    full = os.open("/dev/full", os.O_WRONLY)
    mute.process = subprocess.Popen(
        [sys.executable, "-m", "quorate", "serve", *mute.flags],
        stderr=full if log == "full" else pipe,
    )
    os.close(pipe)
    os.close(full)
    wait_until(mute.is_ready, within_s=20, what="ready")
    with Load([mute.url, other.url], writers=6) as load:
        load.wait_for(100)
        lost.kill()
        mute.sees(lost.url, "down")
        before = set(load.acknowledged)
        load.wait_for(load.count + 100)
    since = {key: load.acknowledged[key] for key in load.acknowledged.keys() - before}
    assert missing(mute.url, since, r=1) == [], "one of the two that are left"
    told = re.search(rb"log_lines_lost(?:_total)? (\d+)", fetch(f"{mute.url}/metrics")[1])
    assert told is not None
    if log == "unread":
        assert float(told[1]) == 0, "lines wait for a reader"
    else:
        assert float(told[1]) > 0, "what the log could not tell is counted"
    assert mute.stop() == 0


@pytest.mark.parametrize("files", [64, 256])
def test_a_low_limit_of_files_is_lived_with_or_told(files: int, tmp_path: Path) -> None:
    """It serves, or does not start and says why in one line."""
    port = free_port()
    node = NodeProcess(tmp_path, port, [])
    with node.log.open("wb") as log:
        node.process = subprocess.Popen(
            [sys.executable, "-m", "quorate", "serve", *node.flags],
            stderr=log,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
        )
    try:
        wait_until(lambda: not node.is_running or node.is_ready(), within_s=20, what="either")
        if not node.is_running:
            assert node.wait() == 2
            assert node.log.read_text().count("\n") == 1
        else:
            assert fetch(f"{node.url}/kv?key=k", method="PUT", body=b"v") == (200, b"ok")
            assert fetch(f"{node.url}/kv?key=k") == (200, b"v")
            assert node.stop() == 0
    finally:
        if node.is_running:
            node.kill()
