# SPDX-License-Identifier: GPL-3.0-or-later
"""Our clients, the command line and redis-py, against real nodes whose port takes TLS alone."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis
import redis.asyncio
import redis.cluster

from quorate.client import AsyncClient, Client, TlsFailed, Unreachable
from quorate.client.calls import Call
from quorate.errors import QuorateError
from quorate.security.secret import new_secret, write_secret
from tests.authority import Authority
from tests.cluster.processes import START_S, Cluster, quorate, wait_until
from tests.cluster.test_clients import IOREDIS

SCRIPT = """
const Redis = require('ioredis');
const fs = require('fs');
const [ca, ...ports] = process.argv.slice(2);
const tls = { ca: fs.readFileSync(ca) };
(async () => {
  const one = new Redis({ host: 'localhost', port: Number(ports[0]), tls });
  await one.set('io-tls', 'redis');
  const nodes = ports.map(port => ({ host: 'localhost', port: Number(port) }));
  const many = new Redis.Cluster(nodes, { redisOptions: { tls } });
  await many.set('io-cluster', 'client');
  const told = { one: await many.get('io-tls'), many: await one.get('io-cluster') };
  console.log(JSON.stringify(told));
  one.disconnect();
  many.disconnect();
})();
"""


class Secured(NamedTuple):
    """Three nodes with a secret between them, and a certificate for clients."""

    ports: list[int]
    authority: Authority
    secret: str
    """A file."""
    directory: Path

    @property
    def urls(self) -> list[str]:
        """Where clients find them."""
        return [f"https://localhost:{port}" for port in self.ports]

    @property
    def flags(self) -> list[str]:
        """By which a command reaches them."""
        return [f"--nodes={','.join(self.urls)}", f"--ca={self.authority.ca}"]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    directory = tmp_path_factory.mktemp("secured")
    authority = Authority(directory)
    chain, key = authority.files("localhost", "127.0.0.1")
    secret = directory / "secret"
    write_secret(secret, new_secret())
    cluster = Cluster(
        directory,
        f"-secret-file={secret}",
        f"-tls-cert={chain}",
        f"-tls-key={key}",
        "-durability=os",
    )
    found = Secured([each.port for each in cluster.nodes], authority, str(secret), directory)
    try:
        for node in cluster.nodes:
            node.start()
        for url in found.urls:
            wait_until(lambda url=url: _is_ready(url, authority), within_s=START_S, what=url)  # type: ignore[misc]
        yield found
    finally:
        cluster.end()


def _is_ready(url: str, authority: Authority) -> bool:
    try:
        with Client(url, ca=authority.ca) as client:
            return client.request(Call("GET", "/readyz")).status == 200
    except QuorateError:
        return False


def test_both_clients_put_get_and_scan(secured: Secured) -> None:
    value = bytes(range(256)) * 4096

    async def main() -> None:
        async with AsyncClient(secured.urls, ca=secured.authority.ca) as client:
            await client.put("asynchronous", value)
            found = await asyncio.gather(*(client.get("asynchronous") for _ in range(20)))
            assert all(each is not None and each.value == value for each in found)

    with Client(secured.urls[::-1], ca=secured.authority.ca) as client:
        assert client.put("blocking", value).acks >= 2
        asyncio.run(main())
        assert {b"asynchronous", b"blocking"} <= set(client.scan())


def test_commands_reach_the_cluster_with_its_ca_and_with_its_secret(secured: Secured) -> None:
    url = secured.urls[1].removeprefix("https://")
    by_secret = [f"--target={url}", f"--secret-file={secured.secret}"]
    for number, flags in enumerate((secured.flags, by_secret)):
        assert quorate("put", f"cli{number}", "value", *flags).returncode == 0
        assert quorate("get", f"cli{number}", *flags).stdout == b"value"
        status = quorate("status", "--json", *flags)
        assert status.returncode == 0, status.stderr
        assert [each["state"] for each in json.loads(status.stdout)] == ["ready"] * 3
        archive = secured.directory / f"archive{number}"
        assert quorate("backup", str(archive), *flags).returncode == 0
        assert quorate("restore", str(archive), "--dry-run", *flags).returncode == 0
        for command in ("nodes", "topology", "upgrade", "check"):
            done = quorate(command, *flags)
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("protocol", ["resp", "http"])
def test_bench_measures_through_tls(secured: Secured, protocol: str) -> None:
    load = ["--keys=50", "--connections=6", "--duration=300ms", f"--protocol={protocol}"]
    target = f"--target={','.join(secured.urls)}"
    done = quorate("bench", target, f"--ca={secured.authority.ca}", "--json", *load)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["errors"] == {}
    assert told["plan"]["tls"] is True


def test_whoever_comes_without_tls_is_told_and_changes_nothing(secured: Secured) -> None:
    url = secured.urls[0].replace("https", "http")
    done = quorate("put", "plain", "value", f"--target={url}")
    assert done.returncode == 3
    assert done.stderr.startswith(b"quorate: this port takes TLS alone: use https://")
    assert quorate("get", "plain", *secured.flags).returncode == 1


def test_a_node_of_another_ca_is_not_believed(
    secured: Secured, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with (
        Client(secured.urls, ca=stranger.ca) as client,
        pytest.raises(TlsFailed, match="no CA that is trusted here"),
    ):
        client.put("strange", "value")
    with Client(secured.urls, ca=secured.authority.ca) as client:
        assert client.get("strange") is None


def test_who_shows_a_certificate_of_another_ca_is_refused(
    secured: Secured, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    with (
        Client(secured.urls, ca=secured.authority.ca, cert=stranger.certificate()) as client,
        pytest.raises(Unreachable, match="it wants a certificate that it knows"),
    ):
        client.put("strange", "value")
    with Client(secured.urls, ca=secured.authority.ca) as client:
        assert client.get("strange") is None


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_speaks_rediss(secured: Secured, protocol: int) -> None:
    url = f"rediss://localhost:{secured.ports[0]}?protocol={protocol}"
    with redis.Redis.from_url(url, ssl_ca_certs=secured.authority.ca) as client:
        value = bytes(range(256)) * 1000
        assert client.set("py", value, ex=60)
        assert client.get("py") == value
        assert client.pipeline(transaction=False).set("a", 1).get("a").execute() == [True, b"1"]


def test_redis_py_speaks_rediss_under_asyncio_and_to_the_cluster(secured: Secured) -> None:
    async def main() -> None:
        url = f"rediss://localhost:{secured.ports[1]}"
        async with redis.asyncio.from_url(url, ssl_ca_certs=secured.authority.ca) as client:
            assert await client.set("aio", "value")
            assert await client.get("aio") == b"value"

    asyncio.run(main())
    with redis.cluster.RedisCluster(
        host="localhost", port=secured.ports[2], ssl=True, ssl_ca_certs=secured.authority.ca
    ) as client:
        assert client.get("aio") == b"value"


def test_redis_py_does_not_believe_another_ca(
    secured: Secured, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    url = f"rediss://localhost:{secured.ports[0]}"
    with (
        redis.Redis.from_url(url, ssl_ca_certs=stranger.ca) as client,
        pytest.raises(redis.ConnectionError, match="certificate verify failed"),
    ):
        client.ping()


def test_redis_cli_speaks_tls(secured: Secured) -> None:
    cli = shutil.which("redis-cli")
    if cli is None:
        pytest.skip("redis-cli is not installed (Debian: redis-tools)")
    words = ["-p", str(secured.ports[0]), "--tls", "--cacert", secured.authority.ca, "ping"]
    done = subprocess.run([cli, *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == "PONG", done.stderr


def test_ioredis_speaks_tls_alone_and_as_a_cluster(secured: Secured, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    line = [npm, "install", "--no-audit", "--no-fund", "--silent", IOREDIS]
    installed = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    if installed.returncode != 0:
        pytest.skip(f"ioredis cannot be installed here: {installed.stderr.strip()[-200:]}")
    line = [node, "-e", SCRIPT, "script", secured.authority.ca, *map(str, secured.ports)]
    done = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"one": "redis", "many": "client"}


def test_a_context_of_ssl_is_taken_as_it_is(secured: Secured) -> None:
    context = ssl.create_default_context(cafile=secured.authority.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with Client(secured.urls, tls=context) as client:
        assert client.put("context", "value").acks >= 2
