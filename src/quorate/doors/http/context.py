# SPDX-License-Identifier: GPL-3.0-or-later
"""What every handler of the full service works with: the node, a question to it, a response."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import msgspec
from aiohttp import web

from quorate.core.values.events import Event, Result, Waiter
from quorate.core.values.status import Probe
from quorate.doors.access import NOBODY, Principal, Role, require
from quorate.doors.answered import Answered
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.kv import Answers
from quorate.doors.http.lately import Lasting
from quorate.doors.http.pace import CopyPace
from quorate.doors.http.plans import Plans
from quorate.doors.http.problems import Refused, problem_reply
from quorate.doors.http.query import Query
from quorate.doors.http.replies import Reply
from quorate.doors.limits import ByteBudget, Deadlines
from quorate.doors.principals import Principals
from quorate.errors import QuorateError
from quorate.host.store import Store


class Context(NamedTuple):
    """The node as handlers see it."""

    store: Store
    answers: Answers
    bodies: ByteBudget
    replies: ByteBudget
    taking: Deadlines
    """For clients that take a large reply."""
    hosts: HostPolicy
    answered: Sequence[Answered]
    """What the doors answered; this one's first."""
    numbers: Callable[[], Mapping[str, int]]
    """What other parts count, for the metrics, by name (`metrics.COUNTERS`, `GAUGES`)."""
    plans: Plans
    """That this door showed."""
    pace: CopyPace
    """How fast copies were seen to move."""
    lately: Lasting
    probe: Callable[[str], Awaitable[Probe]]
    """Tries to reach the member at a URL."""
    secrets: Callable[[], tuple[bytes, ...]]
    """The cluster's, the first signs; empty if there is none."""
    principals: Principals
    principal: Principal = NOBODY
    """Who sent the request at hand."""
    permit: Callable[[], object] = partial(require, Role.USER, NOBODY)
    """Asks once more whether they may send it: whoever waited for the client does, as the users may
    have changed meanwhile. Unauthenticated, Forbidden, Overloaded."""
    refused: Callable[[QuorateError], None] = lambda _error: None
    """Tells of whom `permit` refused, if that is told: what handlers raise is told of without."""


Handler = Callable[[Context, web.Request, Query], Awaitable[web.StreamResponse]]


ResultType = TypeVar("ResultType")


class _FutureWaiter:
    def __init__(self, future: asyncio.Future[Result]) -> None:
        self.future = future

    def done(self, result: Result) -> None:
        if not self.future.done():
            self.future.set_result(result)


async def ask(store: Store, make: Callable[[Waiter], Event], kind: type[ResultType]) -> ResultType:
    """Submit the event that `make` builds and await its result; raises what failed.

    For rare requests: it costs a Future. Hot paths pass a waiter of their own to `submit`.
    """
    future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    store.submit(make(_FutureWaiter(future)))
    result = await future
    if isinstance(result, QuorateError):
        raise result
    assert isinstance(result, kind), f"{type(result).__name__} where {kind.__name__} belongs"
    return result


def respond(reply: Reply) -> web.Response:
    """The response that the fast lane would have rendered."""
    lines = reply.lines.decode().split("\r\n")[:-1]
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    if reply.status == HTTPStatus.NOT_MODIFIED:
        # Its length would be that of the value, which it does not have (RFC 9110, 8.6).
        return web.Response(status=reply.status, headers=headers)
    # aiohttp leaves it out of the answer to a HEAD if it is 0.
    headers.append(("Content-Length", str(len(reply.body))))
    return web.Response(status=reply.status, headers=headers, body=reply.body)


def respond_problem(error: QuorateError | Refused) -> web.Response:
    """The response to an error; it closes the connection where the rest cannot be trusted."""
    response = respond(problem_reply(error))
    if isinstance(error, Refused) and error.is_final:
        response.force_close()
    return response


class BegunResponse(web.Response):
    """To an admin, of an act that was taken and is not done yet: so the log has it."""


def respond_json(value: Any, *, kind: type[web.Response] = web.Response) -> web.Response:
    """200 with a JSON document."""
    return kind(body=msgspec.json.encode(value), content_type="application/json")


def respond_text(text: str) -> web.Response:
    """200 with plain text."""
    return web.Response(text=text, content_type="text/plain")
