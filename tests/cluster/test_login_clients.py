# SPDX-License-Identifier: GPL-3.0-or-later
"""Our clients, the command line and those of others log in at a real node, through TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import redis

from quorate.client import AsyncClient, Client
from quorate.client.calls import Call
from quorate.errors import Forbidden, Outcome, QuorateError, Unauthenticated
from tests.authority import Authority
from tests.cluster.processes import START_S, Cluster, quorate, wait_until
from tests.cluster.test_clients import IOREDIS

ANN, BOB = "ann's password", "bob's password"
CERTIFICATE = "bob.example.org"
SCRIPT = """
const Redis = require('ioredis');
const fs = require('fs');
const [ca, port, username, password] = process.argv.slice(2);
const tls = { ca: fs.readFileSync(ca) };
const options = { tls, username, password, retryStrategy: () => null };
const place = { host: 'localhost', port: Number(port) };
const failed = error => error.message;
(async () => {
  const one = new Redis({ ...place, ...options });
  await one.set('app:io', 'redis');
  const piped = await one.pipeline().set('app:a', '1').get('app:a').get('other').exec();
  const multi = await one.multi().incr('app:m').incr('app:m').exec();
  const dnsLookup = (name, found) => found(null, name);
  const many = new Redis.Cluster([place], { dnsLookup, redisOptions: options });
  await many.set('app:cluster', 'client');
  const batch = await many.pipeline().get('app:cluster').get('app:io').exec();
  const refused = await many.get('other').catch(failed);
  const wrong = new Redis({ ...place, ...options, password: 'x', lazyConnect: true });
  wrong.on('error', () => {});
  const stranger = await wrong.get('app:io').catch(failed);
  const told = piped.map(([error, value]) => error ? failed(error) : value);
  console.log(JSON.stringify({ told, multi, batch, refused, stranger }));
  for (const each of [one, many, wrong]) each.disconnect();
})();
"""
SHOWN_SCRIPT = """
const Redis = require('ioredis');
const fs = require('fs');
const [ca, port, cert, key] = process.argv.slice(2);
const [caText, certText, keyText] = [ca, cert, key].map(file => fs.readFileSync(file));
const tls = { ca: caText, cert: certText, key: keyText };
(async () => {
  const one = new Redis({ host: 'localhost', port: Number(port), tls, retryStrategy: () => null });
  const who = await one.acl('WHOAMI');
  const got = await one.get('app:shown');
  const refused = await one.set('app:shown', 'x').catch(error => error.message);
  console.log(JSON.stringify({ who, got, refused }));
  one.disconnect();
})();
"""
MAY_NOT_SET = "User bob has no permissions to run the 'set' command"


class Guarded(NamedTuple):
    """A node with two users: ann reads and writes `app:*`, bob reads all and has a certificate."""

    port: int
    ca: str
    users: Path
    directory: Path
    shown: tuple[str, str]
    """Bob's certificate and its key."""

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
        ("bob", BOB, "--roles=read", f"--certificate={CERTIFICATE}"),
    ):
        added = quorate("user", "add", str(users), name, *flags, stdin=f"{password}\n".encode())
        assert added.returncode == 0, added.stderr
    chain, key = authority.files("localhost")
    flags = [f"-tls-cert={chain}", f"-tls-key={key}", f"-users={users}"]
    flags += [f"-tls-ca={authority.ca}", "-peer-names=*.nodes.invalid"]
    cluster = Cluster(directory, *flags, "-rep=1", "-durability=os", count=1)
    shown = authority.certificate(CERTIFICATE)
    found = Guarded(cluster.nodes[0].port, authority.ca, users, directory, shown)
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


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_logs_in_by_certificate(guarded: Guarded, protocol: int) -> None:
    put_shown(guarded)
    certificate, key = guarded.shown
    with redis.Redis(
        "localhost",
        guarded.port,
        protocol=protocol,
        ssl=True,
        ssl_ca_certs=guarded.ca,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    ) as client:
        assert client.acl_whoami() in ("bob", b"bob")
        assert client.get("app:shown") == b"value"
        with pytest.raises(redis.exceptions.NoPermissionError, match=MAY_NOT_SET):
            client.set("app:shown", "x")
        assert client.get("app:shown") == b"value"


def put_shown(guarded: Guarded) -> None:
    """Put what bob, who may only read, is to find."""
    with Client(guarded.url, ca=guarded.ca, user="ann", password=ANN) as client:
        client.put("app:shown", "value")


def test_redis_cli_logs_in_through_tls_by_password_and_by_certificate(guarded: Guarded) -> None:
    cli = found_tool("redis-cli", "redis-tools")
    inside = [cli, "-p", str(guarded.port), "--tls", "--cacert", guarded.ca]

    def said(*words: str) -> str:
        return output(*inside, *words)

    ann = ("--user", "ann", "--pass", ANN, "--no-auth-warning")
    assert said(*ann, "set", "app:cli", "value") == "OK"
    assert said(*ann, "get", "other").startswith("NOPERM ")
    certificate, key = guarded.shown
    assert said("--cert", certificate, "--key", key, "acl", "whoami") == "bob"
    assert said("--cert", certificate, "--key", key, "get", "app:cli") == "value"
    assert said("get", "app:cli").startswith("NOAUTH ")


def test_curl_logs_in_by_password_and_by_certificate(guarded: Guarded) -> None:
    curl = found_tool("curl", "curl")
    inside = [curl, "-sS", "--cacert", guarded.ca, "-w", " %{http_code}"]
    place = f"{guarded.url}/kv?key=app:curl"
    ann = ("--user", f"ann:{ANN}")
    assert output(*inside, *ann, "-X", "PUT", "-d", "value", place) == "ok 200"
    assert output(*inside, *ann, f"{guarded.url}/kv?key=other").endswith(" 403")
    certificate, key = guarded.shown
    shown = ("--cert", certificate, "--key", key)
    assert output(*inside, *shown, place) == "value 200"
    assert output(*inside, *shown, "-X", "DELETE", place).endswith(" 403")
    assert output(*inside, place).endswith(" 401")


def test_httpx_logs_in_by_password_and_by_certificate(guarded: Guarded) -> None:
    context = ssl.create_default_context(cafile=guarded.ca)
    place, key = f"{guarded.url}/kv", {"key": "app:httpx"}
    with httpx.Client(verify=context, auth=("ann", ANN)) as client:
        assert client.put(place, params=key, content=b"value").status_code == 200
        assert client.get(place, params=key).content == b"value"
        assert client.get(place, params={"key": "other"}).status_code == 403
    with httpx.Client(verify=context) as client:
        assert client.get(place, params=key).status_code == 401
    context.load_cert_chain(*guarded.shown)
    with httpx.Client(verify=context) as client:
        assert client.get(place, params=key).content == b"value"
        assert client.put(place, params=key, content=b"x").status_code == 403


def test_ioredis_logs_in_through_tls_alone_and_as_a_cluster(
    guarded: Guarded, tmp_path: Path
) -> None:
    told = ioredis_tells(tmp_path, SCRIPT, guarded.ca, str(guarded.port), "ann", ANN)
    noperm = "NOPERM User ann has no permissions to access the 'other' key"
    assert told["told"] == ["OK", "1", noperm]
    assert told["multi"] == [[None, 1], [None, 2]]
    assert told["batch"] == [[None, "client"], [None, "redis"]]
    assert told["refused"] == noperm
    assert "NOAUTH" in told["stranger"] or "WRONGPASS" in told["stranger"]


def test_ioredis_logs_in_by_certificate(guarded: Guarded, tmp_path: Path) -> None:
    put_shown(guarded)
    told = ioredis_tells(tmp_path, SHOWN_SCRIPT, guarded.ca, str(guarded.port), *guarded.shown)
    assert (told["who"], told["got"]) == ("bob", "value")
    assert told["refused"] == f"NOPERM {MAY_NOT_SET}"


def ioredis_tells(directory: Path, script: str, *words: str) -> dict[str, Any]:
    """What a script prints that uses ioredis, which is installed for it."""
    npm, node = found_tool("npm", "npm"), found_tool("node", "nodejs")
    line = [npm, "install", "--no-audit", "--no-fund", "--silent", IOREDIS]
    installed = subprocess.run(
        line, cwd=directory, capture_output=True, text=True, timeout=120, check=False
    )
    if installed.returncode != 0:
        pytest.skip(f"ioredis cannot be installed here: {installed.stderr.strip()[-200:]}")
    line = [node, "-e", script, "script", *words]
    done = subprocess.run(
        line, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def found_tool(name: str, package: str) -> str:
    """Where a program is; the test is skipped if it is nowhere."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    return found


def output(*line: str) -> str:
    """What a program prints."""
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip()
