# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection is used again only while the other side is silent and there."""

from __future__ import annotations

import errno
import inspect
import socket
import time

import pytest

from quorate.client import async_sockets, blocking_sockets
from quorate.client.sockets import NodeConnection, Pool, is_stale, reason_of, seconds_left


def test_silence_is_good_and_bytes_or_an_end_are_not() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.setblocking(False)
        assert not is_stale(mine)
        theirs.send(b"x")
        assert is_stale(mine)
        mine.recv(1)
        assert not is_stale(mine)
        theirs.close()
        assert is_stale(mine)


def test_the_last_connection_is_taken_first_and_a_stale_one_is_closed() -> None:
    pool = Pool(["node"], owner=1, turns=None)
    (old, _old), (good, _good), (stale, gone) = (socket.socketpair() for _ in range(3))
    with old, _old, good, _good, stale, gone:
        kept = [NodeConnection(each) for each in (old, good, stale)]
        for each in kept:
            pool.give("node", each)
        gone.close()
        assert pool.take("node") is kept[1]
        assert stale.fileno() == -1
        assert pool.take("node") is kept[0]
        assert pool.take("node") is None


def test_closing_a_pool_closes_what_is_idle() -> None:
    pool = Pool(["node"], owner=1, turns=None)
    mine, theirs = socket.socketpair()
    with theirs:
        pool.give("node", NodeConnection(mine))
        pool.close()
        assert mine.fileno() == -1
        assert pool.take("node") is None


def test_both_clients_wait_by_functions_of_one_form() -> None:
    for name in ("acquire", "dial", "look_up", "owner", "receive", "send_all"):
        one, other = (getattr(module, name) for module in (blocking_sockets, async_sockets))
        assert [*inspect.signature(one).parameters] == [*inspect.signature(other).parameters]


def test_no_time_left_is_a_timeout() -> None:
    assert 0 < seconds_left(time.monotonic() + 60) <= 60
    with pytest.raises(TimeoutError):
        seconds_left(time.monotonic())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (TimeoutError(), "no answer in time"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "no answer in time"),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"),
            "Connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError("closed"), "closed"),
    ],
)
def test_a_failure_is_named_alike_whoever_raised_it(fault: OSError, reason: str) -> None:
    assert reason_of(fault) == reason
