# SPDX-License-Identifier: GPL-3.0-or-later
"""A stranger, and each user, tries every command, route and message of peers at a real node,
outside and inside TLS, with the wrong secret too: what he may not do does not happen."""

from __future__ import annotations

import json
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final, get_args

import msgspec
import pytest

from quorate.core.topology.greeting import hashed
from quorate.core.values.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Frame,
    Greeting,
    Message,
    Mutate,
)
from quorate.core.values.record import Record
from quorate.core.values.slots import row_of
from quorate.doors.access import Role
from quorate.doors.http.door import ROUTES
from quorate.doors.redis.command import Command
from quorate.doors.redis.table import COMMANDS
from quorate.security.certificates import JOIN_NAME, PEER_NAME
from quorate.security.contexts import holder_context, newcomer_context
from quorate.security.secret import new_secret, write_secret
from quorate.security.users import User, write_users
from quorate.wire.frames import MAGIC, encode_frame, encode_greeting
from tests.authority import Authority
from tests.cluster.inside import WAIT_S, lines, secure_socket
from tests.cluster.processes import NodeProcess, fetch, wait_until
from tests.fuzz.targets import drawn
from tests.ports import free_port
from tests.principals import user, users_of
from tests.unit.doors.redis.turns import encode
from tests.unit.wire.frame_strategies import FRAME, ONE_OF_EACH


def _known(name: str, *roles: str, keys: tuple[str, ...] | None = None) -> User:
    """A user with a password, and a certificate that is no node's."""
    return user(name, *roles, keys=keys, certificate=f"{name}.clients.invalid")


USERS: Final = (
    _known("none"),
    _known("reader", "read"),
    _known("writer", "read", "write", keys=("mine:*",)),
    _known("filler", "write"),
    _known("keeper", "admin"),
    _known("partner", "peer"),
    _known("root", *(role for role in Role if role not in (Role.STRANGER, Role.USER))),
)
MAY: Final = {
    "": {Role.STRANGER},
    "none": {Role.STRANGER, Role.USER},
    "reader": {Role.STRANGER, Role.USER, Role.READ},
    "writer": {Role.STRANGER, Role.USER, Role.READ, Role.WRITE},
    "filler": {Role.STRANGER, Role.USER, Role.WRITE},
    "keeper": {Role.STRANGER, Role.USER, Role.ADMIN},
    "partner": {Role.STRANGER, Role.USER, Role.PEER},
}
CHANGES: Final = {"filler": Role.WRITE, "keeper": Role.ADMIN}
"""By which role somebody may change what others have, which is his to do and not tried."""
HARMLESS: Final = ("client|list", "config|set", "config|get", "acl|list", "acl|users")
"""Commands for ADMIN that change nothing when they are asked as below."""
KEYS: Final = ("app:1", "app:2")
VALUE: Final = "735912846305"
"""A number, so that all commands have something to do; whatever is shown of it begins alike."""
SHOWN: Final = VALUE[:-1].encode()
SETS_THAT_SHOW: Final = (["SET", "app:1", "1", "GET"], ["SET", "app:1", "1", "XX", "GET"])
URL: Final = "http://127.0.0.1:9"
BODIES: Final = (
    b"",
    b"x",
    msgspec.json.encode({"node": URL, "url": URL, "force": True, "ttl": "1h"}),
    msgspec.json.encode({"operations": [{"op": "get", "key": "app:1"}]}),
    msgspec.json.encode({"operations": [{"op": "put", "key": "app:1", "value": "x"}]}),
)
GROWN_BYTES_MAX: Final = 96 << 20
FUTURE: Final = bytes.fromhex("7fffffffffff") + bytes(8)
"""A version of some 4,000 years on."""
GREETING: Final = Greeting(PROTOCOL_MIN, PROTOCOL_MAX, hashed("quorate"), URL, 7, 0, b"", "0.2")


class Besieged:
    """A node with a secret, users, and TLS for clients who like it."""

    def __init__(self, directory: Path) -> None:
        authority, secret = Authority(directory), directory / "secret"
        chain, key = authority.files("localhost")
        write_secret(secret, new_secret())
        write_users(directory / "users.toml", users_of(*USERS))
        flags = ["-engine=memory", "-log-format=json", f"-users={directory / 'users.toml'}"]
        flags += [f"-secret-file={secret}", f"-tls-cert={chain}", f"-tls-key={key}"]
        flags += [f"-tls-ca={authority.ca}", "-peer-names=*.nodes.invalid", "-tls=optional"]
        self.node = NodeProcess(directory, free_port(), flags)
        self.outside: ssl.SSLContext = ssl.create_default_context(cafile=authority.ca)
        self.shown: list[ssl.SSLContext] = []
        """Of clients who show a certificate: of no user, and of each."""
        for name in ("a client", *(str(each.certificate) for each in USERS)):
            context = ssl.create_default_context(cafile=authority.ca)
            context.load_cert_chain(*authority.certificate(name))
            self.shown.append(context)

    def connect(self, *, is_inside: bool) -> socket.socket:
        """A connection of a client."""
        if is_inside:
            return secure_socket(self.node, self.outside, "localhost")
        return socket.create_connection(("localhost", self.node.port), timeout=WAIT_S)

    def said(self, data: bytes, *, is_inside: bool) -> bytes:
        """All that is answered to these bytes."""
        with self.connect(is_inside=is_inside) as connection:
            return all_of(connection, data)

    def http(
        self, line: str, name: str, body: bytes = b"", *, is_inside: bool
    ) -> tuple[int, bytes]:
        """Status and body of an answer to a user, "" for a stranger."""
        pair = b64encode(f"{name}:{name}-pw".encode()).decode()
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Authorization: Basic {pair}\r\n" if name else ""
        head += f"Content-Length: {len(body)}\r\n" if body else ""
        answer = self.said(head.encode() + b"\r\n" + body, is_inside=is_inside)
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]

    def fill(self) -> None:
        """Put what nobody is to see or change."""
        for key in KEYS:
            put = self.http(f"PUT /kv?key={key}", "root", VALUE.encode(), is_inside=False)
            assert put[0] == 200

    def state(self) -> tuple[object, ...]:
        """What nobody here may change: values, members, the layout."""
        values = [self.http(f"GET /kv?key={key}", "root", is_inside=False) for key in KEYS]
        members = json.loads(self.http("GET /nodes", "root", is_inside=False)[1])
        topology = json.loads(self.http("GET /topology", "root", is_inside=False)[1])
        facts = [{name: each[name] for name in ("url", "id", "state")} for each in members]
        return values, facts, topology["epoch"], topology["phase"]

    def clock_s(self) -> float:
        """What the node's versions are stamped with."""
        version = self.http("PUT /kv?key=clock", "root", b"x", is_inside=False)
        assert version[0] == 200
        explained = json.loads(self.http("GET /explain?key=clock", "root", is_inside=False)[1])
        return int(explained["replicas"][0]["version"][:12], 16) / 1000

    def memory_bytes(self) -> int:
        """What its process has in memory."""
        assert self.node.process is not None
        return int(Path(f"/proc/{self.node.process.pid}/statm").read_text().split()[1]) * 4096


def all_of(connection: socket.socket, data: bytes) -> bytes:
    """All that a connection says to these bytes until it ends."""
    answer = b""
    with suppress(OSError):
        connection.sendall(data)
        while piece := connection.recv(65536):
            answer += piece
    return answer


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    found = Besieged(tmp_path_factory.mktemp("besieged"))
    found.node.start()
    try:
        wait_until(found.node.is_ready, within_s=30, what="ready")
        found.fill()
        yield found
        assert [lines(found.node, "internal_fault"), lines(found.node, "library")] == [[], []]
    finally:
        if found.node.is_running:
            found.node.kill()


@pytest.fixture(autouse=True)
def unchanged(besieged: Besieged) -> Iterator[None]:
    """Whatever was tried, the node is as it was."""
    before, memory = besieged.state(), besieged.memory_bytes()
    yield
    assert fetch(f"{besieged.node.url}/readyz")[0] == 200
    assert besieged.state() == before
    assert abs(besieged.clock_s() - time.time()) < 60
    assert besieged.memory_bytes() - memory < GROWN_BYTES_MAX


def rows() -> list[Command]:
    """Every command, and every subcommand."""
    return [each for row in COMMANDS.values() for each in (row, *row.subcommands.values())]


def words_of(command: Command, filling: str) -> list[str]:
    """A line of the command that has as many words as it needs."""
    words = [*command.name.split("|"), "app:1"][: abs(command.arity)]
    return words + [filling] * (abs(command.arity) - len(words))


def said_by(besieged: Besieged, name: str, words: list[str], *, is_inside: bool) -> bytes:
    """What a user is answered to a command, alone and in a transaction."""
    login = ["AUTH", name, f"{name}-pw"] if name else ["ACL", "WHOAMI"]
    data = b"".join(map(encode, (login, words, ["MULTI"], words, ["EXEC"], ["QUIT"])))
    return besieged.said(data, is_inside=is_inside)


@pytest.mark.parametrize("is_inside", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", MAY, ids=lambda name: name or "stranger")
def test_every_command_is_tried(besieged: Besieged, name: str, is_inside: bool) -> None:
    for command in rows():
        if command.role is CHANGES.get(name) and command.name not in HARMLESS:
            continue
        words = words_of(command, "app:1")
        answer = said_by(besieged, name, words, is_inside=is_inside)
        if command.role not in MAY[name]:
            assert b"-NOPERM" in answer or b"-NOAUTH" in answer, (words, answer)
        if name != "reader":
            assert SHOWN not in answer, (words, answer)


@pytest.mark.parametrize("is_inside", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", MAY, ids=lambda name: name or "stranger")
def test_every_route_is_tried(besieged: Besieged, name: str, is_inside: bool) -> None:
    for route in ROUTES:
        if route.role is CHANGES.get(name):
            continue
        bodies = BODIES if route.method in ("POST", "PUT") else BODIES[:2]
        for query, body in product(("", "?key=app:1", f"?url={URL}"), bodies):
            if name == "filler" and (route.path, body) == ("/batch", BODIES[-1]):
                continue
            line = f"{route.method} {route.path.replace('{hash}', 'abc')}{query}"
            status, answer = besieged.http(line, name, body, is_inside=is_inside)
            if route.role not in MAY[name]:
                assert status == (403 if name else 401), (line, answer)
            if route.role is Role.PEER and name == "partner":
                assert status not in (401, 403), (line, answer)
            elif name != "reader":
                assert SHOWN not in answer, (line, answer)


def test_who_may_only_write_is_shown_nothing_of_what_he_writes_over(besieged: Besieged) -> None:
    lines_tried = [words_of(each, "1") for each in rows() if each.role is Role.WRITE]
    for words in (*lines_tried, *SETS_THAT_SHOW):
        answer = said_by(besieged, "filler", words, is_inside=False)
        assert SHOWN not in answer, (words, answer)
        command = COMMANDS[words[0].encode().upper()]
        if command.shown is not None and command.shown([each.encode() for each in words]):
            assert answer.startswith(b"+OK\r\n-NOPERM"), (words, answer)
            assert b"-EXECABORT " in answer, (words, answer)
        besieged.fill()
    for line in ("PUT /kv?key=app:1", "POST /incr?key=app:1", "DELETE /kv?key=app:1"):
        for header in ("", '\r\nIf-Match: "00"', "\r\nIf-None-Match: *"):
            whole = f"{line} HTTP/1.1{header}\r\nX: y"
            _, answer = besieged.http(whole, "filler", b"1", is_inside=False)
            assert SHOWN not in answer, (whole, answer)
        besieged.fill()


def test_no_message_of_peers_is_heard_without_a_peers_certificate(besieged: Besieged) -> None:
    """Plain, inside TLS as a client and as who joins, with each user's certificate and password."""
    pushed = Mutate(1, [(row_of(key.encode()), Record(FUTURE, b"theirs")) for key in KEYS])
    messages = [*drawn(ONE_OF_EACH)[-1], pushed]
    assert {type(each) for each in messages} == set(get_args(Message))
    frames = [*drawn(FRAME), *(Frame(0, 0, [each]) for each in messages)]
    said = encode_greeting(GREETING) + b"".join(map(encode_frame, frames))
    ways: list[Callable[[], socket.socket]] = [
        lambda: besieged.connect(is_inside=False),
        lambda: besieged.connect(is_inside=True),
        lambda: secure_socket(besieged.node, newcomer_context(), JOIN_NAME),
    ]
    ways += [partial(secure_socket, besieged.node, each, "localhost") for each in besieged.shown]
    for way in ways:
        with way() as connection:
            assert all_of(connection, said) == b""
    # The node waits a moment for each to hear why it is ended: all of them at once.
    with ThreadPoolExecutor(2 * len(USERS)) as pool:
        tries = [
            pool.submit(
                besieged.said, encode(["AUTH", each.name, f"{each.name}-pw"]) + said, is_inside=way
            )
            for each, way in product(USERS, (False, True))
        ]
    for answer in (each.result() for each in tries):
        assert answer.startswith(b"+OK\r\n-ERR ")
        assert MAGIC not in answer


@pytest.mark.parametrize("said", [b"PING\r\n", encode_greeting(GREETING)])
def test_who_has_another_secret_is_told_nothing(besieged: Besieged, said: bytes) -> None:
    context = holder_context(new_secret(), cluster="quorate")
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name in (PEER_NAME, "localhost"):
        with suppress(OSError), secure_socket(besieged.node, context, name) as connection:
            assert all_of(connection, said) == b""
