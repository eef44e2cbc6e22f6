# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings of a node that holds far more deleted and expired keys than others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from io import BufferedRWPair
from pathlib import Path

import pytest

from quorate.client import Client
from quorate.core.replica import KEYS_META
from quorate.core.values.events import Batch
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.core.values.versions import pack_version
from quorate.storage.rocks import RocksEngine
from tests.cluster.processes import NodeProcess, fetch, quorate, wait_until
from tests.ports import free_port


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node that holds 30,000 keys that were deleted or have expired, and one that is there."""
    node = NodeProcess(tmp_path, free_port(), ["-allow-flush"])
    # It founds its cluster first: what is on a disk that no layout names is dropped.
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready")
    node.stop()
    dead = Record(pack_version(1 << 50, 1), None), Record(pack_version(1 << 50, 1), b"v", 1)
    rows = [(row_of(b"dead%d" % number), dead[number % 2]) for number in range(30_000)]
    rows.append((row_of(b"there"), Record(pack_version(1 << 50, 1), b"v")))
    engine = RocksEngine.open(node.data, durability="sync")
    engine.write(Batch([*rows], [], [(KEYS_META, (15_001).to_bytes(8, "big"))]))
    engine.close()
    node.start()
    wait_until(node.is_ready, within_s=20, what="ready")
    yield node
    node.kill()


def test_listings_go_on_over_pages_that_are_empty(node: NodeProcess) -> None:
    with Client(node.url) as client:
        page = client.page(limit=10)
        pages, listed = 1, page.keys
        while page.cursor:
            page = client.page(limit=10, cursor=page.cursor)
            pages, listed = pages + 1, listed + page.keys
        assert listed == list(client.scan()) == [b"there"]
        assert pages > 10
    assert quorate("keys", f"-target={node.url}").stdout == b"there\n"
    assert fetch(f"{node.url}/internal/keys")[1] == b"there\n"


def scan(replies: BufferedRWPair, cursor: bytes) -> tuple[bytes, list[bytes]]:
    """A call of SCAN: the next cursor, and keys."""
    replies.write(b"SCAN %s COUNT 10\r\n" % cursor)
    replies.flush()
    assert replies.readline() == b"*2\r\n"
    _, following, count = (replies.readline().strip() for _ in range(3))
    return following, [
        replies.readline() and replies.readline().strip() for _ in range(int(count[1:]))
    ]


def test_walks_of_redis_go_on_over_them_too(node: NodeProcess) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        replies = connection.makefile("rwb")
        cursor, found = scan(replies, b"0")
        calls = 1
        while cursor != b"0":
            cursor, more = scan(replies, cursor)
            calls, found = calls + 1, found + more
        assert found == [b"there"]
        assert calls > 10
        replies.write(b"RANDOMKEY\r\nFLUSHALL\r\nRANDOMKEY\r\n")
        replies.flush()
        told = [replies.readline().strip() for _ in range(4)]
        assert told == [b"$5", b"there", b"+OK", b"$-1"]
