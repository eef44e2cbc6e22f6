# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes that the DNS names with their ports: SRV records (RFC 2782), as of
`_quorate._tcp.kv.example`.

What a record names is where somebody may be, and no more (`discovery`). Its name is looked up when
it is dialled, and judged then (`resolve`).
"""

from __future__ import annotations

from typing import Final

from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.name import root

ASK_S: Final = 5.0


async def urls_of_service(name: str) -> tuple[list[str], int]:
    """The URLs of those that the records name, whom to try first first; and the seconds that this
    may be relied on (TTL), as the server says. ConnectionError if there are no such records, or
    nobody answers in time."""
    try:
        # Made anew, as the system's settings may change.
        answer = await Resolver().resolve(name, "SRV", lifetime=ASK_S, search=True)
    except (DNSException, OSError) as error:
        raise ConnectionError(str(error)) from error
    records = sorted(answer, key=lambda record: (record.priority, -record.weight))
    # DNS compares names without regard to capitals, and URLs of members have none.
    urls = [
        f"http://{record.target.to_text(omit_final_dot=True).lower()}:{record.port}"
        for record in records
        # The root says that there is no such service.
        if record.target != root
    ]
    # The least of the records' and of the aliases' that led to them.
    return urls, answer.chaining_result.minimum_ttl
