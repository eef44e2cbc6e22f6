# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault of ours that every request meets: each is answered, and the log is not flooded."""

from __future__ import annotations

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from quorate.doors import rarely
from quorate.doors.http import batch
from tests.fake_store import FakeStore
from tests.http_served import Served, get


def failed(store: FakeStore, *, count: int) -> list[dict[str, object]]:
    """The lines of the log on `count` requests that fail, a connection each."""
    with capture_logs() as lines, Served(store) as served:

        def fail() -> None:
            raise RuntimeError("broken")

        store.status = fail  # type: ignore[assignment,method-assign]
        for _ in range(count):
            with served.client() as client:
                assert get(client, "/nodes").status == 500
    return [dict(line) for line in lines if line["event"] == "request_failed"]


def test_a_hundred_requests_that_fail_are_one_line_in_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rarely, "QUIET_SECONDS", 1000.0)
    (line,) = failed(FakeStore(), count=100)
    assert (line["path"], line["held_back"], line["log_level"]) == ("/nodes", 0, "error")
    assert isinstance(line["exc_info"], RuntimeError)


@pytest.mark.plain
def test_one_that_fails_amid_its_answer_is_cut_off_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def break_off(request: web.Request, response: web.StreamResponse, *_: object) -> None:
        await response.prepare(request)
        await response.write(b'{"results":[')
        raise RuntimeError("broken")

    monkeypatch.setattr(batch, "write_parts", break_off)
    monkeypatch.setattr(batch, "PORTION_BYTES", 10)
    body = msgspec.json.encode({"operations": [{"op": "get", "key": "k"}] * 3})
    head = f"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with capture_logs() as lines, Served(FakeStore()) as served, served.client() as client:
        client.send(head.encode() + body)
        assert client.rest().endswith(b'{"results":[\r\n')
    (line,) = [line for line in lines if line["event"] == "request_failed"]
    assert (line["path"], str(line["exc_info"])) == ("/batch", "broken")
