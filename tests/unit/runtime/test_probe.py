# SPDX-License-Identifier: GPL-3.0-or-later
"""Which step towards another node fails, and in which words; real nodes are in
`tests/cluster/test_doctor.py`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from quorate.core.topology.greeting import ASKED
from quorate.core.values.messages import Greeting
from quorate.core.values.status import Probe
from quorate.host import sighting
from quorate.runtime.probe import LARGE_BYTES, Prober
from quorate.runtime.system import AsyncioSystem
from quorate.sim.cluster import settings_of
from quorate.wire.frames import encode_greeting
from tests.ports import free_ports

Says = Callable[[bytes], bytes]


def greeting(refusal: str) -> bytes:
    return encode_greeting(Greeting(4, 4, "", "", 0, 0, b"", "", refusal=refusal, seen="127.0.0.1"))


def probe(says: Says | None, *, url: str = "") -> Probe:
    """What a node on loopback finds at a port that answers so; None: nobody listens."""

    under_way: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert says is not None
        heard = b""
        under_way.append(writer)
        while piece := await reader.read(1 << 20):
            heard += piece
            reply = says(heard)
            writer.write(reply)
            if reply:
                break
        writer.close()

    async def run() -> Probe:
        (port,) = free_ports(1)
        own = f"http://127.0.0.1:{port}"
        settings = settings_of(0, [], url=own)
        system = AsyncioSystem(own_url=own, sync=lambda: None, on_end=print)
        prober = Prober(system, settings, wall_ms=lambda: 77)
        server = None if says is None else await asyncio.start_server(answer, "127.0.0.1", port)
        try:
            return await prober.probe(url or own)
        finally:
            system.close()
            if server is not None:
                server.close()
            for writer in under_way:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    return asyncio.run(run())


def short_only(heard: bytes) -> bytes:
    """As where long packets vanish."""
    return greeting(ASKED) if len(heard) < 2_000 else b""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sighting, "SIGHTING_MS", 300.0)


@pytest.mark.parametrize(
    ("says", "stage", "fault"),
    [
        (None, "connect", "Connection refused"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", "greet", "does not greet as a node does"),
        (lambda _: b"", "greet", "no greeting came in time"),
        (lambda _: greeting("the cluster name differs"), "cluster", "the cluster name differs"),
        (lambda _: greeting("\x1b[2J"), "cluster", r"\x1b[2J"),
        (short_only, "large", "it answers a short greeting, and no long one"),
        (lambda _: greeting(ASKED), "", ""),
    ],
)
def test_the_first_step_that_fails_is_named(says: Says | None, stage: str, fault: str) -> None:
    found = probe(says)
    assert (found.stage, found.wall_ms) == (stage, 77)
    assert fault in found.fault
    assert bool(found.fault) is bool(stage)
    assert (found.seen == "127.0.0.1") is (stage in ("cluster", "large", ""))
    assert (found.round_trip_ms is None) is (stage == "connect")
    assert found.addresses == ["127.0.0.1"]


@pytest.mark.parametrize("url", ["http://169.254.1.1:8000", "http://no-such-host.invalid:8000"])
def test_an_address_that_no_node_has_is_not_tried(url: str) -> None:
    found = probe(None, url=url)
    assert (found.stage, found.addresses) == ("resolve", [])
    assert found.fault


def test_a_try_that_is_given_up_is_no_fault_when_its_answer_does_not_come() -> None:
    async def run() -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
        asked, ended = asyncio.Event(), asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.read(1):
                asked.set()
                with contextlib.suppress(OSError):
                    await reader.read()
                ended.set()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        own = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        system = AsyncioSystem(own_url=own, sync=lambda: None, on_end=print)
        prober = Prober(system, settings_of(0, [], url=own), wall_ms=lambda: 77)
        trying = asyncio.create_task(prober.probe(own))
        async with asyncio.timeout(10):
            await asked.wait()
            trying.cancel()
            await asyncio.wait([trying])
            await ended.wait()
        system.close()
        server.close()
        return faults

    assert asyncio.run(run()) == []


def test_a_long_greeting_is_many_packets_and_one_that_nodes_take() -> None:
    assert LARGE_BYTES > 9_000
    encode_greeting(Greeting(4, 4, "", "", 0, 0, b"", "", layout=bytes(LARGE_BYTES)))
