# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection that breaks can be made anew, and forgets what was half done."""

from __future__ import annotations

import select

import pytest

from quorate.bench.connection import Connection
from quorate.bench.protocols import RespCodec, Tally
from tests.unit.bench.fake_redis import FakeRedis
from tests.unit.client.scripted import dead_port


def writable(connection: Connection) -> None:
    """Wait until connecting is over, one way or the other."""
    _, ready, _ = select.select([], [connection.socket], [], 10)
    assert ready


def test_what_was_half_read_is_forgotten_when_it_is_opened_again() -> None:
    with FakeRedis() as redis:
        connection = Connection(redis.target, RespCodec(value=b"x", wait=0))
        connection.open()
        assert connection.take(b"$1000\r\nhalf", Tally()) == 0
        connection.close()
        assert not connection.is_open
        connection.reopen()
        writable(connection)
        assert not connection.has_failed()
        assert connection.take(b"+OK\r\n", Tally()) == 1
        connection.close()


def test_a_target_that_went_away_is_noticed_without_waiting_for_it() -> None:
    with FakeRedis() as redis:
        connection = Connection(redis.target, RespCodec(value=b"x", wait=0))
        connection.open()
        connection.close()
    connection.reopen()
    writable(connection)
    assert connection.has_failed()
    connection.close()


def test_a_target_that_refuses_from_the_beginning_is_an_error() -> None:
    with dead_port() as url:
        connection = Connection(
            ("127.0.0.1", int(url.rpartition(":")[2])), RespCodec(value=b"x", wait=0)
        )
        with pytest.raises(OSError, match="refused"):
            connection.open()
        connection.close()
