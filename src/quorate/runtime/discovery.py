# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for other nodes (`-discover`): URLs that are named, names in the DNS, and the network
around this machine (`mdns`). All of them come to one thing, URLs at which somebody may be.

What is found is dialled and no more: the greeting decides who is of this cluster. So whoever can
answer for a name, or on the network, can have a node dial an address of his choice, but not one
that no peer may be at (`notation.member_url`, `resolve`), and not many at once: of what is found
1,000 are kept, and 32 offered at a time, by turns. A network that is not there yet is asked again.

Each name of the DNS is asked for by a timer of its own: again when the answer's TTL is over, or at
intervals that grow where nothing tells one. Only SRV records do, which come by dnspython. Addresses
come by the system's resolver, which knows `/etc/hosts` and all else that is set there, and tells no
TTL; it, or its server, keeps to the TTL in what it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import structlog

from quorate.notation import address_of, member_url, split_url
from quorate.recurring import Recurring
from quorate.runtime.resolve import Names

CANDIDATES_MAX: Final = 1_000
OFFERED_MAX: Final = 32
FIRST_S: Final = 1.0
"""The first wait before anything is done again. Each is twice the one before, up to a longest."""
OFFER_S_MAX: Final = 10.0
"""The longest before what was found is offered again."""
ASK_S_MAX: Final = 30.0
"""The longest before a name is asked for again of which no TTL is known: the look-up failed, or was
one of addresses. No longer than the TTL of names whose addresses change on purpose, which is mostly
30 or 60 seconds; asked before it is over, the resolver or its server answers from its cache."""
TTL_S_MIN: Final = 5.0
TTL_S_MAX: Final = 300.0
"""What a TTL counts as at least and at most. 0 must not make a node ask without end, nor a year
keep a wrong answer: one that was mended in the DNS leads a node on within five minutes."""

log = structlog.get_logger()


async def look_up(name: str, lookups: Names, *, port: int) -> tuple[list[str], int | None]:
    """The URLs of the nodes that a DNS name has, of which those without a port are at `port`; and
    the TTL in seconds where one is told. OSError if nothing is found."""
    if name.startswith("_"):
        # Late: the package is an extra.
        from quorate.runtime.services import urls_of_service

        return await urls_of_service(name)
    host, _, own_port = name.partition(":")
    addresses = await lookups.addresses(host)
    shown = [f"[{each}]" if ":" in each else each for each in addresses]
    return [f"http://{each}:{own_port or port}" for each in shown], None


class Around(Protocol):
    """What finds nodes on the network around this machine."""

    async def start(self) -> None:
        """Begin to look, and to be found. OSError if that cannot be now; it may be tried again."""

    async def close(self) -> None:
        """End that."""

    def urls(self) -> list[str]:
        """Of those that are there, by what they say."""


class Discovery:
    """What one node finds. `offer` is given URLs to dial, again and again; `is_own` says whether
    one is this node's."""

    def __init__(
        self,
        sources: Sequence[str],
        *,
        own_url: str,
        port: int,
        is_own: Callable[[str], bool],
        offer: Callable[[list[str]], None],
        nearby: Around | None,
    ) -> None:
        """`sources` as `config.Config.discover` has them; `port` is that of nodes that the DNS
        names without one."""
        self._seeds = [each for each in sources if each.startswith("http://")]
        self._names = [each.removeprefix("dns:") for each in sources if each.startswith("dns:")]
        self._own_url = own_url
        self._port = port
        self._is_own = is_own
        self._offer = offer
        self._nearby = nearby
        self._lookups = Names(own_url)
        self._judged: dict[str, bool] = {}
        """Whether a URL is another node's, of those that were found last."""
        self._next = 0
        """Which candidate is offered next."""
        self._answers: dict[str, list[str]] = {}
        """The URLs that came of a name when it was last asked for, where that went well."""
        self._ask_s: dict[str, float] = {}
        """When to ask for a name again of which no TTL is known, once that was so."""
        self._told: dict[str, str] = {}
        """What was logged of each source, so that it is logged once."""
        self._is_around = False
        """Whether `nearby` has started."""
        self._wait_s = FIRST_S
        self._offering = Recurring("discovery", self._offer_found)
        self._asking = [Recurring("discovery", partial(self._ask, name)) for name in self._names]

    def start(self) -> None:
        """Begin to look."""
        for each in (*self._asking, self._offering):
            each.start()

    async def close(self) -> None:
        """Look no more."""
        for each in (*self._asking, self._offering):
            await each.close()
        if self._nearby is not None:
            await self._nearby.close()

    async def _offer_found(self) -> float:
        """Offer what is found by now; in how many seconds to do so again."""
        if self._nearby is not None and not self._is_around:
            try:
                await self._nearby.start()
                self._is_around = True
                self._told.pop("mdns", None)
            except OSError as error:
                self._tell("mdns", str(error))
        self.offer(self._found())
        wait_s = self._wait_s
        # What is around comes by itself, and is offered as often as at first.
        self._wait_s = FIRST_S if self._is_around else min(wait_s * 2, OFFER_S_MAX)
        return wait_s

    def _found(self) -> list[str]:
        """All that is found by now, as it came."""
        found = list(self._seeds)
        for name in self._names:
            found += self._answers.get(name, [])
        if self._nearby is not None:
            found += self._nearby.urls()
        return found

    async def _ask(self, name: str) -> float:
        """Ask the DNS for this name; in how many seconds to ask again."""
        try:
            urls, ttl_s = await look_up(name, self._lookups, port=self._port)
        except OSError as error:
            self._tell(f"dns:{name}", str(error))
            self._answers.pop(name, None)
            return self._later(name)
        self._told.pop(f"dns:{name}", None)
        self._answers[name] = urls
        self._offering.hurry()
        if ttl_s is None:
            return self._later(name)
        self._ask_s.pop(name, None)
        return min(max(ttl_s, TTL_S_MIN), TTL_S_MAX)

    def _later(self, name: str) -> float:
        wait_s = self._ask_s.get(name, FIRST_S)
        self._ask_s[name] = min(wait_s * 2, ASK_S_MAX)
        return wait_s

    def offer(self, found: Sequence[str]) -> None:
        """Offer the next of those that may be other nodes."""
        unique = list(dict.fromkeys(found))
        if len(unique) > CANDIDATES_MAX:
            self._tell("all", f"{len(unique)} addresses, of which {CANDIDATES_MAX} are tried")
        kept = unique[:CANDIDATES_MAX]
        before = self._judged
        self._judged = {
            url: before[url] if url in before else self._may_be_another(url) for url in kept
        }
        urls = [url for url, may_be in self._judged.items() if may_be]
        if urls:
            first = self._next % len(urls)
            self._next = first + OFFERED_MAX
            self._offer([*urls, *urls][first : first + min(OFFERED_MAX, len(urls))])

    def _may_be_another(self, url: str) -> bool:
        try:
            normal = member_url(url, own_url=self._own_url)
        except ValueError as fault:
            self._tell("refused", str(fault))
            return False
        host, _ = split_url(normal)
        # Names are left to the greeting, which tells who is there: a look-up may take seconds.
        is_own = url == self._own_url or (address_of(host) is not None and self._is_own(url))
        return url == normal and not is_own

    def _tell(self, source: str, reason: str) -> None:
        if self._told.get(source) is None:
            self._told[source] = reason
            log.warning("discovery_limited", source=source, reason=reason)
