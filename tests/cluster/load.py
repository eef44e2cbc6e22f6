# SPDX-License-Identifier: GPL-3.0-or-later
"""Writers that remember what was acknowledged to them, and what they were told otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from quorate.client import Client
from quorate.client.calls import BatchGet, Value
from quorate.errors import QuorateError
from tests.cluster.processes import wait_until
from tests.cluster.threads import Threads

BATCH = 200
"""Keys that are looked for in one request."""


class Failure:
    """A request that was not answered `ok`."""

    def __init__(self, url: str, asked_s: float, at_s: float, error: QuorateError) -> None:
        self.url = url
        self.asked_s = asked_s
        self.at_s = at_s
        self.error = error

    def __repr__(self) -> str:
        return f"{self.asked_s:.3f}-{self.at_s:.3f} s at {self.url}: {self.error}"


class Load(Threads):
    """Threads that put keys written once, each through one node, until the block ends."""

    def __init__(
        self, urls: Sequence[str], *, writers: int = 4, name: str = "key", ca: str | None = None
    ) -> None:
        self._ca = ca
        self.acknowledged: dict[str, str] = {}
        self.failures: list[Failure] = []
        super().__init__(
            partial(self._write, urls[i % len(urls)], f"{name}-{i}") for i in range(writers)
        )

    @property
    def count(self) -> int:
        """Writes acknowledged so far."""
        return len(self.acknowledged)

    def wait_for(self, count: int) -> None:
        """Return when so many writes were acknowledged in all."""
        wait_until(lambda: self.count >= count, within_s=30, what=f"{count} writes acknowledged")

    def _write(self, url: str, name: str) -> None:
        number = 0
        with Client(url, timeout=10, ca=self._ca) as client:
            while not self.stop.is_set():
                number += 1
                self._put(client, url, f"{name}-{number}")

    def _put(self, client: Client, url: str, key: str) -> None:
        value = f"value of {key}"
        asked_s = time.monotonic()
        try:
            client.put(key, value)
        except QuorateError as error:
            with self.lock:
                self.failures.append(Failure(url, asked_s, time.monotonic(), error))
            self.stop.wait(0.01)
        else:
            with self.lock:
                self.acknowledged[key] = value


def missing(
    url: str, expected: dict[str, str], *, r: int | None = None, ca: str | None = None
) -> list[str]:
    """Keys that a read through `url` does not find with their value."""
    keys = list(expected)
    with Client(url, timeout=10, ca=ca) as client:
        parts = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
        return [key for part in parts for key in _missing(client, part, expected, r)]


def _missing(client: Client, keys: list[str], expected: dict[str, str], r: int | None) -> list[str]:
    results = client.batch([BatchGet(key) for key in keys], r=r)
    for each in results:
        if isinstance(each, QuorateError):
            raise each
    return [key for key, found in zip(keys, results, strict=True) if not _has(found, expected[key])]


def _has(found: object, value: str) -> bool:
    return isinstance(found, Value) and found.value == value.encode()
