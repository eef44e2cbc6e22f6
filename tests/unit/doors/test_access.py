# SPDX-License-Identifier: GPL-3.0-or-later
"""Each command and each route asks for a role, and nobody without it gets further."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from quorate.doors.access import ANYBODY, ROLE_BITS, Patterns, Principal, Role
from quorate.doors.http import batch, door
from quorate.doors.http.door import ROUTES, Route
from quorate.doors.http.kv import INCREMENT, METHODS, REQUESTS
from quorate.doors.redis.command import Access, Command
from quorate.doors.redis.table import COMMANDS
from quorate.errors import Forbidden, Overloaded, Unauthenticated
from tests.unit.doors.http.lane_bench import Bench, head, run
from tests.unit.doors.redis.turns import Client

ROWS: list[Command] = [
    each for command in COMMANDS.values() for each in (command, *command.subcommands.values())
]
ROLE_SETS = [*([role] for role in Role), *(set(Role) - {role} for role in Role)]
WITHOUT = {role: Principal("ann", frozenset(Role) - {role}) for role in Role}


def test_anybody_may_do_everything_while_there_are_no_users() -> None:
    assert ANYBODY.roles == frozenset(Role)


@pytest.mark.parametrize("roles", [frozenset[Role](), frozenset(Role), *map(frozenset, ROLE_SETS)])
def test_a_principal_has_the_roles_that_it_was_given_and_becomes_what_another_has(
    roles: frozenset[Role],
) -> None:
    principal, other = Principal("ann", roles), Principal("bob", frozenset({Role.READ}))
    other.become(principal)
    for each in (principal, other):
        assert each.roles == roles
        assert {role for role in Role if each.has(role)} == roles
        assert {role for role, bit in ROLE_BITS.items() if each.role_bits & bit} == roles
    assert len({*ROLE_BITS.values()}) == len(Role)


@pytest.mark.parametrize("command", ROWS, ids=lambda command: command.name)
def test_each_command_states_a_role_that_fits_what_it_touches(command: Command) -> None:
    assert isinstance(command.role, Role)
    assert command.role is not Role.PEER
    if command.access in (Access.READ, Access.READ_MANY):
        assert command.role is Role.READ
    if command.access in (Access.WRITE, Access.WRITE_MANY):
        assert command.role is Role.WRITE


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_states_a_role(route: Route) -> None:
    assert isinstance(route.role, Role)
    if route.path.startswith("/internal/"):
        assert route.role is Role.PEER


def test_the_fast_lane_asks_for_the_roles_of_the_table() -> None:
    assert METHODS.keys() == {b"GET", b"HEAD", b"PUT", b"DELETE"}
    for route in ROUTES:
        if route.path == "/kv":
            assert METHODS[route.method.encode()].role is route.role
        elif route.path == "/incr":
            assert INCREMENT.role is route.role
    assert METHODS[b"HEAD"].role is METHODS[b"GET"].role


def test_only_logging_in_and_out_is_for_strangers() -> None:
    assert {command.name for command in ROWS if command.role is Role.STRANGER} == {
        *("auth", "hello", "quit", "reset")
    }
    # And to be let in by a join token, which is proof enough.
    assert {route.path for route in ROUTES if route.role is Role.STRANGER} == {
        *("/healthz", "/readyz", "/join/secret")
    }


@pytest.mark.parametrize("command", ROWS, ids=lambda command: command.name)
def test_a_command_is_refused_to_whoever_has_not_its_role(command: Command) -> None:
    client = Client()
    client.connection.principal = WITHOUT[command.role]
    name, _, second = command.name.partition("|")
    words = [name, *([second] if second else [])]
    words += ["1"] * (abs(command.arity) - len(words))
    assert client.ask(*words) == (
        f"NOPERM User ann has no permissions to run the '{command.name}' command"
    )
    assert client.store.events == []
    assert not client.transport.is_closing()


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("query", [b"?key=k", b"?key=k&timeout=1s"])
def test_the_fast_lane_leaves_it_to_the_full_service_to_refuse(name: bytes, query: bytes) -> None:
    request = head(name + query + b" HTTP/1.1", b"Host: h", *(
        [b"Content-Length: 0"] if REQUESTS[name].has_body else []
    ))  # fmt: skip

    async def test(bench: Bench) -> None:
        bench.connection.principal = WITHOUT[REQUESTS[name].role]
        bench.send(request)
        assert bench.taken_over[0].data == request
        assert bench.store.events == []

    run(test)


@pytest.mark.parametrize("principal", [WITHOUT[Role.READ], WITHOUT[Role.WRITE]])
def test_who_adds_must_be_allowed_to_read_too(principal: Principal) -> None:
    request = head(b"POST /incr?key=k HTTP/1.1", b"Host: h")

    async def test(bench: Bench) -> None:
        bench.connection.principal = principal
        bench.send(request)
        assert bench.taken_over[0].data == request

    run(test)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_is_refused_to_whoever_has_not_its_role(route: Route) -> None:
    request = cast(web.Request, SimpleNamespace(raw_path=route.path, transport=None))
    with pytest.raises(Forbidden, match=route.role):
        door._permitted(route, WITHOUT[route.role], request)
    with pytest.raises(Unauthenticated):
        door._permitted(route, Principal("", frozenset()), request)


@pytest.mark.parametrize(("op", "role"), [("get", Role.READ), ("put", Role.WRITE)])
def test_each_operation_of_a_batch_asks_for_its_own_role(op: str, role: Role) -> None:
    operation = batch._CheckedOperation(op, b"k", None, 0)
    with pytest.raises(Forbidden, match=role):
        batch._permit(WITHOUT[role], [operation])
    batch._permit(ANYBODY, [operation])


@pytest.mark.parametrize("op", ["get", "put", "delete"])
def test_the_keys_of_a_batch_are_compared_with_patterns_within_one_bound(op: str) -> None:
    roles = frozenset({Role.READ, Role.WRITE})
    slow = Principal("ann", frozenset(), roles, Patterns([b"*" + b"a" * 120]))
    keys = [b"b" * 1000 + b"a" * 120 for _ in range(1000)]
    operations = [batch._CheckedOperation(op, key, None, 0) for key in keys]
    with pytest.raises(Overloaded):
        batch._permit(slow, operations)
    batch._permit(slow, operations[:10])


@pytest.mark.parametrize("patterns", [[b"app:*", b"tmp:*"], [b"app:*", b"t?p:*"]])
def test_the_first_key_that_no_pattern_matches_is_told(patterns: list[bytes]) -> None:
    found = Patterns(patterns)
    assert found.other([b"app:1", b"tmp:2"]) is None
    assert found.other([b"app:1", b"web:2", b"sys:3"]) == b"web:2"
    assert found.other([]) is None


def test_no_pattern_matches_nothing() -> None:
    assert Patterns([]).other([b""]) == b""
