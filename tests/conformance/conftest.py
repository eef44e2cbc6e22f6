# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP door on each loop, shared by the tests of a module and clean for each of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from quorate.config import Config
from quorate.doors.http import door, lately
from tests.fake_store import NODES, FakeStore
from tests.http_served import Client, Response, Served

HOST = b"Host: localhost\r\n"
VALUE_BYTES_MAX = 2 << 20


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def http_shared(request: pytest.FixtureRequest) -> Iterator[Served]:
    store = FakeStore(
        Config(
            nodes=NODES,
            advertise=NODES[0],
            value_bytes_max=VALUE_BYTES_MAX,
            inflight_bytes_max=16 << 20,
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        # Nobody here waits to see a refused body read to its end.
        patch.setattr(door, "LINGER_SECONDS", 0.2)
        # Each test sees what it did; that answers are made once in a second has tests of its own.
        patch.setattr(lately, "AGE_SECONDS", 0.0)
        with Served(store, loop=request.param) as served:
            yield served


@pytest.fixture
def http(http_shared: Served) -> Served:
    http_shared.reset()
    return http_shared


@pytest.fixture
def http_client(http: Served) -> Iterator[Client]:
    with http.client() as client:
        yield client


@pytest.fixture
def unharmed(http: Served, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After the test the node still answers others, nothing was stored, nothing logged."""
    yield
    assert http.store.records == {}, "something was stored"
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    with http.client() as other:
        assert other.ask(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n").status == 200
        assert other.ask(b"GET /kv?key=k HTTP/1.1\r\n" + HOST + b"\r\n").status == 404


def refusal(client: Client, data: bytes) -> Response:
    """The one answer to `data`, after which the connection ends."""
    answer = client.ask(data)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.body.decode()
    assert client.rest() == b""
    return answer
