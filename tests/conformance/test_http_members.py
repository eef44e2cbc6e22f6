# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of who asked for a change of the members."""

from __future__ import annotations

import pytest

from tests.fake_store import NODES
from tests.http_served import Client, Served, post


def test_what_a_join_begins_is_told_as_begun_and_what_was_there_as_done(
    http: Served, http_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        http.principals.audit, "admin_act", lambda *, outcome, **_facts: told.append(outcome)
    )
    for url in ("http://10.0.0.9:8000", NODES[1], "nonsense"):
        post(http_client, "/join", url.encode())
    assert told == ["begun", "ok", "invalid_request"]
