# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address others reach this node at, where it is to find out by itself (`-advertise=auto`).

The first of these that says it: the STUN server, if one is named; else the peers, of whose answers
the one that most give counts. Without either, it is for `addresses` to tell from the interfaces.
What a stranger says is taken only if a node can be at it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from quorate.core.values.messages import Greeting
from quorate.host.sighting import NoAnswer, Sighting, why_foreign
from quorate.host.system import System
from quorate.notation import address_of, is_loopback, is_nowhere, show_text, split_url
from quorate.runtime.stun import ask_stun

PEERS_ASKED_MAX: Final = 8
_SEEN_CHARS: Final = 80


class Located(NamedTuple):
    """What was found."""

    host: str
    """An address; empty if nobody says one."""
    reason: str
    """Who says it, or why nobody does; one line."""


async def located_by_stun(server: str, *, may_be_loopback: bool) -> Located:
    """What the STUN server at `host:port` says."""
    host, port = split_url(server)
    try:
        seen = await ask_stun(host, port)
    except OSError as error:
        return Located("", f"-stun={server} does not say it: {error}")
    if not _may_be_ours(seen, may_be_loopback=may_be_loopback):
        return Located("", f"-stun={server} says {seen}, where no other machine can reach a node")
    return Located(seen, f"the STUN server {server} sees it there")


async def located_by_peers(
    system: System,
    urls: Sequence[str],
    *,
    cluster: str,
    node_id: int,
    may_be_loopback: bool,
) -> Located:
    """What those of these peers say that answer in time."""
    loop = asyncio.get_running_loop()
    asked: list[asyncio.Future[Greeting | NoAnswer]] = []
    for url in urls[:PEERS_ASKED_MAX]:
        answer: asyncio.Future[Greeting | NoAnswer] = loop.create_future()
        asked.append(answer)
        Sighting(system, url, cluster=cluster, node_id=node_id, told=answer.set_result)
    answers = await asyncio.gather(*asked)
    told = [(url, _plain(each)) for url, each in zip(urls, answers, strict=False)]
    usable = [
        (url, seen) for url, seen in told if _may_be_ours(seen, may_be_loopback=may_be_loopback)
    ]
    if not usable:
        whys = [f"; {url}: {_why_not(each)}" for url, each in zip(urls, answers, strict=False)]
        return Located("", f"none of {len(asked)} peers says it{''.join(whys[:1])}")
    ((host, count),) = Counter([seen for _, seen in usable]).most_common(1)
    others = sorted({seen for _, seen in usable} - {host})
    by = next(url for url, seen in usable if seen == host)
    more = f" and {count - 1} more" if count > 1 else ""
    unlike = f"; others see it at {', '.join(others)}" if others else ""
    return Located(host, f"{by}{more} sees it there{unlike}")


def _plain(answer: Greeting | NoAnswer) -> str:
    """The address in an answer in its shortest form, IPv4 where it is one; empty without one."""
    address = None if isinstance(answer, NoAnswer) else address_of(answer.seen)
    return "" if address is None else str(address)


def _why_not(answer: Greeting | NoAnswer) -> str:
    """Why an answer does not say the address."""
    if isinstance(answer, NoAnswer):
        return answer.reason
    seen = show_text(answer.seen[:_SEEN_CHARS])
    if seen:
        return f"it sees it at {seen}, where no other machine can reach a node"
    return why_foreign(answer) or "it does not say where"


def _may_be_ours(seen: str, *, may_be_loopback: bool) -> bool:
    is_address = bool(seen) and "%" not in seen and not is_nowhere(seen)
    return is_address and (may_be_loopback or not is_loopback(seen))
