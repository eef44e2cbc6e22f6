# SPDX-License-Identifier: GPL-3.0-or-later
"""A node as a process with a users file: clients that log in, a file that changes under them, and
someone who tries passwords."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from quorate.security.certificates import PEER_NAME, authority_of
from quorate.security.secret import load_secrets
from quorate.security.users import User, write_users
from tests.cluster.inside import said, secure_socket
from tests.cluster.processes import NodeProcess, quorate, wait_until
from tests.pki import Pki
from tests.ports import free_port
from tests.principals import user, users_of
from tests.unit.doors.redis.turns import encode

ANN = user("ann", "read", "write", keys=("app:*",))
OPS = user("ops", "admin", "read")
ONCE = Retry(NoBackoff(), 0)
"""A refused login is a connection that failed to redis-py, which tries ten times otherwise."""


class Guarded:
    """A node, and its users file."""

    def __init__(self, directory: Path, *flags_more: str) -> None:
        self.path = directory / "users.toml"
        self.write(ANN, OPS)
        flags = ["-engine=memory", f"-users={self.path}", "-log-format=json", *flags_more]
        self.node = NodeProcess(directory, free_port(), flags)
        self.node.start()
        wait_until(self.node.is_ready, within_s=30, what="ready")

    def write(self, *users: User) -> None:
        """Put these in the file."""
        write_users(self.path, users_of(*users))

    def redis(self, name: str, password: str | None = None) -> redis.Redis:
        """A client that logs in."""
        shown = password if password is not None else f"{name}-pw"
        return redis.Redis(
            port=self.node.port, username=name, password=shown, protocol=3, retry=ONCE
        )

    def http(self, path: str, authorization: str = "", **given: Any) -> tuple[int, bytes]:
        """Status and body of an answer."""
        headers = {"Authorization": authorization} if authorization else {}
        try:
            with urlopen(Request(self.node.url + path, headers=headers, **given)) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def events(self, event: str) -> list[dict[str, Any]]:
        """What the log told of that kind."""
        lines = map(json.loads, self.node.log.read_text().splitlines())
        return [line for line in lines if line["event"] == event]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path)
    try:
        yield guarded
    finally:
        if guarded.node.is_running:
            guarded.node.kill()


def basic(name: str, password: str | None = None) -> str:
    pair = f"{name}:{password if password is not None else f'{name}-pw'}"
    return "Basic " + b64encode(pair.encode()).decode()


def test_redis_py_logs_in_and_is_bound_to_its_keys(guarded: Guarded) -> None:
    with guarded.redis("ann") as client:
        assert client.set("app:1", "v")
        assert client.get("app:1") == b"v"
        with pytest.raises(redis.exceptions.NoPermissionError, match="the 'x' key"):
            client.get("x")
        with pytest.raises(redis.exceptions.NoPermissionError, match="'flushall' command"):
            client.flushall()
        with client.pipeline(transaction=False) as pipe:
            assert pipe.set("app:2", "w").get("app:2").execute() == [True, b"w"]
    for wrong in (guarded.redis("ann", "x"), guarded.redis("nobody")):
        with pytest.raises(redis.exceptions.AuthenticationError), wrong:
            wrong.get("app:1")
    stranger = redis.Redis(port=guarded.node.port, retry=ONCE)
    with stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.get("app:1")


def test_http_takes_passwords_and_tokens_that_the_terminal_makes(guarded: Guarded) -> None:
    put = {"method": "PUT", "data": b"v"}
    assert guarded.http("/kv?key=app:1", basic("ann"), **put) == (200, b"ok")
    assert guarded.http("/kv?key=app:1", basic("ann")) == (200, b"v")
    assert guarded.http("/kv?key=app:1")[0] == 401
    assert guarded.http("/kv?key=x", basic("ann"))[0] == 403
    ran = quorate("token", "issue", "--user=ann", "--ttl=1h", f"--users={guarded.path}")
    token = ran.stdout.decode().strip()
    assert guarded.http("/kv?key=app:1", f"Bearer {token}") == (200, b"v")
    assert guarded.http("/kv?key=app:1", f"Bearer {token[:-1]}")[0] == 401
    # Its user is gone, and so is the token.
    assert quorate("user", "remove", str(guarded.path), "ann").returncode == 0
    guarded.node.signal(signal.SIGHUP)
    wait_until(
        lambda: guarded.http("/kv?key=app:1", f"Bearer {token}")[0] == 401,
        within_s=15,
        what="the token refused",
    )


def test_a_changed_file_is_in_force_without_a_signal_and_a_mistake_is_not(
    guarded: Guarded,
) -> None:
    with guarded.redis("ann") as client, guarded.redis("ops") as other:
        assert client.set("app:1", "v")
        guarded.write(OPS, user("new", "read"))
        wait_until(lambda: guarded.events("users_read") != [], within_s=15, what="users_read")
        with pytest.raises(redis.exceptions.AuthenticationError):
            client.get("app:1")
        assert other.get("app:1") == b"v"
        assert guarded.redis("new").get("app:1") == b"v"
        guarded.path.write_text("[users.x")
        wait_until(lambda: guarded.events("users_refused") != [], within_s=15, what="refused")
        assert other.get("app:1") == b"v"
        assert guarded.redis("new").get("app:1") == b"v"
    (refused,) = guarded.events("users_refused")
    assert (refused["level"], refused["in_force"]) == ("error", 2)


@pytest.mark.parametrize("text", ["[users.x", "[users.x]", None])
def test_a_node_does_not_start_with_a_mistake_in_the_file(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "users.toml"
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "quorate", "serve", "-engine=memory"),
            *(f"-users={path}", f"-port={free_port()}"),
        ],
        capture_output=True,
        timeout=30,
        check=False,
    )
    *log, told = ran.stderr.decode().splitlines()
    assert ran.returncode == 2
    assert [json.loads(line)["event"] for line in log] == ["advertised"]
    assert told.startswith(f"quorate: cannot use -users {path}: ")


def test_who_tries_passwords_learns_none_and_holds_up_nobody(guarded: Guarded) -> None:
    """A thousand tries at once from one address: they are refused or wait, nothing of them is
    written a thousand times, and who is logged in goes on."""
    with guarded.redis("ann") as client, ThreadPoolExecutor(32) as pool:
        client.set("app:1", "v")
        end = time.monotonic() + 4
        answers: list[int] = []

        def attack(number: int) -> None:
            if time.monotonic() < end:
                answers.append(guarded.http("/kv?key=app:1", basic("ann", f"guess{number}"))[0])

        tries = [pool.submit(attack, number) for number in range(1000)]
        served = 0
        while time.monotonic() < end:
            assert client.get("app:1") == b"v"
            served += 1
        guarded.node.kill()
        for each in tries:
            each.exception()
    assert served > 10
    assert 401 in answers
    assert set(answers) <= {401, 503}
    told = guarded.events("login_refused")
    assert len(told) <= 6
    assert "guess" not in guarded.node.log.read_text()


@pytest.mark.parametrize("connections", [1, 32])
def test_a_thousand_logins_that_are_pipelined_are_refused_or_wait(
    guarded: Guarded, connections: int
) -> None:
    """Of each connection; who is logged in goes on, and who is elsewhere is let in."""
    place, heard = ("127.0.0.1", guarded.node.port), [bytearray() for _ in range(connections)]
    began = time.monotonic()
    with ExitStack() as opened, guarded.redis("ann") as client:
        client.set("app:1", "v")
        attackers = [
            opened.enter_context(socket.create_connection(place)) for _ in range(connections)
        ]
        for number, attacker in enumerate(attackers):
            guesses = [["AUTH", "ann", f"guess{number}-{each}"] for each in range(1000)]
            attacker.sendall(b"".join(map(encode, guesses)))
            attacker.setblocking(False)

        def are_refused() -> bool:
            assert client.get("app:1") == b"v"
            for attacker, answers in zip(attackers, heard, strict=True):
                with suppress(BlockingIOError):
                    answers += attacker.recv(1 << 20)
            told = b"".join(heard)
            return told.count(b"-WRONGPASS ") >= 4 and (connections == 1 or b"-BUSY " in told)

        wait_until(are_refused, within_s=30, what="some were tried")
        elsewhere = opened.enter_context(
            socket.create_connection(place, timeout=15, source_address=("127.0.0.2", 0))
        )
        elsewhere.sendall(encode(["AUTH", "ops", "ops-pw"]))
        assert elsewhere.recv(100) == b"+OK\r\n"
        assert client.get("app:1") == b"v"
        guarded.node.kill()
    answers = b"".join(heard).splitlines()
    assert {each.split(b" ")[0] for each in answers} <= {b"-WRONGPASS", b"-BUSY"}
    assert len(guarded.events("login_refused")) <= time.monotonic() - began + 2
    log = guarded.node.log.read_text()
    assert "guess" not in log
    assert log.count("\n") < len(guarded.events("login_refused")) + 30


@pytest.mark.parametrize(
    "said",
    [b"PING\r\n", b"GET /healthz HTTP/1.1\r\nHost: n\r\n\r\n", b"GET /kv?key=a HTTP/1.1\r\n"],
)
def test_strangers_who_only_connect_keep_no_user_out_and_end_no_users_connection(
    said: bytes, tmp_path: Path
) -> None:
    clients_max = 8
    guarded = Guarded(tmp_path, f"-connections-max={clients_max}")
    strangers: list[socket.socket] = []

    def crowd() -> None:
        """Half as many again as there is room for."""
        for _ in range(clients_max * 3 // 2):
            stranger = socket.create_connection(("127.0.0.1", guarded.node.port), timeout=10)
            stranger.sendall(said)
            strangers.append(stranger)

    try:
        with guarded.redis("ann") as first, guarded.redis("ann") as second:
            assert first.set("app:1", "v")
            kept = http.client.HTTPConnection("127.0.0.1", guarded.node.port, timeout=10)
            kept.request("GET", "/kv?key=app:1", headers={"Authorization": basic("ann")})
            assert kept.getresponse().read() == b"v"
            shown = kept.sock
            crowd()
            assert second.get("app:1") == b"v"
            crowd()
            assert first.get("app:1") == b"v"
            kept.request("GET", "/kv?key=app:1", headers={"Authorization": basic("ann")})
            assert kept.getresponse().read() == b"v"
            assert kept.sock is shown
            kept.close()
    finally:
        for stranger in strangers:
            stranger.close()
        guarded.node.kill()


def test_each_act_of_an_admin_is_told(guarded: Guarded) -> None:
    with guarded.redis("ops") as client:
        assert client.config_resetstat()
    status, _ = guarded.http("/check", basic("ops"), method="POST", data=b"")
    assert status == 200
    assert guarded.http("/check", basic("ann"), method="POST", data=b"")[0] == 403
    wait_until(lambda: len(guarded.events("admin_act")) == 2, within_s=15, what="two acts")
    told = [
        (line["who"], line["from"], line["what"], line["outcome"], line["audit"])
        for line in guarded.events("admin_act")
    ]
    assert told == [
        ("ops", "127.0.0.1", "config|resetstat", "begun", True),
        ("ops", "127.0.0.1", "POST /check", "ok", True),
    ]
    wait_until(lambda: guarded.events("permission_refused") != [], within_s=15, what="refused")
    (denied,) = guarded.events("permission_refused")
    assert (denied["who"], denied["what"]) == ("ann", "POST /check")


REQUEST = b"GET /kv?key=app:1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def said_inside(node: NodeProcess, data: bytes, context: ssl.SSLContext, name: str) -> bytes:
    """All that the node answers to these bytes inside TLS."""
    with secure_socket(node, context, name) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_a_certificate_is_the_user_that_the_file_says(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    path = tmp_path / "users.toml"
    write_users(path, users_of(user("ann", "read", password="", certificate="ann@example.org")))
    flags = ["-engine=memory", f"-users={path}", *pki.issue("node", "localhost").flags]
    flags += [f"-tls-ca={pki.path}", "-peer-names=*.nodes.test"]
    node = NodeProcess(tmp_path, free_port(), flags)
    context = ssl.create_default_context(cafile=str(pki.path))

    def is_ready() -> bool:
        try:
            return b" 200 " in said_inside(
                node, REQUEST.replace(b"/kv?key=app:1", b"/readyz"), context, "localhost"
            )
        except OSError:
            return False

    node.start()
    try:
        wait_until(is_ready, within_s=30, what="ready")
        assert b" 401 " in said_inside(node, REQUEST, context, "localhost")
        assert said_inside(node, b"GET k\r\nQUIT\r\n", context, "localhost").startswith(b"-NOAUTH")
        ann, bob = (pki.issue(name, f"{name}@example.org") for name in ("ann", "bob"))
        shown = ssl.create_default_context(cafile=str(pki.path))
        shown.load_cert_chain(ann.certificate, ann.key)
        assert b" 404 " in said_inside(node, REQUEST, shown, "localhost")
        redis_said = said_inside(node, b"ACL WHOAMI\r\nSET k v\r\nQUIT\r\n", shown, "localhost")
        assert redis_said.startswith(b"$3\r\nann\r\n-NOPERM User ann has no permissions to run")
        other = ssl.create_default_context(cafile=str(pki.path))
        other.load_cert_chain(bob.certificate, bob.key)
        assert b" 401 " in said_inside(node, REQUEST, other, "localhost")
    finally:
        node.kill()


def test_who_has_the_secret_is_the_cluster(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    assert quorate("secret", "new", str(secret)).returncode == 0
    path = tmp_path / "users.toml"
    write_users(path, users_of(user("ann", "read")))
    node = NodeProcess(
        tmp_path, free_port(), ["-engine=memory", f"-users={path}", f"-secret-file={secret}"]
    )
    node.start()
    try:
        wait_until(node.is_ready, within_s=30, what="ready")
        authority = authority_of(load_secrets(secret)[0], cluster="quorate")
        minted = tmp_path / "client.pem"
        mine = authority.mint_client()
        minted.write_bytes(mine.certificate + mine.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority.pem())
        context.load_cert_chain(minted)
        answer = said_inside(node, b"ACL WHOAMI\r\nQUIT\r\n", context, PEER_NAME)
        assert answer == b"$7\r\ncluster\r\n+OK\r\n"
        assert b" 404 " in said_inside(node, REQUEST, context, PEER_NAME)
        assert said(node, b"ACL WHOAMI\r\nQUIT\r\n").startswith(b"-NOAUTH")
    finally:
        node.kill()
