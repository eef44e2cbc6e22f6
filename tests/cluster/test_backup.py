# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster's keys leave it, while clients write and the backup is killed, and come back into one
node and into five."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from quorate.cli.archive import ArchiveReader
from quorate.client import BatchDelete, BatchGet, BatchPut, Client, Value
from tests.cluster.processes import Cluster, NodeProcess, quorate, wait_until
from tests.cluster.test_changing import ask, id_of, one_more, settles

COUNT = 8_000
BATCH = 500
LATER_MS = 3_600_000


def records() -> dict[bytes, tuple[bytes, int | None]]:
    """Keys and values of all kinds: empty, of any bytes, text, what JSON makes long, expiring."""
    chance, wall_ms = random.Random(15), time.time_ns() // 10**6
    found: dict[bytes, tuple[bytes, int | None]] = {}
    for number in range(COUNT):
        kind = number % 5
        key = (b"app:%d" if number % 2 else b"\xff\0%d\n") % number
        value = (
            b"",
            chance.randbytes(50),
            b"value %d" % number,
            bytes(100),
            "значение".encode() * (1000 if number % 1000 == 4 else 1),
        )[kind]
        found[key] = value, (wall_ms + LATER_MS + number if number % 3 == 0 else None)
    return found


def put(node: NodeProcess, written: dict[bytes, tuple[bytes, int | None]]) -> None:
    with Client(node.url) as client:
        puts = [BatchPut(key, value, expires_ms=at) for key, (value, at) in written.items()]
        for start in range(0, len(puts), BATCH):
            for result in client.batch(puts[start : start + BATCH]):
                assert not isinstance(result, Exception), result


def kept(node: NodeProcess, prefix: bytes = b"") -> dict[bytes, tuple[bytes, int | None]]:
    """All that a cluster has under a prefix."""
    with Client(node.url) as client:
        keys = list(client.scan(prefix))
        found: dict[bytes, tuple[bytes, int | None]] = {}
        for start in range(0, len(keys), BATCH):
            part = keys[start : start + BATCH]
            for key, result in zip(
                part, client.batch([BatchGet(each) for each in part]), strict=True
            ):
                assert isinstance(result, Value), result
                found[key] = result.value, result.expires_ms
    assert len(found) == len(keys)
    return found


def directory(parent: Path, count: int) -> Path:
    """One for a cluster of so many nodes."""
    made = parent / str(count)
    made.mkdir()
    return made


class Writer:
    """A client that writes keys of its own all the while, and deletes some."""

    def __init__(self, node: NodeProcess) -> None:
        self._url = node.url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.count = 0

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _write(self) -> None:
        with Client(self._url) as client:
            while not self._over.is_set():
                client.put(b"live:%d" % (self.count % 100), b"%d" % self.count)
                client.delete(b"live:%d" % ((self.count + 50) % 100))
                self.count += 1


def holds_some(node: NodeProcess) -> bool:
    """Whether some keys are there."""
    with Client(node.url) as client:
        return len(client.page(b"app:").keys) > 500


def killed_once(command: list[str], is_midway: Callable[[], bool]) -> None:
    """Run a command line until it is midway, and kill it there."""
    process = subprocess.Popen([sys.executable, "-m", "quorate", *command, "--rate=2k"])
    try:
        wait_until(is_midway, within_s=30, what="some of it done")
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_all_keys_come_back_into_a_cluster_of_any_size(tmp_path: Path) -> None:
    archive, written = tmp_path / "a.quorate", records()
    with Cluster(directory(tmp_path, 3), "-durability=os") as three:
        first, second, third = three.nodes
        put(first, written)
        with Writer(third) as writer:
            killed_once(
                ["backup", str(archive), f"--target={first.url}"],
                lambda: archive.exists() and archive.stat().st_size > 30_000,
            )
            refused = quorate("restore", str(archive), "--dry-run", f"--target={second.url}")
            assert (refused.returncode, b"cut short" in refused.stderr) == (2, True)
            before = writer.count
            # Another node goes on, and the one that began is gone.
            first.kill()
            done = quorate("backup", str(archive), f"--target={second.url}", "--json")
            assert done.returncode == 0, done.stderr
            assert b": goes on behind " in done.stderr
            assert writer.count > before
        told = json.loads(done.stdout)
        assert told["keys"] >= COUNT
        first.start()
        three.wait_ready()
        assert kept(second, b"app:").items() | kept(second, b"\xff").items() == written.items()

    for count, flags in ((1, ["--existing=replace"]), (5, [])):
        with Cluster(directory(tmp_path, count), "-durability=os", count=count) as other:
            node = other.nodes[-1]
            command = ["restore", str(archive), f"--target={node.url}", *flags]
            killed_once(command, partial(holds_some, node))
            done = quorate(*command, "--json")
            assert done.returncode == 0, done.stderr
            figures = json.loads(done.stdout)
            assert figures["written"] + figures["kept"] == told["keys"]
            assert (figures["kept"] > 0) == (not flags)
            found = kept(other.nodes[0])
            assert {key: each for key, each in found.items() if key in written} == written
            assert all(key.startswith(b"live:") for key in found.keys() - written.keys())


def test_one_prefix_leaves_the_rest_as_it_is(cluster: Cluster, tmp_path: Path) -> None:
    archive, node = tmp_path / "a.quorate", cluster.nodes[0]
    put(node, {b"app:%d" % number: (b"old", None) for number in range(1500)})
    put(node, {b"other": (b"old", None)})
    assert quorate("backup", str(archive), f"--target={node.url}").returncode == 0
    put(node, {b"app:0": (b"new", None), b"other": (b"new", None)})
    with Client(node.url) as client:
        for number in range(1, 21):
            client.delete(b"app:%d" % number)
    done = quorate("restore", str(archive), "--prefix=app:", f"--target={node.url}")
    assert b"wrote 20 keys (171 B), kept 1,480 that the cluster has, of 1,500 keys" in done.stdout
    with Client(node.url) as client:
        for key, value in ((b"app:0", b"new"), (b"app:20", b"old"), (b"other", b"new")):
            found = client.get(key)
            assert found is not None
            assert found.value == value


def test_what_clients_write_while_it_is_restored_is_kept(cluster: Cluster, tmp_path: Path) -> None:
    archive, node = tmp_path / "a.quorate", cluster.nodes[0]
    keys = [b"app:%d" % number for number in range(2000)]
    put(node, dict.fromkeys(keys, (b"old", None)))
    assert quorate("backup", str(archive), f"--target={node.url}").returncode == 0
    with Client(node.url) as client:
        for first in range(0, len(keys), 1000):
            client.batch([BatchDelete(key) for key in keys[first : first + 1000]])

    def write(share: int) -> None:
        with Client(cluster.urls[share % 3]) as client:
            for key in keys[share::4]:
                client.put(key, b"new")

    with ThreadPoolExecutor(4) as pool:
        command = [sys.executable, "-m", "quorate", "restore", str(archive), "--rate=1k"]
        process = subprocess.Popen(
            [*command, f"--target={node.url}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            wait_until(lambda: bool(kept(node, b"app:")), within_s=30, what="some of it done")
            list(pool.map(write, range(4)))
        finally:
            out, fault = process.communicate(timeout=120)
    assert process.returncode == 0, fault
    assert b"of 2,000 keys" in out
    assert b", kept " in out, "the clients wrote before all of it was done"
    found = kept(cluster.nodes[2], b"app:")
    assert [key for key in keys if found[key][0] != b"new"] == []


def test_where_quorums_need_not_meet_it_says_what_it_may_write_over(tmp_path: Path) -> None:
    archive = tmp_path / "a.quorate"
    with Cluster(directory(tmp_path, 3), "-durability=os", "-W=1", "-R=1") as cluster:
        node = cluster.nodes[0]
        put(node, {b"app:%d" % number: (b"old", None) for number in range(1200)})
        assert quorate("backup", str(archive), f"--target={node.url}").returncode == 0
        with Client(node.url) as client:
            client.batch([BatchDelete(b"app:%d" % number) for number in range(600)], w=3)
        done = quorate("restore", str(archive), f"--target={node.url}")
    assert done.returncode == 0, done.stderr
    assert b"wrote 600 keys" in done.stdout
    assert done.stderr.count(b"a read-modify-write needs a majority, and -W is set to less") == 1


def test_while_the_members_change_every_key_gets_into_the_archive(tmp_path: Path) -> None:
    written = dict(list(records().items())[:6000])
    with Cluster(tmp_path, "-durability=os", "-heartbeat=300ms", "-grow-after=1s") as cluster:
        first, second, third = cluster.nodes
        ids = [id_of(node) for node in cluster.nodes]
        put(first, written)
        archive = str(tmp_path / "a.quorate")
        command = ["backup", archive, f"--target={first.url}", "--rate=300"]
        backup = subprocess.Popen([sys.executable, "-m", "quorate", *command])
        try:
            joined = one_more(cluster, tmp_path)
            assert ask(second, "/join", {"url": joined.url})[0] == 200
            settles(cluster, {*ids, id_of(joined)})
            assert quorate("leave", third.url, f"--target={first.url}").returncode == 0
            settles(cluster, {*ids[:2], id_of(joined)})
            assert backup.wait(timeout=120) == 0
        finally:
            backup.kill()
            backup.wait()
        with open(archive, "rb") as file:
            keys = [key for each in ArchiveReader(file, archive).chunks() for key in each.keys]
    found = {each.key: (each.value, each.expires_ms or None) for each in keys}
    assert found == written
