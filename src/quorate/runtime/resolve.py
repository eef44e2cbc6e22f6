# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a peer may be dialled: the one place that every URL passes, wherever it was learnt.

Members' URLs come from other members and from `/join`, so that a name may be made to resolve to
anything. Judged is what it resolves to, and dialled is what was judged, not the name once more.

A name may take its server five seconds and more. So each is looked up in a thread of its own that
nobody waits for, the stop of the node neither, once at a time however often it is dialled: names
that lead nowhere hold up no others. (The loop's own threads for this are four, and are waited for.)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Final

from quorate.notation import address_of, is_loopback, is_nowhere, split_url

LOOKUPS_MAX: Final = 128
"""Threads at once; more than hearsay (`core.topology.membership`) can occupy."""


class NotDialled(ConnectionError):
    """The URL leads only to addresses that no peer is to be dialled at."""


class Names:
    """What peers' names resolve to, for the node at `own_url`."""

    def __init__(self, own_url: str) -> None:
        self._own_url = own_url
        self._under_way: dict[str, asyncio.Future[list[str] | OSError]] = {}

    async def resolve(self, url: str) -> list[tuple[str, int]]:
        """Addresses and port of the peer `url`, in the order to try. NotDialled; ConnectionError or
        another OSError if it leads nowhere.

        Loopback only for a node that is reached there itself: to others it is another machine.
        """
        host, port = _split(url)
        found = await self.addresses(host)
        usable = [each for each in found if not is_nowhere(each)]
        if any(is_loopback(each) for each in usable) and not await self._is_on_loopback():
            usable = [each for each in usable if not is_loopback(each)]
        if not usable:
            raise NotDialled(f"no peer is dialled at {', '.join(found)}")
        return [(each, port) for each in usable]

    async def _is_on_loopback(self) -> bool:
        host, _ = _split(self._own_url)
        # Our own name may be that of the machine, which often resolves to an address of loopback.
        if is_loopback(host):
            return True
        return any(is_loopback(each) for each in await self.addresses(host))

    async def addresses(self, host: str) -> list[str]:
        """What a name resolves to; an address is that. ConnectionError if it is none."""
        if address_of(host) is not None:
            return [host]
        lookup = self._under_way.get(host)
        if lookup is None:
            if len(self._under_way) >= LOOKUPS_MAX:
                raise ConnectionError(f"too many lookups of names are under way for {host!r}")
            loop = asyncio.get_running_loop()
            look = threading.Thread(target=self._look, args=(loop, host), daemon=True)
            try:
                look.start()
            except RuntimeError as error:  # The system gives this process no more of them.
                raise ConnectionError(f"no look-up of {host!r}: {error}") from error
            # The thread's answer comes by the loop, so later than this.
            lookup = self._under_way[host] = loop.create_future()
        found = await asyncio.shield(lookup)
        if isinstance(found, OSError):
            raise ConnectionError(str(found)) from found
        return found

    def _look(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        """Runs in a thread."""
        found: list[str] | OSError
        try:
            listed = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(address[0]) for _, _, _, _, address in listed))
        except OSError as error:
            found = error
        except ValueError:
            found = ConnectionError(f"no name: {host!r}")
        except Exception as error:
            # Whatever it is, who waits for the answer gets one, and asks again.
            found = ConnectionError(f"no look-up of {host!r}: {error!r}")
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(self._found, host, found)

    def _found(self, host: str, found: list[str] | OSError) -> None:
        self._under_way.pop(host).set_result(found)


def _split(url: str) -> tuple[str, int]:
    try:
        return split_url(url)
    except ValueError as error:
        raise ConnectionError(f"no address in {url!r}") from error
