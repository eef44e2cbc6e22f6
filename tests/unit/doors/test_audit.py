# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit events: who, from where, what and the outcome, and none a thousand times."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from quorate.doors.audit import Audit
from quorate.doors.rarely import SOURCES_MAX
from tests.unit.doors.redis.turns import ManualTimers

Refuse = Callable[[Audit, int], None]


def login(audit: Audit, number: int) -> None:
    audit.login_refused(who="ann", source=f"10.0.0.{number}", door="http")


def permission(audit: Audit, number: int) -> None:
    audit.permission_refused(who="ann", source=f"10.0.0.{number}", what="get")


def token(audit: Audit, number: int) -> None:
    audit.token_refused(token="abcd", source=f"10.0.0.{number}", reason="it has expired")


def handshake(audit: Audit, number: int) -> None:
    audit.handshake_refused(source=f"10.0.0.{number}", reason="no shared cipher")


@pytest.mark.parametrize(
    ("refuse", "event", "what"),
    [(login, "login_refused", "http"), (permission, "permission_refused", "get")],
)
def test_one_that_is_refused_is_told_at_once(refuse: Refuse, event: str, what: str) -> None:
    with capture_logs() as lines:
        refuse(Audit(ManualTimers()), 1)
    shared = {"audit": True, "who": "ann", "from": "10.0.0.1", "outcome": "refused"}
    assert lines == [
        {**shared, "event": event, "what": what, "held_back": 0, "log_level": "warning"}
    ]


@pytest.mark.parametrize("refuse", [login, permission])
def test_a_thousand_are_a_line_a_second_and_all_of_them_are_counted(refuse: Refuse) -> None:
    timers = ManualTimers()
    audit = Audit(timers)
    with capture_logs() as lines:
        for number in range(1000):
            refuse(audit, number % 250)
            timers.advance(0.01)
        assert 10 <= len(lines) <= 11
        timers.advance(100)
    assert 10 + SOURCES_MAX <= len(lines) <= 12 + SOURCES_MAX
    assert timers.count == 0
    assert sum(line["held_back"] + 1 for line in lines) == 1000
    assert audit.logins_refused + audit.permissions_refused == 1000


@pytest.mark.parametrize("refuse", [login, permission, token, handshake])
def test_what_was_held_back_is_told_though_nothing_follows(refuse: Refuse) -> None:
    timers = ManualTimers()
    audit = Audit(timers)
    with capture_logs() as lines:
        for number in (1, 2, 2, 1, 2):
            refuse(audit, number)
        timers.advance(10)
    assert [(line["from"], line["held_back"]) for line in lines] == [
        ("10.0.0.1", 0),
        ("10.0.0.2", 2),
        ("10.0.0.1", 0),
    ]
    assert timers.count == 0


def test_a_host_that_has_a_network_of_addresses_hides_no_other() -> None:
    timers = ManualTimers()
    audit = Audit(timers)
    with capture_logs() as lines:
        for number in range(1000):
            audit.login_refused(who="", source=f"2001:db8::{number:x}", door="http")
        audit.login_refused(who="ann", source="10.0.0.1", door="http")
        timers.advance(10)
    assert [(line["from"], line["held_back"]) for line in lines] == [
        ("2001:db8::0", 0),
        ("2001:db8::3e7", 998),
        ("10.0.0.1", 0),
    ]


def test_each_kind_is_held_back_by_itself_and_acts_of_admins_never() -> None:
    audit = Audit(ManualTimers())
    with capture_logs() as lines:
        for number in range(3):
            login(audit, number)
            permission(audit, number)
            audit.admin_act(who="ops", source="::1", what="flushall", outcome="begun")
    events = [line["event"] for line in lines]
    assert events.count("login_refused") == events.count("permission_refused") == 1
    assert events.count("admin_act") == 3


def test_who_is_not_known_is_told_as_unknown() -> None:
    with capture_logs() as lines:
        Audit(ManualTimers()).login_refused(who="", source="", door="redis")
    assert lines[0]["who"] == "unknown"


def test_a_join_token_is_told_of_by_its_name() -> None:
    audit = Audit(ManualTimers())
    with capture_logs() as lines:
        token(audit, 1)
        audit.token_used(token="abcd", source="10.0.0.7")
    shared = {"audit": True, "who": "token abcd", "what": "the secret"}
    assert [{name: each[name] for name in shared} for each in lines] == [shared, shared]
    assert (lines[0]["reason"], lines[0]["held_back"]) == ("it has expired", 0)
    assert [each["outcome"] for each in lines] == ["refused", "ok"]
