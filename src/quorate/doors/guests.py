# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients' connections on which nobody has logged in, where that is asked for: they give way.

A stranger can keep a connection for a word now and then. So where there is no room for one more
client, one of these is closed for it: of the address (of IPv6: its 64 bits of network) that has the
most of them, the oldest. So strangers keep no user out, and who floods closes his own first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from quorate.doors.access import Principal
from quorate.notation import address_of, one_source


class Guests:
    """All of them on one node's port."""

    def __init__(self) -> None:
        self._sources: dict[asyncio.BaseTransport, str] = {}
        self._of: dict[str, dict[asyncio.BaseTransport, None]] = {}
        """By source, oldest first."""

    def __len__(self) -> int:
        return len(self._sources)

    def judge(self, transport: asyncio.BaseTransport, principal: Principal) -> bool:
        """Note who speaks on a connection; whether it is nobody known."""
        if principal.name:
            self._forget(transport)
            return False
        if transport not in self._sources:
            source = self._sources[transport] = one_source(source_of(transport))
            self._of.setdefault(source, {})[transport] = None
        return True

    def next_to_leave(self) -> asyncio.BaseTransport | None:
        """Which is to be closed for another connection, and forgotten here; None if none is."""
        if not self._of:
            return None
        line = max(self._of.values(), key=lambda each: len(each))
        transport = next(iter(line))
        self._forget(transport)
        return transport

    def forget(self, is_gone: Callable[[asyncio.BaseTransport], bool]) -> None:
        """Forget those of which this is true."""
        for transport in [each for each in self._sources if is_gone(each)]:
            self._forget(transport)

    def _forget(self, transport: asyncio.BaseTransport) -> None:
        source = self._sources.pop(transport, None)
        if source is not None:
            line = self._of[source]
            del line[transport]
            if not line:
                del self._of[source]


def source_of(transport: asyncio.BaseTransport) -> str:
    """The address that a connection comes from; empty if it has none."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return ""
    address = address_of(str(name[0]))
    return str(address) if address is not None else str(name[0])
