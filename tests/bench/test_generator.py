# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator

import pytest

from bench.generator import EchoCaller, Line, run, summary


class Echo(socketserver.BaseRequestHandler):
    """In two parts, so that a reply is not one read."""

    def handle(self) -> None:
        while data := self.request.recv(1 << 16):
            self.request.sendall(data[:1])
            self.request.sendall(data[1:])


class Closing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(1 << 16)


@pytest.fixture(params=[Echo])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), request.param) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def lines(port: int, count: int) -> list[Line]:
    return [Line(port, EchoCaller(value=b"12345678")) for _ in range(count)]


def test_each_request_is_answered_once_and_the_end_of_the_keys_is_the_end(port: int) -> None:
    connections, keys = lines(port, 3), iter(range(50))
    latencies = run(connections, lambda: next(keys, None), seconds=30)
    assert len(latencies) == 50
    assert min(latencies) > 0
    for line in connections:
        line.socket.close()


@pytest.mark.parametrize("port", [Closing], indirect=True)
def test_a_lost_connection_is_no_measurement(port: int) -> None:
    connections = lines(port, 2)
    with pytest.raises(ConnectionError):
        run(connections, lambda: 1, seconds=30)
    for line in connections:
        line.socket.close()


def test_percentiles_are_of_what_was_measured() -> None:
    found = summary([number / 1000 for number in range(1000, 0, -1)], seconds=10)
    assert found == {
        "requests": 1000,
        "per_second": 100.0,
        "p50_ms": 501.0,
        "p99_ms": 991.0,
        "p999_ms": 1000.0,
    }
    assert summary([], seconds=1)["p50_ms"] == 0.0
