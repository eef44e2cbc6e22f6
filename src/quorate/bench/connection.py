# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection to one target, and the batch of requests that it has under way."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from quorate.bench.protocols import Codec, Tally

CONNECT_SECONDS: Final = 2.0
_NONE: Final = socket.socket()
"""Stands for the socket of a connection that has none yet. It may be closed again."""
_NONE.close()


class Batch(NamedTuple):
    """Requests that are sent together, all reads or all writes."""

    payload: bytes
    requests: int
    replies: int
    is_read: bool
    then: Batch | None = None
    """What this connection sends next: the writes of a read-modify-write."""


class Connection:
    """A socket that never blocks, once it is open."""

    __slots__ = (
        "_address",
        "_family",
        "_skip",
        "_unread",
        "batch",
        "begun",
        "codec",
        "is_open",
        "missing",
        "socket",
        "target",
        "unsent",
    )

    def __init__(self, target: tuple[str, int], codec: Codec) -> None:
        self.target = target
        self.codec = codec
        self.socket = _NONE
        self.is_open = False
        self.batch: Batch | None = None
        self.begun = 0.0
        """When the batch was sent, or due."""
        self.missing = 0
        """Replies of the batch still to come."""
        self.unsent: bytes | memoryview = b""
        self._unread = b""
        """The beginning of a reply."""
        self._skip = 0
        """Bytes of a reply still to come that need not be looked at."""

    def open(self) -> None:
        """Connect, waiting for it; raises OSError."""
        self.socket = socket.create_connection(self.target, CONNECT_SECONDS)
        self._family, self._address = self.socket.family, self.socket.getpeername()
        self._settle()
        self.is_open = True

    def reopen(self) -> None:
        """Begin to connect again to where it was. It is writable when that is done: see
        `has_failed`."""
        self.socket = socket.socket(self._family)
        self._settle()
        self.socket.connect_ex(self._address)

    def has_failed(self) -> bool:
        """Whether connecting failed."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def take(self, data: bytes, tally: Tally) -> int:
        """The number of replies that end in `data`, which is what came next."""
        skipped = 0
        if self._skip:
            # Large values are let go as they come: no copy of what is there already.
            if len(data) < self._skip:
                self._skip -= len(data)
                return 0
            data, skipped = data[self._skip :], 1
        elif self._unread:
            data = self._unread + data
        count, self._unread, self._skip = self.codec.take(data, tally)
        return count + skipped

    def close(self) -> None:
        """Be closed; what was half sent or half read is forgotten."""
        self.socket.close()
        self.is_open = False
        self.unsent = self._unread = b""
        self._skip = 0

    def _settle(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
