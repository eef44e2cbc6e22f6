# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile and greedy clients on a real node: it answers the others, and its memory stays flat."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate.client import Client
from tests.cluster.processes import Cluster, NodeProcess, fetch, wait_until

IDLE = 5_000
MB = 1 << 20


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A lone node: all its answers are its own."""
    with Cluster(
        tmp_path_factory.mktemp("limits"), "-durability=os", "-reply-bytes=64MiB", count=1
    ) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(autouse=True)
def serves_afterwards(node: NodeProcess) -> Iterator[None]:
    """Whatever was sent: the node goes on, and stored nothing by mistake."""
    with Client(node.url) as client:
        client.put("before", "kept")
        yield
        found = client.get("before")
        assert found is not None
        assert found.value == b"kept"


def resident_bytes(node: NodeProcess) -> int:
    assert node.process is not None
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def connect(node: NodeProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.port), timeout=10)


def answer_to(node: NodeProcess, sent: bytes, *, count: int) -> bytes:
    """What comes back: so many bytes at least, or all until the node closes."""
    with connect(node) as connection:
        connection.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionError):
            while len(received) < count and (piece := connection.recv(65536)):
                received += piece
        return received


@pytest.mark.parametrize(
    ("sent", "reply"),
    [
        (b"*2147483648\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b"*100000000\r\n", b"-ERR Protocol error: invalid multibulk length"),
        (b"*1\r\n$-5\r\n", b"-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n$10000000000\r\n", b"-ERR Protocol error: invalid bulk length"),
        (b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$'"),
        (b"x" * 70_000, b"-ERR Protocol error: too big inline request"),
        (b"\x80\x04\x95\x10\x00\x00\x00pickle\r\n", b"-ERR"),
        (b"GET /kv HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /kv?key= HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /kv?key=" + b"k" * 1025 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 414"),
        (b"GET /kv?key=k&r=0 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /kv?key=k&w=abc HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 400"),
        (
            b"PUT /kv?key=k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 413",
        ),
        (
            b"PUT /kv?key=k&w=9 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx",
            b"HTTP/1.1 400",
        ),
        (
            b"PUT /kv?key=k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 400",
        ),
        (
            b"GET /kv?key=k HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
            b"HTTP/1.1 431",
        ),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 404"),
        (b"PATCH /kv?key=k HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 405"),
        (b"QRT1" + b"\xff" * 64, b""),
        (b"QRT1" + struct.pack(">III", 0, 0, 0), b""),
        (b"\x16\x03\x01\x02\x00\x01\x00", b""),
    ],
)
def test_bad_bytes_get_one_clear_answer(node: NodeProcess, sent: bytes, reply: bytes) -> None:
    got = answer_to(node, sent, count=len(reply) or 1)
    assert got.startswith(reply) if reply else got == b"", got[:200]


def test_a_body_cut_short_stores_nothing(node: NodeProcess) -> None:
    head = b"PUT /kv?key=cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    with connect(node) as connection:
        connection.sendall(head + b"only this")
    assert fetch(f"{node.url}/kv?key=cut")[0] == 404


def test_a_client_that_never_reads_keeps_memory_flat(node: NodeProcess) -> None:
    """200 MB of answers are asked for and none is read."""
    with Client(node.url) as client:
        client.put("large", b"x" * MB)
    before = resident_bytes(node)
    with connect(node) as connection:
        connection.settimeout(2)
        with contextlib.suppress(TimeoutError):
            connection.sendall(b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n" * 200)
        settled = resident_bytes(node)
        assert fetch(f"{node.url}/kv?key=before") == (200, b"kept")
        assert settled - before < 100 * MB


MGET_BIG = b"*2\r\n$4\r\nMGET\r\n$3\r\nbig\r\n"
IN_FULL = b"Content-Encoding: identity\r\n"
GET_BIG = b"GET /kv?key=big HTTP/1.1\r\nHost: localhost\r\n%b\r\n"


@pytest.mark.parametrize(
    ("sent", "refusal"),
    [(MGET_BIG, b"-BUSY "), (GET_BIG % b"", b" 503 "), (GET_BIG % IN_FULL, b" 503 ")],
    ids=["RESP", "HTTP", "HTTP in full"],
)
def test_many_clients_that_do_not_read_large_values_share_one_budget(
    node: NodeProcess, sent: bytes, refusal: bytes
) -> None:
    """Each asks seven times for 8 MiB, and there are 64 MiB for all; others are served."""
    with Client(node.url) as client:
        client.put("big", b"x" * (8 * MB))
    before = resident_bytes(node)
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connect(node)).sendall(7 * sent)
        wait_until(
            lambda: refusal in answer_to(node, sent, count=20)[:20], within_s=20, what="BUSY"
        )
        for _ in range(20):
            assert fetch(f"{node.url}/kv?key=before") == (200, b"kept")
            assert resident_bytes(node) - before < (64 + 100) * MB
    wait_until(lambda: gauge(node, "reply_bytes") == 0, within_s=20, what="all is given back")
    assert fetch(f"{node.url}/kv?key=big") == (200, b"x" * (8 * MB))


def test_ten_thousand_pipelined_commands_are_answered_in_order(node: NodeProcess) -> None:
    with connect(node) as connection:
        sent = b"".join(b"SET p%d %d\r\nGET p%d\r\n" % (i % 100, i, i % 100) for i in range(5_000))
        connection.sendall(sent)
        expected = b"".join(b"+OK\r\n$%d\r\n%d\r\n" % (len(str(i)), i) for i in range(5_000))
        received = bytearray()
        while len(received) < len(expected):
            received += connection.recv(65536)
    assert bytes(received) == expected


def test_a_command_in_single_bytes_is_served(node: NodeProcess) -> None:
    with connect(node) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"*2\r\n$3\r\nGET\r\n$6\r\nbefore\r\n":
            connection.sendall(bytes([byte]))
        assert connection.recv(100) == b"$4\r\nkept\r\n"


def test_five_thousand_idle_connections_cost_little(node: NodeProcess) -> None:
    """Other clients do not notice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 500:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, IDLE + 500), hard))
    before = resident_bytes(node)
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(IDLE):
                stack.enter_context(connect(node)).sendall(b"PING\r\n")
            assert fetch(f"{node.url}/kv?key=before") == (200, b"kept")
            assert (resident_bytes(node) - before) / IDLE < 40_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: gauge(node, "connections") < 100, within_s=20, what="all are forgotten")


def gauge(node: NodeProcess, name: str) -> int:
    metrics = fetch(f"{node.url}/metrics")[1].decode()
    line = next(each for each in metrics.splitlines() if each.startswith(f"quorate_{name} "))
    return int(float(line.split()[1]))


def test_a_stuck_peer_frame_does_not_hold_the_node_up(node: NodeProcess) -> None:
    """A length of 4 GB is refused before anything is kept."""
    before = resident_bytes(node)
    began_s = time.monotonic()
    assert answer_to(node, b"QRT1" + struct.pack(">III", 0xFFFFFFFF, 0, 0), count=1) == b""
    assert time.monotonic() - began_s < 1
    assert resident_bytes(node) - before < 10 * MB
