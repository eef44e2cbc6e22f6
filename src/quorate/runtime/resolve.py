# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a peer may be dialled: the one place that every URL passes, wherever it was learnt.

Members' URLs come from other members and from `/join`, so that a name may be made to resolve to
anything. Judged is what it resolves to, and dialled is what was judged, not the name once more.
"""

from __future__ import annotations

import asyncio
import socket

from quorate.notation import address_of, is_loopback, is_nowhere, split_url


class NotDialled(ConnectionError):
    """The URL leads only to addresses that no peer is to be dialled at."""


async def resolve(url: str, *, own_url: str) -> list[tuple[str, int]]:
    """Addresses and port of the peer `url`, in the order to try. NotDialled; ConnectionError or
    another OSError if it leads nowhere.

    Loopback only for a node that is reached there itself: to others it is another machine.
    """
    host, port = _split(url)
    found = await _addresses(host)
    usable = [each for each in found if not is_nowhere(each)]
    if any(is_loopback(each) for each in usable) and not await _is_on_loopback(own_url):
        usable = [each for each in usable if not is_loopback(each)]
    if not usable:
        raise NotDialled(f"no peer is dialled at {', '.join(found)}")
    return [(each, port) for each in usable]


async def _is_on_loopback(own_url: str) -> bool:
    host, _ = _split(own_url)
    # Our own name may be that of the machine, which often resolves to an address of loopback.
    return is_loopback(host) or any(is_loopback(each) for each in await _addresses(host))


async def _addresses(host: str) -> list[str]:
    if address_of(host) is not None:
        return [host]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except ValueError as error:
        raise ConnectionError(f"no name: {host!r}") from error
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def _split(url: str) -> tuple[str, int]:
    try:
        return split_url(url)
    except ValueError as error:
        raise ConnectionError(f"no address in {url!r}") from error
