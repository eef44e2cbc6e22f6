# SPDX-License-Identifier: GPL-3.0-or-later
"""What every handler of the full service is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from quorate.doors.access import ANYBODY, Principal
from quorate.doors.budget import ByteBudget
from quorate.doors.http.hosts import Hosts
from quorate.doors.http.kv import Answers
from quorate.doors.http.query import Query
from quorate.host.store import Store


class Context(NamedTuple):
    """The node as handlers see it."""

    store: Store
    answers: Answers
    bodies: ByteBudget
    hosts: Hosts
    door_counts: Callable[[], Mapping[str, int]]
    """What the port itself counts (connections), for the metrics."""
    principal: Principal = ANYBODY


Handler = Callable[[Context, web.Request, Query], Awaitable[web.StreamResponse]]
