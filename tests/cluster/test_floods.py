# SPDX-License-Identifier: GPL-3.0-or-later
"""Thousands of strangers at once at a real node."""

from __future__ import annotations

import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median
from threading import Event
from typing import Final

import pytest
import redis

from quorate.doors.port import HELLO_BYTES_MAX, RESERVE
from quorate.security.users import write_users
from tests.authority import Authority
from tests.cluster.processes import NodeProcess, wait_until
from tests.ports import free_port
from tests.principals import user, users_of

STRANGERS: Final = 5_000
CLIENTS_MAX: Final = 4_000
OWN_DESCRIPTORS_MAX: Final = 100
"""Of the node itself: files, the engine's, links."""
GROWN_BYTES_MAX: Final = 128 << 20
"""CLIENTS_MAX hellos of the greatest length are 64 MiB; the 256 handshakes begun are another 30."""
WAIT_S: Final = 30.0
CALM_REQUESTS: Final = 200
SLOWER_MAX: Final = 100
"""How many times as long the half of a client's requests may take that take longest, under a flood
that this process makes, too. Who waited for each handshake before his would wait thousands."""


class Flooded:
    """A node with users and TLS, which takes fewer clients than come."""

    def __init__(self, directory: Path) -> None:
        authority = Authority(directory)
        chain, key = authority.files("localhost")
        write_users(directory / "users.toml", users_of(user("ann", "read", "write")))
        flags = ["-engine=memory", f"-users={directory / 'users.toml'}"]
        flags += [f"-tls-cert={chain}", f"-tls-key={key}", f"-connections-max={CLIENTS_MAX}"]
        self.node = NodeProcess(directory, free_port(), flags)
        self.ca = authority.ca
        self.strangers: list[socket.socket] = []
        self.most_descriptors = 0
        self.most_bytes = 0

    def client(self) -> redis.Redis:
        """A user's, who has patience with a node that is under attack."""
        return redis.Redis(
            "localhost",
            self.node.port,
            username="ann",
            password="ann-pw",
            ssl=True,
            ssl_ca_certs=self.ca,
            socket_timeout=WAIT_S,
            socket_connect_timeout=WAIT_S,
        )

    def is_ready(self) -> bool:
        """Whether somebody can log in."""
        assert self.node.is_running, self.node.log.read_text()[-2000:]
        with suppress(redis.ConnectionError), self.client() as client:
            return bool(client.ping())
        return False

    def look(self) -> None:
        """Note what the process has open and in memory."""
        assert self.node.process is not None
        process = Path(f"/proc/{self.node.process.pid}")
        self.most_descriptors = max(self.most_descriptors, len(list((process / "fd").iterdir())))
        pages = int((process / "statm").read_text().split()[1])
        self.most_bytes = max(self.most_bytes, pages * 4096)

    def hello(self) -> bytes:
        """How a client begins."""
        sent = ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=self.ca)
        end = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
        return sent.read()


@pytest.fixture
def flooded(tmp_path: Path) -> Iterator[Flooded]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < STRANGERS + 1000:
        pytest.skip(f"this machine lets nobody open {STRANGERS + 1000} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    found = Flooded(tmp_path)
    found.node.start()
    try:
        wait_until(found.is_ready, within_s=30, what="ready")
        yield found
    finally:
        for stranger in found.strangers:
            stranger.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if found.node.is_running:
            found.node.kill()


def flood(flooded: Flooded, said: bytes) -> None:
    """Connections of as many strangers, from 200 addresses, who all say so at once."""
    for number in range(STRANGERS):
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.bind((f"127.0.0.{2 + number % 200}", 0))
        with suppress(BlockingIOError):
            stranger.connect(("127.0.0.1", flooded.node.port))
        flooded.strangers.append(stranger)
    for number, stranger in enumerate(flooded.strangers):
        stranger.settimeout(WAIT_S)
        with suppress(OSError):  # Of one that gave way already.
            stranger.sendall(said)
        if number % 100 == 0:
            flooded.look()


def timed(request: Callable[[], object]) -> float:
    """The seconds that a request took, which was answered."""
    began_s = time.monotonic()
    assert request()
    return time.monotonic() - began_s


@pytest.mark.parametrize("hello_bytes", [0, HELLO_BYTES_MAX, 120_000])
def test_five_thousand_handshakes_at_once_take_little_and_keep_nobody_out(
    flooded: Flooded, hello_bytes: int
) -> None:
    """Who is there goes on, and who comes is let in, while all of them stand half done."""
    said = flooded.hello()
    if hello_bytes:
        # Of a message that goes on in a record that never comes.
        record = b"\x16\x03\x01\x40\x00" + b"\x01\x7f\xff\xff\x03\x03".ljust(16 << 10, b"\0")
        said = (record * 10)[:hello_bytes]
    flooded.look()
    before, is_begun, is_over = flooded.most_bytes, Event(), Event()

    before_s: list[float] = []
    during_s: list[float] = []

    def go_on() -> int:
        with flooded.client() as client:
            while len(before_s) < CALM_REQUESTS:
                before_s.append(timed(lambda: client.set("k", "v")))
            is_begun.set()
            while not is_over.is_set() or len(during_s) < 100:
                during_s.append(timed(lambda: client.set("k", "v")))
        return len(during_s)

    def come() -> int:
        came = 0
        while not is_over.is_set() or came < 5:
            with flooded.client() as client:
                assert client.ping()
            came += 1
        return came

    with ThreadPoolExecutor(2) as pool:
        try:
            users = [pool.submit(each) for each in (go_on, come)]
            assert is_begun.wait(WAIT_S)
            flood(flooded, said)
        finally:
            is_over.set()
        for each in users:
            assert each.result(timeout=4 * WAIT_S) > 0
    calm_s, flooded_s = median(before_s), median(during_s)
    print(f"SET: {calm_s * 1e3:.1f} ms at the median, {flooded_s * 1e3:.1f} ms under the flood")
    assert flooded_s < calm_s * SLOWER_MAX
    flooded.look()
    assert flooded.most_descriptors <= CLIENTS_MAX + RESERVE + OWN_DESCRIPTORS_MAX
    assert flooded.most_bytes - before < GROWN_BYTES_MAX
