# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection whose flush raised is ended, and writes nothing more (`runtime.store.Sink`)."""

from __future__ import annotations

from tests.unit.doors.http.lane_bench import GET, Bench, run
from tests.unit.doors.redis.turns import Client


def test_a_redis_client_is_dropped_and_answered_no_more() -> None:
    client = Client()
    client.send(["GET", "k"])
    client.connection.abort()
    client.settle()
    assert client.transport.aborted
    assert client.transport.writes == []
    client.connection.connection_lost(None)
    client.connection.abort()


def test_an_http_client_is_dropped_and_answered_no_more() -> None:
    async def test(bench: Bench) -> None:
        bench.send(GET)
        bench.connection.abort()
        await bench.turn()
        assert bench.transport.aborted
        assert bench.transport.written == []
        bench.connection.connection_lost(None)
        bench.connection.abort()

    run(test)
