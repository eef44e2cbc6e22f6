# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions on `/kv` (RFC 9110, 13): which version may be there, for what is asked to be done.

A version is a strong entity tag. Conditions about dates say nothing here, as a value has no date: a
read ignores them, and a write that has no other condition is refused, since it would overwrite what
it was meant to spare.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence
from typing import Final, NamedTuple

from quorate.core.values.record import Record
from quorate.errors import InvalidRequest, Outcome, PreconditionFailed

MATCH: Final = "If-Match"
NONE_MATCH: Final = "If-None-Match"
IDEMPOTENCY: Final = "Idempotency-Key"
Lines = Callable[[str], Sequence[str]]
"""From the name of a header, as it stands here, to the values of its lines; none if it is not
there."""
_DATES: Final = ("If-Unmodified-Since", "If-Modified-Since")
_TAG: Final = r'(?:W/)?"[^"\x00-\x20\x7f]*"'
_LIST: Final = re.compile(rf"[ \t,]*(?:{_TAG}[ \t]*(?:,[ \t,]*|\Z))*")
"""Empty elements count as none (RFC 9110, 5.6.1.2)."""
_EACH: Final = re.compile(_TAG)


class Tags(NamedTuple):
    """What one of the two headers names."""

    any: bool
    """`*`: whatever is there."""
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    """Those that say of themselves that they are weak (`W/"..."`)."""

    def match(self, version: str) -> bool:
        """The strong comparison (RFC 9110, 8.8.3.2)."""
        return self.any or version in self.strong

    def match_weakly(self, version: str) -> bool:
        """The weak comparison."""
        return self.match(version) or version in self.weak

    def text(self) -> str:
        """The same for all headers that name the same."""
        weak = [f'W/"{tag}"' for tag in sorted(self.weak)]
        return "*" if self.any else ",".join([f'"{tag}"' for tag in sorted(self.strong)] + weak)


class VersionConditions(NamedTuple):
    """What a request makes of the version that is there. None: nothing."""

    wanted: Tags | None
    """By If-Match."""
    unwanted: Tags | None
    """By If-None-Match."""

    @property
    def names_any(self) -> bool:
        """Whether there is a condition at all."""
        return self.wanted is not None or self.unwanted is not None

    def text(self) -> str:
        """The same for all requests that ask the same, in two lines."""
        return "\n".join("" if tags is None else f"={tags.text()}" for tags in self)

    def is_known(self, version: str) -> bool:
        """Whether a read is to be answered that nothing is new, by 304."""
        return self.unwanted is not None and self.unwanted.match_weakly(version)

    def check_read(self, version: str) -> None:
        """PreconditionFailed, unless this version is wanted."""
        if self.wanted is not None and not self.wanted.match(version):
            raise _failed(version, f"{MATCH} names other versions than the one that is there")

    def check_write(self, record: Record | None) -> None:
        """PreconditionFailed, unless a write may go on where this live record is, or none."""
        if record is None:
            if self.wanted is not None:
                raise _failed("", f"{MATCH} wants a version, and there is no value under this key")
            return
        version = record.version.hex()
        self.check_read(version)
        if self.is_known(version):
            is_any = self.unwanted is not None and self.unwanted.any
            reason = f"{NONE_MATCH} names the version that is there"
            raise _failed(version, "there is a value under this key" if is_any else reason)


WHERE_NONE_IS: Final = VersionConditions(None, Tags(any=True))
"""Of a write that is made only where there is no value: `If-None-Match: *`."""


def conditions_of(lines: Lines) -> VersionConditions:
    """What a request asks. InvalidRequest for what is no list of tags."""
    return VersionConditions(_tags(lines, MATCH), _tags(lines, NONE_MATCH))


def refuse_misplaced(path: str, headers: Container[str]) -> None:
    """InvalidRequest where what a write says of itself would decide nothing. `headers`: the names
    of those that the request has."""
    named = [name for name in (MATCH, NONE_MATCH) if name in headers]
    dates = [name for name in _DATES if name in headers]
    if path != "/kv" and (named or dates):
        raise InvalidRequest(f"{(named or dates)[0]} is for /kv, and decides nothing here")
    if dates and not named:
        raise InvalidRequest(f"{dates[0]}: a value has no date: name its version by {MATCH}")
    if path not in ("/kv", "/incr") and IDEMPOTENCY in headers:
        raise InvalidRequest(f"{IDEMPOTENCY} is for /kv and /incr: nothing here is remembered")


def _tags(lines: Lines, name: str) -> Tags | None:
    given = lines(name)
    if not given:
        return None
    text = ",".join(given).strip(" \t")
    if text == "*":
        return Tags(any=True)
    if not _LIST.fullmatch(text):
        raise InvalidRequest(f'{name} is *, or versions in quotes: "0123...", "4567..."')
    tags = _EACH.findall(text)
    return Tags(
        any=False,
        strong=frozenset(tag[1:-1] for tag in tags if tag[0] == '"'),
        weak=frozenset(tag[3:-1] for tag in tags if tag[0] == "W"),
    )


def _failed(version: str, reason: str) -> PreconditionFailed:
    return PreconditionFailed(reason, outcome=Outcome.NOT_APPLIED, version=version)
