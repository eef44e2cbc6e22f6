# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator through TLS: everything is counted as without."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from quorate.bench.load import Load, RequestBatch, TargetConnection
from quorate.bench.protocols import RespCodec
from tests.authority import Authority
from tests.unit.bench.fake_redis import FakeRedis


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def load_of(redis: FakeRedis, ca: str, *, batches: int, value: bytes = b"x") -> Load:
    """So many batches of eight writes and a read, over three connections."""
    context, left = ssl.create_default_context(cafile=ca), [batches]

    def source(connection: TargetConnection) -> RequestBatch | None:
        if not left[0]:
            return None
        left[0] -= 1
        writes = b"".join([connection.codec.write(number) for number in range(8)])
        read = RequestBatch(connection.codec.read(7), 1, 1, is_read=True)
        return RequestBatch(writes, 8, 8, is_read=False, then=read)

    codec = RespCodec(value=value, wait=0)
    return Load([TargetConnection(redis.target, codec, context) for _ in range(3)], source)


def counts(load: Load) -> tuple[int, int, dict[str, int]]:
    """Writes and reads that were answered, and what went wrong; it is closed then."""
    try:
        load.open()
        load.run(seconds=20)
    finally:
        load.close()
    written, read = sum(load.write_counts.values()), sum(load.read_counts.values())
    return written, read, dict(load.tally.errors)


@pytest.mark.parametrize("size", [1, 300_000])
def test_each_request_is_counted_once(authority: Authority, size: int) -> None:
    with FakeRedis(tls=authority.server()) as redis:
        load = load_of(redis, authority.ca, batches=20, value=bytes(size))
        assert counts(load) == (160, 20, {})
        assert redis.connections == 3
        assert len(redis.values) == 8


def test_a_lost_connection_is_shaken_anew_and_its_requests_are_counted(
    authority: Authority,
) -> None:
    def mood(command: list[bytes]) -> bytes | None:
        return b"" if command[0] == b"GET" and redis.commands.count(b"GET") == 2 else None

    with FakeRedis(mood, tls=authority.server()) as redis:
        written, read, errors = counts(load_of(redis, authority.ca, batches=30))
        assert (written, read) == (240, 29)
        assert sum(errors.values()) == 1
        assert redis.connections == 4


def test_a_target_that_is_not_trusted_is_an_error_at_once(
    authority: Authority, tmp_path: Path
) -> None:
    with FakeRedis(tls=authority.server()) as redis:
        load = load_of(redis, Authority(tmp_path).ca, batches=1)
        with pytest.raises(OSError, match="no CA that is trusted here"):
            counts(load)
        assert redis.commands == []
