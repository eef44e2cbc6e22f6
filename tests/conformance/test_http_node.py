# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP door on a real node: one process, memory engine, both lanes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

import msgspec
import pytest

from quorate.core.values.versions import pack_version
from tests.http_served import WAIT_SECONDS, Client, Response
from tests.ports import free_port

LANES = {"fast": "", "slow": "Content-Encoding: identity\r\n"}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    node = subprocess.Popen(
        [sys.executable, "-m", "quorate", "serve", f"--port={port}", "--engine=memory"],
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_ready(node, port)
        yield port
    finally:
        node.terminate()
        node.wait(WAIT_SECONDS)


def wait_until_ready(node: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_ready(port):
        assert node.poll() is None, "the node ended"
        assert time.monotonic() < deadline, "the node did not get ready"
        time.sleep(0.02)


def is_ready(port: int) -> bool:
    try:
        with Client(port) as client:
            return ask(client, "GET", "/readyz").status == 200
    except ConnectionError:
        return False


@pytest.fixture
def client(port: int) -> Iterator[Client]:
    with Client(port) as client:
        yield client


@pytest.fixture(params=list(LANES.values()), ids=list(LANES))
def lane(request: pytest.FixtureRequest) -> str:
    extra: str = request.param
    return extra


def ask(
    client: Client, method: str, target: str, *, lane: str = "", body: bytes | None = None
) -> Response:
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lane}{length}\r\n"
    return client.ask(head.encode() + (body or b""))


@pytest.mark.parametrize("value", [b"", bytes(range(256)), b"\xff" * (1 << 20)], ids=len)
@pytest.mark.parametrize("key", [b"plain", b" +&/%#", bytes(range(256))], ids=len)
def test_a_value_lives_and_dies(client: Client, lane: str, key: bytes, value: bytes) -> None:
    target = f"/kv?key={quote_from_bytes(key, safe='')}"
    put = ask(client, "PUT", target, lane=lane, body=value)
    assert (put.status, put.body, put.headers["quorate-acks"]) == (200, b"ok", "1/1")
    got = ask(client, "GET", target, lane=lane)
    assert (got.status, got.body) == (200, value)
    assert got.headers["quorate-version"] == put.headers["quorate-version"]
    assert ask(client, "DELETE", target, lane=lane).status == 200
    assert ask(client, "GET", target, lane=lane).status == 404


def test_a_value_expires(client: Client) -> None:
    ask(client, "PUT", "/kv?key=brief&ttl=1", body=b"v")
    deadline = time.monotonic() + WAIT_SECONDS
    while ask(client, "GET", "/kv?key=brief").status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("query", ["&r=2", "&r=0", "&r=9"])
def test_a_quorum_there_cannot_be_is_400(client: Client, lane: str, query: str) -> None:
    assert ask(client, "GET", f"/kv?key=k{query}", lane=lane).status == 400
    written = ask(client, "PUT", f"/kv?key=never{query.replace('r', 'w')}", lane=lane, body=b"v")
    assert written.status == 400
    assert json.loads(written.body)["outcome"] == "not_applied"
    assert ask(client, "GET", "/kv?key=never", lane=lane).status == 404


def test_keys_are_listed_once_each_over_many_pages(client: Client) -> None:
    names = {f"listed:{index}" for index in range(57)}
    operations = [{"op": "put", "key": name, "value": "v"} for name in sorted(names)]
    ask(client, "POST", "/batch", body=msgspec.json.encode({"operations": operations}))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = ask(client, "GET", f"/keys?prefix=listed:&limit=10&cursor={cursor}")
        page = json.loads(answer.body)
        assert page["complete"] is True
        seen += page["keys"]
        cursor = page["cursor"]
    assert len(seen) == len(names)
    assert set(seen) == names
    local = ask(client, "GET", "/local/keys?prefix=listed:")
    assert {line.replace("%3A", ":") for line in local.body.decode().splitlines()} == names


@pytest.mark.parametrize("cursor", ["AAAA", "_____w==", "QUJD"])
def test_a_made_up_cursor_does_no_harm(client: Client, cursor: str) -> None:
    assert ask(client, "GET", f"/keys?cursor={cursor}").status in (200, 400)
    assert ask(client, "GET", f"/local/keys?cursor={cursor}").status in (200, 400)
    assert ask(client, "GET", "/readyz").status == 200


def test_a_record_from_the_far_future_is_refused(client: Client) -> None:
    year_ahead_ms = (time.time_ns() // 1_000_000) + 366 * 86_400_000
    version = pack_version(year_ahead_ms << 16, 1)
    body = msgspec.msgpack.encode([1, b"future", version, b"v", 0, b""])
    assert ask(client, "POST", "/internal/replicate", body=body).status >= 400
    assert ask(client, "GET", "/internal/get?key=future").status == 404


def test_a_replicas_record_is_given_and_taken(client: Client) -> None:
    ask(client, "PUT", "/kv?key=shared", body=b"v")
    record = ask(client, "GET", "/internal/get?key=shared")
    assert record.status == 200
    again = ask(client, "POST", "/internal/replicate", body=record.body)
    assert (again.status, again.headers["quorate-applied"]) == (200, "true")


def test_the_later_of_two_writes_in_a_batch_wins(client: Client) -> None:
    operations = [
        {"op": "put", "key": "twice", "value": "one"},
        {"op": "put", "key": "twice", "value": "two"},
    ]
    ask(client, "POST", "/batch", body=msgspec.json.encode({"operations": operations}))
    assert ask(client, "GET", "/kv?key=twice").body == b"two"


def test_what_operators_look_at_is_there(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/internal/ping", "/nodes", "/explain?key=k"):
        assert ask(client, "GET", path).status == 200, path
