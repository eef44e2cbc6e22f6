# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom a Host header may name."""

from __future__ import annotations

import pytest

from quorate.doors.http.hosts import Hosts


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        (b"localhost", True),
        (b"LocalHost:8000", True),
        (b"127.0.0.1:8000", True),
        (b"[::1]", True),
        (b"[::1]:8000", True),
        (b"node-1.internal:9", True),
        (b"127.0.0.2", True),
        (b"a.localhost:8000", True),
        (b"10.0.0.1", False),
        (b"\xff", False),
        (b"evil.example", False),
        (b"localhost.evil.example", False),
        (b"localhost:8000:8000", False),
        (b"localhost:8000x", False),
        (b"localhost\n", False),
        (b"", False),
        (b":8000", False),
    ],
)
def test_on_loopback_only_loopback_and_our_own_name_are_ours(host: bytes, is_ours: bool) -> None:
    hosts = Hosts(is_on_loopback=True, own_url="http://node-1.internal:8000")
    assert [hosts.welcome(host) for _ in range(2)] == [is_ours] * 2


def test_a_node_on_a_network_answers_to_any_name() -> None:
    hosts = Hosts(is_on_loopback=False, own_url="http://10.0.0.1:8000")
    assert hosts.welcome(b"balancer.example")


def test_endlessly_many_names_of_ours_take_no_memory() -> None:
    hosts = Hosts(is_on_loopback=True, own_url="http://127.0.0.1:8000")
    assert all(hosts.welcome(b"x%d.localhost" % number) for number in range(1000))
    assert len(hosts.known) <= 100
