# SPDX-License-Identifier: GPL-3.0-or-later
"""The blocking client: forks, and the source that it is generated from."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from quorate.client import Client, Unreachable
from quorate.client import blocking as module
from scripts.blocking_client import CLIENT, MADE, blocking, made
from tests.unit.client.scripted import HANG, ScriptedNode, echo, wait_until


@pytest.mark.parametrize("name", MADE)
def test_the_blocking_client_is_what_the_other_one_says(name: str) -> None:
    assert (CLIENT / name).read_text() == made(name), "run scripts/setup"


def test_names_are_put_for_others_in_code_and_not_in_strings_or_comments() -> None:
    source = '''"""What it is."""
from asyncio import Semaphore


async def ask(client: AsyncClient) -> str:
    async with client:  # Not await.
        return await  client.get("await asyncio")
'''
    _, _, code = blocking(source, '"""Another."""').rpartition('"""')
    assert (
        code.strip()
        == """from threading import Semaphore


def ask(client: Client) -> str:
    with client:  # Not await.
        return client.get("await asyncio")"""
    )


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
def test_a_fork_while_another_thread_has_the_only_turn_does_not_hang_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 1)
    with (
        ScriptedNode(lambda r: HANG if "slow" in r.target else echo(r)) as node,
        Client(node.url, timeout=1.0) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        slow = pool.submit(client.get, "slow")
        wait_until(lambda: len(node.requests) == 1, what="the thread's request")
        child = os.fork()
        if child == 0:
            os._exit(0 if client.get("child") else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        with pytest.raises(Unreachable, match="no answer in time"):
            slow.result()
