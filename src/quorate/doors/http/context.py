# SPDX-License-Identifier: GPL-3.0-or-later
"""What every handler of the full service is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from aiohttp import web

from quorate.doors.budget import ByteBudget
from quorate.doors.http.answers import Promise
from quorate.doors.http.hosts import Hosts
from quorate.doors.http.query import Query
from quorate.runtime.store import Store


class Context(NamedTuple):
    """The node as handlers see it."""

    store: Store
    promise: Promise
    bodies: ByteBudget
    hosts: Hosts
    door_counts: Callable[[], Mapping[str, int]]
    """What the port itself counts (connections), for the metrics."""


Handler = Callable[[Context, web.Request, Query], Awaitable[web.StreamResponse]]
