# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients ask for, and what they are told."""

from __future__ import annotations

from collections.abc import Callable

from tests.models.read_modify_write.values import ABSENT, Value, Version

WRITES = ("put", "delete")


class Operation:
    """One operation of a client on a key."""

    def __init__(self, kind: str, key: int, start: float) -> None:
        self.kind = kind
        self.key = key
        self.start = start
        self.end: float | None = None
        """When it was answered; None: its outcome is unknown."""
        self.given: Value = None
        """What a put writes, an update writes or appends, or a compare-and-set sets."""
        self.expected: Value = None
        """What a compare-and-set compares with."""
        self.seen: Value = None
        """What a get, or an update, read."""
        self.made: Value = None
        self.has_written = False
        self.is_moved = False
        """Whether its first stamp may be seen by gets, besides the one that it has."""
        self.token: Version = ABSENT
        """Of an update: the version that it made."""
        self.why = ""
        self.is_over = False
        self.then: Callable[[], None] = lambda: None

    def finish(self, now: float, *, is_ok: bool) -> None:
        """Answer the client, if it was not answered."""
        if not self.is_over:
            self.is_over = True
            if is_ok:
                self.end = now
            self.then()

    def edit(self, value: Value) -> Value:
        """What an update makes of a value; the same object if its condition fails."""
        match self.kind:
            case "append":
                return (value or ()) + (self.given or ())
            case "getset":
                return self.given
            case "nx":
                return self.given if value is None else value
            case "xx":
                return value if value is None else self.given
            case "getdel":
                return None
            case _:
                return self.given if value == self.expected else value

    def __str__(self) -> str:
        when = f"{self.start:7.1f} {'unknown' if self.end is None else format(self.end, '7.1f')}"
        if self.kind in WRITES:
            what = f"{self.given}{' moved' if self.is_moved else ''}"
        elif self.end is None:
            what = f"{self.given}"
        else:
            what = f"{self.seen} -> {self.made}" if self.has_written else f"= {self.seen}"
        was = f" was {self.expected}" if self.kind == "cas" else ""
        return f"{when} key {self.key} {self.kind:7}{what}{was} {self.token[:]} {self.why}"
