# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding nodes on the network around this machine by multicast DNS (RFC 6762 and 6763).

Each node is an instance of `_quorate._tcp`, whose TXT record holds the cluster's name and the
node's URL, and nothing that is secret: everybody on the network can read it. And everybody can
write it, so it is no more than a URL at which somebody may be (`discovery`).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from zeroconf import Error, InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from quorate.notation import address_of, is_url, split_url

SERVICE: Final = "_quorate._tcp.local."
INSTANCES_MAX: Final = 1_000
ASKING_MAX: Final = 32
ASK_MS: Final = 3_000


class Nearby:
    """This node to the others around, and those to it. (`discovery.Around`)"""

    def __init__(self, *, cluster: str, url: str, name: str, interface: str) -> None:
        """`name` is unique; `interface` an address of the one to use, or of none for all."""
        self._cluster = cluster
        self._url = url
        self._name = f"{name}.{SERVICE}"
        self._host = f"{name}.local."
        self._interface = interface
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._urls: dict[str, str] = {}
        """Of nodes of this cluster, by their instances."""
        self._waiting: dict[str, None] = {}
        """Instances to be asked, INSTANCES_MAX at most: the oldest gives way."""
        self._asking: dict[str, asyncio.Task[None]] = {}

    def urls(self) -> list[str]:
        """Part of `Around`."""
        return list(self._urls.values())

    async def start(self) -> None:
        """Part of `Around`."""
        await self._end()  # What an earlier try left.
        address = address_of(self._interface)
        is_all = address is None or address.is_unspecified or address.version == 6
        self._zeroconf = AsyncZeroconf(
            interfaces=InterfaceChoice.All if is_all else [self._interface],
            ip_version=IPVersion.V4Only if not is_all else None,
        )
        try:
            # The name has the node's id in it: whoever else says it lies, and need not be asked.
            await self._zeroconf.async_register_service(self._own(), cooperating_responders=True)
        except (Error, ValueError) as error:
            # Such as a URL that is longer than a record's text may be.
            raise OSError(f"this node cannot be told there: {error!r}") from error
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._on_change]
        )

    def _own(self) -> AsyncServiceInfo:
        """What is told of this node."""
        host, port = split_url(self._url)
        own = address_of(host)
        return AsyncServiceInfo(
            SERVICE,
            self._name,
            port=port,
            addresses=[own.packed] if own is not None else [],
            properties={"cluster": self._cluster, "url": self._url},
            server=self._host,
        )

    async def close(self) -> None:
        """Part of `Around`."""
        self._waiting.clear()
        for task in list(self._asking.values()):
            task.cancel()
        await self._end()

    async def _end(self) -> None:
        browser, self._browser = self._browser, None
        if browser is not None:
            await browser.async_cancel()
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is not None:
            await zeroconf.async_close()

    def _on_change(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            self._urls.pop(name, None)
            self._waiting.pop(name, None)
        elif name not in self._asking and name != self._name:
            self._waiting[name] = None
            if len(self._waiting) > INSTANCES_MAX:
                del self._waiting[next(iter(self._waiting))]
            self._ask_next(zeroconf, service_type)

    def _ask_next(self, zeroconf: Zeroconf, service_type: str) -> None:
        while self._waiting and len(self._asking) < ASKING_MAX:
            name = next(iter(self._waiting))
            del self._waiting[name]
            task = asyncio.get_running_loop().create_task(self._ask(zeroconf, service_type, name))
            self._asking[name] = task
            task.add_done_callback(partial(self._asked, zeroconf, service_type, name))

    def _asked(self, zeroconf: Zeroconf, service_type: str, name: str, _: object) -> None:
        self._asking.pop(name, None)
        self._ask_next(zeroconf, service_type)

    async def _ask(self, zeroconf: Zeroconf, service_type: str, name: str) -> None:
        try:
            info = AsyncServiceInfo(service_type, name)
            await info.async_request(zeroconf, ASK_MS)
        except Error:
            return  # The name is none of an instance, as only a liar's is.
        except OSError:
            return  # The network went. It is told of again when it is back.
        self.hear(name, info.decoded_properties)

    def hear(self, name: str, told: dict[str, str | None]) -> None:
        """Take what an instance says of itself."""
        url = told.get("url") or ""
        is_ours = told.get("cluster") == self._cluster and is_url(url)
        if is_ours and (name in self._urls or len(self._urls) < INSTANCES_MAX):
            self._urls[name] = url
        elif not is_ours:
            self._urls.pop(name, None)
