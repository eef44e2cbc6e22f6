# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking many nodes at once, some of which are not there.

A look-up of a name takes as long as the DNS lets it, and no time limit of a connection ends it. So
names are looked up first, each in a thread of its own that nobody waits for once the time is over.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from quorate.notation import address_of, split_url

AT_ONCE: Final = 64
RESOLVE_SECONDS: Final = 3.0
"""For all names together."""

Answer = TypeVar("Answer")


def ask_all(
    urls: Sequence[str], ask: Callable[[str], Answer], unasked: Callable[[str, str], Answer]
) -> list[Answer]:
    """What `ask` says for each URL, in their order; of those whose name was not found in time what
    `unasked` says, which is told the URL, and that."""
    lost = _not_found({url: _host_of(url) for url in urls})

    def answer(url: str) -> Answer:
        return unasked(url, f"{url}: its name was not found in time") if url in lost else ask(url)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(answer, urls))


def _host_of(url: str) -> str:
    try:
        return split_url(url)[0]
    except ValueError:
        return ""  # Another release took it. Who asks says what is wrong.


def _not_found(hosts: dict[str, str]) -> set[str]:
    """The URLs, of these with their hosts, whose look-up did not end in time."""
    waiting = {host for host in hosts.values() if host and address_of(host) is None}
    ended: SimpleQueue[str] = SimpleQueue()
    for host in waiting:
        threading.Thread(target=_look_up, args=(host, ended), daemon=True).start()
    until = time.monotonic() + RESOLVE_SECONDS
    while waiting and (left := until - time.monotonic()) > 0:
        try:
            waiting.discard(ended.get(timeout=left))
        except Empty:
            break
    return {url for url, host in hosts.items() if host in waiting}


def _look_up(host: str, ended: SimpleQueue[str]) -> None:
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        pass  # That it is not known is told soon enough by who dials it.
    finally:
        ended.put(host)
