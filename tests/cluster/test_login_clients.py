# SPDX-License-Identifier: GPL-3.0-or-later
"""Our clients, the command line and redis-py log in at a real node, through TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from quorate.client import AsyncClient, Client
from quorate.client.calls import Call
from quorate.errors import Forbidden, Outcome, QuorateError, Unauthenticated
from tests.authority import Authority
from tests.cluster.processes import START_S, Cluster, quorate, wait_until

ANN, BOB = "ann's password", "bob's password"


class Guarded(NamedTuple):
    """A node with two users: ann reads and writes `app:*`, bob reads all."""

    port: int
    ca: str
    users: Path
    directory: Path

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"https://localhost:{self.port}"

    def run(self, *words: str, user: str, password: str) -> tuple[int, bytes, str]:
        """Exit code and output of a command of a user."""
        file = self.directory / "password"
        file.write_text(f"{password}\n")
        login = [f"--user={user}", f"--password-file={file}"]
        done = quorate(*words, f"--target={self.url}", f"--ca={self.ca}", *login)
        return done.returncode, done.stdout, done.stderr.decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    authority, users = Authority(directory), directory / "users.toml"
    for name, password, *flags in (
        ("ann", ANN, "--roles=read,write", "--keys=app:*"),
        ("bob", BOB, "--roles=read"),
    ):
        added = quorate("user", "add", str(users), name, *flags, stdin=f"{password}\n".encode())
        assert added.returncode == 0, added.stderr
    chain, key = authority.files("localhost")
    flags = [f"-tls-cert={chain}", f"-tls-key={key}", f"-users={users}"]
    cluster = Cluster(directory, *flags, "-rep=1", "-durability=os", count=1)
    found = Guarded(cluster.nodes[0].port, authority.ca, users, directory)
    try:
        cluster.nodes[0].start()
        wait_until(lambda: _is_ready(found), within_s=START_S, what="ready")
        yield found
    finally:
        cluster.end()


def _is_ready(guarded: Guarded) -> bool:
    try:
        with Client(guarded.url, ca=guarded.ca) as client:
            return client.request(Call("GET", "/readyz")).status == 200
    except QuorateError:
        return False


def test_both_clients_log_in_and_what_a_user_may_not_is_forbidden(guarded: Guarded) -> None:
    async def main() -> None:
        login = {"user": "ann", "password": ANN}
        async with AsyncClient(guarded.url, ca=guarded.ca, **login) as client:  # type: ignore[arg-type]
            await client.put("app:1", "asynchronous")
            with pytest.raises(Forbidden, match="ann does not have the role 'write' for this key"):
                await client.put("other", "value")

    asyncio.run(main())
    with Client(guarded.url, ca=guarded.ca, user="bob", password=BOB) as client:
        found = client.get("app:1")
        assert found is not None
        assert found.value == b"asynchronous"
        with pytest.raises(Forbidden, match="role 'write', which bob does not have") as raised:
            client.put("app:1", "value")
        assert raised.value.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize("login", [{}, {"user": "ann", "password": "x"}, {"token": "x"}])
def test_who_is_not_known_is_refused_and_changes_nothing(
    guarded: Guarded, login: dict[str, str]
) -> None:
    with (
        Client(guarded.url, ca=guarded.ca, **login) as client,  # type: ignore[arg-type]
        pytest.raises(Unauthenticated) as raised,
    ):
        client.put("app:unknown", "value")
    assert raised.value.outcome is Outcome.NOT_APPLIED
    with Client(guarded.url, ca=guarded.ca, user="bob", password=BOB) as client:
        assert client.get("app:unknown") is None


def test_commands_log_in_and_say_in_one_line_what_may_not_be(guarded: Guarded) -> None:
    assert guarded.run("put", "app:2", "v", user="ann", password=ANN)[0] == 0
    assert guarded.run("get", "app:2", user="bob", password=BOB)[:2] == (0, b"v")
    for line, user, password, said in (
        (("put", "app:2", "x"), "bob", BOB, "this needs the role 'write', which bob does not have"),
        (("put", "app:2", "x"), "ann", "wrong", "password or token is not accepted"),
        (("join", "http://a:1"), "ann", ANN, "this needs the role 'admin'"),
    ):
        code, _, told = guarded.run(*line, user=user, password=password)
        assert (code, told.count("\n")) == (3, 1), told
        assert said in told
        assert "nothing was written" in told
    archive = str(guarded.directory / "archive")
    code, _, told = guarded.run("backup", archive, "--prefix=app:", user="ann", password=ANN)
    assert code == 0, told


def test_a_token_stands_for_its_user(guarded: Guarded) -> None:
    issued = quorate("token", "issue", "--user=ann", "--ttl=1h", f"--users={guarded.users}")
    token = issued.stdout.decode().strip()
    with Client(guarded.url, ca=guarded.ca, token=token) as client:
        assert client.put("app:3", "value").acks == 1
        with pytest.raises(Forbidden):
            client.put("other", "value")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_logs_in_through_tls(guarded: Guarded, protocol: int) -> None:
    url = f"rediss://localhost:{guarded.port}?protocol={protocol}"
    with redis.Redis.from_url(url, ssl_ca_certs=guarded.ca, username="ann", password=ANN) as client:
        assert client.set("app:py", "value")
        assert client.get("app:py") == b"value"
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("other", "value")
    with (
        redis.Redis.from_url(url, ssl_ca_certs=guarded.ca, username="ann", password="x") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.get("app:py")
