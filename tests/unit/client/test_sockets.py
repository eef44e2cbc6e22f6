# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection is used again only while the other side is silent and there."""

from __future__ import annotations

import errno
import socket

import pytest

from quorate.client.sockets import is_stale, reason_of


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


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (TimeoutError(), "no answer in time"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "no answer in time"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError("closed"), "closed"),
    ],
)
def test_a_failure_is_named_alike_whoever_raised_it(fault: OSError, reason: str) -> None:
    assert reason_of(fault) == reason
