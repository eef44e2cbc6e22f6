# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request's query says.

It is read as browsers and HTTP libraries write it: `+` is a space, `%2B` a plus. Everything else is
strict: a bad escape, an unknown parameter or one given twice is refused and never guessed.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from quorate.doors.limits import checked_key
from quorate.errors import InvalidRequest
from quorate.notation import parse_duration

TTL_SECONDS_MAX: Final = 10**10
"""About 317 years: far from overflowing anything that counts milliseconds."""
TIMEOUT_MS_MAX: Final = 600_000
QUORUM_MAX: Final = 64

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NUMBER: Final = re.compile(rb"[0-9]{1,19}")


class Query:
    """The decoded parameters of one request."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    def get(self, name: str) -> bytes | None:
        """The bytes of a parameter, None if it was not given."""
        return self._values.get(name)

    def key(self) -> bytes:
        """The `key`. KeyMissing, KeyTooLarge."""
        return checked_key(self._values.get("key", b""))

    def number(self, name: str, *, low: int, high: int, default: int) -> int:
        """A parameter in plain digits, `default` if it was not given."""
        raw = self._values.get(name)
        if raw is None:
            return default
        if not _NUMBER.fullmatch(raw) or not low <= int(raw) <= high:
            raise InvalidRequest(
                f"{name} must be a whole number from {low} to {high}", parameter=name
            )
        return int(raw)

    def quorum(self, name: str) -> int:
        """`r` or `w`; 0 if not given. Whether there are as many replicas is the core's to say."""
        return self.number(name, low=1, high=QUORUM_MAX, default=0)

    def ttl_ms(self) -> int:
        """`ttl`, given in seconds, in milliseconds; 0 if not given."""
        return self.number("ttl", low=1, high=TTL_SECONDS_MAX, default=0) * 1000

    def timeout_ms(self) -> int:
        """`timeout`, a duration such as `500ms` or `2s`; 0 if not given."""
        raw = self._values.get("timeout")
        if raw is None:
            return 0
        try:
            # The length bound keeps a string of digits from becoming a huge number.
            timeout_ms = parse_duration(raw.decode("ascii")) if len(raw) <= 20 else 0
        except ValueError as fault:
            raise InvalidRequest(f"timeout: {fault}", parameter="timeout") from None
        if not 0 < timeout_ms <= TIMEOUT_MS_MAX:
            raise InvalidRequest("timeout must be from 1ms to 10m", parameter="timeout")
        return timeout_ms


def parse_query(target: str, *, allowed: frozenset[str]) -> Query:
    """The query of a request target as aiohttp gives it (`request.raw_path`). InvalidRequest."""
    raw = target.encode("utf-8", "surrogateescape")
    if b"#" in raw:
        raise InvalidRequest("a request's target has no fragment: write # as %23")
    values: dict[str, bytes] = {}
    for part in raw.partition(b"?")[2].split(b"&"):
        if not part:
            continue
        raw_name, _, raw_value = part.partition(b"=")
        name = _decoded(raw_name).decode("utf-8", "replace")
        if name not in allowed:
            raise InvalidRequest(
                f"unknown parameter: this takes {', '.join(sorted(allowed)) or 'none'}",
                parameter=name[:64],
            )
        if name in values:
            raise InvalidRequest(f"{name} is given twice", parameter=name)
        values[name] = _decoded(raw_value)
    return Query(values)


def _decoded(raw: bytes) -> bytes:
    if _BAD_ESCAPE.search(raw):
        raise InvalidRequest("a % must be followed by two hexadecimal digits: write %25 for itself")
    return unquote_to_bytes(raw.replace(b"+", b" "))
