# SPDX-License-Identifier: GPL-3.0-or-later
"""Who dials the peers' door of a real node, and is no peer."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.core.values.messages import Read, ReadAnswer
from quorate.core.values.slots import row_of
from quorate.host.acceptor import UNPROVEN_MAX
from quorate.wire.frames import MAGIC
from tests.cluster.processes import Cluster, NodeProcess, fetch
from tests.cluster.strangers import Stranger

CLIENTS_MAX = 40


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[NodeProcess]:
    """One node of one, for few clients."""
    with Cluster(tmp_path, f"-connections-max={CLIENTS_MAX}", count=1) as cluster:
        yield cluster.nodes[0]


def test_strangers_lock_neither_peers_nor_clients_out(alone: NodeProcess) -> None:
    """Each half known: it greeted as somebody of whom nothing is there."""
    strangers = []
    try:
        for number in range(CLIENTS_MAX + 2 * UNPROVEN_MAX):
            strangers.append(Stranger(alone, node_id=100 + number))
            assert strangers[-1].greet().refusal == ""
        with contextlib.ExitStack() as clients:
            for _ in range(CLIENTS_MAX):
                client = clients.enter_context(
                    socket.create_connection(("localhost", alone.port), timeout=15)
                )
                client.sendall(b"PING\r\n")
                assert client.recv(100) == b"+PONG\r\n"
            with Stranger(alone, node_id=7) as true:
                assert true.greet().refusal == ""
                true.take_link()
    finally:
        for each in strangers:
            each.__exit__()


def test_unfinished_frames_and_greetings_of_strangers_take_no_memory(alone: NodeProcess) -> None:
    before = _resident(alone)
    length = 30 << 20
    half = struct.pack(">III", length, length ^ 0xFFFFFFFF, 0) + bytes(1 << 20)
    greeting = MAGIC + struct.pack(">III", 250_000, 250_000 ^ 0xFFFFFFFF, 0) + bytes(240_000)
    opened = []
    for _ in range(300):
        connection = socket.create_connection(("localhost", alone.port))
        connection.sendall(greeting)
        opened.append(connection)
    for number in range(30):
        stranger = Stranger(alone, node_id=100 + number)
        stranger.greet()
        with contextlib.suppress(ConnectionError):
            stranger.out.sendall(half)
        assert stranger.is_ended()
        stranger.__exit__()
    assert fetch(f"{alone.url}/readyz")[0] == 200
    assert _resident(alone) - before < 64 << 20
    for connection in opened:
        connection.close()


def _resident(node: NodeProcess) -> int:
    assert node.process is not None
    pages = Path(f"/proc/{node.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def test_a_thousand_rows_of_a_megabyte_are_answered_as_they_are_read(alone: NodeProcess) -> None:
    value = bytes(1 << 20)
    assert fetch(f"{alone.url}/kv?key=k", method="PUT", body=value)[0] == 200
    with Stranger(alone) as stranger:
        assert stranger.greet().refusal == ""
        stranger.take_link()
        before = _resident(alone)
        for batch in range(3):
            stranger.say(Read(batch, [row_of(b"k")] * 1000, []))
        for number in range(200):
            assert fetch(f"{alone.url}/kv?key=other{number}", method="PUT", body=b"x")[0] == 200
        assert _resident(alone) - before < 64 << 20, "nothing is read yet"
        answered = 0
        for messages in stranger.hears():
            answered += sum(len(m.records) for m in messages if isinstance(m, ReadAnswer))
            if answered > 100:
                break
        assert _resident(alone) - before < 96 << 20
