# SPDX-License-Identifier: GPL-3.0-or-later
"""What backup and restore share: how they read keys, how long they wait for a cluster that cannot
answer now, and their pace."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from quorate.cli.arguments import Given
from quorate.cli.bench_asked import parse_rate
from quorate.cli.connect import client_of, parsed
from quorate.client.blocking import Client
from quorate.client.calls import PAGE_KEYS, BatchGet, Value
from quorate.errors import QuorateError
from quorate.notation import show_bytes, show_text

PATIENCE_SECONDS: Final = 120.0
"""For one request: as long as a node needs to be started again, and some more."""
_REQUEST_SECONDS: Final = 45.0
"""A node begins no operation of a batch after 30 s."""
_PAUSE_SECONDS: Final = (0.1, 5.0)
"""The first, and the longest: each is twice the one before."""
_TURNS_PER_SECOND: Final = 10
"""A slow pace is of many small requests, not of few large ones."""

Answer = TypeVar("Answer")


def patiently(ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns; it is called again, for two minutes at most, while it raises an error
    after which trying again may help."""
    pause, longest = _PAUSE_SECONDS
    until, is_told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            return ask()
        except QuorateError as error:
            if not error.retryable or time.monotonic() + pause > until:
                raise
            if not is_told:
                seconds = f"{PATIENCE_SECONDS:g} s"
                text = f"quorate: {show_text(str(error))}; asking again, for {seconds} at most"
                print(text, file=sys.stderr, flush=True)
                is_told = True
        time.sleep(pause)
        pause = min(2 * pause, longest)


class Found(NamedTuple):
    """What a batch of reads came to."""

    values: list[tuple[bytes, Value]]
    left: list[bytes]
    """Keys that are to be asked again: the answer was full, say."""


def patient_client(given: Given) -> Client:
    """A client for the nodes that the flags name, for batches."""
    return client_of(given, timeout=_REQUEST_SECONDS)


def read_keys(client: Client, keys: Sequence[bytes], *, r: int | None) -> Found:
    """The values of some of the keys, at least one key further; those with none are passed over.
    QuorateError, naming a key, where none could be read."""
    results = client.batch([BatchGet(key) for key in keys], r=r)
    found = Found([], [])
    faults: list[tuple[bytes, QuorateError]] = []
    for key, result in zip(keys, results, strict=True):
        if isinstance(result, QuorateError):
            faults.append((key, result))
            found.left.append(key)
        elif isinstance(result, Value):
            found.values.append((key, result))
    if faults and (len(faults) == len(keys) or not all(each.retryable for _, each in faults)):
        key, error = next((pair for pair in faults if not pair[1].retryable), faults[0])
        raise type(error)(f"key '{show_bytes(key)}': {error.detail}")
    if found.left:
        breathe()
    return found


def breathe() -> None:
    """Give a cluster that did not do all of something a moment, before it is asked for the rest."""
    time.sleep(_PAUSE_SECONDS[0])


class KeyRate:
    """At most so many keys per second; what was missed in a pause is not made up for."""

    def __init__(self, given: Given) -> None:
        self._rate = parsed(given, "rate", parse_rate)
        self._due = 0.0
        """When the next request may be made."""

    @property
    def keys(self) -> int:
        """For one request, at most."""
        if self._rate is None:
            return PAGE_KEYS
        return max(1, min(PAGE_KEYS, round(self._rate / _TURNS_PER_SECOND)))

    def wait(self, count: int) -> None:
        """Return when so many keys more may be asked for."""
        if self._rate is not None:
            now = time.monotonic()
            time.sleep(max(0.0, self._due - now))
            self._due = max(self._due, now) + count / self._rate
