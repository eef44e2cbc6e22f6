# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs made of others, from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

BYTES_MAX: Final = 4096
KEPT_MAX: Final = 200
_PIECES: Final = (
    *(b"\r\n", b"\n", b"\0", b"\xff", b" ", b"\t", b"%", b"%00", b"%2", b":", b",", b";", b'"'),
    *(b"*", b"$", b"-1", b"0", b"65536", b"4294967296", b"99999999999999999999", b"/", b"?", b"&"),
    *(b"=", b"\\x4", b"'", b"{", b"[", b".", b"\xc3\xa9", b"_", b"-"),
)
_LINES: Final = (
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n", b"Te: chunked\r\n"),
    *(b"Content-Length: 1\r\n", b"Content-Length: 01\r\n", b"content-length:\t2 \r\n", b"X:\r\n"),
    *(b"Host: a\r\n", b"host:b\r\n", b"Connection: close\r\n", b"Connection: te, upgrade\r\n"),
    *(b"Upgrade: websocket\r\n", b"Expect: 100-continue\r\n", b"Origin: null\r\n", b" a\r\n"),
    *(b"X: \x7f\r\n", b"X: a\rb\r\n", b"X: a\nb\r\n", b"If-None-Match: *\r\n", b"\r\n", b"$1\r\n"),
    *(b"Authorization: Bearer x\r\n", b"Authorization: Basic  eA==\r\n", b"Accept: \x01\r\n"),
)
"""Of HTTP and of Redis."""


class Mutants:
    """Some change of a seed, or of a mutant that was kept."""

    def __init__(self, seeds: Sequence[bytes], random_: random.Random) -> None:
        self._random = random_
        self._pool = list(seeds)
        self._seed_count = len(seeds)

    def make(self) -> bytes:
        """The next."""
        random_ = self._random
        data = bytearray(random_.choice(self._pool))
        _change(data, self._pool, random_)
        while random_.getrandbits(1):
            _change(data, self._pool, random_)
        return bytes(data[:BYTES_MAX])

    def keep(self, mutant: bytes) -> None:
        """Make others of this one, too: it got further than most."""
        if len(self._pool) < self._seed_count + KEPT_MAX:
            self._pool.append(mutant)
        else:
            self._pool[self._random.randrange(self._seed_count, len(self._pool))] = mutant


def _change(data: bytearray, pool: Sequence[bytes], random_: random.Random) -> None:
    at = random_.randint(0, len(data))
    end = min(at + random_.getrandbits(4), len(data))
    kind = random_.randrange(10)
    if kind == 0:
        del data[at:end]
    elif kind == 1:
        data[at:at] = data[at:end] * 2
    elif kind == 2:
        other = random_.choice(pool)
        data[at:end] = other[random_.randint(0, len(other)) :]
    elif kind < 5:
        data[at:end] = random_.choice(_PIECES)
    elif kind < 7:
        line = data.find(b"\n", at) + 1
        data[line:line] = random_.choice(_LINES)
    elif at < len(data):
        data[at] = random_.getrandbits(8) if kind == 7 else data[at] ^ 1 << random_.getrandbits(3)
