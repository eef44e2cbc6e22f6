# SPDX-License-Identifier: GPL-3.0-or-later
"""Users at both doors, on ports: each role tries each command and each route, and who may not is
refused and changes nothing."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from quorate.config import Config
from quorate.doors import logins
from quorate.doors.access import Role
from quorate.doors.http.door import ROUTES, Route
from quorate.doors.limits import Timers
from quorate.doors.principals import Principals
from quorate.doors.redis.command import Command
from quorate.doors.redis.table import COMMANDS
from quorate.security.users import ROLES, User
from tests.fake_store import NODES, FakeStore
from tests.http_served import Client, Response, Served
from tests.principals import CLUSTER, WALL_MS, user, users_of
from tests.resp_served import RespServed, fake_store
from tests.unit.doors.redis.turns import encode, plain

CONFIG = Config(nodes=NODES, advertise=NODES[0])
NAMES = [*ROLES, "none"]
USERS = users_of(
    *(user(role, role) for role in ROLES),
    user("none"),
    user("app", "read", "write", keys=("app:*",)),
    user("default", "read"),
)
ROWS: list[Command] = [
    each for command in COMMANDS.values() for each in (command, *command.subcommands.values())
]
SHOWING = {"/incr"}
"""Routes that write and show the value, so that both roles are needed."""
HOST = b"Host: localhost\r\n"


def make_principals(timers: Timers) -> Principals:
    return Principals(timers, cluster=CLUSTER, wall_ms=lambda: WALL_MS, users=USERS)


@pytest.fixture(scope="module", autouse=True)
def no_delays() -> Iterator[None]:
    """Wrong passwords are not waited for; the tests of `doors/logins.py` say that they are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logins, "DELAY_S_MAX", 0.0)
        yield


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def http_shared(request: pytest.FixtureRequest) -> Iterator[Served]:
    with Served(FakeStore(CONFIG), loop=request.param, make_principals=make_principals) as served:
        yield served


@pytest.fixture
def door(http_shared: Served) -> Served:
    http_shared.reset()
    return http_shared


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def resp_shared(request: pytest.FixtureRequest) -> Iterator[RespServed]:
    served = RespServed(fake_store(CONFIG), loop=request.param, make_principals=make_principals)
    with served:
        yield served


@pytest.fixture
def resp(resp_shared: RespServed) -> RespServed:
    store = resp_shared.store
    assert isinstance(store, FakeStore)
    resp_shared.call(store.reset)
    return resp_shared


class RedisClient:
    """A client that reads one reply after each command."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._reader = hiredis.Reader()

    def __enter__(self) -> RedisClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, *command: bytes | str | int) -> Any:
        self.socket.sendall(encode(command))
        return self.reply()

    def reply(self) -> Any:
        while (reply := self._reader.gets()) is False:
            data = self.socket.recv(65536)
            assert data, "closed"
            self._reader.feed(data)
        return plain(reply)


def basic(name: str, password: str | None = None) -> bytes:
    """The header with which a user logs in."""
    pair = f"{name}:{password if password is not None else f'{name}-pw'}"
    return b"Authorization: Basic " + b64encode(pair.encode()) + b"\r\n"


def ask(client: Client, line: bytes, headers: bytes = b"") -> Response:
    """The answer to a request of this request line."""
    return client.ask(line + b" HTTP/1.1\r\n" + HOST + headers + b"\r\n")


def code_of(response: Response) -> str:
    code: str = json.loads(response.body)["code"]
    return code


# --- each role, each command ----------------------------------------------------------------------


def words_of(command: Command) -> list[str]:
    name, _, second = command.name.partition("|")
    words = [name, *([second] if second else [])]
    return words + ["1"] * (abs(command.arity) - len(words))


@pytest.mark.parametrize("name", [*NAMES, ""], ids=lambda name: name or "stranger")
def test_each_command_is_for_those_who_have_its_role(resp: RespServed, name: str) -> None:
    store = resp.store
    assert isinstance(store, FakeStore)
    for command in ROWS:
        if command.name in ("quit", "auth", "hello", "reset"):
            continue
        with RedisClient(resp.port) as client:
            if name:
                assert client.ask("AUTH", name, f"{name}-pw") == b"OK"
            resp.call(store.reset)
            words = words_of(command)
            reply = client.ask(*words)
            roles = {"user", name} if name else set()
            if name == "write" and command.shown and command.shown(list(map(str.encode, words))):
                # It shows the value, so that both roles are needed.
                roles.clear()
            if command.role.value in roles:
                assert not isinstance(reply, str) or not reply.startswith(("NOAUTH", "NOPERM"))
                continue
            denied = f"has no permissions to run the '{command.name}' command"
            noauth = "NOAUTH Authentication required."
            assert reply == (f"NOPERM User {name} {denied}" if name else noauth)
            assert resp.call(lambda: list(store.events)) == []


@pytest.mark.parametrize("name", [*NAMES, ""], ids=lambda name: name or "stranger")
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_each_route_is_for_those_who_have_its_role(door: Served, route: Route, name: str) -> None:
    headers = (basic(name) if name else b"") + b"Content-Length: 0\r\n"
    query = b"?key=k" if "key" in route.parameters else b""
    with door.client() as client:
        response = ask(client, f"{route.method} {route.path}".encode() + query, headers)
    roles = {"stranger", "user", name} if name else {"stranger"}
    if name == "write" and route.path in SHOWING:
        roles.clear()
    if route.role.value in roles:
        assert response.status not in (401, 403)
        return
    assert (response.status, code_of(response)) == (
        (403, "forbidden") if name else (401, "unauthenticated")
    )
    assert ("www-authenticate" in response.headers) is not bool(name)
    assert door.call(lambda: list(door.store.events)) == []


# --- keys -----------------------------------------------------------------------------------------


def test_a_user_with_patterns_reads_and_writes_keys_that_match_alone(resp: RespServed) -> None:
    with RedisClient(resp.port) as client:
        client.ask("AUTH", "app", "app-pw")
        assert client.ask("SET", "app:1", "v") == b"OK"
        assert client.ask("GET", "app:1") == b"v"
        refusal = "NOPERM User app has no permissions to access the 'x' key"
        for command in (
            *(["GET", "x"], ["SET", "x", "1"], ["MGET", "app:1", "x"], ["DEL", "app:1", "x"]),
            *(["MSET", "app:1", "1", "x", "2"], ["OBJECT", "ENCODING", "x"], ["GETDEL", "x"]),
        ):
            assert client.ask(*command) == refusal
        assert client.ask("GET", "app:1") == b"v"
        assert client.ask("CONFIG", "GET", "*").startswith("NOPERM User app has no")


def test_at_http_patterns_bound_each_key_in_both_lanes_and_in_batches(door: Served) -> None:
    auth = basic("app")
    with door.client() as client:
        put = b"PUT /kv?key=%b HTTP/1.1\r\n" + HOST + auth + b"Content-Length: 1\r\n\r\nv"
        assert client.ask(put % b"app:1").status == 200
        assert client.ask(put % b"x").status == 403
        # From here on it is the full service.
        assert ask(client, b"GET /kv?key=app:1&timeout=1s", auth).status == 200
        for line in (b"GET /kv?key=x&timeout=1s", b"GET /explain?key=x", b"DELETE /kv?key=x"):
            assert code_of(ask(client, line, auth)) == "forbidden"
        for key, status in (("app:2", 200), ("x", 403)):
            body = json.dumps({"operations": [{"op": "put", "key": key, "value": "v"}]}).encode()
            head = b"POST /batch HTTP/1.1\r\n" + HOST + auth
            length = b"Content-Length: %d\r\n\r\n" % len(body)
            assert client.ask(head + length + body).status == status
    assert b"x" not in door.call(lambda: dict(door.store.records))


def test_a_stranger_is_counted_that_asks_for_what_an_admin_may(door: Served) -> None:
    audit = door.principals.audit
    before = audit.permissions_refused
    for line in (b"GET /kv?key=k", b"GET /nodes", b"POST /join", b"POST /join/secret"):
        with door.client() as client:
            length = b"Content-Length: 0\r\n" if line.startswith(b"POST") else b""
            answer = client.ask(line + b" HTTP/1.1\r\n" + HOST + length + b"\r\n")
            assert answer.status in (400, 401)
    assert audit.permissions_refused == before + 1


def test_who_may_write_alone_is_not_shown_values(resp: RespServed) -> None:
    with RedisClient(resp.port) as client:
        client.ask("AUTH", "write", "write-pw")
        assert client.ask("SET", "k", "secret") == b"OK"
        for command in (["GET", "k"], ["GETDEL", "k"], ["GETEX", "k"], ["SET", "k", "v", "GET"]):
            assert client.ask(*command).startswith("NOPERM User write has no permissions")


# --- logging in -----------------------------------------------------------------------------------


def test_auth_alone_means_the_user_default(resp: RespServed) -> None:
    with RedisClient(resp.port) as client:
        assert client.ask("AUTH", "default-pw") == b"OK"
        assert client.ask("ACL", "WHOAMI") == b"default"


def test_hello_logs_in_and_refuses_as_redis_does(resp: RespServed) -> None:
    with RedisClient(resp.port) as client:
        assert client.ask("HELLO", 3).startswith("NOAUTH HELLO must be called with the client")
        assert client.ask("HELLO", 3, "AUTH", "read", "x").startswith("WRONGPASS invalid username")
        assert client.ask("GET", "k") == "NOAUTH Authentication required."
        answer = client.ask("HELLO", 3, "AUTH", "read", "read-pw", "SETNAME", "me")
        assert answer[b"proto"] == 3
        assert client.ask("GET", "k") is None


def test_a_wrong_password_keeps_the_login_of_before(resp: RespServed) -> None:
    with RedisClient(resp.port) as client:
        client.ask("AUTH", "read", "read-pw")
        assert client.ask("AUTH", "write", "x").startswith("WRONGPASS")
        assert client.ask("ACL", "WHOAMI") == b"read"
        assert client.ask("RESET") == b"RESET"
        assert client.ask("ACL", "WHOAMI") == "NOAUTH Authentication required."


def test_what_is_pipelined_behind_a_login_is_judged_after_it(resp: RespServed) -> None:
    pairs = [f"p{number}" for number in range(40)]
    value = b"v" * 100_000
    with RedisClient(resp.port) as client:
        client.socket.sendall(
            encode(["GET", "k"])
            + encode(["AUTH", "write", "write-pw"])
            + encode(["MSET", *pairs])
            + encode(["SET", "k", value])
        )
        assert [client.reply() for _ in range(4)] == [
            *("NOAUTH Authentication required.", b"OK", b"OK", b"OK"),
        ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"*11\r\n", "ERR Protocol error: unauthenticated multibulk length"),
        (b"*2\r\n$3\r\nGET\r\n$16385\r\n", "ERR Protocol error: unauthenticated bulk length"),
        (b"x" * 16_385, "ERR Protocol error: too big inline request"),
    ],
)
def test_a_strangers_commands_are_short(resp: RespServed, data: bytes, text: str) -> None:
    with RedisClient(resp.port) as client:
        client.socket.sendall(data)
        assert client.reply() == text
        assert client.socket.recv(1) == b""


def test_the_fast_lane_keeps_who_logs_in(door: Served) -> None:
    door.store.fill(b"k", b"v")
    line = b"GET /kv?key=k HTTP/1.1\r\n" + HOST + basic("read") + b"\r\n"
    with door.client() as client:
        answers = [client.ask(line) for _ in range(3)]
        assert [answer.body for answer in answers] == [b"v"] * 3
    assert door.call(lambda: len(door.store.events)) == 3


@pytest.mark.parametrize("line", [b"GET /kv?key=k", b"GET /kv?key=k&timeout=1s", b"GET /nodes"])
def test_a_wrong_password_is_401_in_both_lanes(door: Served, line: bytes) -> None:
    texts = set()
    for headers in (
        basic("read", "x"),
        basic("nobody", "x"),
        b"Authorization: Basic ???\r\n",
        b"Authorization: Basic " + b64encode(b"no-colon") + b"\r\n",
        b"Authorization: Bearer \r\n",
        b"Authorization: Bearer x\r\n",
        b"Authorization: Digest x\r\n",
        b"Authorization:\r\n",
        basic("read") + basic("read"),
    ):
        with door.client() as client:
            response = ask(client, line, headers)
        assert response.status == 401, headers
        assert "Basic" in response.headers["www-authenticate"]
        texts.add(response.body)
    assert len(texts) == 1
    assert door.call(lambda: list(door.store.events)) == []


def test_strangers_are_told_yes_or_no_alone(door: Served) -> None:
    door.call(lambda: setattr(door.store, "is_ready", False))
    try:
        with door.client() as client:
            assert ask(client, b"GET /healthz").body == b"ok"
            told = ask(client, b"GET /readyz")
            assert (told.status, json.loads(told.body)["detail"]) == (503, "not ready")
            known = ask(client, b"GET /readyz", basic("none"))
            assert json.loads(known.body)["detail"] != "not ready"
    finally:
        door.call(lambda: setattr(door.store, "is_ready", True))


# --- the users change -----------------------------------------------------------------------------


def test_who_is_removed_is_a_stranger_on_connections_that_are_there(resp: RespServed) -> None:
    principals = resp.door.principals
    without = users_of(*(each for each in USERS.by_name.values() if each.name != "read"))
    with RedisClient(resp.port) as client, RedisClient(resp.port) as other:
        client.ask("AUTH", "read", "read-pw")
        other.ask("AUTH", "write", "write-pw")
        resp.call(lambda: principals.use(without))
        try:
            assert client.ask("GET", "k") == "NOAUTH Authentication required."
            assert other.ask("SET", "k", "v") == b"OK"
            assert client.ask("AUTH", "read", "read-pw").startswith("WRONGPASS")
        finally:
            resp.call(lambda: principals.use(USERS))
        assert client.ask("GET", "k") == "NOAUTH Authentication required."
        assert client.ask("AUTH", "read", "read-pw") == b"OK"


def test_other_roles_are_in_force_for_the_next_command(resp: RespServed) -> None:
    principals = resp.door.principals
    changed = users_of(*(each for each in USERS.by_name.values() if each.name != "read"),
                       user("read", "write"))  # fmt: skip
    with RedisClient(resp.port) as client:
        client.ask("AUTH", "read", "read-pw")
        resp.call(lambda: principals.use(changed))
        try:
            assert client.ask("SET", "k", "v") == b"OK"
            assert client.ask("GET", "k").startswith("NOPERM User read has no permissions")
        finally:
            resp.call(lambda: principals.use(USERS))


ROUTES_WITH_BODIES = [
    pytest.param("write", b"PUT /kv?key=k", b"", id="put"),
    pytest.param("write", b"PUT /kv?key=k&ttl=9", b"", id="put-with-ttl"),
    pytest.param("write", b"PUT /kv?key=k", b"Content-Encoding: identity\r\n", id="put-in-full"),
    pytest.param("write", b"POST /batch", b"", id="batch"),
    pytest.param("peer", b"POST /internal/replicate", b"", id="replicate"),
    *(
        pytest.param("admin", f"POST {path}".encode(), b"", id=path[1:])
        for path in ("/join", "/join/token", "/leave", "/replace", "/plan")
    ),
]
"""User, request line and headers of requests whose bodies may be long in coming."""


@pytest.mark.parametrize(("name", "line", "headers"), ROUTES_WITH_BODIES)
def test_who_is_removed_while_a_body_arrives_is_refused(
    door: Served, name: str, line: bytes, headers: bytes
) -> None:
    without = users_of(*(each for each in USERS.by_name.values() if each.name != name))
    with door.client() as client:
        begin(door, client, line, basic(name) + headers)
        door.call(lambda: door.principals.use(without))
        try:
            answer = client.ask(b"}")
        finally:
            door.call(lambda: door.principals.use(USERS))
    assert (answer.status, code_of(answer)) == (401, "unauthenticated")
    assert door.call(lambda: list(door.store.events)) == []


def test_the_log_knows_by_name_who_was_removed_amid_an_admins_request(
    door: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []
    for line in ("admin_act", "permission_refused"):
        monkeypatch.setattr(
            door.principals.audit,
            line,
            lambda *, who, line=line, **_facts: told.append((line, who)),
        )
    without = users_of(*(each for each in USERS.by_name.values() if each.name != "admin"))
    with door.client() as client:
        begin(door, client, b"POST /leave", basic("admin"))
        door.call(lambda: door.principals.use(without))
        try:
            assert client.ask(b"}").status == 401
        finally:
            door.call(lambda: door.principals.use(USERS))
    assert told == [("admin_act", "admin"), ("permission_refused", "admin")]


@pytest.mark.parametrize("headers", [b"", b"Content-Encoding: identity\r\n"], ids=["fast", "full"])
def test_who_may_write_other_keys_by_the_time_a_body_is_there_is_refused(
    door: Served, headers: bytes
) -> None:
    narrowed = users_of(
        *(each for each in USERS.by_name.values() if each.name != "app"),
        user("app", "read", "write", keys=("other:*",)),
    )
    refused = door.principals.audit.permissions_refused
    with door.client() as client:
        begin(door, client, b"PUT /kv?key=app:1", basic("app") + headers)
        door.call(lambda: door.principals.use(narrowed))
        try:
            answer = client.ask(b"}")
        finally:
            door.call(lambda: door.principals.use(USERS))
    assert (answer.status, code_of(answer)) == (403, "forbidden")
    assert door.call(lambda: list(door.store.events)) == []
    assert door.principals.audit.permissions_refused == refused + 1


@pytest.mark.parametrize("headers", [b"", b"Content-Encoding: identity\r\n"], ids=["fast", "full"])
def test_a_body_of_who_may_still_write_is_taken(door: Served, headers: bytes) -> None:
    with door.client() as client:
        begin(door, client, b"PUT /kv?key=app:1", basic("app") + headers)
        door.call(lambda: door.principals.use(USERS))
        assert client.ask(b"}").status == 200
    assert b"app:1" in door.call(lambda: dict(door.store.records))


@pytest.mark.parametrize(("left", "told"), [([], 0), ([user("read")], 1)], ids=["gone", "no-role"])
def test_a_long_listing_ends_visibly_too_early_once_its_reader_may_not_read(
    door: Served, left: list[User], told: int
) -> None:
    without = users_of(*(each for each in USERS.by_name.values() if each.name != "read"), *left)
    store, refused = door.store, door.principals.audit.permissions_refused
    for index in range(1500):
        store.fill(b"%d" % index, b"v")
    submit = store.submit

    def submit_and_remove(event: Any) -> None:
        door.principals.use(without)
        submit(event)

    store.submit = submit_and_remove  # type: ignore[method-assign]
    try:
        with door.client() as client:
            client.send(b"GET /local/keys HTTP/1.1\r\n" + HOST + basic("read") + b"\r\n")
            raw = client.rest()
    finally:
        del store.submit
        door.call(lambda: door.principals.use(USERS))
    assert b"200 OK" in raw or raw == b"", "a reset may take what was not read yet with it"
    assert not raw.endswith(b"0\r\n\r\n")
    assert len(store.events) == 1, "no page was asked for that it may not have"
    assert door.principals.audit.permissions_refused == refused + told


def begin(door: Served, client: Client, line: bytes, headers: bytes) -> None:
    """Send a request of this line but for the last byte of its body, which is a brace."""
    body = b'{"operations": [{"op": "put", "key": "k", "value": "v"}]'
    length = b"Content-Length: %d\r\n\r\n" % (len(body) + 1)
    audit = door.principals.audit
    # Nobody is remembered then, so that a login is counted.
    door.call(lambda: door.principals.use(USERS))
    logins = audit.logins_ok
    client.send(line + b" HTTP/1.1\r\n" + HOST + headers + length + body)
    door.until(lambda: audit.logins_ok > logins)


def test_a_role_of_the_file_is_a_role_of_the_tables() -> None:
    assert set(ROLES) == {role.value for role in Role} - {"stranger", "user"}
