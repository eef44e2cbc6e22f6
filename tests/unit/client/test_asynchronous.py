# SPDX-License-Identifier: GPL-3.0-or-later
"""The client for asyncio: cancellation, many tasks, forks, one loop after another."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from typing import Any

import pytest
import uvloop

from quorate.client import AsyncClient, Unreachable
from quorate.client import asynchronous as module
from tests.unit.client.scripted import HANG, ScriptedNode, echo, well


async def read(client: AsyncClient, key: str) -> bytes:
    found = await client.get(key)
    assert found is not None
    return found.value


async def until(node: ScriptedNode, count: int) -> None:
    """Wait until `node` has read so many requests."""
    async with asyncio.timeout(10):
        while len(node.requests) < count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_cancelled_calls_answer_never_reaches_another_call(loop: object) -> None:
    async def main(node: ScriptedNode) -> None:
        generator = random.Random(7)
        async with AsyncClient(node.url) as client:
            for number in range(100):
                cancelled = asyncio.create_task(client.get(f"cancelled-{number}"))
                # From before the connection is open to after the answer is in.
                for _ in range(generator.randrange(12)):
                    await asyncio.sleep(0)
                cancelled.cancel()
                await asyncio.wait([cancelled])
                assert await read(client, f"key-{number}") == f"/kv?key=key-{number}".encode()

    with ScriptedNode(echo) as node, asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
        runner.run(main(node))


def test_a_call_cancelled_while_waiting_closes_its_connection() -> None:
    async def main(node: ScriptedNode) -> None:
        async with AsyncClient(node.url) as client:
            task = asyncio.create_task(client.put("slow", "value"))
            await until(node, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.get("key")
        assert [request.connection for request in node.requests] == [0, 1]

    with ScriptedNode(lambda r: HANG if "slow" in r.target else well(r)) as node:
        asyncio.run(main(node))


def test_a_cancelled_call_gives_its_turn_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECTIONS_MAX", 1)

    async def main(node: ScriptedNode) -> None:
        async with AsyncClient(node.url) as client:
            slow = asyncio.create_task(client.get("slow"))
            await until(node, 1)
            waiting = asyncio.create_task(client.get("waiting"))
            next_one = asyncio.create_task(client.get("key"))
            await asyncio.sleep(0)
            waiting.cancel()
            slow.cancel()
            assert await next_one is not None
            await asyncio.wait([slow, waiting])
        assert [request.target for request in node.requests] == ["/kv?key=slow", "/kv?key=key"]

    with ScriptedNode(lambda r: HANG if "slow" in r.target else well(r)) as node:
        asyncio.run(main(node))


def test_a_node_named_by_its_address_needs_no_thread() -> None:
    async def main(node: ScriptedNode) -> None:
        async with AsyncClient(node.url) as client:
            await client.get("key")
        assert not [each for each in threading.enumerate() if each.name.startswith("asyncio")]

    with ScriptedNode() as node:
        asyncio.run(main(node))


def test_a_name_is_looked_up_in_a_thread_and_within_the_calls_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = threading.Event()
    found = socket.getaddrinfo

    def slow(*given: Any, **named: Any) -> Any:
        if not named.get("flags"):
            done.wait(10)
        return found(*given, **named)

    async def main() -> None:
        async with AsyncClient("http://localhost:1", timeout=0.1) as client:
            with pytest.raises(Unreachable, match="no answer in time"):
                await client.get("key")
        done.set()

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    asyncio.run(main())


def test_one_client_serves_one_loop_after_another() -> None:
    async def main() -> bytes:
        try:
            return await read(client, "key")
        finally:
            await client.close()

    with ScriptedNode(echo) as node:
        client = AsyncClient(node.url)
        assert asyncio.run(main()) == asyncio.run(main()) == b"/kv?key=key"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_leaves_the_parents_connections_and_loop_alone() -> None:
    async def in_child(client: AsyncClient) -> bool:
        return await read(client, "child") == b"/kv?key=child"

    async def main(node: ScriptedNode) -> None:
        async with AsyncClient(node.url) as client:
            await client.get("before")
            child = os.fork()
            if child == 0:
                os._exit(0 if asyncio.run(in_child(client)) else 1)
            await until(node, 2)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert await read(client, "after") == b"/kv?key=after"
        used = {request.target: request.connection for request in node.requests}
        assert used == {"/kv?key=before": 0, "/kv?key=child": 1, "/kv?key=after": 0}

    with ScriptedNode(echo) as node:
        asyncio.run(main(node))
