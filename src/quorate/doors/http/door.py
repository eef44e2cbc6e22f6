# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP door: start and stop of both lanes; the table of routes, served by aiohttp, which is set
up here to be as strict as we are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from time import monotonic_ns
from typing import Final, NamedTuple

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from quorate.core.values.status import Probe
from quorate.doors.access import Principal, Role, require
from quorate.doors.answered import OK, Answered, outcome_word
from quorate.doors.audit import BEGUN
from quorate.doors.guests import source_of
from quorate.doors.http import (
    batch,
    changes,
    health,
    internal,
    joining,
    keys,
    members,
    metrics,
    openapi,
    probing,
)
from quorate.doors.http.context import BegunResponse, Context, Handler, respond_problem
from quorate.doors.http.fast import FastConnection
from quorate.doors.http.full import (
    HEADER_BYTES_MAX,
    OTHER,
    TARGET_BYTES_MAX,
    FullConnection,
)
from quorate.doors.http.hosts import HostPolicy
from quorate.doors.http.kv import INCREMENT, METHODS, Answers
from quorate.doors.http.lane import FastLane
from quorate.doors.http.lately import Lasting, Lately
from quorate.doors.http.leaving import write_large
from quorate.doors.http.login import identify
from quorate.doors.http.pace import CopyPace
from quorate.doors.http.plans import Plans
from quorate.doors.http.probing import unable
from quorate.doors.http.problems import Refused, problem_of
from quorate.doors.http.query import Query, parse_query
from quorate.doors.http.strict import check, path_of
from quorate.doors.limits import (
    IDLE_SECONDS,
    LINGER_SECONDS,
    REQUEST_SECONDS,
    Budgets,
    Deadlines,
)
from quorate.doors.principals import Principals
from quorate.doors.rarely import Rarely
from quorate.errors import Forbidden, Outcome, QuorateError, Unauthenticated
from quorate.host.store import Store

_PER_REQUEST: Final = frozenset({"r", "w", "timeout"})
_PAGED: Final = frozenset({"prefix", "cursor", "limit"})
_TIMED: Final = frozenset({"timeout"})
_NONE: Final[frozenset[str]] = frozenset()
_PLACE: Final = re.compile(r"\\{\w+\\}")
"""In a route's path, escaped: where a value stands."""


class Route(NamedTuple):
    """A route; GET answers HEAD too."""

    method: str
    path: str
    """As it is in a request; `{name}` stands for anything but a slash or a percent sign."""
    role: Role
    handler: Handler
    parameters: frozenset[str]
    """Query parameters that it takes; any other is refused."""


async def _describe(_context: Context, _request: web.Request, _query: Query) -> web.Response:
    """GET /openapi.json: what this port serves, for programs."""
    return web.Response(body=_document(), content_type="application/json")


ROUTES: Final = (
    Route("GET", "/kv", Role.READ, keys.serve_kv, METHODS[b"GET"].parameters),
    Route("PUT", "/kv", Role.WRITE, keys.serve_kv, METHODS[b"PUT"].parameters),
    Route("DELETE", "/kv", Role.WRITE, keys.serve_kv, METHODS[b"DELETE"].parameters),
    Route("POST", "/incr", Role.WRITE, keys.increment, INCREMENT.parameters),
    Route("GET", "/keys", Role.READ, keys.list_keys, _PAGED | {"r", "timeout"}),
    # Each operation asks for a role of its own.
    Route("POST", "/batch", Role.USER, batch.batch, _PER_REQUEST),
    Route("GET", "/explain", Role.READ, keys.explain, frozenset({"key", "timeout"})),
    Route("GET", "/nodes", Role.USER, members.list_nodes, _NONE),
    Route("GET", "/candidates", Role.USER, members.list_candidates, _NONE),
    Route("POST", "/join", Role.ADMIN, members.join, _NONE),
    Route("DELETE", "/join", Role.ADMIN, members.forget, frozenset({"url"})),
    Route("POST", "/join/token", Role.ADMIN, joining.make_token, _NONE),
    # Who shows a join token is nobody yet.
    Route("POST", "/join/secret", Role.STRANGER, joining.give_secret, _NONE),
    Route("POST", "/leave", Role.ADMIN, changes.leave, _TIMED),
    Route("POST", "/replace", Role.ADMIN, changes.replace, _TIMED),
    Route("POST", "/plan", Role.ADMIN, changes.plan, _TIMED),
    Route("POST", "/plan/{hash}/apply", Role.ADMIN, changes.apply, _TIMED),
    Route("POST", "/plan/cancel", Role.ADMIN, changes.cancel, _TIMED),
    Route("GET", "/topology", Role.USER, changes.topology, _TIMED),
    Route("POST", "/check", Role.ADMIN, health.begin_check, _NONE),
    Route("GET", "/check", Role.USER, health.check, _NONE),
    Route("GET", "/upgrade", Role.USER, changes.upgrade, _NONE),
    Route("POST", "/upgrade/finish", Role.ADMIN, changes.finish, _TIMED),
    Route("GET", "/probe", Role.ADMIN, probing.probe, frozenset({"url"})),
    Route("GET", "/healthz", Role.STRANGER, health.healthz, _NONE),
    Route("GET", "/readyz", Role.STRANGER, health.readyz, _NONE),
    Route("GET", "/metrics", Role.USER, metrics.metrics, _NONE),
    Route("GET", "/openapi.json", Role.USER, _describe, _NONE),
    Route("GET", "/internal/ping", Role.PEER, health.readyz, _NONE),
    Route("GET", "/internal/get", Role.PEER, internal.read_record, frozenset({"key"})),
    Route("POST", "/internal/replicate", Role.PEER, internal.replicate, _NONE),
    Route("GET", "/internal/keys", Role.PEER, internal.list_local, _PAGED),
    Route("GET", "/local/keys", Role.READ, internal.list_local, _PAGED),
)
"""The one table of routes. What the fast lane needs of those of `/kv` and `/incr` is in `kv`."""


@cache
def _document() -> bytes:
    return msgspec.json.encode(
        openapi.document(
            openapi.Served(each.method, each.path, each.role, each.parameters) for each in ROUTES
        )
    )


def methods_of(route: Route) -> tuple[str, ...]:
    """The methods that a row of the table serves."""
    return ("GET", "HEAD") if route.method == "GET" else (route.method,)


_OPERATIONS: Final = {
    (method, route.path): f"{method} {route.path}"
    for route in ROUTES
    for method in methods_of(route)
}
"""What is counted; all else is OTHER."""

_PATTERNS: Final = [
    (re.compile(_PLACE.sub("[^/%]+", re.escape(route.path))), route.path)
    for route in ROUTES
    if "{" in route.path
]


def _route_at(path: str) -> str:
    """The path of the route that a request's path is of, or would be."""
    return next((route for pattern, route in _PATTERNS if pattern.fullmatch(path)), path)


_SHUTDOWN_SECONDS: Final = 5.0
"""How long a request may go on once the door stops."""

_AiohttpHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger()


class HttpDoor:
    """Serves HTTP on the connections that the listener hands it."""

    def __init__(
        self,
        store: Store,
        *,
        budgets: Budgets,
        hosts: HostPolicy,
        principals: Principals,
        others: Sequence[Answered] = (),
        numbers: Callable[[], Mapping[str, int]] = dict,
        probe: Callable[[str], Awaitable[Probe]] = unable,
        secrets: Callable[[], tuple[bytes, ...]] = tuple,
    ) -> None:
        """`others`: what other doors answered. `numbers`, `probe`, `secrets`: see `Context`."""
        self._store = store
        self._bodies, self._replies = budgets
        self._hosts = hosts
        self._numbers = numbers
        self._probe = probe
        self._secrets = secrets
        self._principals = principals
        self.answered = Answered("http")
        self._others = others
        self._lane: FastLane | None = None
        self._taking: Deadlines | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Get ready to serve; `connection` may be called from then on."""
        store = self._store
        answers = Answers(store)
        loop = asyncio.get_running_loop()
        self._taking = Deadlines(loop, REQUEST_SECONDS)
        context = Context(
            store=store,
            answers=answers,
            bodies=self._bodies,
            replies=self._replies,
            taking=self._taking,
            hosts=self._hosts,
            answered=(self.answered, *self._others),
            numbers=self._numbers,
            plans=Plans(),
            pace=CopyPace(),
            lately=Lasting(Lately(), Lately()),
            probe=self._probe,
            secrets=self._secrets,
            principals=self._principals,
        )
        self._runner = web.AppRunner(
            build_app(context), handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        assert self._runner.server is not None
        lane: FastLane = FastLane(
            store,
            answers,
            full_service=partial(
                FullConnection,
                self._runner.server,
                refusal=lambda error: lane.render_last(error),
                answered=self.answered,
                failures=Rarely(loop, lambda facts: _log.error("request_failed", **facts)),
                loop=loop,
                access_log=None,
                auto_decompress=False,
                keepalive_timeout=IDLE_SECONDS,
                linger_seconds=LINGER_SECONDS,
                max_line_size=TARGET_BYTES_MAX,
                max_field_size=HEADER_BYTES_MAX,
            ),
            hosts=self._hosts,
            principals=self._principals,
            bodies=self._bodies,
            answered=self.answered,
            replies=self._replies,
        )
        self._lane = lane

    def connection(self) -> FastConnection:
        """The protocol of a new connection."""
        assert self._lane is not None, "start comes first"
        return FastConnection(self._lane)

    async def stop(self) -> None:
        """Finish what aiohttp is answering and close its connections; those of the fast lane are
        the listener's to close."""
        if self._lane is not None:
            self._lane.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._taking is not None:
            self._taking.close()


def build_app(context: Context) -> web.Application:
    """The application with all routes."""
    app = web.Application(middlewares=[_guard(context)])
    for route in ROUTES:
        # aiohttp answers HEAD by the handler of GET, and leaves the body out.
        for method in methods_of(route):
            app.router.add_route(
                method,
                route.path.replace("}", ":[^/]+}"),
                _bound(context, route),
                expect_handler=_leave_expectation,
            )
    app.router.add_route("*", "/{path:.*}", _nowhere, expect_handler=_leave_expectation)
    app.on_response_prepare.append(_complete)
    return app


def _bound(context: Context, route: Route) -> _AiohttpHandler:
    handler = partial(_audited, route) if route.role is Role.ADMIN else route.handler

    async def serve(request: web.Request) -> web.StreamResponse:
        if _route_at(path_of(request)) != route.path:
            raise _no_such_path()
        principal = await identify(context.principals, request)
        permit = partial(_permitted, route, principal, request)
        # Whoever is removed from the users meanwhile has no name any more.
        refused = partial(_tell_refused, route, context, request, principal.name)
        asked = context._replace(principal=principal, permit=permit, refused=refused)
        try:
            query = permit()
            response = await handler(asked, request, query)
        except QuorateError as error:
            refused(error)
            raise
        await write_large(request, response, context)
        return response

    return serve


def _tell_refused(
    route: Route, context: Context, request: web.Request, who: str, error: QuorateError
) -> None:
    """Have the log tell who may not do what they asked for, if that is why they are refused."""
    # Who shows a join token is told of by itself; and browsers ask before they log in.
    is_told = isinstance(error, Forbidden) and route.role is not Role.STRANGER
    if is_told or (isinstance(error, Unauthenticated) and route.role is Role.ADMIN):
        context.principals.audit.permission_refused(
            who=who, source=_source(request), what=_name(route)
        )


def _permitted(route: Route, principal: Principal, request: web.Request) -> Query:
    """The request's query, if who sent it may send it. Unauthenticated, Forbidden, Overloaded."""
    require(route.role, principal)
    query = parse_query(request.raw_path, allowed=route.parameters)
    key = query.get("key")
    if key is not None:
        require(route.role, principal, key)
    return query


async def _audited(
    route: Route, context: Context, request: web.Request, query: Query
) -> web.StreamResponse:
    """Serve what changes the node or the cluster; the log tells who asked for it."""
    who, outcome = context.principal.name, "failed"
    try:
        response = await route.handler(context, request, query)
        outcome = BEGUN if isinstance(response, BegunResponse) else OK
    except (Refused, QuorateError) as error:
        outcome = problem_of(error).code
        raise
    finally:
        context.principals.audit.admin_act(
            who=who,
            source=_source(request),
            what=_name(route),
            outcome=outcome,
        )
    return response


def _name(route: Route) -> str:
    return f"{route.method} {route.path}"


def _source(request: web.Request) -> str:
    return source_of(request.transport) if request.transport is not None else ""


def _guard(context: Context) -> Middleware:
    answered = context.answered[0]

    @web.middleware
    async def guard(request: web.Request, handler: _AiohttpHandler) -> web.StreamResponse:
        came_ns, outcome = monotonic_ns(), OK
        try:
            check(request, context.hosts.at(request.transport))
            response = await handler(request)
        except (Refused, QuorateError) as error:
            outcome = outcome_word(problem_of(error).outcome)
            response = respond_problem(error)
            # It holds the handlers' frames, these the body, and mostly the error: bodies would wait
            # for the collector.
            error.__traceback__ = None
        except web.HTTPException:
            # A target that is not even a path, such as that of CONNECT.
            outcome = Outcome.NOT_APPLIED.value
            response = respond_problem(_no_such_path())
        # Those that read and write keys are there already, with where their times are counted.
        name = _OPERATIONS.get((request.method, _route_at(path_of(request))), OTHER)
        answered.operation(name).done(outcome, monotonic_ns() - came_ns)
        return response

    return guard


async def _nowhere(request: web.Request) -> web.StreamResponse:
    """Every path and method that no route takes; a route of its own, so that it is guarded too."""
    path = _route_at(path_of(request))
    methods = {route.method for route in ROUTES if route.path == path}
    if not methods:
        raise _no_such_path()
    allowed = ",".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    raise Refused(
        405,
        "method_not_allowed",
        f"this path takes {allowed}",
        headers={"Allow": allowed},
    )


def _no_such_path() -> Refused:
    # Not `not_found`, which is what a key can be.
    return Refused(404, "no_such_path", "nothing is served under this path")


async def _leave_expectation(_request: web.Request) -> None:
    """Say 100 Continue only when the body is wanted, which `read_body` knows."""


async def _complete(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer of a route says, and does not say."""
    # Whatever is cached can be older than what was acknowledged since, under a label that says
    # otherwise; "not found" too.
    response.headers["Cache-Control"] = "no-store"
    # The fast lane sends none either.
    response.headers.popall("Server", None)
    if _is_last(request):
        response.force_close()
        response.headers["Connection"] = "close"


def _is_last(request: web.Request) -> bool:
    """Whether an answer to it must end the connection, as the next could be another request's."""
    if "Expect" in request.headers and not request.content.is_eof():
        # Who waits for 100 Continue may leave the body out after a refusal. What it sends next
        # would be taken for the body (RFC 9110, 10.1.1).
        return True
    # Nobody here switches protocols, as RFC 9110, 7.8, allows. But aiohttp's parser drops what came
    # behind such a request in the same packet.
    return "Upgrade" in request.headers or request.method == "CONNECT"
