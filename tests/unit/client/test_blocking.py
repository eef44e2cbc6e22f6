# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for threads and forks: an answer reaches the call that asked, and no other."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from quorate.client import Client
from quorate.client import blocking as module
from quorate.client.trial import endpoints_of
from tests.unit.client.scripted import (
    VERSION,
    WAIT_SECONDS,
    Request,
    ScriptedNode,
    reply,
    wait_until,
)

THREADS = 8


def echo(request: Request) -> bytes:
    """Answer with the target, so that a mixed-up answer shows."""
    return reply(200, request.target.encode(), Quorate_Version=VERSION)


def test_threads_that_share_a_client_each_get_their_own_answers() -> None:
    def work(thread: int) -> bool:
        keys = [f"{thread}-{number}" for number in range(50)]
        return all(
            (found := client.get(key)) and found.value.endswith(key.encode()) for key in keys
        )

    with ScriptedNode(echo) as node, Client(node.url) as client:
        with ThreadPoolExecutor(THREADS) as pool:
            assert all(pool.map(work, range(THREADS)))
        assert node.connections <= THREADS
        assert len(node.requests) == THREADS * 50


def test_idle_connections_are_kept_up_to_their_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_CONNECTIONS_MAX", 1)
    with ScriptedNode(echo) as node:
        (endpoint,) = endpoints_of(node.url)
        pool = module._Pool()
        one, two = (module._Connection(endpoint, until=float("inf")) for _ in range(2))
        pool.give(endpoint, one)
        pool.give(endpoint, two)
        assert pool.take(endpoint, until=float("inf")) is one
        third = pool.take(endpoint, until=float("inf"))
        assert third is not two
        wait_until(lambda: node.connections == 3, what="the third connection")
        for connection in (one, third):
            connection.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_uses_connections_of_its_own_and_leaves_the_parents_alone() -> None:
    with ScriptedNode(echo) as node, Client(node.url) as client:
        client.get("before")
        child = os.fork()
        if child == 0:
            # Only os._exit: the child must not run what the test run registered.
            found = client.get("child")
            os._exit(0 if found and found.value == b"/kv?key=child" else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        found = client.get("after")
        assert found is not None
        assert found.value == b"/kv?key=after"
        used = {request.target: request.connection for request in node.requests}
        assert used == {"/kv?key=before": 0, "/kv?key=child": 1, "/kv?key=after": 0}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_while_another_thread_holds_the_lock_does_not_hang_the_child() -> None:
    with ScriptedNode(echo) as node, Client(node.url) as client:
        client.get("before")
        with client._pool._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if client.get("child") else 1)
        wait_until(lambda: len(node.requests) == 2, what="the child's request")
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_a_closed_client_can_be_used_again() -> None:
    with ScriptedNode(echo) as node:
        client = Client(node.url, timeout=WAIT_SECONDS)
        client.get("a")
        client.close()
        client.get("b")
        client.close()
        assert [request.connection for request in node.requests] == [0, 1]
