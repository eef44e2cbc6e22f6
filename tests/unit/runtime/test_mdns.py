# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances on the network say of themselves, true or not; and two that find each other."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf._dns import DNSPointer
from zeroconf.asyncio import AsyncZeroconf

from quorate.runtime.mdns import ASKING_MAX, INSTANCES_MAX, SERVICE, Nearby


def nearby(number: int = 1, cluster: str = "c") -> Nearby:
    return Nearby(
        cluster=cluster,
        url=f"http://127.0.0.1:{7_000 + number}",
        name=f"test-{number}",
        interface="127.0.0.1",
    )


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"cluster": "c"},
        {"url": "http://10.0.0.2:8000"},
        {"cluster": "other", "url": "http://10.0.0.2:8000"},
        {"cluster": "c", "url": "10.0.0.2"},
        {"cluster": "c", "url": None},
        {"cluster": None, "url": "http://10.0.0.2:8000"},
        {"cluster": "c", "url": "http://10.0.0.2:8000/" + "x" * 300},
    ],
)
def test_an_instance_of_another_cluster_or_without_a_url_is_none(
    told: dict[str, str | None],
) -> None:
    node = nearby()
    node.hear("n", {"cluster": "c", "url": "http://10.0.0.2:8000"})
    assert node.urls() == ["http://10.0.0.2:8000"]
    node.hear("n", told)
    assert node.urls() == []


def test_a_network_of_liars_fills_no_memory() -> None:
    node = nearby()
    for number in range(INSTANCES_MAX + 10):
        node.hear(f"n{number}", {"cluster": "c", "url": f"http://10.0.0.2:{number + 1024}"})
    assert len(node.urls()) == INSTANCES_MAX


@pytest.mark.parametrize(
    "name",
    [
        "n.example.",
        "n._http._tcp.local.",
        "_quorate._tcp.local.",
        f"{'n' * 300}.{SERVICE}",
        f"n\n\x1b[2J.{SERVICE}",
        "",
        ".",
    ],
)
def test_an_instance_with_a_name_that_is_none_is_nobody_and_no_fault(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quorate.runtime.mdns.ASK_MS", 20)

    async def run() -> list[dict[str, object]]:
        faults: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        node = nearby()
        try:
            await node.start()
            assert node._zeroconf is not None
            node._on_change(node._zeroconf.zeroconf, SERVICE, name, ServiceStateChange.Added)
            await asyncio.wait(node._asking.values())
            await asyncio.sleep(0)
        finally:
            await node.close()
        gc.collect()
        assert node.urls() == []
        return faults

    try:
        assert asyncio.run(run()) == []
    except OSError as error:
        pytest.skip(f"no multicast on loopback here: {error}")


def test_every_instance_is_asked_however_many_come_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        node, asked, at_once = nearby(), list[str](), set[int]()

        async def ask(_zeroconf: object, _type: str, name: str) -> None:
            asked.append(name)
            at_once.add(len(node._asking))
            await asyncio.sleep(0)

        monkeypatch.setattr(node, "_ask", ask)
        names = [f"n{number}.{SERVICE}" for number in range(5 * ASKING_MAX)]
        for name in names:
            node._on_change(cast(Zeroconf, None), SERVICE, name, ServiceStateChange.Added)
        node._on_change(cast(Zeroconf, None), SERVICE, names.pop(), ServiceStateChange.Removed)
        async with asyncio.timeout(10):
            while node._asking:
                await asyncio.sleep(0)
        assert asked == names
        assert max(at_once) == ASKING_MAX
        await node.close()

    asyncio.run(run())


def test_who_says_that_he_is_this_node_keeps_it_from_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lied(AsyncZeroconf):
        """Has heard an answer already."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            lie = DNSPointer(SERVICE, 12, 1, 4500, f"test-1.{SERVICE}")
            self.zeroconf.cache.async_add_records([lie])

    monkeypatch.setattr("quorate.runtime.mdns.AsyncZeroconf", Lied)

    async def run() -> None:
        node = nearby()
        try:
            await node.start()
            assert node._browser is not None, "it looks for others"
        finally:
            await node.close()

    try:
        asyncio.run(run())
    except OSError as error:
        pytest.skip(f"no multicast on loopback here: {error}")


def test_a_node_whose_url_no_record_holds_says_that_it_cannot_be_found() -> None:
    async def run() -> None:
        label = "a" * 60
        node = Nearby(
            cluster="c",
            url=f"http://{label}.{label}.{label}.{label}.example:8000",
            name="test-1",
            interface="127.0.0.1",
        )
        try:
            with pytest.raises(OSError, match="this node cannot be told there"):
                await node.start()
        finally:
            await node.close()

    asyncio.run(run())


def test_nodes_of_one_cluster_find_each_other_and_see_who_goes() -> None:
    async def run() -> None:
        nodes = [nearby(1), nearby(2), nearby(3, "other")]
        for node in nodes:
            await node.start()
        try:
            async with asyncio.timeout(20):
                while nodes[0].urls() != ["http://127.0.0.1:7002"]:
                    await asyncio.sleep(0.02)
                await nodes.pop(1).close()
                while nodes[0].urls():
                    await asyncio.sleep(0.02)
            assert nodes[1].urls() == []
        finally:
            for node in nodes:
                await node.close()

    try:
        asyncio.run(run())
    except OSError as error:
        pytest.skip(f"no multicast on loopback here: {error}")
