# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault of ours that every request meets: each is answered, and the log is not flooded."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from quorate.doors import rarely
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
