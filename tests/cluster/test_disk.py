# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that fail a node: full, read-only, of a newer format, of another node's time."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from quorate.client import Client
from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.errors import Outcome, QuorateError
from quorate.storage.rocks import RocksEngine
from tests.cluster.processes import Cluster, NodeProcess, fetch, quorate, wait_until
from tests.ports import free_port

KB = 1 << 10
MB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(small_disk: Path) -> None:
    port = free_port()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(24 * MB))
    node = NodeProcess(small_disk, port, [])
    node.start()
    try:
        wait_until(node.is_ready, within_s=20, what="ready")
        with Client(node.url) as client:
            acknowledged, error = fill(client)
            # Sent to this replica, or refused before: the answer must not claim the first is the
            # second.
            assert error.code in ("disk_full", "deadline_exceeded", "storage_busy")
            assert error.outcome is not None
            assert has_all(client, acknowledged)
            refused = refusal(client)
            assert (refused.code, refused.outcome) == ("disk_full", Outcome.NOT_APPLIED)
            status, body = fetch(f"{node.url}/readyz")
            assert status == 503
            assert b"space" in body.lower()
            ballast.unlink()
            wait_until(lambda: is_accepted(client), within_s=20, what="writes are taken again")
            assert has_all(client, acknowledged)
    finally:
        node.kill()


def fill(client: Client) -> tuple[list[str], QuorateError]:
    """Write until a write fails: the keys acknowledged before, and the failure."""
    acknowledged: list[str] = []
    for number in range(2_000):
        try:
            client.put(f"key{number}", os.urandom(64 * KB))
        except QuorateError as error:
            return acknowledged, error
        acknowledged.append(f"key{number}")
    raise AssertionError("the disk never filled")


def has_all(client: Client, keys: list[str]) -> bool:
    return all(client.get(key) is not None for key in keys)


def refusal(client: Client) -> QuorateError:
    with pytest.raises(QuorateError) as caught:
        client.put("one more", b"x")
    return caught.value


def is_accepted(client: Client) -> bool:
    try:
        client.put("again", b"x")
    except QuorateError:
        return False
    return True


def test_an_idle_node_notes_what_is_durable_and_does_not_start_without_it(tmp_path: Path) -> None:
    """Kill -9 after some quiet, and the log lost or as it was before."""
    node = NodeProcess(tmp_path, free_port(), [])
    node.start()
    try:
        wait_until(node.is_ready, within_s=20, what="ready")
        with Client(node.url) as client:
            client.put("k", b"v")
        noted = node.data / "FORMAT"
        before = noted.read_bytes()
        wait_until(lambda: noted.read_bytes() != before, within_s=30, what="noted")
        node.kill()
        for damage, told in (
            (lambda path: path.write_bytes(b""), "durable writes are missing"),
            (Path.unlink, "a log is missing"),
        ):
            for path in (node.data / "rocks").glob("*.log"):
                damage(path)
            started = quorate("serve", *node.flags)
            assert (started.returncode, started.stderr.count(b"\n")) == (2, 1)
            assert told.encode() in started.stderr
            assert str(node.data).encode() in started.stderr
    finally:
        if node.is_running:
            node.kill()


def test_a_damaged_copy_is_called_so_at_every_door(tmp_path: Path) -> None:
    node = NodeProcess(tmp_path, free_port(), [])
    # What is on a disk that no layout gives anything is not its own, and goes.
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready")
    node.stop()
    key = b"{same}b"
    for row in (row_of(b"{same}a"), row_of(key)):
        engine = RocksEngine.open(node.data, durability="sync")
        record = Record(pack_version(1 << 50, 1), b"v")
        engine.write(Batch([(row, record)], [], []))
        engine.close()
    engine = RocksEngine.open(node.data, durability="sync")
    engine._rocks.data[row_of(key)] = b"\x01 rotten bytes that no checksum covers"
    engine.close()
    node.start()
    target = f"-target={node.url}"
    try:
        wait_until(node.is_ready, within_s=20, what="ready")
        got = quorate("get", "{same}b", target)
        assert got.returncode == 3
        assert b"copies of this key are damaged" in got.stderr
        assert b"needed=1 live=0 damaged=1" in got.stderr
        status, body = fetch(f"{node.url}/kv?key=%7Bsame%7Db")
        assert (status, json.loads(body)["code"]) == (500, "corrupt")
        with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
            connection.sendall(b"GET {same}b\r\n")
            told = connection.recv(1000)
        assert told.startswith(b"-MISCONF copies of this key are damaged")
        listed = quorate("keys", target)
        assert (listed.returncode, listed.stdout) == (3, b"{same}a\n")
        assert b"(damaged)" in quorate("explain", "{same}b", target).stdout
        assert b"copy_damaged" in node.log.read_bytes()
        assert b"copies_damaged_total" in fetch(f"{node.url}/metrics")[1]
        assert quorate("put", "{same}b", "new", target).returncode == 0
        assert quorate("get", "{same}b", target).stdout.startswith(b"new")
        assert quorate("keys", target).stdout == b"{same}a\n{same}b\n"
    finally:
        node.kill()


def logs(node: NodeProcess, event: str) -> bool:
    return event in node.log.read_text()


def test_a_directory_that_was_emptied_is_told_by_its_node_and_by_the_others(tmp_path: Path) -> None:
    """It holds nothing, and cannot say that there is nothing: docs/operations.md, "A lost disk"."""
    with Cluster(tmp_path) as cluster:
        told = [node.log.read_text() for node in cluster.nodes]
        assert not any("_directory" in text for text in told)
        with Client(cluster.urls) as client:
            client.put("k", b"v", w=3)
        emptied = cluster.nodes[2]
        emptied.kill()
        shutil.rmtree(emptied.data)
        cluster.start()
        for node in cluster.nodes:
            event = "new_directory" if node is emptied else "peer_has_another_directory"
            wait_until(partial(logs, node, event), within_s=10, what=f"{node.url} logs {event}")
        assert fetch(f"{emptied.url}/kv?key=k&r=1")[:2] == (200, b"v")
        shown = quorate("status", f"--target={cluster.urls[0]}")
        assert shown.returncode == 3
        assert b"another one is at its URL" in shown.stdout
        status, metrics = fetch(f"{cluster.urls[0]}/metrics")[:2]
        series = [line.rsplit(b" ", 1)[0] for line in metrics.splitlines()]
        assert (status, len(set(series))) == (200, len(series)), "no series comes twice"


def test_a_read_only_directory_is_refused_in_one_line(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    port = free_port()
    started = quorate("serve", f"-port={port}", f"-data={small_disk / 'node'}")
    assert started.returncode == 2
    assert started.stderr.count(b"\n") == 1
    assert str(small_disk).encode() in started.stderr


def test_a_directory_that_cannot_be_made_is_refused_in_one_line_that_names_the_flag() -> None:
    port = free_port()
    started = quorate("serve", f"-port={port}", "-data=/proc/nope")
    assert started.returncode == 2
    assert started.stderr.startswith(b"quorate: cannot use -data /proc/nope: No such file")
    assert started.stderr.count(b"\n") == 1


def test_a_directory_of_a_newer_format_is_refused_in_one_line(tmp_path: Path) -> None:
    port = free_port()
    data = tmp_path / "node"
    data.mkdir()
    (data / "FORMAT").write_text(json.dumps({"format": 99}) + "\n")
    started = quorate("serve", f"-port={port}", f"-data={data}")
    assert started.returncode == 2
    assert started.stderr.count(b"\n") == 1
    assert b"99" in started.stderr


def test_faults_in_the_settings_are_told_together_and_start_nothing(tmp_path: Path) -> None:
    started = quorate(
        "serve", "-W=4", "-replication=3", "-hearbeat=1s", "-nodes=ftp://x", f"-data={tmp_path}/d"
    )
    assert started.returncode == 2
    told = started.stderr.decode()
    for word in ("-W", "heartbeat", "ftp://x"):
        assert word in told
    assert not (tmp_path / "d").exists()
