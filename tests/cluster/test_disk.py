# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that fail a node: full, read-only, of a newer format, of another node's time."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.client import Client
from quorate.errors import Outcome, QuorateError
from tests.cluster.processes import NodeProcess, fetch, quorate, wait_until
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
